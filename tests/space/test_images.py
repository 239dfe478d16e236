import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import Grid, image_like, read_image, read_mask, stem, write_image

GRID = Grid((12, 10, 8), (1.5, 1.5, 3.0), (-10.0, 5.0, 7.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def noise(dtype=np.float32, seed=0):
    return (np.random.default_rng(seed).random((8, 10, 12)) * 100).astype(dtype)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_what_is_written_is_read(tmp_path: Path, ending: str):
    path = tmp_path / f"image{ending}"
    write_image(image_like(noise(), GRID), path)
    image = read_image(path)
    assert Grid.from_image(image).matches(GRID)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), noise())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("keep", [0.5, 0.95])
def test_a_truncated_file_is_refused(tmp_path: Path, ending: str, keep: float):
    path = tmp_path / f"image{ending}"
    write_image(image_like(noise(), GRID), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match="damaged or incomplete"):
        read_image(path)


def test_a_gzip_file_of_two_members_is_whole(tmp_path: Path):
    import gzip

    write_image(image_like(noise(), GRID), tmp_path / "image.nii")
    content = (tmp_path / "image.nii").read_bytes()
    path = tmp_path / "image.nii.gz"
    path.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(path)), noise())


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_nan_is_refused(tmp_path: Path, ending: str):
    values = noise()
    values[1, 2, 3] = np.nan
    write_image(image_like(values, GRID), tmp_path / f"image{ending}")
    with pytest.raises(InputError, match="1 voxels are NaN"):
        read_image(tmp_path / f"image{ending}")


def test_four_dimensional_and_colour_images_are_refused(tmp_path: Path):
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros((2, 3, 4, 5), np.float32), False),
        str(tmp_path / "time.nii.gz"),
    )
    with pytest.raises(InputError, match="4 axes"):
        read_image(tmp_path / "time.nii.gz")
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True),
        str(tmp_path / "rgb.nrrd"),
    )
    with pytest.raises(InputError, match="3 values per voxel"):
        read_image(tmp_path / "rgb.nrrd")


def test_a_spacing_of_nan_is_refused(tmp_path: Path):
    write_image(image_like(noise(), GRID), tmp_path / "image.nii.gz")
    header = bytearray(gzip.decompress((tmp_path / "image.nii.gz").read_bytes()))
    header[80:84] = np.float32(np.nan).tobytes()  # pixdim[1]
    (tmp_path / "image.nii").write_bytes(header)
    with pytest.raises(
        InputError, match=r"image.nii: its voxels are nan x .* mm \(x y z\); correct the header"
    ):
        read_image(tmp_path / "image.nii")


def test_a_mask_must_hold_integers(tmp_path: Path):
    write_image(image_like(noise(), GRID), tmp_path / "mask.nii.gz")
    with pytest.raises(InputError, match="must hold integers"):
        read_mask(tmp_path / "mask.nii.gz")
    write_image(image_like(np.rint(noise()), GRID), tmp_path / "mask.nii.gz")
    assert read_mask(tmp_path / "mask.nii.gz").GetPixelID() == sitk.sitkInt16
    write_image(
        image_like(np.full(GRID.size[::-1], 65536, np.float32), GRID), tmp_path / "mask.nii.gz"
    )
    assert (sitk.GetArrayFromImage(read_mask(tmp_path / "mask.nii.gz")) == 65536).all()


def test_missing_and_unknown_files(tmp_path: Path):
    with pytest.raises(InputError, match="no such file"):
        read_image(tmp_path / "nothing.nii.gz")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="unknown kind"):
        read_image(tmp_path / "notes.txt")


def test_grids_match_within_a_tenth_of_a_voxel():
    shifted = Grid(GRID.size, GRID.spacing, (-10.1, 5.0, 7.0), GRID.direction)
    assert GRID.matches(shifted)
    assert not GRID.matches(Grid(GRID.size, GRID.spacing, (-10.5, 5.0, 7.0), GRID.direction))
    assert not GRID.matches(Grid((12, 10, 9), GRID.spacing, GRID.origin, GRID.direction))


def test_stem_takes_double_endings():
    assert (stem("a/P001.nii.gz"), stem("P001_T1.nrrd")) == ("P001", "P001_T1")


def test_a_truncated_volume_inside_a_whole_gzip_is_refused(tmp_path: Path):
    import gzip

    write_image(image_like(noise(), GRID), tmp_path / "image.nii")
    content = (tmp_path / "image.nii").read_bytes()
    (tmp_path / "half.nii.gz").write_bytes(gzip.compress(content[: len(content) // 2]))
    with pytest.raises(InputError, match="ends too early"):
        read_image(tmp_path / "half.nii.gz")
