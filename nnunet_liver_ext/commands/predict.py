"""`nnunet_liver predict`: masks for new studies on their native grids."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nnunet_liver_ext.inference.ensemble import Ensemble
    from nnunet_liver_ext.inference.model import Model
    from nnunet_liver_ext.studies.study import Study


def predict(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the masks.")],
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "-m",
            "--model",
            help=(
                "Model folder, or a zip of nnUNetv2_export_model_to_zip; repeat to average the"
                " models' probabilities."
            ),
        ),
    ] = None,
    studies: Annotated[
        Path | None,
        typer.Option("-i", "--input", help="Folder of studies, or a CSV (patient, study, t1, t2)."),
    ] = None,
    t1: Annotated[
        Path | None,
        typer.Option("--t1", help="A single study: its T1 image (file or DICOM folder)."),
    ] = None,
    t2: Annotated[
        Path | None,
        typer.Option("--t2", help="A single study: its T2 image (file or DICOM folder)."),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(
            help=(
                "A single study of an ordinary model: its image (file or DICOM folder); repeat for"
                " each channel."
            )
        ),
    ] = None,
    liver: Annotated[
        Path | None, typer.Option(help="Its liver mask, which tumour models need.")
    ] = None,
    liver_model: Annotated[
        list[Path] | None,
        typer.Option(
            help="A model that finds the liver in studies without a liver mask; repeat to average."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the single study.")] = "study",
    split: Annotated[
        Path | None,
        typer.Option(
            help=(
                "Instead of predicting: a folder of joint maps from nnUNetv2_predict to turn into"
                " native masks."
            )
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "-d", "--dataset", help="With --split: the converted dataset the maps belong to."
        ),
    ] = None,
    folds: Annotated[
        list[str] | None,
        typer.Option(
            "-f", "--fold", help="A fold to use; repeat to average. Default: all trained ones."
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option("-c", "--checkpoint")] = "checkpoint_final.pth",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write NAME_T1.npz (K, z, y, x).")
    ] = False,
    deformation: Annotated[
        bool,
        typer.Option(
            "--deformation",
            help=(
                "Also write how T1 is moved onto T2, NAME_deformation.nii.gz (mm) and the mask"
                " NAME_T1_on_T2.nii.gz. "
                "Models of the nnUNetTrainerSimilarity trainers only."
            ),
        ),
    ] = False,
    no_postprocessing: Annotated[
        bool,
        typer.Option(
            "--no-postprocessing",
            help="Masks as they are, whatever nnunet_liver postprocess has found.",
        ),
    ] = False,
    no_mirroring: Annotated[
        bool, typer.Option("--no-mirroring", help="Faster: no mirrored test-time augmentation.")
    ] = False,
    tile_step: Annotated[
        float, typer.Option(help="Step of the sliding window, share of the patch.", min=0.1, max=1)
    ] = 0.5,
    device: Annotated[
        str, typer.Option("--device", help="cuda, cpu, mps; cuda if there is one by default.")
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Predict again what is there.")
    ] = False,
) -> None:
    """Segment new studies: NAME_T1.nii.gz and NAME_T2.nii.gz, each on its own image's grid; of
    ordinary models NAME.nii.gz.

    Images need no conversion. Single-input models also take a lone T1 or T2. Several models: the
    class probabilities of each image are averaged on its own grid. What nnunet_liver postprocess
    found for a model is applied; tumours are restricted to the liver. Research use only.
    """
    if split is not None:
        if model or studies or t1 or t2 or image or liver or liver_model or deformation:
            raise typer.BadParameter(
                "--split takes joint maps as they are: give neither a model nor images nor"
                " --deformation with it."
            )
        _split(split, dataset, out, overwrite=overwrite)
        return
    single = t1 is not None or t2 is not None or bool(image)
    if not model or (studies is None) != single or (liver is not None and not image):
        raise typer.BadParameter(
            "give a model (-m), and either studies (-i) or one study (--t1, --t2; of an ordinary"
            " model --image, --liver)."
        )
    import torch

    from nnunet_liver_ext.inference.ensemble import Ensemble
    from nnunet_liver_ext.inference.load_model import load_model, unpacked_model
    from nnunet_liver_ext.inference.predict import predict_studies

    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def load(path: Path, **options: Any) -> Model:
        return load_model(
            path,
            device=target,
            mirroring=not no_mirroring,
            tile_step=tile_step,
            postprocessing=not no_postprocessing,
            **options,
        )

    with ExitStack() as stack:
        chosen = {"folds": folds, "checkpoint": checkpoint, "deformation": deformation}
        ensemble = Ensemble.of(
            [load(stack.enter_context(unpacked_model(path)), **chosen) for path in model]
        )
        finders = [load(stack.enter_context(unpacked_model(path))) for path in liver_model or ()]
        found = (
            [_one_study(ensemble, name, {"T1": t1, "T2": t2}, image or [], liver)]
            if studies is None
            else _studies(ensemble, studies)
        )
        predict_studies(
            ensemble.models,
            found,
            out,
            probabilities=probabilities,
            overwrite=overwrite,
            organ_model=finders or None,
        )
    typer.echo(f"{len(found)} studies: {out}")


def _studies(ensemble: Ensemble, path: Path) -> list[Study]:
    from nnunet_liver_ext.studies.image_studies import read_image_studies
    from nnunet_liver_ext.studies.pair_studies import read_studies

    read = read_image_studies if ensemble.is_of_single_images else read_studies
    return read(path, modalities=ensemble.modalities)


def _one_study(
    ensemble: Ensemble,
    name: str,
    pair: dict[str, Path | None],
    images: list[Path],
    liver: Path | None,
) -> Study:
    from nnunet_liver_ext.studies.study import Study

    if ensemble.is_of_single_images == bool(pair["T1"] or pair["T2"]):
        names = " and ".join(ensemble.modalities)
        how = "--image, once for each channel" if ensemble.is_of_single_images else "--t1 and --t2"
        raise typer.BadParameter(f"this model takes {names}: give them with {how}.")
    if images and len(images) != len(ensemble.modalities):
        raise typer.BadParameter(
            f"this model takes {len(ensemble.modalities)} images"
            f" ({', '.join(ensemble.modalities)})."
        )
    given = dict(zip(ensemble.modalities, images or pair.values(), strict=True))
    masks = {} if liver is None or ensemble.organ is None else {ensemble.organ: liver}
    return Study(name, name, {key: path for key, path in given.items() if path is not None}, masks)


def _split(joint: Path, dataset: str | None, out: Path, *, overwrite: bool) -> None:
    if dataset is None:
        raise typer.BadParameter(
            "--split needs the converted dataset (-d 501), whose pairs.json knows the native grids."
        )
    from nnunet_liver_ext.environment import dataset_folder
    from nnunet_liver_ext.inference.split import split_folder

    split_folder(joint, dataset_folder(dataset, "raw"), out, overwrite=overwrite)
    typer.echo(f"Native masks: {out}")
