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
class Match:
    """What became of one weight of the network."""

    name: str
    """Its first name in the network's state dict; a weight that several modules share has more of
    them."""
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
class Matches:
    """What became of all weights of a network and of a checkpoint."""

    own: tuple[Match, ...]
    unused: tuple[str, ...]
    """Weights of the checkpoint that the network has no place for."""

    def imported(self) -> list[Match]:
        return [match for match in self.own if match.imported]

    def missing(self) -> list[Match]:
        return [match for match in self.own if match.source is None]

    def misshapen(self) -> list[Match]:
        return [match for match in self.own if match.source is not None and not match.imported]

    def share(self, among: Callable[[str], bool]) -> float:
        """Share of the numbers in the weights `among` these names that come from the checkpoint; 0
        if there are none."""
        chosen = [match for match in self.own if among(match.name)]
        total = sum(match.numbers for match in chosen)
        return sum(match.numbers for match in chosen if match.imported) / total if total else 0.0


def import_into(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    sources: Mapping[str, str],
    heads: Sequence[str],
) -> Matches:
    """Copies into the network what fits it; the first convolution is inflated if only its input
    channels differ.

    Args:
        network: changed in place; what the checkpoint lacks stays as it is.
        weights: of the checkpoint, by name.
        sources: name in the network -> name in the checkpoint.
        heads: parts of the names of segmentation heads, whose shapes depend on the classes.
    """
    first, matches, consumed = _first_convolution(network), [], set()
    for names, value in _distinct(network):
        source = next((sources[name] for name in names if sources.get(name) in weights), None)
        consumed |= {sources[name] for name in names if name in sources}
        is_head = any(part in names[0] for part in heads)
        found = None if source is None else weights[source]
        matches.append(
            _copy(names[0], source, value, found, is_first=value is first, is_head=is_head)
        )
    return Matches(tuple(matches), tuple(name for name in weights if name not in consumed))


def _copy(
    name: str,
    source: str | None,
    value: Tensor,
    found: Tensor | None,
    *,
    is_first: bool,
    is_head: bool,
) -> Match:
    outcome: Outcome = "initialised"
    reason = MISSING
    if found is not None:
        outcome, reason = _compare(found, value, is_first=is_first, is_head=is_head)
    if found is not None and outcome != "initialised":
        taken = found if outcome == "used" else inflate(found.to(torch.float64), value.shape[1])
        with torch.no_grad():
            value.copy_(taken)
    return Match(name, source, outcome, reason, value.numel())


def _compare(found: Tensor, value: Tensor, *, is_first: bool, is_head: bool) -> tuple[Outcome, str]:
    there, here = tuple(found.shape), tuple(value.shape)
    if there == here:
        return "used", ""
    if is_first and len(there) == len(here) and there[:1] + there[2:] == here[:1] + here[2:]:
        return "inflated", f"{there[1]} input channels in the file, {here[1]} here"
    if is_head and there[1:] == here[1:]:
        return "initialised", f"a head for {there[0]} classes in the file, for {here[0]} here"
    return "initialised", f"shape {_shape(there)} in the file, {_shape(here)} here"


def _distinct(network: nn.Module) -> list[tuple[list[str], Tensor]]:
    """(all names, tensor) of each weight and buffer; nnU-Net's decoders name the encoder's weights
    once more."""
    found: dict[int, tuple[list[str], Tensor]] = {}
    for name, value in network.state_dict(keep_vars=True).items():
        found.setdefault(id(value), ([], value))[0].append(name)
    return list(found.values())


def _first_convolution(network: nn.Module) -> Tensor | None:
    """The weights that see the image: those of the first convolution in the order of the
    modules."""
    return next(
        (module.weight for module in network.modules() if isinstance(module, _ConvNd)), None
    )


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "of one number"
