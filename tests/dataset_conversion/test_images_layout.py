"""Datasets of single images: their grids, liver masks, channels, intensities and raters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import (
    get_normalization_scheme,
)

from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.convert_study import convert_study
from nnunet_liver_ext.dataset_conversion.image_reader import PlainReader
from nnunet_liver_ext.dataset_conversion.intensity_ranges import measure_ranges
from nnunet_liver_ext.dataset_conversion.write_case import CaseJob
from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset
from nnunet_liver_ext.dataset_json.conversion import Conversion
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.space.common_grid import image_on_grid
from nnunet_liver_ext.space.images import (
    Grid,
    array,
    image_like,
    read_image,
    read_mask,
    write_image,
)
from nnunet_liver_ext.space.intensities import Intensities
from nnunet_liver_ext.studies.study import Study
from tests.dataset_conversion.conftest import fingerprint

GRID = Grid(
    (14, 12, 8),
    (2.5, 2.5, 5.0),
    (10.0, -20.0, 30.0),
    (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0),
)
"""Neither axial nor turned to the patient: it must come out as it went in."""
LIVER, TUMOUR = np.zeros((8, 12, 14), bool), np.zeros((8, 12, 14), bool)
LIVER[2:7, 2:10, 3:12] = True
TUMOUR[3:5, 4:6, 5:7] = True
CT = ConversionSettings(pairs=False, modalities=("CT",))
TUMOURS = replace(CT, labels={"tumour": (2,)}, organ=(1, 2))
OPTIONS = {"dataset_id": 510, "name": "Test", "folds": 2, "processes": 1}

Maker = Callable[..., Study]


@pytest.fixture
def make_image(tmp_path: Path) -> Maker:
    """Writes a CT with liver (1) and tumour (2) into tmp_path/source and returns the study."""

    def make(
        patient: str = "anna", *, seed: int = 0, mask: bool = True, liver_file: bool = False
    ) -> Study:
        folder = tmp_path / "source"
        values = (
            np.random.default_rng(seed).normal(-50, 20, LIVER.shape) + 150 * LIVER - 40 * TUMOUR
        )
        paths = {name: folder / f"{patient}{name}.nii.gz" for name in ("", "_mask", "_liver_mask")}
        write_image(image_like(values.astype(np.int16), GRID), paths[""])
        masks = {}
        if mask:
            write_image(image_like((LIVER + 1 * TUMOUR).astype(np.uint8), GRID), paths["_mask"])
            masks["CT"] = paths["_mask"]
        if liver_file:
            write_image(image_like(7 * LIVER.astype(np.uint8), GRID), paths["_liver_mask"])
            masks["liver"] = paths["_liver_mask"]
        return Study(patient, patient, {"CT": paths[""]}, masks)

    return make


@pytest.fixture
def studies(make_image: Maker) -> list[Study]:
    return [make_image(patient, seed=seed) for seed, patient in enumerate(["anna", "ben", "carl"])]


def write(studies: list[Study], settings: ConversionSettings, **options: object) -> Path:
    return write_dataset(studies, settings=settings, **{**OPTIONS, **options})  # type: ignore[arg-type]


def test_an_image_stays_on_its_own_grid_to_the_bit(raw: Path, studies: list[Study]):
    settings = replace(CT, labels={"liver": (1,), "tumour": (2,)})
    folder = write(studies, settings)
    for folder_name, name, source in (
        ("imagesTr", "P002_S1_0000", "ben"),
        ("labelsTr", "P002_S1", "ben_mask"),
    ):
        written = read_image(folder / folder_name / f"{name}.nii.gz")
        original = read_image(raw.parent / "source" / f"{source}.nii.gz")
        np.testing.assert_array_equal(array(written), array(original))
        assert Grid.from_image(written).matches(Grid.from_image(original), tolerance=1e-4)
        assert written.GetPixelID() == original.GetPixelID()
    assert len(fingerprint(folder)) == 3 * 2 + 3


def test_dataset_json_of_single_images(raw: Path, studies: list[Study]):
    settings = replace(CT, labels={"liver": (1,), "tumour": (2,)}, task="tumour")
    content = json.loads((write(studies, settings) / "dataset.json").read_text())
    assert content["channel_names"] == {"0": "CT"}
    assert content["labels"] == {"background": 0, "liver": 1, "tumour": 2}
    assert content["numTraining"] == 3
    assert not {"pair", "preregistered", "organ_mask", "incomplete"} & set(content)
    conversion = content["conversion"]
    assert (conversion["layout"], conversion["modalities"], conversion["spacing"]) == (
        "images",
        ["CT"],
        "native",
    )
    assert (conversion["intensities"], conversion["task"]) == ({"kind": "nnunet"}, "tumour")


def test_the_manifest_and_the_folds_are_those_of_pairs(raw: Path, studies: list[Study]):
    folder = write(studies, replace(CT, labels={"liver": (1, 2)}), hold_out=["ben"])
    cases = Manifest.load(folder).cases
    assert {name: case.folder for name, case in cases.items()} == {
        "P001_S1": "Tr",
        "P002_S1": "Ts",
        "P003_S1": "Tr",
    }
    assert set(cases["P001_S1"].sources) == {"CT", "CT mask"}
    assert cases["P001_S1"].grid.matches(GRID)
    assert (folder / "labelsTs" / "P002_S1.nii.gz").exists()
    splits = json.loads((folder / "splits_final.json").read_text())
    assert sorted(case for fold in splits for case in fold["val"]) == ["P001_S1", "P003_S1"]


def test_a_repeated_run_changes_nothing_and_other_layouts_are_refused(
    raw: Path, studies: list[Study], make_image: Maker
):
    settings = replace(TUMOURS, intensities=Intensities("dataset"))
    folder = write(studies, settings)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    write(studies, settings)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    for other, what in (
        (replace(settings, organ=()), "organ"),
        (replace(settings, modalities=("MR",)), "modalities"),
    ):
        with pytest.raises(InputError, match=f"converted with another {what}"):
            write(studies, other)


@pytest.mark.parametrize("liver_file", [False, True])
def test_the_liver_mask_is_the_last_channel(raw: Path, make_image: Maker, liver_file: bool):
    studies = [make_image(name, liver_file=liver_file) for name in ("anna", "ben")]
    folder = write(
        studies, replace(TUMOURS, organ=() if liver_file else (1, 2), ignored_labels=(1,))
    )
    organ = read_image(folder / "imagesTr" / "P001_S1_0001.nii.gz")
    assert organ.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(array(organ), LIVER)
    np.testing.assert_array_equal(array(read_mask(folder / "labelsTr" / "P001_S1.nii.gz")), TUMOUR)
    content = json.loads((folder / "dataset.json").read_text())
    assert content["organ_mask"] == {"name": "liver", "channel": 1}
    assert content["channel_names"] == {"0": "CT", "1": "noNorm"}
    assert content["labels"] == {"background": 0, "tumour": 1}


@pytest.mark.parametrize("liver_file", [False, True])
def test_every_mask_is_read_once(make_image: Maker, liver_file: bool):
    """A mask may be hundreds of DICOM files."""
    read = []

    class Counting(PlainReader):
        def read_mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
            read.append(path)
            return super().read_mask(path, image, image_path)

    study = make_image(liver_file=liver_file)
    convert_study(study, TUMOURS, Counting())
    assert sorted(read) == sorted(study.masks.values())


def test_a_liver_without_tumours_is_no_error(make_image: Maker):
    study = make_image()
    write_image(image_like(LIVER, GRID), study.masks["CT"])
    label = convert_study(study, TUMOURS, PlainReader()).label
    assert label is not None
    assert not array(label).any()


def test_the_liver_mask_takes_in_what_sticks_out_by_a_voxel(make_image: Maker):
    study = make_image(liver_file=True)
    tumour = TUMOUR.copy()
    tumour[2:7, 4:9, 3:12] = True
    tumour[2, 1, 3] = True  # one voxel outside, of 226
    write_image(image_like(2 * tumour.astype(np.uint8), GRID), study.masks["CT"])
    converted = convert_study(study, TUMOURS, PlainReader())
    np.testing.assert_array_equal(array(converted.channels[1]), LIVER | tumour)


def test_a_liver_mask_that_misses_the_tumour_is_refused(raw: Path, make_image: Maker):
    good, bad = make_image("anna", liver_file=True), make_image("ben", liver_file=True)
    liver = LIVER.copy()
    liver[:, :, :6] = False  # half of the tumour
    write_image(image_like(liver, GRID), bad.masks["liver"])
    expected = (
        r"ben: .*ben_liver_mask\.nii\.gz: the liver mask misses the tumour: 50% of the labelled"
        r" voxels lie out"
    )
    with pytest.raises(SomeCasesFailed, match=expected):
        write(
            [good, make_image("carl", liver_file=True), bad], replace(TUMOURS, ignored_labels=(1,))
        )


@pytest.mark.parametrize("masks", ["no mask", "label map only"])
def test_a_task_that_needs_a_liver_mask_names_studies_without_one(
    raw: Path, make_image: Maker, masks: str
):
    good = [make_image(name, liver_file=True) for name in ("anna", "ben")]
    bad = make_image("carl", mask=masks != "no mask")
    with pytest.raises(
        SomeCasesFailed,
        match=r"1 of 3 .*\n  carl: has no liver mask, which this task needs; .*--organ-values",
    ):
        write([*good, bad], replace(TUMOURS, organ=(), ignored_labels=(1,)))


def test_an_empty_liver_mask_is_refused(make_image: Maker):
    study = make_image(mask=False, liver_file=True)
    write_image(GRID.empty_image(), study.masks["liver"])
    with pytest.raises(InputError, match=r"anna_liver_mask\.nii\.gz: the liver mask is empty"):
        convert_study(study, TUMOURS, PlainReader())


def test_a_liver_mask_alone_makes_a_case_to_predict(raw: Path, make_image: Maker):
    folder = write([make_image(mask=False, liver_file=True)], TUMOURS)
    assert sorted(path.name for path in (folder / "imagesTs").iterdir()) == [
        "P001_S1_0000.nii.gz",
        "P001_S1_0001.nii.gz",
    ]
    assert not (folder / "labelsTr").exists()


def test_masks_on_another_grid_and_unknown_values_are_refused(make_image: Maker):
    study = make_image()
    with pytest.raises(
        InputError, match=r"anna_mask\.nii\.gz: holds the unknown label 2 \(known: liver=1\)"
    ):
        convert_study(study, replace(CT, labels={"liver": (1,)}), PlainReader())
    write_image(image_like(LIVER[:-1], replace(GRID, size=(14, 12, 7))), study.masks["CT"])
    with pytest.raises(
        InputError, match=r"anna_mask\.nii\.gz: is not on the grid of its image anna\.nii\.gz"
    ):
        convert_study(study, CT, PlainReader())


def test_a_spacing_asked_for(make_image: Maker):
    settings = replace(TUMOURS, spacing=(4.0, 4.0, 5.0), interpolation="linear")
    converted = convert_study(make_image(), settings, PlainReader())
    grid = Grid.from_image(converted.channels[0])
    assert grid.spacing == (4.0, 4.0, 5.0)
    expected = array(image_on_grid(image_like(LIVER.astype(np.float32), GRID), grid, "linear"))
    organ = array(converted.channels[1])
    assert organ.dtype == np.uint8
    assert (organ > 0)[expected > 0.51].all()
    assert not (organ > 0)[expected < 0.49].any()
    assert converted.label is not None
    assert ((array(converted.label) == 1) <= (organ == 1)).all()


def test_several_channels_lie_on_the_first_one_s_grid(raw: Path, make_image: Maker):
    """Dixon: fat on another grid; of a third image only the header differs, by less than a tenth of
    a voxel."""
    studies = []
    other = Grid(
        (9, 9, 6), (4.0, 4.0, 7.0), (-18.0, -25.0, 28.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    )
    for patient in ("anna", "ben"):
        study = make_image(patient)
        folder = study.images["CT"].parent
        fat = np.full((6, 9, 9), 40, np.int16)
        fat[:, :, 0] = 41  # beside the first channel's grid
        write_image(image_like(fat, other), folder / f"{patient}_fat.nii.gz")
        nudged = replace(GRID, origin=(10.05, -20.0, 30.0))
        write_image(image_like(TUMOUR, nudged), folder / f"{patient}_third.nii.gz")
        images = {"water": study.images["CT"]} | {
            key: folder / f"{patient}_{key}.nii.gz" for key in ("fat", "third")
        }
        studies.append(replace(study, images=images, masks={"water": study.masks["CT"]}))
    settings = ConversionSettings(
        pairs=False,
        modalities=("water", "fat", "third"),
        labels={"liver": (1, 2)},
        interpolation="linear",
    )
    folder = write(studies, settings)
    channels = [
        read_image(folder / "imagesTr" / f"P001_S1_000{channel}.nii.gz") for channel in range(3)
    ]
    assert all(
        Grid.from_image(channel).matches(Grid.from_image(channels[0]), tolerance=1e-6)
        for channel in channels
    )
    assert set(np.unique(array(channels[1]))) == {0, 40}
    np.testing.assert_array_equal(array(channels[2]), TUMOUR)
    assert json.loads((folder / "dataset.json").read_text())["channel_names"] == {
        "0": "water",
        "1": "fat",
        "2": "third",
    }


def test_a_missing_channel_is_named(make_image: Maker):
    settings = ConversionSettings(pairs=False, modalities=("CT", "fat"), labels={"liver": (1, 2)})
    with pytest.raises(InputError, match="has no fat image; the channels are CT, fat"):
        convert_study(make_image(), settings, PlainReader())


# ---------------------------------------------------------------------- intensities


@pytest.mark.parametrize(
    ("kind", "modality", "scheme"),
    [
        ("none", "MR", "NoNormalization"),
        ("none", "CT", "NoNormalization"),
        ("none", "fat_percent", "NoNormalization"),
        ("zscore", "MR", "ZScoreNormalization"),
        ("zscore", "CT", "ZScoreNormalization"),
        ("nnunet", "MR", "ZScoreNormalization"),
        ("nnunet", "CT", "CTNormalization"),
    ],
)
def test_what_nnunet_will_do_with_the_intensities(kind: str, modality: str, scheme: str):
    settings = ConversionSettings(
        pairs=False, modalities=(modality,), intensities=Intensities.of_kind(kind)
    )
    content = settings.dataset_json(1)
    name = content["channel_names"]["0"]
    assert get_normalization_scheme(name).__name__ == scheme
    found = Conversion.from_dataset_json(content)
    assert (found.intensities.kind, found.modalities) == (kind, (modality,))


@pytest.mark.parametrize("kind", ["none", "zscore"])
def test_grey_values_that_stay_are_those_of_the_file(raw: Path, studies: list[Study], kind: str):
    named = write(studies, replace(CT, labels={"liver": (1, 2)}))
    before = array(read_image(named / "imagesTr" / "P001_S1_0000.nii.gz"))
    settings = replace(CT, labels={"liver": (1, 2)}, intensities=Intensities.of_kind(kind))
    folder = write(studies, settings, overwrite=True)
    np.testing.assert_array_equal(
        array(read_image(folder / "imagesTr" / "P001_S1_0000.nii.gz")), before
    )
    for options in ({"pairs": True}, {"pairs": True, "preregister": True}):
        content = ConversionSettings(**options, intensities=settings.intensities).dataset_json(1)
        assert set(content["channel_names"].values()) == {settings.intensities.channel_name}


def test_a_dataset_from_before_none_meant_none_goes_on(raw: Path, studies: list[Study]):
    """Its manifest says "none", and nnU-Net normalises its channels by their names."""
    settings = replace(CT, labels={"liver": (1, 2)})
    folder = write(studies, settings)
    manifest = folder / "pairs.json"
    manifest.write_text(manifest.read_text().replace('"kind": "nnunet"', '"kind": "none"'))
    assert json.loads(manifest.read_text())["settings"]["intensities"] == {"kind": "none"}
    write(studies, settings, add=True)
    with pytest.raises(InputError, match="intensities"):
        write(studies, replace(settings, intensities=Intensities.of_kind("none")), add=True)


def test_intensities_by_the_liver(raw: Path, studies: list[Study]):
    folder = write(studies, replace(TUMOURS, intensities=Intensities.of_kind("organ")))
    image = array(read_image(folder / "imagesTr" / "P001_S1_0000.nii.gz"))
    low, high = np.percentile(image[LIVER], (2, 98))
    assert (low, high) == pytest.approx((0, 1), abs=1e-5)
    assert image.min() < -0.5  # fat and air are not clipped
    content = json.loads((folder / "dataset.json").read_text())
    assert content["channel_names"] == {"0": "noNorm", "1": "noNorm"}
    assert content["conversion"]["intensities"] == {"kind": "organ", "percentiles": [2.0, 98.0]}
    assert content["conversion"]["modalities"] == ["CT"]


def test_prediction_can_repeat_them(raw: Path, studies: list[Study]):
    """What dataset.json keeps is all that is needed."""
    folder = write(
        studies, replace(CT, labels={"liver": (1, 2)}, intensities=Intensities("dataset", (5, 95)))
    )
    again = Intensities.from_json(
        json.loads((folder / "dataset.json").read_text())["conversion"]["intensities"]
    )
    original = array(read_image(studies[1].images["CT"]))
    np.testing.assert_array_equal(
        again.apply(original), array(read_image(folder / "imagesTr" / "P002_S1_0000.nii.gz"))
    )


def test_the_dataset_s_range_is_that_of_all_training_images(raw: Path, studies: list[Study]):
    settings = replace(CT, labels={"liver": (1, 2)}, intensities=Intensities("dataset", (5, 95)))
    folder = write(studies, settings, hold_out=["carl"])
    (found,) = json.loads((folder / "dataset.json").read_text())["conversion"]["intensities"][
        "ranges"
    ]
    pooled = np.concatenate(
        [array(read_image(study.images["CT"])).ravel() for study in studies[:2]]
    )
    assert found == np.percentile(pooled, (5, 95), method="inverted_cdf").tolist()
    held_out = array(read_image(folder / "imagesTs" / "P003_S1_0000.nii.gz"))
    assert (held_out.min(), held_out.max()) == (0, 1)


def test_the_dataset_s_range_stays_when_cases_are_added(
    raw: Path, studies: list[Study], make_image: Maker
):
    settings = replace(CT, labels={"liver": (1, 2)}, intensities=Intensities("dataset"))
    folder = write(studies, settings)
    before = json.loads((folder / "dataset.json").read_text())["conversion"]["intensities"]
    bright = make_image("dora")
    write_image(
        image_like(array(read_image(bright.images["CT"])) + np.int16(500), GRID),
        bright.images["CT"],
    )
    write([bright], settings, add=True)
    assert json.loads((folder / "dataset.json").read_text())["conversion"]["intensities"] == before
    assert array(read_image(folder / "imagesTr" / "P004_S1_0000.nii.gz")).min() == 1
    write([*studies, bright], settings, overwrite=True)
    assert json.loads((folder / "dataset.json").read_text())["conversion"]["intensities"] != before


def test_the_dataset_s_range_needs_training_images(raw: Path, make_image: Maker):
    with pytest.raises(InputError, match="--intensities dataset is measured on training images"):
        write([make_image(mask=False)], replace(CT, intensities=Intensities("dataset")))


def test_processes_do_not_change_the_range(tmp_path: Path, studies: list[Study]):
    settings = replace(CT, intensities=Intensities("dataset"))
    jobs = [
        CaseJob(study, study.patient, False, settings, PlainReader(), tmp_path, tmp_path)
        for study in studies
    ]
    assert measure_ranges(jobs, (1, 99), 1) == measure_ranges(jobs, (1, 99), 2)


@pytest.mark.parametrize("kind", ["slice", "patient"])
def test_an_image_without_contrast_is_named(raw: Path, studies: list[Study], kind: str):
    values = np.full(LIVER.shape, 9, np.int16)
    values[0, 0, 0] = 10
    write_image(image_like(values, GRID), studies[2].images["CT"])
    with pytest.raises(
        SomeCasesFailed, match=r"carl: .*carl\.nii\.gz: has no contrast to normalise"
    ):
        write(studies, replace(CT, labels={"liver": (1, 2)}, intensities=Intensities(kind)))  # type: ignore[arg-type]


# ---------------------------------------------------------------------- raters


def test_further_raters_are_kept_beside_the_dataset(raw: Path, studies: list[Study]):
    folder = studies[0].images["CT"].parent
    write_image(image_like(np.roll(LIVER, 1, 1), GRID), folder / "anna_second.nii.gz")
    rated = replace(studies[0], raters={"rater 2": {"CT": folder / "anna_second.nii.gz"}})
    settings = replace(CT, labels={"liver": (1, 2)})
    dataset = write([rated, *studies[1:]], settings)
    path = dataset / "ratersTr" / "rater-2" / "P001_S1.nii.gz"
    np.testing.assert_array_equal(array(read_mask(path)), np.roll(LIVER, 1, 1))
    assert (
        Manifest.load(dataset).cases["P001_S1"].sources["rater rater 2 of CT"].path
        == "anna_second.nii.gz"
    )
    assert json.loads((dataset / "dataset.json").read_text())["numTraining"] == 3
    write(studies, settings, add=True)  # the second rater is withdrawn
    assert not path.exists()


def test_a_rater_of_another_image_is_refused(make_image: Maker):
    study = make_image()
    with pytest.raises(InputError, match="has no CT mask of rater bea, only MR"):
        convert_study(replace(study, raters={"bea": {"MR": study.masks["CT"]}}), CT, PlainReader())


# ---------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ()}, "modalities need different names, found none"),
        ({"modalities": ("MR", "MR")}, "modalities need different names, found MR, MR"),
        ({"pairs": True}, r"a pair has two images, not 1 \(CT\)"),
        ({"spacing": "native-t1"}, "spacing native-t1 is for pairs"),
        ({"preregister": True}, "--preregister is for pairs"),
        ({"intensities": Intensities.of_kind("organ")}, "and this dataset has none"),
        ({"organ": (0, 1)}, "0 is the background"),
        (
            {"pairs": True, "modalities": ("T1", "T2"), "organ": (1,)},
            "a liver mask as a channel is for single images",
        ),
        (
            {"pairs": True, "modalities": ("T1", "T2"), "spacing": "native"},
            "spacing native is for single images",
        ),
    ],
)
def test_settings_that_do_not_go_together(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        replace(CT, **options)
