from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.dicom import read_series, read_slice, read_slice_headers
from nnunet_liver_ext.space.dicom_headers import is_dicom
from nnunet_liver_ext.space.images import read_image
from tests.dicom_files import write_series

VALUES = np.random.default_rng(0).integers(0, 1000, (6, 10, 12)).astype(np.uint16)


def test_slices_are_sorted_by_position_and_spaced_by_it(tmp_path: Path):
    write_series(tmp_path, VALUES, names=[f"{name}.dcm" for name in "fbadec"])
    image = read_series(tmp_path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), VALUES)
    assert image.GetSpacing() == pytest.approx((1.5, 1.25, 4.0))
    assert image.GetOrigin() == pytest.approx((-20, -30, 100))
    assert image.GetDirection() == pytest.approx((1, 0, 0, 0, 1, 0, 0, 0, 1))
    assert [one.path.stem for one in read_slice_headers(tmp_path)] == list("fbadec")


def test_every_voxel_is_where_its_header_says_in_an_oblique_coronal_series(tmp_path: Path):
    angle = np.deg2rad(20)
    row, column = np.array([np.cos(angle), np.sin(angle), 0]), np.array([0, 0, -1.0])
    write_series(tmp_path, VALUES, orientation=(*row, *column), origin=(5, 6, 7), step=3.0)
    image = read_image(tmp_path)
    index = (4, 3, 2)  # x, y, z
    expected = (
        np.array([5, 6, 7]) + 4 * 1.5 * row + 3 * 1.25 * column + 2 * 3.0 * np.cross(row, column)
    )
    assert image.TransformIndexToPhysicalPoint(index) == pytest.approx(expected, abs=1e-4)
    assert image.GetPixel(index) == VALUES[2, 3, 4]


def test_rescaling_of_each_file_is_applied(tmp_path: Path):
    write_series(tmp_path, VALUES[:3], slope=0.5, uid="1.2.3")
    write_series(
        tmp_path,
        VALUES[3:],
        slope=2.0,
        uid="1.2.3",
        depths=[12, 16, 20],
        names=["x.dcm", "y.dcm", "z.dcm"],
    )
    values = sitk.GetArrayFromImage(read_series(tmp_path))
    np.testing.assert_allclose(values[:3], VALUES[:3] * 0.5)
    np.testing.assert_allclose(values[3:], VALUES[3:] * 2.0)


def test_other_files_and_names_without_ending_do_not_matter(tmp_path: Path):
    write_series(tmp_path, VALUES, names=[f"I{index:04d}" for index in range(6)])
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".DS_Store").write_bytes(b"\0\0")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    sitk.WriteImage(sitk.GetImageFromArray(VALUES[0]), str(tmp_path / "preview.png"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_series(tmp_path)), VALUES)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({}, "SeriesInstanceUID"),
        ({"uid": "1.2.3", "spacing": (2.0, 2.0)}, "pixel spacing"),
        ({"uid": "1.2.3", "orientation": (1, 0, 0, 0, 0, -1)}, "orientation"),
        ({"uid": "1.2.3", "echo_time": 2.3}, "echo time"),
    ],
)
def test_two_series_in_one_folder_are_refused(tmp_path: Path, other: dict, difference: str):
    write_series(tmp_path, VALUES, uid="1.2.3")
    write_series(
        tmp_path, VALUES, names=[f"b{index}.dcm" for index in range(6)], origin=(0, 0, 500), **other
    )
    with pytest.raises(InputError, match=f"holds 2 series that differ in {difference}"):
        read_series(tmp_path)


def test_series_of_two_sizes_are_refused(tmp_path: Path):
    write_series(tmp_path, VALUES, uid="1.2.3")
    write_series(
        tmp_path, VALUES[:, :8], uid="1.2.3", names=[f"b{index}.dcm" for index in range(6)]
    )
    with pytest.raises(InputError, match="differ in size"):
        read_series(tmp_path)


def test_two_slices_at_one_position_are_refused_even_with_one_uid(tmp_path: Path):
    write_series(tmp_path, VALUES, uid="1.2.3")
    write_series(tmp_path, VALUES, uid="1.2.3", names=[f"b{index}.dcm" for index in range(6)])
    with pytest.raises(InputError, match="at the same position"):
        read_series(tmp_path)


def test_uids_that_differ_in_every_file_are_accepted_on_request(tmp_path: Path):
    write_series(tmp_path, VALUES, uid_per_file=True)
    with pytest.raises(InputError, match="6 series that differ in SeriesInstanceUID"):
        read_series(tmp_path)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(read_series(tmp_path, same_uid=False)), VALUES
    )


def test_a_missing_slice_is_named(tmp_path: Path):
    paths = write_series(tmp_path, VALUES)
    paths[3].unlink()
    with pytest.raises(
        InputError, match=f"8 mm between {paths[2].name} and {paths[4].name}, 4 mm between"
    ):
        read_series(tmp_path)


def test_uneven_slices_are_refused_and_rounding_is_not(tmp_path: Path):
    write_series(tmp_path / "uneven", VALUES, depths=[0, 4, 8, 12.6, 16.6, 20.6])
    with pytest.raises(InputError, match="missing or slices are uneven"):
        read_series(tmp_path / "uneven")
    write_series(tmp_path / "rounded", VALUES, depths=[0, 4.01, 7.99, 12, 16.01, 20])
    assert read_series(tmp_path / "rounded").GetSpacing()[2] == pytest.approx(4.0)


def test_tilted_slices_are_refused(tmp_path: Path):
    for index in range(6):
        origin = (-20.0, -30.0 + 1.5 * index, 100.0 + 4 * index)
        write_series(
            tmp_path, VALUES[index : index + 1], uid="1.2.3", names=[f"{index}.dcm"], origin=origin
        )
    with pytest.raises(InputError, match=r"shifted sideways by up to 7\.5 mm"):
        read_series(tmp_path)


def test_colour_is_refused(tmp_path: Path):
    write_series(tmp_path, np.zeros((3, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="3 values per voxel"):
        read_series(tmp_path)


def test_a_folder_without_dicom_and_a_single_slice_are_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match="holds no DICOM files"):
        read_series(tmp_path)
    write_series(tmp_path, VALUES[:1])
    with pytest.raises(InputError, match="single DICOM slice"):
        read_series(tmp_path)


def test_a_slice_without_position_is_named(tmp_path: Path):
    write_series(tmp_path, VALUES)
    write_series(tmp_path, VALUES[:1], names=["bad.dcm"], ImagePositionPatient=None)
    with pytest.raises(InputError, match=r"bad\.dcm: has no usable ImagePositionPatient"):
        read_series(tmp_path)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95])
def test_a_truncated_slice_is_refused(tmp_path: Path, keep: float):
    path = write_series(tmp_path, np.tile(VALUES, (1, 4, 4)))[2]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match=r"damaged|no usable"):
        read_series(tmp_path)


def test_small_differences_of_the_distances_that_add_up_are_refused(tmp_path: Path):
    depths = np.concatenate([[0], np.cumsum([4.0] * 12 + [4.3] * 12)])
    write_series(tmp_path, np.repeat(VALUES[:1], 25, axis=0), depths=depths)
    # half way lies at 48 mm, at half of 99.6 mm in a regular volume
    with pytest.raises(
        InputError,
        match=r"varies from 4 to 4\.3 mm, so that .* lies 1\.8 mm from its place .*dcm2niix",
    ):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("depths", "found"),
    [
        ([0, 5, 10, 15, 17.5, 20], "2.5 mm between .*, 5 mm between most others"),
        ([0, 4, 8, 16, 20, 24], "8 mm between .*, 4 mm between most others"),
    ],
)
def test_a_series_of_two_distances_names_the_folder_and_the_way_out(
    tmp_path: Path, depths: list[float], found: str
):
    write_series(tmp_path, VALUES, depths=depths)
    with pytest.raises(
        InputError,
        match=f"^{tmp_path}: .*{found}; fetch what is missing, or convert it to NIfTI"
        r".* corrected file NAME_Eq_1\.nii\.gz, not the .*of 16-bit unsigned values it",
    ):
        read_series(tmp_path)


def test_a_tilted_gantry_with_little_shear_in_each_slice_is_refused_over_the_volume(tmp_path: Path):
    """2 degrees: 0.14 mm from slice to slice, but 3.4 mm over the volume."""
    for index in range(25):
        origin = (-20.0, -30.0 + 4 * index * np.tan(np.deg2rad(2)), 100.0 + 4 * index)
        write_series(tmp_path, VALUES[:1], uid="1.2.3", names=[f"{index}.dcm"], origin=origin)
    with pytest.raises(
        InputError,
        match=r"sideways by up to 3\.35 mm \(tilted gantry\), .*corrected file NAME_Tilt_1\.nii",
    ):
        read_series(tmp_path)


def test_slices_that_are_tilted_as_a_whole_are_none_of_that(tmp_path: Path):
    angle = np.deg2rad(15)
    orientation = (1, 0, 0, 0, np.cos(angle), np.sin(angle))
    write_series(tmp_path, VALUES, orientation=orientation)
    assert read_series(tmp_path).GetDirection()[4] == pytest.approx(np.cos(angle))


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 0.2, 0.98, 0), (2, 0, 0, 0, 1, 0), (0, 0, 0, 0, 1, 0)]
)
def test_axes_that_are_no_axes_are_refused(tmp_path: Path, orientation: tuple[float, ...]):
    write_series(tmp_path, VALUES, ImageOrientationPatient=[str(value) for value in orientation])
    with pytest.raises(
        InputError,
        match=r"\.dcm: its ImageOrientationPatient is no pair of unit vectors at a right angle",
    ):
        read_series(tmp_path)


def test_one_slice_without_a_place_in_space(tmp_path: Path):
    (path,) = write_series(
        tmp_path, VALUES[:1], slope=0.5, names=["image_0"], ImagePositionPatient=None
    )
    np.testing.assert_array_equal(read_slice(path), VALUES[0] * 0.5)
    assert is_dicom(path)
    (tmp_path / "notes").write_text("not an image")
    assert not is_dicom(tmp_path / "notes")
    with pytest.raises(InputError, match="notes: cannot be read as DICOM"):
        read_slice(tmp_path / "notes")
    (colour,) = write_series(tmp_path, np.zeros((1, 8, 8, 3), np.uint8), names=["colour"])
    with pytest.raises(InputError, match=r"colour: is no single grey slice"):
        read_slice(colour)


def test_rounded_directions_are_at_right_angles_and_keep_the_distance_of_slices(tmp_path: Path):
    """Cosines of two decimals: rows and columns have a length of .994, and lean by .6 degrees."""
    orientation = (0.98, 0.17, 0.01, -0.17, 0.98, 0)
    write_series(tmp_path, VALUES, orientation=orientation, step=4.0)
    axes = np.array(read_image(tmp_path).GetDirection()).reshape(3, 3)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(axes[:, 0], orientation[:3], atol=0.01)
    length = np.linalg.norm(np.cross(orientation[:3], orientation[3:]))  # of the written normal
    assert read_image(tmp_path).GetSpacing()[2] == pytest.approx(4.0 * length, rel=1e-3)


@pytest.mark.parametrize("pixel", [[0, 1.5], [1.25, -1.5], [float("nan"), 1.5]])
def test_pixels_without_a_size_are_refused(tmp_path: Path, pixel: list[float]):
    write_series(tmp_path, VALUES, PixelSpacing=pixel)
    with pytest.raises(InputError, match="PixelSpacing"):
        read_series(tmp_path)


def test_the_patient_of_a_slice_is_known(tmp_path: Path):
    write_series(tmp_path, VALUES, PatientID="A 7")
    assert {header.patient_id for header in read_slice_headers(tmp_path)} == {"A 7"}
