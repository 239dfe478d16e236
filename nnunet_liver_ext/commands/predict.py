"""`nnunet_liver predict`: masks for new studies on their native grids."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer


def predict(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the masks.")],
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "-m",
            "--model",
            help="Model folder, or a zip of nnUNetv2_export_model_to_zip; repeat to average the models' probabilities.",
        ),
    ] = None,
    studies: Annotated[
        Path | None, typer.Option("-i", "--input", help="Folder of studies, or a CSV (patient, study, t1, t2).")
    ] = None,
    t1: Annotated[Path | None, typer.Option("--t1", help="A single study: its T1 image (file or DICOM folder).")] = None,
    t2: Annotated[Path | None, typer.Option("--t2", help="A single study: its T2 image (file or DICOM folder).")] = None,
    name: Annotated[str, typer.Option(help="Name of the single study.")] = "study",
    split: Annotated[
        Path | None,
        typer.Option(help="Instead of predicting: a folder of joint maps from nnUNetv2_predict to turn into native masks."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("-d", "--dataset", help="With --split: the converted dataset the maps belong to.")
    ] = None,
    folds: Annotated[
        list[str] | None, typer.Option("-f", "--fold", help="A fold to use; repeat to average. Default: all trained ones.")
    ] = None,
    checkpoint: Annotated[str, typer.Option("-c", "--checkpoint")] = "checkpoint_final.pth",
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write NAME_T1.npz (K, z, y, x).")] = False,
    deformation: Annotated[
        bool,
        typer.Option(
            "--deformation",
            help="Also write how T1 is moved onto T2, NAME_deformation.nii.gz (mm) and the mask NAME_T1_on_T2.nii.gz. "
            "Models of the nnUNetTrainerSimilarity trainers only.",
        ),
    ] = False,
    no_postprocessing: Annotated[
        bool, typer.Option("--no-postprocessing", help="Masks as they are, whatever nnunet_liver postprocess has found.")
    ] = False,
    no_mirroring: Annotated[
        bool, typer.Option("--no-mirroring", help="Faster: no mirrored test-time augmentation.")
    ] = False,
    tile_step: Annotated[float, typer.Option(help="Step of the sliding window, share of the patch.", min=0.1, max=1)] = 0.5,
    device: Annotated[str, typer.Option("--device", help="cuda, cpu, mps; cuda if there is one by default.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Predict again what is there.")] = False,
) -> None:
    """Segment new T1/T2 studies: NAME_T1.nii.gz and NAME_T2.nii.gz, each on its own image's grid.

    Images need no conversion. Single-input models also take a lone T1 or T2. Several models: the class probabilities of each
    image are averaged on its own grid. What nnunet_liver postprocess found for a model is applied. Research use only.
    """
    if split is not None:
        if model or studies or t1 or t2 or deformation:
            raise typer.BadParameter(
                "--split takes joint maps as they are: give neither a model nor images nor --deformation with it."
            )
        _split(split, dataset, out, overwrite=overwrite)
        return
    if not model or (studies is None) == (t1 is None and t2 is None):
        raise typer.BadParameter("give a model (-m), and either studies (-i) or one study (--t1, --t2).")
    import torch

    from nnunet_liver_ext.inference.ensemble import Ensemble
    from nnunet_liver_ext.inference.model import load_model, opened
    from nnunet_liver_ext.inference.predict import predict_studies
    from nnunet_liver_ext.studies import Study, read_studies

    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with ExitStack() as stack:
        ensemble = Ensemble.of(
            [
                load_model(
                    stack.enter_context(opened(path)),
                    folds=folds,
                    checkpoint=checkpoint,
                    device=target,
                    mirroring=not no_mirroring,
                    tile_step=tile_step,
                    deformation=deformation,
                    postprocessing=not no_postprocessing,
                )
                for path in model
            ]
        )
        if studies is not None:
            found = read_studies(studies, modalities=ensemble.modalities)
        else:
            given = dict(zip(ensemble.modalities, (t1, t2), strict=True))
            found = [Study(name, name, {key: path for key, path in given.items() if path is not None}, {})]
        predict_studies(ensemble.models, found, out, probabilities=probabilities, overwrite=overwrite)
    typer.echo(f"{len(found)} studies: {out}")


def _split(joint: Path, dataset: str | None, out: Path, *, overwrite: bool) -> None:
    if dataset is None:
        raise typer.BadParameter("--split needs the converted dataset (-d 501), whose pairs.json knows the native grids.")
    from nnunet_liver_ext.environment import dataset_folder
    from nnunet_liver_ext.inference.split import split_folder

    split_folder(joint, dataset_folder(dataset, "raw"), out, overwrite=overwrite)
    typer.echo(f"Native masks: {out}")
