"""Which files beside a header hold an image's voxels, and that a change of them is noticed."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.dataset_json.manifest import SourceFile
from nnunet_liver_ext.space.detached_data import detached_files
from nnunet_liver_ext.space.images import array, read_image

META = "NDims = 3\nDimSize = 4 5 {slices}\nElementType = MET_UCHAR\nElementDataFile = {data}\n"
NRRD = "NRRD0004\n# by hand\ntype: uchar\ndimension: 3\nsizes: 4 5 3\nencoding: raw\n{data}\n"
VOXELS = np.arange(60, dtype=np.uint8).reshape(3, 5, 4)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("LOCAL", []),
        ("a.raw", ["a.raw"]),
        ("below/my scan.raw", ["below/my scan.raw"]),
        ("LIST\ns2.raw\ns1.raw\n", ["s2.raw", "s1.raw"]),
        ("LIST 2D\ns1.raw\n\ns2.raw", ["s1.raw", "s2.raw"]),
        ("s%02d.raw", ["s01.raw", "s02.raw", "s03.raw"]),
        ("s%d.raw 5 1 -2", ["s5.raw", "s3.raw", "s1.raw"]),
        ("s%d.raw 1 3 0", []),
        ("s%d.raw one three", []),
        ("", []),
    ],
)
def test_metaimage(tmp_path: Path, data: str, names: list[str]):
    for ending in (".mhd", ".MHA"):
        path = tmp_path / f"a{ending}"
        path.write_text(META.format(slices=3, data=data))
        assert detached_files(path) == [tmp_path / name for name in names]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("data file: a.raw", ["a.raw"]),
        ("datafile: a.raw\n\ndata file: b.raw", ["a.raw"]),
        ("data file: LIST\ns1.raw\ns2.raw", ["s1.raw", "s2.raw"]),
        ("data file: s%03d.raw 1 2 1", ["s001.raw", "s002.raw"]),
        ("\ndata file: that are voxels", []),
    ],
)
def test_nrrd(tmp_path: Path, data: str, names: list[str]):
    (tmp_path / "a.nrrd").write_text(NRRD.format(data=data))
    assert detached_files(tmp_path / "a.nrrd") == [tmp_path / name for name in names]


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_what_itk_writes(tmp_path: Path, ending: str):
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path))
    assert detached_files(path) == ([tmp_path / "a.raw"] if ending == ".mhd" else [])
    assert bool(SourceFile.from_path(path, tmp_path).voxels_sha256) == (ending == ".mhd")


@pytest.mark.parametrize("name", ["a.mhd", "list.mhd", "pattern.mhd", "a.nrrd"])
def test_a_change_of_any_file_with_voxels_is_noticed(tmp_path: Path, name: str):
    headers = {
        "a.mhd": META.format(slices=3, data="a.raw"),
        "list.mhd": META.format(slices=3, data="LIST\ns1.raw\ns2.raw\ns3.raw"),
        "pattern.mhd": META.format(slices=3, data="s%d.raw 1 3 1"),
        "a.nrrd": NRRD.format(data="data file: a.raw"),
    }
    (tmp_path / name).write_text(headers[name])
    (tmp_path / "a.raw").write_bytes(VOXELS.tobytes())
    for number, plane in enumerate(VOXELS, start=1):
        (tmp_path / f"s{number}.raw").write_bytes(plane.tobytes())
    np.testing.assert_array_equal(
        array(read_image(tmp_path / name)), VOXELS
    )  # ITK finds the same files
    before = SourceFile.from_path(tmp_path / name, tmp_path)
    assert before.has_content_of(SourceFile.from_path(tmp_path / name, tmp_path))
    assert before.size == len(headers[name])
    changed = tmp_path / ("a.raw" if name.startswith("a.") else "s3.raw")
    content = changed.read_bytes()
    changed.write_bytes(content[:-1] + b"\xff")
    assert not before.has_content_of(SourceFile.from_path(tmp_path / name, tmp_path))
    changed.unlink()
    assert not before.has_content_of(SourceFile.from_path(tmp_path / name, tmp_path))
    changed.write_bytes(content)
    assert before.has_content_of(SourceFile.from_path(tmp_path / name, tmp_path))


def test_an_entry_of_an_earlier_version_knows_the_header_alone(tmp_path: Path):
    path = tmp_path / "a.mhd"
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path))
    now = SourceFile.from_path(path, tmp_path)
    assert set(now.to_json()) == {"path", "size", "sha256", "voxels_sha256"}
    earlier = SourceFile(now.path, now.size, now.sha256)
    assert set(earlier.to_json()) == {"path", "size", "sha256"}
    assert earlier.has_content_of(now)
    assert now.has_content_of(earlier)
    path.write_text(path.read_text().replace("ElementSpacing = 1 1 1", "ElementSpacing = 1 1 2"))
    assert not earlier.has_content_of(SourceFile.from_path(path, tmp_path))
