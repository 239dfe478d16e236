"""Studies that cannot be converted: one sentence each that names the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.convert_study import convert_study
from nnunet_liver_ext.dataset_conversion.image_reader import PlainReader
from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.pairing import decode_pair
from nnunet_liver_ext.space.images import Grid, array, image_like, read_image, write_image
from nnunet_liver_ext.studies.study import Study
from tests.dataset_conversion.conftest import AXIAL, COARSE, T1_GRID, T2_GRID, ball
from tests.dicom_files import write_series

SETTINGS = ConversionSettings(spacing=COARSE)


def mask_on_another_grid(study: Study) -> Study:
    write_image(image_like(ball(T2_GRID, (0, 0, 0)), T2_GRID), study.masks["T1"])
    return study


def mask_shifted_by_a_voxel(study: Study) -> Study:
    shifted = replace(T1_GRID, origin=(-27.0, -27.0, -24.0))
    write_image(image_like(ball(T1_GRID, (0, 0, 0)), shifted), study.masks["T1"])
    return study


def unknown_label(study: Study) -> Study:
    values = ball(T1_GRID, (0, 0, 0)).astype(np.uint8)
    values[0, 0, 0] = 7
    write_image(image_like(values, T1_GRID), study.masks["T1"])
    return study


def empty_mask(study: Study) -> Study:
    write_image(image_like(np.zeros(T1_GRID.size[::-1], np.uint8), T1_GRID), study.masks["T1"])
    return study


def probability_map(study: Study) -> Study:
    write_image(
        image_like(np.full(T1_GRID.size[::-1], 0.3, np.float32), T1_GRID), study.masks["T1"]
    )
    return study


def four_dimensional(study: Study) -> Study:
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros((2, 4, 5, 6), np.float32), False), str(study.images["T1"])
    )
    return study


def colour(study: Study) -> Study:
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True),
        str(study.images["T1"]),
    )
    return study


def far_apart(study: Study) -> Study:
    for path in (study.images["T2"], study.masks["T2"]):
        image = sitk.ReadImage(str(path))
        image.SetOrigin((900.0, 0.0, 0.0))
        write_image(image, path)
    return study


def not_a_number(study: Study) -> Study:
    values = array(read_image(study.images["T1"])).astype(np.float32)
    values[0, 0, :5] = np.nan
    write_image(image_like(values, T1_GRID), study.images["T1"])
    return study


def truncated(study: Study) -> Study:
    content = study.images["T1"].read_bytes()
    study.images["T1"].write_bytes(content[: len(content) // 2])
    return study


def mask_without_image(study: Study) -> Study:
    return replace(study, images={"T1": study.images["T1"]}, masks={"T2": study.masks["T2"]})


def mask_of_something_else(study: Study) -> Study:
    return replace(study, masks={"T3": study.masks["T1"]})


def no_image(study: Study) -> Study:
    return replace(study, images={}, masks={})


def dicom(study: Study, **options: object) -> tuple[Study, list[Path]]:
    folder = study.images["T1"].parent / "T1_dicom"
    values = array(read_image(study.images["T1"])).astype(np.uint16)
    paths = write_series(
        folder, values, spacing=T1_GRID.spacing[:2], step=4.0, origin=T1_GRID.origin, **options
    )
    return replace(study, images={**study.images, "T1": folder}), paths


def dicom_with_two_series(study: Study) -> Study:
    dicom(study)
    return dicom(study, names=[f"other{index}.dcm" for index in range(12)])[0]


def dicom_with_a_missing_slice(study: Study) -> Study:
    study, paths = dicom(study)
    paths[5].unlink()
    return study


def constant(study: Study) -> Study:
    write_image(image_like(np.full(T1_GRID.size[::-1], 7, np.int16), T1_GRID), study.images["T1"])
    return study


def one_image_twice(study: Study) -> Study:
    shutil.copy(study.images["T1"], study.images["T2"])
    shutil.copy(study.masks["T1"], study.masks["T2"])
    return study


def no_scanner_coordinates(study: Study) -> Study:
    image = nibabel.load(study.images["T2"])
    for set_form in (image.set_qform, image.set_sform):  # type: ignore[attr-defined]
        set_form(None, 0)
    nibabel.save(image, study.images["T2"])
    return study


def two_places(study: Study) -> Study:
    image = nibabel.load(study.images["T1"])
    affine = image.affine.copy()  # type: ignore[attr-defined]
    affine[0, 3] += 10
    image.set_sform(affine, 1)  # type: ignore[attr-defined]
    nibabel.save(image, study.images["T1"])
    return study


def uncorrected(study: Study) -> Study:
    path = study.images["T1"]
    path.with_name(path.name.replace(".nii.gz", "_Eq_1.nii.gz")).touch()
    return study


def too_large(study: Study) -> Study:
    values = array(read_image(study.images["T1"])) * 1e300
    write_image(image_like(values, T1_GRID), study.images["T1"])
    return study


CASES: list[tuple[Callable[[Study], Study], str]] = [
    (
        mask_on_another_grid,
        r"_T1_mask\.nii\.gz: is not on the grid of its image ben_2021_T1\.nii\.gz",
    ),
    (mask_shifted_by_a_voxel, r"_T1_mask\.nii\.gz: is not on the grid of its image"),
    (unknown_label, r"_T1_mask\.nii\.gz: holds the unknown label 7 .*--label"),
    (empty_mask, r"_T1_mask\.nii\.gz: is empty; .*--allow-empty"),
    (probability_map, r"_T1_mask\.nii\.gz: a mask must hold integers"),
    (four_dimensional, r"_T1\.nii\.gz: has 4 axes"),
    (colour, r"_T1\.nii\.gz: has 3 values per voxel"),
    (far_apart, "do not overlap in space"),
    (not_a_number, r"_T1\.nii\.gz: 5 voxels are NaN"),
    (truncated, r"_T1\.nii\.gz: cannot be read, it is damaged"),
    (mask_without_image, "has a T2 mask but no T2 image; add the image or leave the mask out"),
    (mask_of_something_else, "has a mask of T3, but the images are T1, T2"),
    (no_image, "has neither a T1 nor a T2 image"),
    (dicom_with_two_series, r"T1_dicom: holds 2 series that differ in SeriesInstanceUID"),
    (dicom_with_a_missing_slice, r"T1_dicom: a slice is missing"),
    (constant, r"_T1\.nii\.gz: is constant, 7 in every voxel"),
    (one_image_twice, "the T1 and the T2 image are one and the same"),
    (no_scanner_coordinates, r"_T2\.nii\.gz: gives no scanner coordinates"),
    (two_places, r"_T1\.nii\.gz: its qform and its sform contradict each other by 10 mm"),
    (uncorrected, r"take ben_2021_T1_Eq_1\.nii\.gz, which lies beside it"),
    (too_large, r"_T1\.nii\.gz: holds values of up to \d\.\d+e\+302, too large"),
]


@pytest.mark.parametrize(("spoil", "message"), CASES, ids=[spoil.__name__ for spoil, _ in CASES])
def test_bad_studies_are_named_and_the_others_converted(raw: Path, make_study, spoil, message: str):
    studies = [make_study("anna"), spoil(make_study("ben", seed=1)), make_study("carl", seed=2)]
    with pytest.raises(
        SomeCasesFailed, match=rf"1 of 3 cases could not be processed:\n  ben_2021: .*{message}"
    ) as error:
        write_dataset(studies, dataset_id=501, name="Test", settings=SETTINGS, folds=2, processes=1)
    assert str(error.value).count("\n") == 1
    folder = raw / "Dataset501_Test"
    assert set(Manifest.load(folder).cases) == {"P001_S1", "P003_S1"}
    assert not [path for path in folder.rglob("*") if "P002" in path.name]


def test_empty_masks_are_taken_on_request(make_study):
    converted = convert_study(
        empty_mask(make_study()), replace(SETTINGS, allow_empty=True), PlainReader()
    )
    assert converted.label is not None
    first, second = decode_pair(array(converted.label))
    assert not first.any()
    assert second.any()


@pytest.mark.parametrize("ignored", [(7,), "all"])
def test_labels_can_be_ignored(make_study, ignored):
    study = unknown_label(make_study())
    converted = convert_study(study, replace(SETTINGS, ignored_labels=ignored), PlainReader())
    assert converted.label is not None
    assert decode_pair(array(converted.label))[0].max() == 1


def test_a_dicom_folder_and_its_nifti_file_are_converted_alike(make_study):
    study = make_study()
    from_files = convert_study(study, SETTINGS, PlainReader())
    from_dicom = convert_study(dicom(study)[0], SETTINGS, PlainReader())
    np.testing.assert_allclose(
        array(from_dicom.channels[0]), array(from_files.channels[0]), atol=1e-2
    )
    assert from_dicom.label is not None
    assert from_files.label is not None
    np.testing.assert_array_equal(array(from_dicom.label), array(from_files.label))


def test_a_slightly_oblique_mask_header_within_a_tenth_of_a_voxel_is_accepted(make_study):
    study = make_study()
    nudged = Grid(T1_GRID.size, T1_GRID.spacing, (-30.1, -27.05, -24.1), AXIAL)
    write_image(image_like(ball(T1_GRID, (0, 0, 0)), nudged), study.masks["T1"])
    assert convert_study(study, SETTINGS, PlainReader()).native_grids["T1"].matches(T1_GRID)


def test_two_studies_with_one_name(make_study, raw: Path):
    with pytest.raises(InputError, match="two studies are anna 2021"):
        write_dataset(
            [make_study("anna"), make_study("anna", seed=1)],
            dataset_id=501,
            name="Test",
            settings=SETTINGS,
        )
