"""`nnunet_liver convert`: datasets as nnU-Net raw datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from nnunet_liver_ext.commands.options import parse_labels

app = typer.Typer(no_args_is_help=True, help="Turn a dataset of T1/T2 pairs into an nnU-Net raw dataset.")

Dataset = Annotated[int, typer.Option("-d", "--dataset", help="Number of the new dataset, 1 to 999.", min=1, max=999)]
Name = Annotated[str, typer.Option("--name", help="Name of the new dataset.")]
SpacingOption = Annotated[
    str, typer.Option("--spacing", metavar="X,Y,Z", help="Spacing of the common grid in mm, or native-t1.")
]
InterpolationOption = Annotated[str, typer.Option("--interpolation", help="Of the images: bspline or linear.")]
HoldOut = Annotated[
    float, typer.Option("--hold-out", help="Patients for the test set: a number, or a share below 1.", min=0)
]
HoldOutPatients = Annotated[
    list[str] | None, typer.Option("--hold-out-patient", help="A patient for the test set, by name; repeat.")
]
Folds = Annotated[int, typer.Option("--folds", help="Folds of the cross-validation by patient.", min=2)]
Repeats = Annotated[int, typer.Option("--repeats", help="Repetitions of the cross-validation.", min=1)]
Seed = Annotated[int, typer.Option("--seed", help="Seed of splits and hold-out.", min=0)]
Processes = Annotated[int, typer.Option("--processes", help="Worker processes.", min=1)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the dataset that is there.")]
Add = Annotated[bool, typer.Option("--add", help="Take new and corrected studies into the dataset that is there.")]
Preregister = Annotated[
    bool, typer.Option("--preregister", help="Warp T1 onto T2 first: channels T2 and warped T1, labels of T2.")
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME=VALUE", help="A class in the masks (liver=1; liver=1+2 joins two); repeat."),
]
IgnoredLabels = Annotated[
    list[int] | None, typer.Option("--ignore-label", help="A mask value that is background here; repeat.")
]
IgnoreOtherLabels = Annotated[
    bool, typer.Option("--ignore-other-labels", help="Every mask value that --label does not name is background.")
]
AllowEmpty = Annotated[bool, typer.Option("--allow-empty", help="Take studies with an empty mask too.")]


@app.command("pairs")
def pairs(
    source: Annotated[Path, typer.Argument(help="CSV (patient, study, t1, t2, t1_mask, t2_mask) or folder of studies.")],
    dataset: Dataset,
    name: Name = "Liver",
    spacing: SpacingOption = "1.5,1.5,3",
    interpolation: InterpolationOption = "bspline",
    hold_out: HoldOut = 0,
    hold_out_patient: HoldOutPatients = None,
    folds: Folds = 5,
    repeats: Repeats = 1,
    seed: Seed = 0,
    processes: Processes = 4,
    overwrite: Overwrite = False,
    add: Add = False,
    preregister: Preregister = False,
    label: Labels = None,
    ignore_label: IgnoredLabels = None,
    ignore_other_labels: IgnoreOtherLabels = False,
    allow_empty: AllowEmpty = False,
) -> None:
    """Your own studies: NIfTI, NRRD, MetaImage or DICOM folders, from a CSV or a folder."""
    from nnunet_liver_ext.studies import read_studies

    ignored = "all" if ignore_other_labels else ignore_label
    _write(
        read_studies(source),
        settings=_settings(spacing, interpolation, preregister, allow_empty, label, ignored),
        dataset_id=dataset,
        name=name,
        hold_out=_hold_out(hold_out, hold_out_patient),
        folds=folds,
        repeats=repeats,
        seed=seed,
        processes=processes,
        overwrite=overwrite,
        add=add,
        source_root=source if source.is_dir() else source.parent,
    )


@app.command("phantom")
def phantom(
    dataset: Dataset,
    studies: Annotated[Path, typer.Option(help="Folder for the native phantom images; kept, and continued if run again.")],
    pairs: Annotated[int, typer.Option(help="Number of T1/T2 pairs.", min=1)] = 20,
    patients: Annotated[int | None, typer.Option(help="Number of patients; as many as pairs by default.", min=1)] = None,
    difficulty: Annotated[str, typer.Option(help="demo (small, little noise) or study (realistic size).")] = "study",
    name: Name = "Phantom",
    spacing: SpacingOption = "1.5,1.5,3",
    interpolation: InterpolationOption = "bspline",
    hold_out: HoldOut = 0,
    hold_out_patient: HoldOutPatients = None,
    folds: Folds = 5,
    repeats: Repeats = 1,
    seed: Seed = 0,
    processes: Processes = 4,
    overwrite: Overwrite = False,
    add: Add = False,
    preregister: Preregister = False,
) -> None:
    """Synthetic abdomens with known masks and deformations, for trying things."""
    from nnunet_liver_ext.dataset_conversion.phantom import write_studies
    from nnunet_liver_ext.studies import read_studies

    csv = write_studies(studies, pairs=pairs, seed=seed, difficulty=difficulty, patients=patients, progress=True)  # type: ignore[arg-type]
    _write(
        read_studies(csv),
        settings=_settings(spacing, interpolation, preregister, False, None, None),
        dataset_id=dataset,
        name=name,
        hold_out=_hold_out(hold_out, hold_out_patient),
        folds=folds,
        repeats=repeats,
        seed=seed,
        processes=processes,
        overwrite=overwrite,
        add=add,
    )


@app.command("toy")
def toy(
    dataset: Dataset,
    pairs: Annotated[int, typer.Option(help="Pairs to train and validate on.")] = 300,
    test_pairs: Annotated[int, typer.Option(help="More pairs, as a test set.")] = 0,
    size: Annotated[int, typer.Option(help="Pixels of an image along each axis, at least 64.")] = 240,
    max_shift: Annotated[
        int | None, typer.Option(help="Largest shift along each axis, pixels. [default: 32 of 240, less in smaller images]")
    ] = None,
    difference: Annotated[
        float, typer.Option(help="How unlike the masks of a pair are, apart from their shift: about 1 - Dice; 0 to 0.3.")
    ] = 0.1,
    annotation_noise: Annotated[float, typer.Option(help="How unlike mask 2 is what image 2 shows, in the same way.")] = 0.0,
    noise: Annotated[float, typer.Option(help="Noise of the images; their amplitude is 1.")] = 0.2,
    name: Name = "Toy",
    folds: Folds = 5,
    repeats: Repeats = 1,
    seed: Annotated[int, typer.Option("--seed", help="Seed of pairs and splits.", min=0)] = 0,
    processes: Processes = 4,
    overwrite: Overwrite = False,
    add: Add = False,
) -> None:
    """2D pairs of blobs told by the angle and the frequency of sine patterns (Couteaux et al. 2021, section 3.1)."""
    from nnunet_liver_ext.dataset_conversion.toy import write_toy_dataset

    folder = write_toy_dataset(
        dataset,
        pairs=pairs,
        test_pairs=test_pairs,
        size=size,
        max_shift=max_shift,
        difference=difference,
        annotation_noise=annotation_noise,
        noise=noise,
        seed=seed,
        name=name,
        folds=folds,
        repeats=repeats,
        processes=processes,
        overwrite=overwrite,
        add=add,
    )
    typer.echo(f"{pairs + test_pairs} pairs: {folder}")
    typer.echo(f"Next: nnunet_liver plan -d {dataset}")


@app.command("chaos-mr")
def chaos_mr(
    source: Annotated[Path, typer.Argument(help="Folder with <id>/T1DUAL and <id>/T2SPIR in it, at any depth.")],
    dataset: Dataset,
    name: Name = "ChaosMR",
    spacing: SpacingOption = "1.5,1.5,3",
    interpolation: InterpolationOption = "bspline",
    hold_out: HoldOut = 0,
    hold_out_patient: HoldOutPatients = None,
    folds: Folds = 5,
    repeats: Repeats = 1,
    seed: Seed = 0,
    processes: Processes = 4,
    overwrite: Overwrite = False,
    add: Add = False,
    preregister: Preregister = False,
    organ: Annotated[
        list[str] | None,
        typer.Option("--organ", help="liver, right kidney, left kidney or spleen; repeat. [default: liver]"),
    ] = None,
) -> None:
    """CHAOS MR (CC BY-NC-SA 4.0): in-phase T1 and T2 of 40 healthy abdomens, 20 of them with masks."""
    from nnunet_liver_ext.dataset_conversion.chaos_mr import NOTES, ChaosReader, chaos_mr_studies, organ_labels

    labels, ignored = organ_labels(organ or ["liver"])
    _write(
        chaos_mr_studies(source),
        settings=_settings(spacing, interpolation, preregister, False, labels, ignored),
        dataset_id=dataset,
        name=name,
        hold_out=_hold_out(hold_out, hold_out_patient),
        folds=folds,
        repeats=repeats,
        seed=seed,
        processes=processes,
        overwrite=overwrite,
        add=add,
        reader=ChaosReader(),
        notes=NOTES,
        source_root=source,
    )


@app.command("cirrmri600")
def cirrmri600(
    source: Annotated[Path, typer.Argument(help="Folder with Cirrhosis_T1_3D and Cirrhosis_T2_3D in it, at any depth.")],
    dataset: Dataset,
    name: Name = "CirrMRI600",
    spacing: SpacingOption = "1.5,1.5,3",
    interpolation: InterpolationOption = "bspline",
    hold_out: HoldOut = 0,
    hold_out_patient: HoldOutPatients = None,
    folds: Folds = 5,
    repeats: Repeats = 1,
    seed: Seed = 0,
    processes: Processes = 4,
    overwrite: Overwrite = False,
    add: Add = False,
    preregister: Preregister = False,
    allow_empty: AllowEmpty = False,
) -> None:
    """CirrMRI600+ (CC BY-NC 4.0): T1 and T2 of 291 patients with cirrhosis, not registered, with liver masks."""
    from nnunet_liver_ext.dataset_conversion.cirrmri600 import NOTES, cirrmri600_studies, unpaired_patients

    _write(
        cirrmri600_studies(source),
        settings=_settings(spacing, interpolation, preregister, allow_empty, None, None),
        dataset_id=dataset,
        name=name,
        hold_out=_hold_out(hold_out, hold_out_patient),
        folds=folds,
        repeats=repeats,
        seed=seed,
        processes=processes,
        overwrite=overwrite,
        add=add,
        notes=NOTES,
        source_root=source,
    )
    typer.echo(f"{len(unpaired_patients(source))} patients have only one of T1 and T2 and were left out.")


def _write(studies: Any, **options: Any) -> None:
    from nnunet_liver_ext.dataset_conversion.writer import write_dataset

    folder = write_dataset(studies, **options)
    typer.echo(f"{len(studies)} studies: {folder}")
    typer.echo(f"Next: nnunet_liver plan -d {options['dataset_id']}")


def _hold_out(number_or_share: float, names: list[str] | None) -> Any:
    if names and number_or_share:
        raise typer.BadParameter("give --hold-out or --hold-out-patient, not both.")
    return names or number_or_share


def _settings(
    spacing: str,
    interpolation: str,
    preregister: bool,
    allow_empty: bool,
    label: list[str] | dict[str, tuple[int, ...]] | None,
    ignored: Sequence[int] | str | None,
) -> Any:
    from nnunet_liver_ext.dataset_conversion.case_conversion import Settings
    from nnunet_liver_ext.dataset_conversion.common_grid import parse_spacing

    if interpolation not in ("bspline", "linear"):
        raise typer.BadParameter(f"--interpolation is bspline or linear, not {interpolation}.")
    options: dict[str, Any] = {"preregister": preregister, "allow_empty": allow_empty, "interpolation": interpolation}
    options["spacing"] = parse_spacing("native-t1" if spacing == "native-t1" else spacing.replace(",", " ").split())
    if label:
        options["labels"] = label if isinstance(label, dict) else parse_labels(label)
    if ignored:
        options["ignored_labels"] = ignored if isinstance(ignored, str) else tuple(ignored)
    return Settings(**options)
