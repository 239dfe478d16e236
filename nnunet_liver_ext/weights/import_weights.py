"""`import_weights`: a foreign checkpoint becomes a file that our trainers start from (`record` has
its form)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.recipe import PLANS_KEY
from nnunet_liver_ext.weights.import_record import origin, record_of, write_import
from nnunet_liver_ext.weights.kinds import KINDS, NNUNET, Kind
from nnunet_liver_ext.weights.matching import Matches, import_into
from nnunet_liver_ext.weights.safe_reading import ForeignCheckpoint, read_checkpoint
from nnunet_liver_ext.weights.stock_plans import architecture_differences
from nnunet_liver_ext.weights.target_network import Target, build_target

LEAST_SHARE = 0.5
"""Of the numbers in the network's encoder; an import of less is refused unless it is forced."""
NAMED = 3
"""How many names a sentence gives."""


@dataclass(frozen=True)
class Imported:
    """What was written, for the terminal."""

    path: Path
    record: dict[str, Any]
    matches: Matches
    target: Target
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
) -> Imported:
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

    Raises:
        InputError: `out` is there, the checkpoint cannot be read safely, the plans' network is none
            that this kind of weights is for, or hardly anything fits.
    """
    known = KINDS[kind]
    _check_out(out, source, overwrite=overwrite)
    target = build_target(
        plans, configuration=configuration, dataset=dataset, trainer=trainer, seed=seed
    )
    known.check(target.networks[0], target.where)
    checkpoint = read_checkpoint(source)
    notes = _check_origin(known, checkpoint, target, force=force)
    for network in target.networks:  # they are alike, so the matches of the last are those of all
        matches = import_into(network, checkpoint.weights, known.sources(network), known.heads)
    share = matches.share(known.counted(target.networks[0]))
    if share < LEAST_SHARE and not (force and matches.imported()):
        raise InputError(f"{source}: {_misfit(known, target, matches, share)}")
    record = record_of(known, checkpoint, target, matches, share)
    write_import(out, target, record)
    return Imported(
        out, record, matches, target, (*notes, *_about_classes(known, checkpoint, target, matches))
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
    kind: Kind, checkpoint: ForeignCheckpoint, target: Target, *, force: bool
) -> list[str]:
    """Notes on an nnU-Net checkpoint's network; InputError where it is another one, or the file is
    one of ours."""
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
            f"{path}: its network differs from that of {target.where} in {', '.join(differences)};"
            " plan with the same network, or take what fits with --force."
        )
    return (
        [f"The network of the checkpoint differs in {', '.join(differences)}."]
        if differences
        else []
    )


def _misfit(kind: Kind, target: Target, matches: Matches, share: float) -> str:
    """What does not fit, with names."""
    network = type(target.networks[0]).__name__
    parts = [
        _named(
            f"of {len(matches.own)} weights missing", [match.name for match in matches.missing()]
        ),
        _named(
            "of another shape", [f"{match.name} ({match.reason})" for match in matches.misshapen()]
        ),
        _named("unknown in the file", matches.unused),
    ]
    mend = (
        "take what fits with --force, or another checkpoint"
        if matches.imported()
        else f"is it one of {kind.title}?"
    )
    return (
        f"fits {share:.0%} of the {kind.counted_as} of {network}"
        f" ({'; '.join(part for part in parts if part)}); {mend}{'.' if matches.imported() else ''}"
    )


def _named(what: str, names: Sequence[str]) -> str:
    more = ", ..." if len(names) > NAMED else ""
    return f"{len(names)} {what}: {', '.join(names[:NAMED])}{more}" if names else ""


def _about_classes(
    kind: Kind, checkpoint: ForeignCheckpoint, target: Target, matches: Matches
) -> list[str]:
    """A note where heads were trained on classes of other names."""
    theirs = origin(checkpoint).get("classes")
    heads_used = any(part in match.name for match in matches.imported() for part in kind.heads)
    if not heads_used or theirs is None or tuple(theirs) == target.class_names:
        return []
    return [
        f"Its heads were trained on {', '.join(theirs)}, this dataset has"
        f" {', '.join(target.class_names)}."
    ]
