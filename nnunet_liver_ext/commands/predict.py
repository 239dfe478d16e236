"""`nnunet_liver predict`: masks for new studies on their native grids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from nnunet_liver_ext.commands.model_options import Networks
from nnunet_liver_ext.commands.option_groups import with_option_groups

if TYPE_CHECKING:
    from nnunet_liver_ext.inference.ensemble import Ensemble
    from nnunet_liver_ext.studies.study import Study


@dataclass(frozen=True)
class SingleStudy:
    """A study given by its files, instead of a folder or CSV of studies."""

    title: ClassVar[str] = "A single study, instead of -i"

    t1: Annotated[Path | None, typer.Option("--t1", help="T1 image (file or DICOM folder).")] = None
    t2: Annotated[Path | None, typer.Option("--t2", help="T2 image (file or DICOM folder).")] = None
    image: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Image of an ordinary model; repeat for each channel."),
    ] = None
    liver: Annotated[Path | None, typer.Option(help="Liver mask, which tumour models need.")] = None
    name: Annotated[str, typer.Option(help="Name of the study.")] = "study"

    @property
    def is_given(self) -> bool:
        """Whether there is an image."""
        return self.t1 is not None or self.t2 is not None or bool(self.image)

    def read(self, ensemble: Ensemble) -> Study:
        """The study as the models take it."""
        from nnunet_liver_ext.studies.study import Study

        modalities = ensemble.modalities
        if ensemble.is_of_single_images == bool(self.t1 or self.t2):
            names = " and ".join(modalities)
            how = (
                "--image, once for each channel"
                if ensemble.is_of_single_images
                else "--t1 and --t2"
            )
            raise typer.BadParameter(f"this model takes {names}: give them with {how}.")
        if self.image and len(self.image) != len(modalities):
            raise typer.BadParameter(
                f"this model takes {len(modalities)} images ({', '.join(modalities)})."
            )
        paths = dict(zip(modalities, self.image or (self.t1, self.t2), strict=True))
        images = {name: path for name, path in paths.items() if path is not None}
        organ = ensemble.organ
        masks = {} if self.liver is None or organ is None else {organ: self.liver}
        return Study(self.name, self.name, images, masks)


@dataclass(frozen=True)
class JointMaps:
    """Label maps of stock nnU-Net that are there already, instead of a model."""

    title: ClassVar[str] = "Joint maps of nnUNetv2_predict, instead of a model"

    split: Annotated[
        Path | None, typer.Option(help="Folder of joint maps to turn into native masks.")
    ] = None
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", "-d", help="The converted dataset that they belong to."),
    ] = None

    def write_masks(self, out: Path, *, overwrite: bool, file_format: str) -> None:
        """Splits the maps onto the native grids that the dataset's pairs.json knows."""
        if self.dataset is None or self.split is None:
            raise typer.BadParameter(
                "--split needs the converted dataset (-d 501), whose pairs.json knows the native"
                " grids."
            )
        from nnunet_liver_ext.environment import dataset_folder
        from nnunet_liver_ext.inference.split_joint_maps import split_folder

        folder = dataset_folder(self.dataset, "raw")
        split_folder(self.split, folder, out, overwrite=overwrite, file_format=file_format)
        typer.echo(f"Native masks: {out}")


@dataclass(frozen=True)
class MaskOutput:
    """What is written beside the masks, and how the masks are finished."""

    title: ClassVar[str] = "What is written"

    file_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="nii.gz|nrrd|vtk",
            help="File format of the masks. A .vtk file has the patient's axes or is refused.",
        ),
    ] = "nii.gz"
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write NAME_T1.npz (K, z, y, x).")
    ] = False
    deformation: Annotated[
        bool,
        typer.Option(
            "--deformation",
            help=(
                "Also write how T1 is moved onto T2, NAME_deformation.nii.gz (mm), and the mask"
                " NAME_T1_on_T2.nii.gz. Models of nnUNetTrainerSimilarity trainers only."
            ),
        ),
    ] = False
    no_postprocessing: Annotated[
        bool,
        typer.Option(
            "--no-postprocessing",
            help="Masks as they are, whatever nnunet_liver postprocess has found.",
        ),
    ] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Predict again what is there.")] = (
        False
    )


@with_option_groups()
def predict(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the masks.")],
    study: SingleStudy,
    networks: Networks,
    joint_maps: JointMaps,
    written: MaskOutput,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Folder or exported zip of a model; repeat to average probabilities.",
        ),
    ] = None,
    studies: Annotated[
        Path | None,
        typer.Option("--input", "-i", help="Folder of studies, or a CSV (patient, study, t1, t2)."),
    ] = None,
    liver_model: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="MODEL",
            help="A model that finds the liver in studies without a liver mask; repeat to average.",
        ),
    ] = None,
) -> None:
    """Segment new studies: NAME_T1.nii.gz and NAME_T2.nii.gz, each on its own image's grid.

    Ordinary models give NAME.nii.gz. Images need no conversion. Single-input models also take a
    lone T1 or T2. Several models: the class probabilities of each image are averaged on its own
    grid. What nnunet_liver postprocess found for a model is applied; tumours are restricted to the
    liver. Research use only.
    """
    if joint_maps.split is not None:
        if model or studies or study.is_given or study.liver or liver_model or written.deformation:
            raise typer.BadParameter(
                "--split takes joint maps as they are: give neither a model nor images nor"
                " --deformation with it."
            )
        joint_maps.write_masks(out, overwrite=written.overwrite, file_format=written.file_format)
        return
    misplaced_liver = study.liver is not None and not study.image
    if not model or (studies is None) != study.is_given or misplaced_liver:
        raise typer.BadParameter(
            "give a model (-m), and either studies (-i) or one study (--t1, --t2; of an ordinary"
            " model --image, --liver)."
        )
    from nnunet_liver_ext.inference.ensemble import Ensemble
    from nnunet_liver_ext.inference.predict import predict_studies

    rules = {"postprocessing": not written.no_postprocessing}
    ensemble = Ensemble.of(
        [networks.load(path, deformation=written.deformation, **rules) for path in model]
    )
    finders = [networks.load(path, folds_chosen=False, **rules) for path in liver_model or ()]
    to_predict = [study.read(ensemble)] if studies is None else _read_studies(ensemble, studies)
    predict_studies(
        ensemble.models,
        to_predict,
        out,
        probabilities=written.probabilities,
        overwrite=written.overwrite,
        organ_model=finders or None,
        file_format=written.file_format,
    )
    typer.echo(f"{len(to_predict)} studies: {out}")


def _read_studies(ensemble: Ensemble, path: Path) -> list[Study]:
    from nnunet_liver_ext.studies.study_layouts import read_image_studies, read_studies

    read = read_image_studies if ensemble.is_of_single_images else read_studies
    return read(path, modalities=ensemble.modalities)
