"""NRRD and MetaImage files without a place, in centimetres, sheared or of no size, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import check_single_image, read_image
from nnunet_liver_ext.space.stated_geometry import has_scanner_coordinates, read_stated_geometry

VOXELS = bytes(2 * 40 * 36 * 20)
LPS = "space: left-posterior-superior"
ORIGIN = "space origin: (1,2,3)"
DIRECTIONS = "space directions: (1.5,0,0) (0,1.5,0) (0,0,3)"
AXIAL = "TransformMatrix = 1 0 0 0 1 0 0 0 1"
OFFSET = "Offset = 1 2 3"


def write_nrrd(path: Path, *fields: str) -> Path:
    header = "NRRD0005\n# by hand\ntype: int16\ndimension: 3\nsizes: 40 36 20\nendian: little\n"
    header += "encoding: raw\n" + "".join(f"{field}\n" for field in fields) + "\n"
    path.write_bytes(header.encode() + VOXELS)
    return path


def write_metaimage(path: Path, *fields: str) -> Path:
    header = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    header += "".join(f"{field}\n" for field in fields)
    header += "DimSize = 40 36 20\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    path.write_bytes(header.encode() + VOXELS)
    return path


def write(folder: Path, fields: tuple[str, ...]) -> Path:
    if any(":" in field for field in fields):
        return write_nrrd(folder / "a.nrrd", *fields)
    return write_metaimage(folder / "a.mha", *fields)


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ((LPS, DIRECTIONS, ORIGIN), True),
        (("space: RAS", DIRECTIONS, ORIGIN), True),
        (("space: LAS", DIRECTIONS, ORIGIN), True),
        ((LPS, DIRECTIONS), False),
        (("space: 3D-right-handed", DIRECTIONS, ORIGIN), False),
        (("space: scanner-xyz", DIRECTIONS, ORIGIN), False),
        (("space dimension: 3", DIRECTIONS, ORIGIN), False),
        (("spacings: 1.5 1.5 3",), False),
        ((AXIAL, OFFSET, "ElementSpacing = 1.5 1.5 3"), True),
        (("Position = 1 2 3", "ElementSpacing = 1.5 1.5 3"), True),
        (("ElementSpacing = 1.5 1.5 3",), False),
    ],
)
def test_files_say_whether_there_are_scanner_coordinates(
    tmp_path: Path, fields: tuple[str, ...], known: bool
):
    path = write(tmp_path, fields)
    assert read_image(path).GetSpacing() == pytest.approx((1.5, 1.5, 3))
    assert has_scanner_coordinates(path) == known


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("spacings: nan 1.5 3",), r"its voxels are nan x 1\.5 x 3 mm .*\(spacings\)"),
        (("spacings: 0 1.5 3",), r"its voxels are 0 x 1\.5 x 3 mm"),
        (("spacings: -1 1.5 3",), r"its voxels are -1 x 1\.5 x 3 mm"),
        (
            (LPS, "space directions: (0,0,0) (0,1.5,0) (0,0,3)", ORIGIN),
            r"its voxels are 0 x 1\.5 x 3 mm .*\(space directions\)",
        ),
        (
            (LPS, "space directions: none (0,1.5,0) (0,0,3)", ORIGIN),
            r"its voxels are nan x 1\.5 x 3 mm",
        ),
        ((AXIAL, OFFSET, "ElementSpacing = 0 1.5 3"), r"are 0 x 1\.5 x 3 mm .*\(ElementSpacing\)"),
        ((AXIAL, OFFSET, "ElementSpacing = -1.5 1.5 3"), r"its voxels are -1\.5 x 1\.5 x 3 mm"),
        ((AXIAL, OFFSET, "ElementSpacing = nan 1.5 3"), r"its voxels are nan x 1\.5 x 3 mm"),
    ],
)
def test_a_spacing_of_0_or_less_is_refused(tmp_path: Path, fields: tuple[str, ...], message: str):
    with pytest.raises(InputError, match=message):
        read_image(write(tmp_path, fields))


@pytest.mark.parametrize(
    "fields",
    [
        (LPS, "space directions: (.15,0,0) (0,.15,0) (0,0,.3)", 'space units: "cm" "cm" "cm"'),
        ("spacings: .15 .15 .3", 'units: "cm" "cm" "cm"'),
        (AXIAL, OFFSET, "ElementSpacing = .15 .15 .3", "DistanceUnits = cm"),
    ],
)
def test_centimetres_are_not_taken_for_mm(tmp_path: Path, fields: tuple[str, ...]):
    with pytest.raises(InputError, match=r"its voxels are measured in cm; .* with millimetres"):
        read_image(write(tmp_path, fields))


@pytest.mark.parametrize(
    "fields",
    [
        (LPS, DIRECTIONS, 'space units: "mm" "mm" "mm"', ORIGIN),
        (AXIAL, OFFSET, "ElementSpacing = 1.5 1.5 3", "DistanceUnits = mm"),
    ],
)
def test_millimetres_are_read(tmp_path: Path, fields: tuple[str, ...]):
    assert read_image(write(tmp_path, fields)).GetSpacing() == pytest.approx((1.5, 1.5, 3))


@pytest.mark.parametrize(
    "fields",
    [
        (LPS, "space directions: (1.5,0,0) (0,1.5,0) (0,0.529,3)", ORIGIN),  # 10 degrees
        ("TransformMatrix = 1 0 0 0 1 0 0 0.17 0.98", OFFSET, "ElementSpacing = 1.5 1.5 3"),
        ("TransformMatrix = 2 0 0 0 2 0 0 0 2", OFFSET, "ElementSpacing = 1.5 1.5 3"),
    ],
)
def test_sheared_and_scaled_axes_are_refused(tmp_path: Path, fields: tuple[str, ...]):
    with pytest.raises(InputError, match="its axes are sheared or scaled"):
        read_image(write(tmp_path, fields))


def test_a_sheared_image_in_memory_is_refused_and_a_mirrored_one_is_not():
    image = sitk.Image(40, 36, 20, sitk.sitkInt16)
    image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))
    check_single_image(image, "the T1 image")
    image.SetDirection((1, 0.1, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(InputError, match="the T1 image: its axes are sheared"):
        check_single_image(image, "the T1 image")


def test_what_sitk_writes_has_scanner_coordinates(tmp_path: Path):
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16))
    for ending in (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"):
        path = tmp_path / f"a{ending}"
        sitk.WriteImage(image, str(path))
        assert has_scanner_coordinates(path)
        stated = read_stated_geometry(path)
        assert stated is not None
        assert stated.spacing == (1, 1, 1)


def test_the_voxels_are_not_read_for_the_header(tmp_path: Path):
    path = write_nrrd(tmp_path / "a.nrrd", LPS, DIRECTIONS, ORIGIN)
    path.write_bytes(path.read_bytes()[: -len(VOXELS)])
    assert has_scanner_coordinates(path)
    assert read_stated_geometry(tmp_path) is None
    (tmp_path / "b.nrrd").write_bytes(b"no header")
    assert read_stated_geometry(tmp_path / "b.nrrd") is None


@pytest.mark.parametrize("value", [1e300, -1e39, 1e15])
def test_values_too_large_for_floats_of_32_bits_are_refused(tmp_path: Path, value: float):
    values = np.random.default_rng(0).random((8, 9, 10))
    values[2, 3, 4] = value
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "a.nii.gz"))
    with pytest.raises(InputError, match=r"a\.nii\.gz: holds values of up to 1e\+.*, too large"):
        read_image(tmp_path / "a.nii.gz")
