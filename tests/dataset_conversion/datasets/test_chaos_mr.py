"""CHAOS MR with its quirks: a UID of its own in every file, even-numbered in-phase slices, masks as
grey PNG files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.datasets.chaos_mr import (
    DATASET,
    ChaosReader,
    chaos_mr_studies,
    find_in_phase_folder,
    organ_labels,
)
from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.pairing import decode_pair
from nnunet_liver_ext.space.images import Grid, array, read_mask
from tests.dataset_conversion.conftest import AXIAL, ball
from tests.dicom_files import write_series

T1_GRID = Grid((32, 28, 10), (4.0, 4.0, 6.0), (-62.0, -54.0, -27.0), AXIAL)
T2_GRID = Grid((28, 28, 7), (4.5, 4.5, 8.5), (-60.0, -60.0, -26.0), AXIAL)
LIVER_MM, SPLEEN_MM = (-25.0, -15.0, 5.0), (30.0, 20.0, -5.0)


def grey_values(grid: Grid) -> np.ndarray:
    """Liver 63 with a rim of 60, spleen 252, right kidney 126, left kidney 189."""
    values = np.zeros(grid.size[::-1], np.uint8)
    values[ball(grid, LIVER_MM, 20)] = 60
    values[ball(grid, LIVER_MM, 14)] = 63
    values[ball(grid, SPLEEN_MM, 10)] = 252
    values[ball(grid, (-25.0, 25.0, -10.0), 8)] = 126
    values[ball(grid, (10.0, -30.0, -10.0), 8)] = 189
    return values


def intensities(grid: Grid, liver: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(100, 30, grid.size[::-1]).clip(1, None)
    values[ball(grid, LIVER_MM, 20)] = liver + np.random.default_rng(seed).normal(
        0, 20, ball(grid, LIVER_MM, 20).sum()
    )
    return values.astype(np.uint16)


def write_examination(folder: Path, *, masks: bool = True, swapped_echoes: bool = False) -> None:
    """One examination; file names ascend with z, the T1 files of both echoes are numbered
    through."""
    dual, spir = folder / "T1DUAL", folder / "T2SPIR"
    for offset, (echo, time) in enumerate([("OutPhase", 2.3), ("InPhase", 4.6)]):
        name = {"OutPhase": "InPhase", "InPhase": "OutPhase"}[echo] if swapped_echoes else echo
        names = [f"IMG-0004-{2 * index + 1 + offset:05d}.dcm" for index in range(T1_GRID.size[2])]
        values = intensities(T1_GRID, 300 if echo == "InPhase" else 250, seed=offset)
        write(dual / "DICOM_anon" / name, values, T1_GRID, names, time)
    names = [f"IMG-0005-{index + 1:05d}.dcm" for index in range(T2_GRID.size[2])]
    write(spir / "DICOM_anon", intensities(T2_GRID, 200, seed=3), T2_GRID, names, 70.0)
    if masks:
        write_pngs(
            dual / "Ground",
            grey_values(T1_GRID),
            [f"IMG-0004-{2 * i + 2:05d}" for i in range(T1_GRID.size[2])],
        )
        write_pngs(
            spir / "Ground",
            grey_values(T2_GRID),
            [f"IMG-0005-{i + 1:05d}" for i in range(T2_GRID.size[2])],
        )


def write(folder: Path, values: np.ndarray, grid: Grid, names: list[str], echo_time: float) -> None:
    write_series(
        folder,
        values,
        names=names,
        spacing=grid.spacing[:2],
        step=grid.spacing[2],
        origin=grid.origin,
        echo_time=echo_time,
        uid_per_file=True,
    )


def write_pngs(folder: Path, values: np.ndarray, stems: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for plane, stem in zip(values, stems, strict=True):
        sitk.WriteImage(sitk.GetImageFromArray(plane), str(folder / f"{stem}.png"))


@pytest.fixture(scope="module")
def written_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("written") / "Train_Sets" / "MR"
    for number in (1, 2, 10):
        write_examination(root / str(number))
    return root.parent


@pytest.fixture
def chaos(written_once: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(written_once, tmp_path / written_once.name)) / "MR"


def options(organs: list[str]) -> dict:
    labels, ignored = organ_labels(organs)
    settings = ConversionSettings(spacing=(4.0, 4.0, 6.0), labels=labels, ignored_labels=ignored)
    return {
        "dataset_id": 510,
        "name": "Chaos",
        "settings": settings,
        "folds": 2,
        "processes": 1,
        "reader": ChaosReader(),
    }


def test_examinations_are_found_and_in_phase_is_the_longer_echo(chaos: Path):
    write_examination(
        chaos.parent.parent / "Test_Sets" / "MR" / "3", masks=False, swapped_echoes=True
    )
    studies = chaos_mr_studies(chaos.parent.parent)
    assert [study.name for study in studies] == ["1", "2", "3", "10"]
    assert [set(study.masks) for study in studies] == [
        {"T1", "T2"},
        {"T1", "T2"},
        set(),
        {"T1", "T2"},
    ]
    assert find_in_phase_folder(studies[0].images["T1"]).name == "InPhase"
    assert find_in_phase_folder(studies[2].images["T1"]).name == "OutPhase"
    np.testing.assert_array_equal(
        array(ChaosReader().read_image(studies[2].images["T1"])), intensities(T1_GRID, 300, seed=1)
    )


def test_masks_lie_where_the_organs_are(chaos: Path):
    study = chaos_mr_studies(chaos)[0]
    for modality, grid in (("T1", T1_GRID), ("T2", T2_GRID)):
        image = ChaosReader().read_image(study.images[modality])
        mask = ChaosReader().read_mask(study.masks[modality], image, study.images[modality])
        assert Grid.from_image(mask).matches(grid)
        assert Grid.from_image(image).matches(grid)
        labels = array(mask)
        np.testing.assert_array_equal(labels == 1, grey_values(grid) // 10 == 6)
        assert [int(grey_values(grid)[labels == label].mean()) for label in (2, 3, 4)] == [
            126,
            189,
            252,
        ]


def test_the_converted_dataset(chaos: Path, raw: Path):
    folder = write_dataset(chaos_mr_studies(chaos), **options(["liver"]), notes=DATASET.notes)
    content = json.loads((folder / "dataset.json").read_text())
    assert content["licence"] == "CC BY-NC-SA 4.0"
    assert content["numTraining"] == 3
    assert content["labels"]["T1 liver and T2 liver"] == 3
    case = Manifest.load(folder).cases["P001_S1"]
    assert case.sources["T1"].path == "1/T1DUAL/DICOM_anon"
    for mask in decode_pair(array(read_mask(folder / "labelsTr" / "P001_S1.nii.gz"))):
        truth = ball(case.grid, LIVER_MM, 20)
        assert 2 * (mask.astype(bool) & truth).sum() / (mask.sum() + truth.sum()) > 0.85


def test_other_organs_are_classes_on_request(chaos: Path, raw: Path):
    folder = write_dataset(chaos_mr_studies(chaos), **options(["liver", "spleen"]))
    content = json.loads((folder / "dataset.json").read_text())
    assert content["pair"]["classes"] == ["background", "liver", "spleen"]
    first, _ = decode_pair(array(read_mask(folder / "labelsTr" / "P001_S1.nii.gz")), 3)
    assert set(np.unique(first)) == {0, 1, 2}
    with pytest.raises(InputError, match="no organ 'pancreas'"):
        organ_labels(["pancreas"])


def test_a_missing_png_fails_that_case_alone(chaos: Path, raw: Path):
    (chaos / "2" / "T2SPIR" / "Ground" / "IMG-0005-00003.png").unlink()
    expected = r"1 of 3 .*\n  2: .*holds 6 PNG masks, .* 7 slices \(no mask for IMG-0005-00003\)"
    with pytest.raises(SomeCasesFailed, match=expected):
        write_dataset(chaos_mr_studies(chaos), **options(["liver"]))
    assert set(Manifest.load(raw / "Dataset510_Chaos").cases) == {"P001_S1", "P002_S1"}


def test_a_png_too_many_is_named(chaos: Path):
    study = chaos_mr_studies(chaos)[0]
    write_pngs(study.masks["T1"], grey_values(T1_GRID)[:1], ["IMG-0004-00099"])
    with pytest.raises(
        InputError, match=r"11 PNG masks, .* 10 slices \(no slice for IMG-0004-00099\)"
    ):
        ChaosReader().read_mask(
            study.masks["T1"], ChaosReader().read_image(study.images["T1"]), study.images["T1"]
        )


@pytest.mark.parametrize(("axis", "name"), [(0, "z"), (1, "y"), (2, "x")])
def test_flipped_masks_are_noticed(chaos: Path, axis: int, name: str):
    study = chaos_mr_studies(chaos)[0]
    flipped = np.flip(grey_values(T1_GRID), axis)
    write_pngs(
        study.masks["T1"], flipped, [f"IMG-0004-{2 * i + 2:05d}" for i in range(T1_GRID.size[2])]
    )
    with pytest.raises(
        InputError,
        match=rf"seem to be flipped along {name}: .* deviation of \d+% of the mean, and of \d+%",
    ):
        ChaosReader().read_mask(
            study.masks["T1"], ChaosReader().read_image(study.images["T1"]), study.images["T1"]
        )


@pytest.mark.parametrize(
    ("plane", "message"),
    [
        (np.full((28, 32), 100, np.uint8), "grey value 100, which stands for no organ"),
        (np.zeros((28, 30), np.uint8), "not a grey image of the size of its slice, 32x28"),
        (np.zeros((28, 32, 3), np.uint8), "not a grey image"),
    ],
)
def test_unusable_masks_are_named(chaos: Path, plane: np.ndarray, message: str):
    study = chaos_mr_studies(chaos)[0]
    path = study.masks["T1"] / "IMG-0004-00006.png"
    sitk.WriteImage(sitk.GetImageFromArray(plane, isVector=plane.ndim == 3), str(path))
    with pytest.raises(InputError, match=rf"IMG-0004-00006\.png: .*{message}"):
        ChaosReader().read_mask(
            study.masks["T1"], ChaosReader().read_image(study.images["T1"]), study.images["T1"]
        )


def test_echoes_that_cannot_be_told_apart_are_refused(tmp_path: Path):
    values = intensities(T1_GRID, 300, seed=0)
    names = [f"{index}.dcm" for index in range(len(values))]
    write(tmp_path / "InPhase", values, T1_GRID, names, 4.6)
    with pytest.raises(InputError, match="expected two folders, InPhase and OutPhase, found 1"):
        find_in_phase_folder(tmp_path)
    write(tmp_path / "OutPhase", values, T1_GRID, names, 4.6)
    with pytest.raises(InputError, match="echo times do not tell"):
        find_in_phase_folder(tmp_path)


def test_a_folder_without_chaos_data_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="holds no CHAOS MR data"):
        chaos_mr_studies(tmp_path)
