"""LiverHccSeg with its quirks: registered phases on grids of their own, several tumours, two
raters, a liver alone."""

from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.dataset_conversion.datasets.liverhccseg import (
    LiverHccSegReader,
    find_tumour_files,
    liverhccseg_studies,
    phases,
)
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.space.images import Grid, array, image_like, read_image, write_image
from tests.dataset_conversion.datasets.conversion import convert
from tests.dataset_conversion.datasets.mr_conversion import case_of, dataset_json, voxels, written

AXIAL = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
ARTERIAL = Grid((12, 10, 6), (1.5, 1.5, 3.0), (-9.0, -7.5, 20.0), AXIAL)
FLIPPED = Grid((12, 10, 6), (1.5, 1.5, 3.0), (7.5, 6.0, 20.0), (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))
"""The same box as the arterial phase, stored from its other corner."""
SHAPE = ARTERIAL.size[::-1]


def box(*ranges: tuple[int, int]) -> np.ndarray:
    """A block of voxels (z, y, x), given by first and last + 1."""
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(*one) for one in ranges)] = True
    return mask


LIVER = box((1, 5), (2, 8), (2, 9))
NODULES = [box((2, 3), (3, 5), (3, 5)), box((3, 4), (6, 9), (7, 8))]
"""The second sticks out of the liver by one voxel, at y = 8."""


def intensities(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 1000, SHAPE).astype(np.int16)


def write_examination(folder: Path, *, seed: int, tumours: bool = True) -> None:
    write_image(image_like(intensities(seed), ARTERIAL), folder / "art.nii.gz")
    for index, name in enumerate(("pre", "pv", "del")):
        values = intensities(10 * seed + index)
        write_image(
            image_like(values[:, ::-1, ::-1].copy(), FLIPPED), folder / f"art_{name}.nii.gz"
        )
        write_image(
            image_like(values[:4], Grid((12, 10, 4), (2, 2, 4), (0, 0, 0), AXIAL)),
            folder / f"{name}.nii.gz",
        )
    for rater, shift in (("rater1", 0), ("rater2", 1)):
        mask = np.roll(LIVER, shift, axis=2).astype(np.float32)
        write_image(image_like(mask * 255, ARTERIAL), folder / f"{rater}_liver.nii.gz")
        # numbers are not in the order of the names: 2, 10
        for number, nodule in zip((10, 2), NODULES if tumours else [], strict=False):
            write_image(
                image_like(np.roll(nodule, shift, axis=2), ARTERIAL),
                folder / f"{rater}_tumor{number}.nii.gz",
            )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three patients, one of them without tumours, and what macOS leaves behind."""
    root = tmp_path / "nifti_and_segms" / "nifti_and_segms"
    write_examination(root / "TCGA-AA-0001" / "01-02-2003", seed=1)
    write_examination(root / "TCGA-AA-0002" / "11-12-2001", seed=2)
    write_examination(root / "TCGA-BB-0001" / "05-06-2007", seed=3, tumours=False)
    for junk in (
        "__MACOSX/TCGA-AA-0001/01-02-2003/art.nii.gz",
        "TCGA-AA-0001/01-02-2003/._art.nii.gz",
        "TCGA-AA-0001/01-02-2003/._rater1_tumor3.nii.gz",
        "TCGA-AA-0001/.DS_Store",
    ):
        (root / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / junk).write_bytes(b"junk")
    return root.parent


def test_examinations_with_their_raters(root: Path):
    studies = liverhccseg_studies(root)
    assert [(study.patient, study.study) for study in studies] == [
        ("TCGA-AA-0001", "01-02-2003"),
        ("TCGA-AA-0002", "11-12-2001"),
        ("TCGA-BB-0001", "05-06-2007"),
    ]
    first = studies[0]
    assert first.images["art"].name == "art.nii.gz"
    assert first.masks["art"].name == "rater1_liver.nii.gz"
    assert {
        name: {key: path.name for key, path in files.items()}
        for name, files in first.raters.items()
    } == {"rater2": {"art": "rater2_liver.nii.gz"}}
    assert [path.name for path in find_tumour_files(first.masks["art"])] == [
        "rater1_tumor2.nii.gz",
        "rater1_tumor10.nii.gz",
    ]


def test_the_label_map_of_a_rater_joins_all_files(root: Path):
    study = liverhccseg_studies(root)[0]
    image = read_image(study.images["art"])
    mask = LiverHccSegReader().read_mask(study.masks["art"], image, study.images["art"])
    nodules = NODULES[0] | NODULES[1]
    np.testing.assert_array_equal(array(mask), np.where(nodules, 2, LIVER.astype(int)))
    assert Grid.from_image(mask).matches(ARTERIAL)


def test_the_liver_includes_its_tumours(root: Path, raw: Path):
    folder = convert("liverhccseg", root)
    case = case_of(folder, "TCGA-AA-0002", "11-12-2001")
    np.testing.assert_array_equal(voxels(folder, case), LIVER | NODULES[1])
    np.testing.assert_array_equal(voxels(folder, case, 0), intensities(2))
    assert Grid.from_image(written(folder, case, 0)).matches(ARTERIAL)
    content = dataset_json(folder)
    assert content["labels"] == {"background": 0, "liver": 1}
    assert content["channel_names"] == {"0": "art"}
    assert (content["licence"], content["numTraining"]) == ("CC BY 4.0", 3)


def test_the_second_rater_is_kept_beside(root: Path, raw: Path):
    folder = convert("liverhccseg", root)
    case = case_of(folder, "TCGA-AA-0001", "01-02-2003")
    second = array(read_image(folder / "ratersTr" / "rater2" / f"{case}.nii.gz"))
    np.testing.assert_array_equal(second, np.roll(LIVER | NODULES[1], 1, axis=2))


def test_tumours_with_the_liver_as_a_channel(root: Path, raw: Path):
    folder = convert("liverhccseg", root, task="tumour")
    nodules = NODULES[0] | NODULES[1]
    with_tumours = case_of(folder, "TCGA-AA-0001", "01-02-2003")
    np.testing.assert_array_equal(voxels(folder, with_tumours), nodules)
    np.testing.assert_array_equal(voxels(folder, with_tumours, 1), LIVER | nodules)
    without = case_of(folder, "TCGA-BB-0001", "05-06-2007")
    assert not voxels(folder, without).any()
    np.testing.assert_array_equal(voxels(folder, without, 1), LIVER)
    assert dataset_json(folder)["organ_mask"] == {"name": "liver", "channel": 1}


def test_registered_phases_are_channels_on_the_arterial_grid(root: Path, raw: Path):
    folder = convert("liverhccseg", root, phase=("pv", "art", "del"))
    assert dataset_json(folder)["channel_names"] == {"0": "art", "1": "pv", "2": "del"}
    case = case_of(folder, "TCGA-AA-0002", "11-12-2001")
    for channel, seed in ((0, 2), (1, 21), (2, 22)):
        # stored from the other corner, in the same places
        np.testing.assert_allclose(voxels(folder, case, channel), intensities(seed), atol=1e-3)
        assert Grid.from_image(written(folder, case, channel)).matches(ARTERIAL)


def test_a_changed_tumour_mask_is_noticed(root: Path, raw: Path):
    folder = convert("liverhccseg", root)
    name = "rater1_tumor10"
    case = Manifest.load(folder).cases[case_of(folder, "TCGA-AA-0001", "01-02-2003")]
    path = root / case.sources[name].path
    assert path.name == f"{name}.nii.gz"
    write_image(image_like(NODULES[1], ARTERIAL), path)
    with pytest.raises(InputError, match="--add"):
        convert("liverhccseg", root)


def test_the_arterial_phase_comes_first_and_is_needed():
    assert phases() == ("art",)
    assert phases(("del", "art")) == ("art", "del")
    with pytest.raises(InputError, match="take art too"):
        phases(("pv",))
    with pytest.raises(InputError, match="choose from art, pre, pv, del, each once"):
        phases(("art", "t2"))
    with pytest.raises(InputError, match="each once"):
        phases(("art", "art"))


def test_a_phase_that_is_missing_is_named(root: Path, raw: Path):
    (root / "nifti_and_segms" / "TCGA-AA-0002" / "11-12-2001" / "art_pv.nii.gz").unlink()
    with pytest.raises(SomeCasesFailed, match="has no pv image"):
        convert("liverhccseg", root, phase=("art", "pv"))


def test_a_mask_off_the_arterial_grid_is_refused(root: Path, raw: Path):
    path = root / "nifti_and_segms" / "TCGA-AA-0002" / "11-12-2001" / "rater1_tumor2.nii.gz"
    write_image(image_like(NODULES[0], FLIPPED), path)
    with pytest.raises(
        SomeCasesFailed,
        match=r"rater1_tumor2\.nii\.gz: is not on the grid of its image art\.nii\.gz",
    ):
        convert("liverhccseg", root)


def test_folders_without_data_and_twice_the_same_are_refused(root: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"holds no LiverHccSeg data; expected TCGA-XX-XXXX"):
        liverhccseg_studies(tmp_path / "nifti_and_segms" / "__MACOSX")
    write_examination(root / "copy" / "TCGA-AA-0001" / "01-02-2003", seed=5)
    with pytest.raises(InputError, match="this examination is there twice"):
        liverhccseg_studies(root)
