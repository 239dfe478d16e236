"""Single phantom images as files, in the layout that any user's own images have."""

from __future__ import annotations

from pathlib import Path

from rich.progress import track

from nnunet_liver_ext.dataset_conversion.phantom.randomness import generator
from nnunet_liver_ext.dataset_conversion.phantom.scan_protocols import Difficulty
from nnunet_liver_ext.dataset_conversion.phantom.single_image import Modality, make_image
from nnunet_liver_ext.dataset_conversion.phantom.write_pair_studies import (
    APPEARANCE_VERSION,
    PlannedStudy,
    check_request,
    claim_folder,
    mark_lesions,
    plan_studies,
    write_table,
)
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import write_image


def write_image_studies(
    folder: Path,
    *,
    images: int,
    modality: Modality = "MR",
    seed: int = 0,
    difficulty: Difficulty = "demo",
    patients: int | None = None,
    lesions: bool = False,
    ending: str = ".nii.gz",
    progress: bool = False,
) -> Path:
    """Writes phantom images NAME_MR (or NAME_CT) and NAME_mask, and a table of them.

    Masks hold 1 for liver; with `lesions` every liver has one to five, which are 2. Studies that
    are there completely are kept, so an interrupted call can be repeated, and a later one can ask
    for more.

    Args:
        folder: where to; created.
        images: number of studies.
        modality: "MR" or "CT", see `make_image`.
        seed: of all of them; not negative.
        difficulty: "demo" or "study".
        patients: number of patients; those with several studies show the same anatomy. Default: one
            patient per study.
        lesions: put lesions into every liver and into the masks.
        ending: of the images, such as .nii.gz or .mha.
        progress: show a progress bar.

    Returns:
        `folder`/studies.csv with the columns patient, study, mr (or ct), mask; paths relative to
        it.

    Raises:
        InputError: a number is out of range, or the folder holds studies made with other options.
    """
    folder = Path(folder)
    check_request(images, seed, difficulty, patients, ending)
    if modality not in ("MR", "CT"):
        raise InputError(f"a phantom image is MR or CT, not {modality!r}.")
    options: dict[str, object] = {
        "version": APPEARANCE_VERSION,
        "seed": seed,
        "difficulty": difficulty,
        "patients": patients,
    }
    claim_folder(folder, options | {"modality": modality, "lesions": lesions})
    planned = plan_studies(images, seed, patients)
    files = [
        [folder / f"{study.name}_{part}{ending}" for part in (modality, "mask")]
        for study in planned
    ]
    todo = [
        planned_and_files
        for planned_and_files in zip(planned, files, strict=True)
        if not all(path.is_file() for path in planned_and_files[1])
    ]
    for study, (image, mask) in track(todo, "phantom images", disable=not progress):
        made = make_image(
            study.seed,
            modality=modality,
            difficulty=difficulty,
            anatomy_seed=study.anatomy_seed,
            lesions=_number_of_lesions(study) if lesions else None,
        )
        write_image(mark_lesions(made.mask, made.lesions) if lesions else made.mask, mask)
        write_image(made.image, image)
    return write_table(folder, ["patient", "study", modality.lower(), "mask"], planned, files)


def _number_of_lesions(study: PlannedStudy) -> int:
    """One to five, the same at every visit of a patient."""
    return int(generator(study.anatomy_seed, "number of lesions").integers(1, 6))
