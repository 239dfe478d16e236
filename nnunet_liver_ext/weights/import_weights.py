"""A foreign checkpoint becomes a file that our trainers start from (`import_record`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.recipe import PLANS_KEY
from nnunet_liver_ext.weights.checkpoint_kinds import KINDS, NNUNET, CheckpointKind
from nnunet_liver_ext.weights.import_record import make_record, training_origin, write_import
from nnunet_liver_ext.weights.matching import WeightMatches, copy_matching_weights
from nnunet_liver_ext.weights.safe_reading import ForeignCheckpoint, read_checkpoint
from nnunet_liver_ext.weights.stock_plans import architecture_differences
from nnunet_liver_ext.weights.target_network import TargetNetwork, build_target

LEAST_SHARE = 0.5
"""Of the numbers in the network's encoder; an import of less is refused unless it is forced."""
NAMED = 3
"""How many names a sentence gives."""


@dataclass(frozen=True)
class WeightsImport:
    """What was written, for the terminal."""

    path: Path
    record: dict[str, Any]
    matches: WeightMatches
    target: TargetNetwork
    notes: tuple[str, ...]


def import_weights(
    kind: str,
    source: Path,
    out: Path,
    *,
    plans: str,
    configuration: str = "3d_fullres",
    dataset: str | None = None,
    trainer: str | None = None,
    seed: int = 0,
    force: bool = False,
    overwrite: bool = False,
    trust: bool = False,
) -> WeightsImport:
    """Writes `out`, a start for trainings of the plans' network with weights from `source`.

    Args:
        kind: a key of `KINDS`.
        source: the foreign checkpoint.
        out: the file to write.
        plans: as for `build_target`, like configuration, dataset and trainer.
        seed: of the weights that the checkpoint does not have.
        force: take what fits, even if it is little, and nnU-Net weights of a network with, say,
            other strides.
        overwrite: replace `out`.
        trust: the authors of checkpoint and plans may run what they wrote.

    Raises:
        InputError: `out` is there, the checkpoint cannot be read safely, the plans' network is none
            that this kind of weights is for, or hardly anything fits.
    """
    checkpoint_kind = KINDS[kind]
    _check_out(out, source, overwrite=overwrite)
    target = build_target(
        plans,
        configuration=configuration,
        dataset=dataset,
        trainer=trainer,
        seed=seed,
        trust=trust,
    )
    checkpoint_kind.check(target.networks[0], target.description)
    checkpoint = read_checkpoint(source, trust=trust)
    notes = _check_origin(checkpoint_kind, checkpoint, target, force=force)
    for network in target.networks:  # they are alike, so the matches of the last are those of all
        matches = copy_matching_weights(
            network,
            checkpoint.weights,
            checkpoint_kind.source_names(network),
            checkpoint_kind.heads,
        )
    share = matches.share(checkpoint_kind.is_counted(target.networks[0]))
    if share < LEAST_SHARE and not (force and matches.imported_weights):
        raise InputError(f"{source}: {_describe_misfit(checkpoint_kind, target, matches, share)}")
    record = make_record(checkpoint_kind, checkpoint, target, matches, share)
    write_import(out, target, record)
    return WeightsImport(
        out,
        record,
        matches,
        target,
        (*notes, *_notes_on_classes(checkpoint_kind, checkpoint, target, matches)),
    )


def _check_out(out: Path, source: Path, *, overwrite: bool) -> None:
    if out.is_dir():
        raise InputError(
            f"{out}: is a folder; name the file to write, such as {out / 'start.pth'}."
        )
    if out.exists() and source.exists() and out.samefile(source):
        raise InputError(f"{out}: is the checkpoint itself; write to another file.")
    if out.exists() and not overwrite:
        raise InputError(f"{out}: is there already; replace it with --overwrite.")


def _check_origin(
    kind: CheckpointKind, checkpoint: ForeignCheckpoint, target: TargetNetwork, *, force: bool
) -> list[str]:
    """Notes on an nnU-Net checkpoint's network; InputError if it is another one, or one of ours."""
    path, content = checkpoint.path, checkpoint.content
    if PLANS_KEY in content:
        written_by = content.get("trainer_name")
        raise InputError(
            f"{path}: was written by {written_by} of this package; name it as segmentor_checkpoint"
            " itself."
        )
    differences = (
        architecture_differences(checkpoint, target.architecture) if kind is NNUNET else []
    )
    if differences and not force:
        raise InputError(
            f"{path}: its network differs from that of {target.description} in"
            f" {', '.join(differences)}; plan with the same network, or take what fits with"
            " --force."
        )
    return (
        [f"The network of the checkpoint differs in {', '.join(differences)}."]
        if differences
        else []
    )


def _describe_misfit(
    kind: CheckpointKind, target: TargetNetwork, matches: WeightMatches, share: float
) -> str:
    """What does not fit, with names."""
    network = type(target.networks[0]).__name__
    parts = [
        _count_and_name(
            f"of {len(matches.of_network)} weights missing",
            [match.name for match in matches.missing_weights],
        ),
        _count_and_name(
            "of another shape",
            [f"{match.name} ({match.reason})" for match in matches.misshapen_weights],
        ),
        _count_and_name("unknown in the file", matches.unused),
    ]
    mend = (
        "take what fits with --force, or another checkpoint."
        if matches.imported_weights
        else f"is it one of {kind.title}?"
    )
    reasons = "; ".join(part for part in parts if part)
    return f"fits {share:.0%} of the {kind.counted_part} of {network} ({reasons}); {mend}"


def _count_and_name(what: str, names: Sequence[str]) -> str:
    more = ", ..." if len(names) > NAMED else ""
    return f"{len(names)} {what}: {', '.join(names[:NAMED])}{more}" if names else ""


def _notes_on_classes(
    kind: CheckpointKind,
    checkpoint: ForeignCheckpoint,
    target: TargetNetwork,
    matches: WeightMatches,
) -> list[str]:
    """A note where heads were trained on classes of other names."""
    theirs = training_origin(checkpoint).get("classes")
    heads_used = any(
        part in match.name for match in matches.imported_weights for part in kind.heads
    )
    if not heads_used or theirs is None or tuple(theirs) == target.class_names:
        return []
    return [
        f"Its heads were trained on {', '.join(theirs)}, this dataset has"
        f" {', '.join(target.class_names)}."
    ]
