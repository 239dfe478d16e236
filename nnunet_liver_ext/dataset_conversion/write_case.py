"""Writes one converted study: a complete case, or a reason why not and no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.convert_study import ConvertedStudy, convert_study
from nnunet_liver_ext.dataset_conversion.image_reader import ImageReader
from nnunet_liver_ext.dataset_json.manifest import ManifestCase, SourceFile
from nnunet_liver_ext.errors import CaseFailure, InputError, last_line
from nnunet_liver_ext.space.images import write_image
from nnunet_liver_ext.studies.study import Study, safe_name


@dataclass(frozen=True)
class CaseJob:
    """One study to convert: everything that a worker process needs."""

    study: Study
    case: str
    """Pseudonym."""
    held_out: bool
    settings: ConversionSettings
    reader: ImageReader
    folder: Path
    """The dataset's."""
    source_root: Path
    """What the paths of sources in pairs.json are relative to."""

    @property
    def part(self) -> str:
        return "Ts" if self.held_out or not self.study.is_labelled else "Tr"

    def sources(self) -> dict[str, SourceFile]:
        return {
            name: SourceFile.from_path(path, self.source_root)
            for name, path in self.study.files().items()
        }

    def outputs(self) -> list[Path]:
        """The files of the case: channels, label if there are masks, labels of further raters."""
        label = [self._label(self.part)] if self.study.is_labelled else []
        return [*self._channels(self.part), *label, *self.rater_files().values()]

    def rater_files(self) -> dict[str, Path]:
        """Where the labels of further raters go, by rater."""
        folder = self.folder / f"raters{self.part}"
        return {
            rater: folder / safe_name(rater) / f"{self.case}.nii.gz" for rater in self.study.raters
        }

    def leftovers(self) -> list[Path]:
        """Files of an earlier conversion of the case, or of one that failed."""
        everything = [
            path for part in ("Tr", "Ts") for path in [*self._channels(part), self._label(part)]
        ]
        everything += [self.transform_file, *self.folder.glob(f"raters*/*/{self.case}.nii.gz")]
        return [path for path in everything if path not in self.outputs()]

    @property
    def transform_file(self) -> Path:
        return self.folder / "transforms" / f"{self.case}.h5"

    def _channels(self, part: str) -> list[Path]:
        names = [
            f"{self.case}_{channel:04d}.nii.gz" for channel in range(self.settings.num_channels)
        ]
        return [self.folder / f"images{part}" / name for name in names]

    def _label(self, part: str) -> Path:
        return self.folder / f"labels{part}" / f"{self.case}.nii.gz"


def is_converted(job: CaseJob, case: ManifestCase) -> bool:
    """True if the case was made from these very files and all it consists of is there."""
    if case.folder != job.part or not all(path.exists() for path in job.outputs()):
        return False
    if job.settings.preregister and not job.transform_file.exists():
        return False
    try:
        now = job.sources()
    except OSError:
        return False  # the conversion will say why
    return now.keys() == case.sources.keys() and all(
        case.sources[name].has_content_of(now[name]) for name in now
    )


def convert_case(job: CaseJob) -> ManifestCase | CaseFailure:
    """Converts one study and writes it; of a study that fails nothing stays."""
    try:
        sources = job.sources()
        converted = convert_study(job.study, job.settings, job.reader)
        _write(converted, job)
    except (InputError, OSError, RuntimeError, MemoryError) as error:
        _delete([*job.outputs(), *job.leftovers()])
        return CaseFailure(job.study.name, _reason(error))
    return ManifestCase(
        name=job.case,
        group=job.case.partition("_")[0],
        patient=job.study.patient,
        study=job.study.study,
        folder=job.part,
        sources=sources,
        native_grids=converted.native_grids,
        grid=converted.grid,
        notes=converted.notes,
    )


def _write(converted: ConvertedStudy, job: CaseJob) -> None:
    _delete(job.leftovers())
    label = [] if converted.label is None else [converted.label]
    raters = [converted.raters[rater] for rater in job.rater_files()]
    for image, path in zip([*converted.channels, *label, *raters], job.outputs(), strict=True):
        write_image(image, path)
    if converted.transform is not None:
        with atomic_write(job.transform_file) as unfinished:
            sitk.WriteTransform(converted.transform, str(unfinished))


def _reason(error: Exception) -> str:
    """One line that says why a study could not be converted."""
    if isinstance(error, MemoryError):
        return "memory ran out; run again with fewer --processes."
    return last_line(error)


def _delete(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
