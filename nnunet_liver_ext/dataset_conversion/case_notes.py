"""What a user should know of the cases of a converted dataset, beside those that failed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from nnunet_liver_ext.dataset_json.manifest import Manifest, ManifestCase, SourceFile
from nnunet_liver_ext.studies.study import Study

Content = tuple[int, str, str]
"""Of a file: bytes, SHA-256, SHA-256 of the voxels beside a header."""


def collect_notes(manifest: Manifest, studies: Sequence[Study]) -> dict[str, list[str]]:
    """Notes on the converted ones among some studies, by the study's name.

    They are those of `study_images`, as the manifest keeps them, and on images that two patients
    share.
    """
    patients: dict[Content, set[str]] = defaultdict(set)
    for case in manifest.cases.values():
        for _, content in _images(case):
            patients[content].add(case.patient)
    notes = {}
    for study in studies:
        converted = manifest.cases.get(manifest.name(study))
        if converted is not None:
            notes[study.name] = [*converted.notes, *_note_shared(converted, patients)]
    return notes


def _note_shared(case: ManifestCase, patients: Mapping[Content, set[str]]) -> Iterator[str]:
    """Which images of a case are, byte by byte, those of another patient."""
    for modality, content in _images(case):
        others = sorted(patients[content] - {case.patient})
        if others:
            yield (
                f"the {modality} image is the same file as one of {' and '.join(others)}; if they"
                " are one patient, give them one name, or training and validation share images."
            )


def _images(case: ManifestCase) -> Iterator[tuple[str, Content]]:
    """Modality and content of the images of a case, masks left out."""
    for modality in case.native_grids:
        source: SourceFile | None = case.sources.get(modality)
        if source is not None:
            yield modality, (source.size, source.sha256, source.voxels_sha256)
