"""Which of a network's weights a checkpoint has: by name, then by shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from nnunet_liver_ext.weights.inflation import inflate

Outcome = Literal["used", "inflated", "initialised"]
MISSING = "not in the file"


@dataclass(frozen=True)
class WeightMatch:
    """What became of one weight of the network."""

    name: str
    """Its first name in the network's state dict; a weight that modules share has several."""
    source: str | None
    """Its name in the checkpoint; None if it is not there."""
    outcome: Outcome
    reason: str
    """Why it is not used as it is; empty if it is."""
    numbers: int
    """How many numbers the weight has."""

    @property
    def imported(self) -> bool:
        return self.outcome != "initialised"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class WeightMatches:
    """What became of all weights of a network and of a checkpoint."""

    of_network: tuple[WeightMatch, ...]
    unused: tuple[str, ...]
    """Weights of the checkpoint that the network has no place for."""

    @property
    def imported_weights(self) -> list[WeightMatch]:
        return [match for match in self.of_network if match.imported]

    @property
    def missing_weights(self) -> list[WeightMatch]:
        return [match for match in self.of_network if match.source is None]

    @property
    def misshapen_weights(self) -> list[WeightMatch]:
        return [
            match for match in self.of_network if match.source is not None and not match.imported
        ]

    def share(self, among: Callable[[str], bool]) -> float:
        """Share of the numbers that come from the checkpoint, in the weights `among` these names.

        It is 0 if there are no such weights.
        """
        counted = [match for match in self.of_network if among(match.name)]
        total = sum(match.numbers for match in counted)
        return sum(match.numbers for match in counted if match.imported) / total if total else 0.0


def copy_matching_weights(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    sources: Mapping[str, str],
    heads: Sequence[str],
) -> WeightMatches:
    """Copies into the network what fits it.

    The first convolution is inflated if only its input channels differ.

    Args:
        network: changed in place; what the checkpoint lacks stays as it is.
        weights: of the checkpoint, by name.
        sources: name in the network -> name in the checkpoint.
        heads: parts of the names of segmentation heads, whose shapes depend on the classes.
    """
    first, matches, consumed = _first_convolution(network), [], set()
    for names, value in _distinct_weights(network):
        source = next((sources[name] for name in names if sources.get(name) in weights), None)
        consumed |= {sources[name] for name in names if name in sources}
        is_head = any(part in names[0] for part in heads)
        stored = None if source is None else weights[source]
        matches.append(
            _copy(names[0], source, value, stored, is_first=value is first, is_head=is_head)
        )
    return WeightMatches(tuple(matches), tuple(name for name in weights if name not in consumed))


def _copy(
    name: str,
    source: str | None,
    value: Tensor,
    stored: Tensor | None,
    *,
    is_first: bool,
    is_head: bool,
) -> WeightMatch:
    outcome: Outcome = "initialised"
    reason = MISSING
    if stored is not None:
        outcome, reason = _compare(stored, value, is_first=is_first, is_head=is_head)
    if stored is not None and outcome != "initialised":
        taken = stored if outcome == "used" else inflate(stored.to(torch.float64), value.shape[1])
        with torch.no_grad():
            value.copy_(taken)
    return WeightMatch(name, source, outcome, reason, value.numel())


def _compare(
    stored: Tensor, value: Tensor, *, is_first: bool, is_head: bool
) -> tuple[Outcome, str]:
    there, here = tuple(stored.shape), tuple(value.shape)
    if there == here:
        return "used", ""
    if is_first and len(there) == len(here) and there[:1] + there[2:] == here[:1] + here[2:]:
        return "inflated", f"{there[1]} input channels in the file, {here[1]} here"
    if is_head and there[1:] == here[1:]:
        return "initialised", f"a head for {there[0]} classes in the file, for {here[0]} here"
    return "initialised", f"shape {_shape_text(there)} in the file, {_shape_text(here)} here"


def _distinct_weights(network: nn.Module) -> list[tuple[list[str], Tensor]]:
    """All names and the tensor of each weight and buffer.

    nnU-Net's decoders name the encoder's weights once more.
    """
    by_identity: dict[int, tuple[list[str], Tensor]] = {}
    for name, value in network.state_dict(keep_vars=True).items():
        by_identity.setdefault(id(value), ([], value))[0].append(name)
    return list(by_identity.values())


def _first_convolution(network: nn.Module) -> Tensor | None:
    """The weights that see the image: the first convolution's in the order of the modules."""
    return next(
        (module.weight for module in network.modules() if isinstance(module, _ConvNd)), None
    )


def _shape_text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "of one number"
