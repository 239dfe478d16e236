"""`nnunet_liver evaluate`: predictions against references."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nnunet_liver_ext.commands.crossval import evaluate_crossval
from nnunet_liver_ext.commands.mismatch import evaluate_mismatch
from nnunet_liver_ext.commands.option_values import parse_labels, parse_references

MISMATCH = "With --mismatch"


def evaluate(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder for results.csv, results.json and report.html."),
    ],
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            "-p",
            help="Folder of CASE_T1 and CASE_T2 masks, joint label maps or label maps CASE.",
        ),
    ] = None,
    references: Annotated[
        list[str] | None,
        typer.Option(
            "--references",
            "-r",
            metavar="[RATER=]PATH",
            help=(
                "Folder with the same names, or studies with masks (CSV or folder); repeat for"
                " several raters."
            ),
        ),
    ] = None,
    crossval: Annotated[
        list[str] | None,
        typer.Option(
            "--crossval",
            metavar="[NAME=]MODEL",
            help=(
                "Instead of -p: a model's folder, whose folds have predicted their validation"
                " cases; repeat to compare."
            ),
        ),
    ] = None,
    mismatch: Annotated[
        list[str] | None,
        typer.Option(
            "--mismatch",
            metavar="[NAME=]MODEL",
            help=(
                "Instead of -p: a model to predict studies with masks (-i) with, beside their own"
                " and beside another "
                "patient's auxiliary image; repeat for several models."
            ),
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            "-i",
            help="Images for pictures and for the body: studies, imagesTs, or a folder of CASE_T1.",
        ),
    ] = None,
    fat: Annotated[
        Path | None,
        typer.Option(
            help="Images of the fat fraction in percent, named like the masks: measure it."
        ),
    ] = None,
    fat_margin: Annotated[
        float, typer.Option(help="What the fat fraction leaves out along the border, mm.")
    ] = 0.0,
    lesions: Annotated[
        list[str] | None,
        typer.Option(
            "--lesions", metavar="CLASS", help="A class to measure lesion by lesion; repeat."
        ),
    ] = None,
    min_lesion_dice: Annotated[
        float, typer.Option(help="A lesion is found if its Dice is higher.")
    ] = 0.2,
    organ: Annotated[
        str,
        typer.Option(metavar="CLASS", help="What lesions are in: tumour burden is their share."),
    ] = "liver",
    tolerance: Annotated[float, typer.Option(help="Tolerance of the surface Dice in mm.")] = 2.0,
    convention: Annotated[
        Literal["standard", "chaos"],
        typer.Option(help="What lies beyond the volume: background, or more of the mask."),
    ] = "standard",
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="NAME=VALUE",
            help="A class in the references, if numbered otherwise (liver=6); repeat.",
        ),
    ] = None,
    similarity: Annotated[
        Literal["translation", "rigid", "affine", "elastic", "none"],
        typer.Option(help="Compare both masks of a pair after the best transform of this class."),
    ] = "elastic",
    resample: Annotated[
        Literal["none", "reference"],
        typer.Option(help="Put predictions on the reference's grid where theirs differ."),
    ] = "none",
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="KIND",
            help="Measure only overlap, surface, volume, plausibility or pairs; repeat.",
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="csv|json|html|tex",
            help="Files to write; repeat. Default: csv, json, html.",
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Cases at a time; by default as many as pay off.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that are there.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what an earlier run has measured.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Who gets whose image.", min=0, rich_help_panel=MISMATCH)
    ] = 0,
    fold: Annotated[
        list[str] | None,
        typer.Option(
            "--fold",
            "-f",
            help="A fold to use; repeat to average. Default: all.",
            rich_help_panel=MISMATCH,
        ),
    ] = None,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", "-c", rich_help_panel=MISMATCH)
    ] = "checkpoint_final.pth",
    no_mirroring: Annotated[
        bool,
        typer.Option("--no-mirroring", help="No mirrored augmentation.", rich_help_panel=MISMATCH),
    ] = False,
    tile_step: Annotated[
        float, typer.Option(help="Share of the patch.", min=0.1, max=1, rich_help_panel=MISMATCH)
    ] = 0.5,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            help="cuda, cpu, mps; cuda if there is one by default.",
            rich_help_panel=MISMATCH,
        ),
    ] = "",
) -> None:
    """Measure predictions: overlap, surface distances, volume and what seems implausible, with a
    report.

    Of pairs also their masks' relative similarity and volumes, of predictions and of references;
    with several raters the agreement with and among them; of lesions how many were found; of the
    liver its fat fraction.

    Cases that cannot be evaluated (no prediction, another grid, unreadable) are listed at the end;
    the exit code is then 1. An interrupted run continues when it is repeated. --crossval and
    --mismatch: docs/crossval.md.
    """
    if sum(map(bool, (predictions, crossval, mismatch))) != 1:
        raise typer.BadParameter(
            "give predictions (-p) and references (-r), or --crossval, or --mismatch."
        )
    of_mismatch = (seed, fold, checkpoint, no_mirroring, tile_step, device)
    if not mismatch and of_mismatch != (0, None, "checkpoint_final.pth", False, 0.5, ""):
        raise typer.BadParameter(
            "--seed, --fold, --checkpoint, --no-mirroring, --tile-step and --device are of"
            " --mismatch."
        )
    from rich.console import Console

    from nnunet_liver_ext.evaluation.evaluate import run
    from nnunet_liver_ext.evaluation.options import Options
    from nnunet_liver_ext.evaluation.results.terminal import notes_text, pairs_table, summary_table

    options = Options(
        tolerance_mm=tolerance,
        convention=convention,
        similarity=None if similarity == "none" else similarity,
        lesions=tuple(lesions or ()),
        min_lesion_dice=min_lesion_dice,
        organ=organ,
        fat_margin_mm=fat_margin,
        resample=resample == "reference",
        only=tuple(only or ()),
    )
    more: dict[str, Any] = {
        "processes": processes,
        "overwrite": overwrite,
        "fresh": fresh,
        "reference_classes": parse_labels(label) if label else None,
    }
    files: dict[str, Any] = {"formats": formats} if formats else {}
    if crossval:
        evaluate_crossval(
            crossval, references, out, options, images=images, fat=fat, **more, **files
        )
        return
    if mismatch:
        if references or fat:
            raise typer.BadParameter(
                "--mismatch measures against the masks of the studies (-i): give no -r and no"
                " --fat."
            )
        load = {
            "folds": fold,
            "checkpoint": checkpoint,
            "mirroring": not no_mirroring,
            "tile_step": tile_step,
        }
        apart = replace(options, similarity=None)  # each mask of a pair is predicted on its own
        evaluate_mismatch(mismatch, images, out, apart, seed=seed, load=load, device=device, **more)
        return
    if predictions is None or not references:
        raise typer.BadParameter("predictions (-p) need references (-r).")
    evaluation = run(
        predictions,
        parse_references(references),
        out,
        options,
        images=images,
        fat=fat,
        **more,
        **files,
    )
    console = Console()
    console.print(summary_table(evaluation.table, tolerance_mm=tolerance))
    if evaluation.pairs:
        console.print(pairs_table(evaluation.pairs, similarity=similarity))
    if evaluation.notes:
        console.print(notes_text(evaluation.notes))
    console.print(
        f"Written to {out}: {', '.join(evaluation.written)}", soft_wrap=True, highlight=False
    )
    evaluation.raise_for_failures()
