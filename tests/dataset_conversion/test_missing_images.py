"""Pairs that lack an image or a mask."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.convert_study import convert_study
from nnunet_liver_ext.dataset_conversion.image_reader import PlainReader
from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset
from nnunet_liver_ext.dataset_json.incomplete import IncompleteCases
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.pairing import decode_pair
from nnunet_liver_ext.space.common_grid import common_grid, image_on_grid
from nnunet_liver_ext.space.images import array, image_like, read_image, read_mask, write_image
from nnunet_liver_ext.space.intensities import Intensities
from nnunet_liver_ext.space.mask_resampling import mask_on_grid
from nnunet_liver_ext.studies.study import Study
from tests.dataset_conversion.conftest import COARSE, T1_GRID, ball

SETTINGS = ConversionSettings(spacing=COARSE)


def only(study: Study, images: str, masks: str) -> Study:
    """The study with these of its images and masks."""
    return replace(
        study,
        images={name: path for name, path in study.images.items() if name in images.split()},
        masks={name: path for name, path in study.masks.items() if name in masks.split()},
    )


@pytest.mark.parametrize(("modality", "channel"), [("T1", 0), ("T2", 1)])
def test_a_missing_image_is_zeros_and_its_class_background(make_study, modality: str, channel: int):
    study = only(make_study(), modality, modality)
    converted = convert_study(study, SETTINGS, PlainReader())
    image = read_image(study.images[modality])
    assert converted.grid == common_grid([image], COARSE)
    assert set(converted.native_grids) == {modality}
    np.testing.assert_array_equal(
        array(converted.channels[channel]), array(image_on_grid(image, converted.grid))
    )
    assert not array(converted.channels[1 - channel]).any()
    assert converted.label is not None
    masks = decode_pair(array(converted.label))
    expected = mask_on_grid(read_mask(study.masks[modality]), converted.grid, 2)
    np.testing.assert_array_equal(masks[channel], array(expected))
    assert not masks[1 - channel].any()


def test_a_missing_mask_is_background_beside_both_images(make_study):
    study = make_study()
    whole, half = (
        convert_study(one, SETTINGS, PlainReader()) for one in (study, only(study, "T1 T2", "T2"))
    )
    for channel in range(2):
        np.testing.assert_array_equal(array(half.channels[channel]), array(whole.channels[channel]))
    assert whole.label is not None
    assert half.label is not None
    first, second = decode_pair(array(half.label))
    assert not first.any()
    np.testing.assert_array_equal(second, decode_pair(array(whole.label))[1])


def test_dataset_json_lists_incomplete_cases_with_a_mask(raw: Path, make_study):
    studies = [make_study(name, seed=seed) for seed, name in enumerate("abcde")]
    asked = [
        studies[0],
        only(studies[1], "T1", "T1"),
        only(studies[2], "T1 T2", "T2"),
        only(studies[3], "T2", ""),  # nothing to learn from: a case to predict
        only(studies[4], "T2", "T2"),
    ]
    folder = write_dataset(
        asked, dataset_id=501, name="Test", settings=SETTINGS, folds=2, processes=1, hold_out=["e"]
    )
    content = json.loads((folder / "dataset.json").read_text())
    assert content["incomplete"] == {
        "P002_S1": {"images": ["T1"], "masks": ["T1"]},
        "P003_S1": {"images": ["T1", "T2"], "masks": ["T2"]},
        "P005_S1": {"images": ["T2"], "masks": ["T2"]},  # of the test set
    }
    incomplete = IncompleteCases.from_dataset_json(content)
    assert not incomplete.has_mask("P002_S1", "T2")
    assert incomplete.has_mask("P003_S1", "T2")
    cases = Manifest.load(folder).cases
    assert {name: case.folder for name, case in cases.items()} == {
        "P001_S1": "Tr", "P002_S1": "Tr", "P003_S1": "Tr", "P004_S1": "Ts", "P005_S1": "Ts"
    }  # fmt: skip
    assert set(cases["P005_S1"].native_grids) == {"T2"}


def test_a_dataset_of_complete_pairs_has_no_such_entry(raw: Path, make_study):
    studies = [make_study(name) for name in "ab"]
    folder = write_dataset(
        studies, dataset_id=501, name="Test", settings=SETTINGS, folds=2, processes=1
    )
    assert "incomplete" not in json.loads((folder / "dataset.json").read_text())


def test_a_case_becomes_complete_when_its_mask_is_added(raw: Path, make_study):
    studies = [make_study(name) for name in "ab"]
    options = {"dataset_id": 501, "name": "Test", "settings": SETTINGS, "folds": 2, "processes": 1}
    folder = write_dataset([studies[0], only(studies[1], "T1 T2", "T1")], **options)
    assert set(json.loads((folder / "dataset.json").read_text())["incomplete"]) == {"P002_S1"}
    write_dataset(studies, **options, add=True)
    assert "incomplete" not in json.loads((folder / "dataset.json").read_text())


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        ("T1", "T1", "has no T2 image; a complete pair"),
        ("T2", "", "has no T1 image"),
        ("T1 T2", "T1", "has no T2 mask"),
    ],
)
def test_incomplete_studies_can_be_refused(make_study, images: str, masks: str, message: str):
    with pytest.raises(InputError, match=message):
        convert_study(
            only(make_study(), images, masks), replace(SETTINGS, incomplete=False), PlainReader()
        )


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        ("T2", "T2", "has no T1 image; pre-registration needs T1 and T2"),
        ("T1 T2", "T1", "has no T2 mask"),
    ],
)
def test_pre_registration_needs_both_images_and_the_mask_of_t2(
    make_study, images: str, masks: str, message: str
):
    with pytest.raises(InputError, match=message):
        convert_study(
            only(make_study(), images, masks), replace(SETTINGS, preregister=True), PlainReader()
        )


def test_a_missing_image_stays_zeros_under_any_intensities(make_study):
    settings = replace(SETTINGS, intensities=Intensities("patient"))
    converted = convert_study(only(make_study(), "T2", "T2"), settings, PlainReader())
    assert not array(converted.channels[0]).any()
    assert (array(converted.channels[1]).min(), array(converted.channels[1]).max()) == (0, 1)
    assert settings.dataset_json(1)["channel_names"] == {"0": "noNorm", "1": "noNorm"}
    assert settings.dataset_json(1)["pair"]["modalities"] == ["T1", "T2"]


def test_a_second_rater_of_one_image(make_study):
    study = make_study()
    path = study.images["T1"].parent / "bea.nii.gz"
    write_image(image_like(ball(T1_GRID, (0, 0, 0), 9), T1_GRID), path)
    converted = convert_study(replace(study, raters={"bea": {"T1": path}}), SETTINGS, PlainReader())
    first, second = decode_pair(array(converted.raters["bea"]))
    np.testing.assert_array_equal(first, array(mask_on_grid(read_mask(path), converted.grid, 2)))
    assert not second.any()
