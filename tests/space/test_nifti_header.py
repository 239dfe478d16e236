"""NIfTI files that state two places, a sheared one, or none: what nibabel and ITK make of them."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import read_image
from nnunet_liver_ext.space.stated_geometry import has_scanner_coordinates

SIZE = (40, 36, 20)
SPACING = np.array([1.5, 1.5, 3.0])
RAS_OF_LPS = np.diag([-1.0, -1, 1, 1])


def rotation(degrees: float) -> np.ndarray:
    """About x."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])


def affine(axes: Any = None, origin: Any = (10, 20, 30), spacing: Any = SPACING) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if axes is None else axes) * np.asarray(spacing)
    matrix[:3, 3] = origin
    return matrix


def sheared(degrees: float = 10.0) -> np.ndarray:
    """The third axis leans by so much towards the second."""
    axes = np.eye(3)
    axes[1, 2] = np.tan(np.radians(degrees))
    return affine(axes)


def write_nifti(
    path: Path,
    qform: np.ndarray | None = None,
    sform: np.ndarray | None = None,
    *,
    codes: tuple[int, int] = (1, 1),
    pixdim: Any = SPACING,
    units: int = 2,
    kind: Any = nibabel.Nifti1Header,
    size: tuple[int, ...] = SIZE,
) -> Path:
    """A file whose header says just this; nothing is mended on the way."""
    header = kind()
    header.set_data_shape(size)
    header.set_data_dtype(np.int16)
    if qform is not None:
        header.set_qform(qform, codes[0])
    if sform is not None:
        header.set_sform(sform, codes[1])
    header["pixdim"][1 : 1 + len(pixdim)] = pixdim
    header["xyzt_units"] = units
    header["vox_offset"] = header.sizeof_hdr + 4
    path.write_bytes(header.binaryblock + bytes(4) + bytes(2 * int(np.prod(size))))
    return path


def corners(matrix: np.ndarray) -> np.ndarray:
    indices = np.array([[*corner, 1] for corner in product(*[(0, n - 1) for n in SIZE])])
    return (indices @ matrix.T)[:, :3]


def geometry(image: sitk.Image) -> np.ndarray:
    """Voxels to mm in RAS, as nibabel has it."""
    axes = np.array(image.GetDirection()).reshape(3, 3)
    return RAS_OF_LPS @ affine(axes, image.GetOrigin(), image.GetSpacing())


@pytest.mark.parametrize(
    ("forms", "message"),
    [
        ({"qform": affine(), "sform": sheared()}, r"its qform and its sform .* by 10\.1 mm"),
        ({"sform": sheared()}, r"its sform and its pixdim contradict each other by .* mm"),
        (
            {"qform": affine(), "sform": affine(spacing=SPACING * 1.2)},
            r"qform and its sform contradict each other by 19\.4 mm at a corner; keep the one",
        ),
        ({"sform": affine(spacing=SPACING * 1.2)}, r"its sform and its pixdim .* by 19\.4 mm"),
        ({"qform": affine(), "sform": affine(rotation(10))}, r"qform and its sform .* by 13\.5 mm"),
        (
            {"qform": affine(), "sform": affine(rotation(10)), "codes": (1, 4)},
            r"qform and its sform .* by 13\.5 mm",
        ),
        ({"qform": affine(), "sform": affine(origin=(20, 20, 30))}, r"qform .* by 10 mm"),
        ({"qform": affine(), "sform": affine() * np.nan}, "its sform holds NaN"),
    ],
)
def test_two_places_are_refused_and_both_named(tmp_path: Path, forms: dict, message: str):
    path = write_nifti(tmp_path / "scan.nii", **forms)
    with pytest.raises(InputError, match=rf"scan\.nii: .*{message}"):
        read_image(path)


def test_dcm2niix_uncorrected_file_of_a_tilted_gantry_is_told_by_its_shear(tmp_path: Path):
    path = write_nifti(tmp_path / "scan.nii", affine(), sheared(15))
    with pytest.raises(
        InputError, match=r"sheared by 15 degrees, as in the file that dcm2niix .*NAME_Tilt_1\.nii"
    ):
        read_image(path)


@pytest.mark.parametrize(
    ("mark", "fault"), [("Eq", "uneven distances"), ("Tilt", "tilted"), ("Tilt_Eq", "tilted and")]
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_dcm2niix_uncorrected_file_is_told_by_the_corrected_one(
    tmp_path: Path, mark: str, fault: str, ending: str
):
    path = write_nifti(tmp_path / "scan.nii", affine(), affine())
    read_image(path)
    corrected = tmp_path / f"scan_{mark}_1{ending}"
    corrected.touch()
    with pytest.raises(InputError, match=rf"scan\.nii: .*{fault}.*take {corrected.name}"):
        read_image(path)


@settings(max_examples=60, deadline=None)
@given(
    tilt=st.floats(-180, 180),
    noise=st.floats(0, 0.01),
    stated=st.sampled_from(["qform", "sform", "both"]),
    seed=st.integers(0, 99),
)
def test_what_is_read_lies_where_nibabel_says(
    tmp_path_factory: pytest.TempPathFactory, tilt: float, noise: float, stated: str, seed: int
):
    path = tmp_path_factory.mktemp("scan") / "scan.nii"
    right = affine(rotation(tilt))
    spoilt = right.copy()
    spoilt[:3, :3] += noise * np.random.default_rng(seed).normal(size=(3, 3))
    write_nifti(path, right if stated != "sform" else None, spoilt if stated != "qform" else None)
    there = nibabel.load(path).affine  # type: ignore[attr-defined]
    try:
        image = read_image(path)
    except InputError:
        assert noise > 1e-4
        assert stated != "qform"
        return
    distance = np.linalg.norm(corners(geometry(image)) - corners(there), axis=1).max()
    assert distance <= 0.1 * 1.5 + 1e-3


@pytest.mark.parametrize("kind", [nibabel.Nifti1Header, nibabel.Nifti2Header])
@pytest.mark.parametrize("pixdim", [(0, 1.5, 3), (1.5, 1.5, 0), (1.5, -1.5, 3)])
@pytest.mark.parametrize("placed", [True, False])
def test_a_spacing_of_0_or_less_is_refused(tmp_path: Path, kind: Any, pixdim: Any, placed: bool):
    form = affine() if placed else None
    path = write_nifti(tmp_path / "scan.nii", form, form, pixdim=pixdim, kind=kind)
    numbers = " x ".join(f"{mm:g}" for mm in pixdim)
    with pytest.raises(InputError, match=rf"its voxels are {numbers} mm .*\(pixdim\)"):
        read_image(path)


@pytest.mark.parametrize(("units", "mm"), [(1, 1000.0), (2, 1.0), (3, 0.001), (0, 1.0)])
def test_metres_and_micrometres_become_mm(tmp_path: Path, units: int, mm: float):
    place = affine(rotation(20))
    place[:3] /= mm
    path = write_nifti(tmp_path / "scan.nii", place, place, pixdim=SPACING / mm, units=units)
    image = read_image(path)
    assert image.GetSpacing() == pytest.approx(SPACING, rel=1e-5)
    np.testing.assert_allclose(geometry(image), affine(rotation(20)), atol=1e-4)


@pytest.mark.parametrize(
    ("codes", "known"), [((0, 0), False), ((1, 0), True), ((0, 2), True), ((1, 1), True)]
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_codes_say_whether_there_are_scanner_coordinates(
    tmp_path: Path, codes: tuple[int, int], known: bool, ending: str
):
    path = write_nifti(tmp_path / "scan.nii", affine(), affine(), codes=codes)
    if ending == ".nii.gz":
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5), np.int16)), str(path))
        import gzip

        header = bytearray(path.read_bytes())
        header[252:256] = np.array(codes, np.int16).tobytes()
        path = tmp_path / "scan.nii.gz"
        path.write_bytes(gzip.compress(bytes(header)))
    assert has_scanner_coordinates(path) == known


def test_what_is_no_nifti_file_is_refused(tmp_path: Path):
    (tmp_path / "scan.nii").write_bytes(b"not an image" * 100)
    with pytest.raises(InputError, match="cannot be read, it is damaged"):
        read_image(tmp_path / "scan.nii")
