"""Images that make no study, and what is strange about others."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import read_image, write_image
from nnunet_liver_ext.space.study_images import check_study_images
from tests.dicom_files import write_series


def image(
    seed: int = 0, *, origin: tuple[float, ...] = (-50, -50, 0), scale: float = 1
) -> sitk.Image:
    values = np.random.default_rng(seed).integers(0, 900, (12, 40, 44)).astype(np.int16)
    made = sitk.GetImageFromArray(values)
    made.SetSpacing((2.0 * scale, 2.0 * scale, 4.0 * scale))
    made.SetOrigin(origin)
    return made


def pair(**options: object) -> dict[str, sitk.Image]:
    return {"T1": image(0, **options), "T2": image(1, **options)}  # type: ignore[arg-type]


def write(path: Path, made: sitk.Image, *, coordinates: bool = True) -> Path:
    write_image(made, path)
    if not coordinates:
        loaded = nibabel.load(path)
        loaded.set_qform(None, 0)  # type: ignore[attr-defined]
        loaded.set_sform(None, 0)  # type: ignore[attr-defined]
        path = path.with_name(f"lost_{path.name}")
        nibabel.save(loaded, path)
    return path


def test_nothing_is_said_of_ordinary_images(tmp_path: Path):
    files = {name: write(tmp_path / f"{name}.nii.gz", made) for name, made in pair().items()}
    images = {name: read_image(path) for name, path in files.items()}
    assert check_study_images(images, files, unregistered=True) == ()
    assert check_study_images(images, {}, unregistered=True) == ()


@pytest.mark.parametrize("value", [0.0, 7.0, 1e-300])
def test_a_constant_volume_is_refused(tmp_path: Path, value: float):
    """1e-300 and its double are both 0 in floats of 32 bits."""
    values = np.full((4, 5, 6), value)
    values[2] *= 2 if value < 1 else 1
    images = {**pair(), "T2": sitk.GetImageFromArray(values)}
    with pytest.raises(InputError, match=r"the T2 image: is constant, \d in every voxel"):
        check_study_images(images, {}, unregistered=True)
    with pytest.raises(InputError, match=r"t2\.nii: is constant"):
        check_study_images(images, {"T2": tmp_path / "t2.nii"}, unregistered=True)


def test_a_constant_slice_is_noted():
    """A slice beside the patient shows nothing but air."""
    images = {"CT": sitk.GetImageFromArray(np.full((1, 9, 9), -1000, np.int16))}
    (note,) = check_study_images(images, {}, unregistered=False)
    assert note == "the CT image is constant, -1000."


def test_one_image_twice_is_refused_whatever_its_file(tmp_path: Path):
    """Other bytes and another type on disk, and still the same voxels."""
    files = {
        "T1": write(tmp_path / "a.nii.gz", image()),
        "T2": write(tmp_path / "b.nrrd", sitk.Cast(image(), sitk.sitkFloat32)),
    }
    images = {name: read_image(path) for name, path in files.items()}
    for unregistered in (True, False):
        with pytest.raises(InputError, match="the T1 and the T2 image are one and the same"):
            check_study_images(images, files, unregistered=unregistered)


def test_pairs_without_scanner_coordinates_are_refused(tmp_path: Path):
    files = {
        "T1": write(tmp_path / "t1.nii.gz", image(0)),
        "T2": write(tmp_path / "t2.nii.gz", image(1, origin=(61, -50, 0)), coordinates=False),
    }
    images = {name: read_image(path) for name, path in files.items()}
    with pytest.raises(
        InputError, match=r"lost_t2\.nii\.gz: gives no scanner coordinates \(qform and sform code 0"
    ):
        check_study_images(images, files, unregistered=True)


def test_single_images_and_channels_on_one_grid_need_no_scanner_coordinates(tmp_path: Path):
    names = ("water", "fat")
    files = {
        name: write(tmp_path / f"{name}.nii.gz", image(seed), coordinates=False)
        for seed, name in enumerate(names)
    }
    images = {name: read_image(path) for name, path in files.items()}
    alone = check_study_images(
        {"water": images["water"]}, {"water": files["water"]}, unregistered=True
    )
    assert len(alone) == 1
    assert alone[0].startswith("the water image gives no scanner coordinates")
    assert len(check_study_images(images, files, unregistered=False)) == 2
    images["fat"].SetSpacing((2.5, 2, 4))
    with pytest.raises(InputError, match=r"lost_water\.nii\.gz: gives no scanner coordinates"):
        check_study_images(images, files, unregistered=False)


@pytest.mark.parametrize("patients", [("A1", "B2"), ("A1", "A1"), ("", "B2")])
def test_another_patient_in_the_dicom_headers_is_noted(tmp_path: Path, patients: tuple[str, str]):
    """Without the IDs, which would go into pairs.json and logs."""
    files = {}
    for seed, (name, patient) in enumerate(zip(("T1", "T2"), patients, strict=True)):
        values = sitk.GetArrayFromImage(image(seed)).astype(np.uint16)
        write_series(tmp_path / name, values, PatientID=patient)
        files[name] = tmp_path / name
    images = {name: read_image(path) for name, path in files.items()}
    notes = check_study_images(images, files, unregistered=True)
    expected = (
        "the T1 and the T2 image have different PatientIDs in DICOM: are they of one patient?"
    )
    assert notes == ((expected,) if patients == ("A1", "B2") else ())


@pytest.mark.parametrize("scale", [0.1, 1000.0])
def test_centimetres_and_metres_taken_for_mm_are_noted(scale: float):
    (note, _) = check_study_images(pair(scale=scale), {}, unregistered=True)
    sides = " x ".join(f"{n * scale:.3g}" for n in (88, 80, 48))
    assert note == (
        f"the T1 image is {sides} mm (x y z), no size of an abdomen: is its spacing in mm?"
    )


def test_a_size_that_is_not_stated_is_noted(tmp_path: Path):
    path = tmp_path / "a.mha"
    path.write_bytes(
        b"NDims = 3\nDimSize = 4 5 3\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
        + bytes(range(60))
    )
    notes = check_study_images({"CT": read_image(path)}, {"CT": path}, unregistered=False)
    assert "does not say how large its voxels are; they count as 1 mm" in " ".join(notes)


def test_padding_that_outweighs_the_image_is_noted():
    values = sitk.GetArrayFromImage(image())
    values[:, :4] = -32768
    (note,) = check_study_images({"CT": sitk.GetImageFromArray(values)}, {}, unregistered=False)[
        -1:
    ]
    assert "padded with -32768 (10% of its voxels)" in note
    assert "counts as 0 where" in note
