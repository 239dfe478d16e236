import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import Grid, array, image_like, read_image, read_mask
from nnunet_liver_ext.space.preregistration import preregister_pair, register
from tests.dataset_conversion.conftest import AXIAL, COARSE, T2_GRID, ball

CONVERSION = {"spacing": [4.0, 4.0, 4.0], "interpolation": "linear"}
SHIFT_MM = np.array([0.0, 0.0, 12.0])


def body(grid: Grid, shift_mm: np.ndarray, *, inverted: bool = False) -> sitk.Image:
    """Three organs of different brightness in a body, moved by a shift; optionally with inverted
    contrast."""
    values = np.zeros(grid.size[::-1], np.float32)
    for centre, radius, value in [
        ((0, 0, 0), 70, 100),
        ((-25, 5, 5), 30, 180),
        ((30, 10, 0), 16, 50),
        ((5, 35, -10), 12, 240),
    ]:
        values[ball(grid, tuple(np.array(centre) + shift_mm), radius)] = (
            300 - value if inverted else value
        )
    return image_like(values, grid)


@pytest.fixture(scope="module")
def pair() -> tuple[sitk.Image, sitk.Image]:
    """T1, breathed 12 mm further down than T2, with the contrast inverted and another grid."""
    t1_grid = Grid((48, 48, 40), (4.0, 4.0, 5.0), (-94.0, -94.0, -98.0), AXIAL)
    t2_grid = Grid((64, 60, 30), (3.0, 3.2, 6.0), (-95.0, -94.0, -88.0), AXIAL)
    return body(t1_grid, SHIFT_MM, inverted=True), body(t2_grid, np.zeros(3))


def test_a_known_shift_is_found_across_contrasts_and_repeats_exactly(pair):
    moving, fixed = pair
    transform = register(fixed, moving)
    for point in [(-25.0, 5.0, 5.0), (30.0, 10.0, 0.0), (0.0, 0.0, -20.0)]:
        moved = np.array(transform.TransformPoint(point)) - point
        assert np.linalg.norm(moved - SHIFT_MM) < 3.0
    again = register(fixed, moving)
    assert again.TransformPoint((3.0, 4.0, 5.0)) == transform.TransformPoint((3.0, 4.0, 5.0))


def test_the_warped_image_lies_on_the_fixed_one(pair):
    moving, fixed = pair
    target, warped, _ = preregister_pair(moving, fixed, CONVERSION)
    assert Grid.from_image(warped).matches(Grid.from_image(target))
    liver = ball(Grid.from_image(target), (-25, 5, 5), 26)
    assert np.median(array(target)[liver]) == pytest.approx(180)
    assert np.mean(np.abs(array(warped)[liver] - 120) < 20) > 0.97
    unregistered = array(
        sitk.Resample(moving, target, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    )
    assert np.mean(np.abs(unregistered[liver] - 120) < 20) < 0.9


def test_images_that_do_not_overlap_are_refused(pair):
    moving, fixed = pair
    far = sitk.Image(fixed)
    far.SetOrigin((2000.0, 0.0, 0.0))
    with pytest.raises(InputError, match="do not overlap"):
        preregister_pair(moving, far, CONVERSION)


def test_a_preregistered_dataset_has_two_channels_the_labels_of_t2_and_its_transforms(
    raw: Path, make_study
):
    studies = [make_study(patient, seed=seed) for seed, patient in enumerate(["anna", "ben"])]
    for study in studies:
        study.masks["T1"].unlink()  # not needed
        del study.masks["T1"]
    settings = ConversionSettings(spacing=COARSE, preregister=True)
    folder = write_dataset(
        studies, dataset_id=502, name="Warped", settings=settings, folds=2, processes=1
    )
    content = json.loads((folder / "dataset.json").read_text())
    assert content["channel_names"] == {"0": "T2", "1": "T1 warped"}
    assert content["labels"] == {"background": 0, "liver": 1}
    assert content["preregistered"] == {"fixed": "T2", "moving": "T1"}
    assert content["conversion"]["preregistered"] is True
    assert "pair" not in content
    channels = [
        read_image(folder / "imagesTr" / f"P001_S1_{channel:04d}.nii.gz") for channel in range(2)
    ]
    label = read_mask(folder / "labelsTr" / "P001_S1.nii.gz")
    assert Grid.from_image(channels[0]).matches(Grid.from_image(channels[1]))
    assert Grid.from_image(channels[0]).matches(Grid.from_image(label))
    assert set(np.unique(array(label))) == {0, 1}
    volume = array(label).sum() * np.prod(COARSE)
    truth = array(read_mask(studies[0].masks["T2"])).sum() * np.prod(T2_GRID.spacing)
    assert volume == pytest.approx(truth, rel=0.2)
    again = sitk.Resample(
        sitk.Cast(read_image(studies[0].images["T1"]), sitk.sitkFloat32),
        channels[0],
        sitk.ReadTransform(str(folder / "transforms" / "P001_S1.h5")),
        sitk.sitkLinear,
        0.0,
    )
    np.testing.assert_allclose(array(again), array(channels[1]), atol=1e-3)
