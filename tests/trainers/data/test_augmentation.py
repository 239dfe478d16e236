"""The laws of the random numbers, and what moves with what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from scipy import ndimage, stats
from scipy.interpolate import make_interp_spline

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.data.augmentation import (
    Contrast,
    ElasticDeformation,
    Flips,
    Shift,
    displace,
    interpolate_spline,
    paper_transforms,
)
from nnunet_liver_ext.trainers.data.ordered_batches import temporary_seed

DRAWS = 10_000
OFF: dict[str, Any] = {
    "flip_probability": 0.0,
    "contrast_low": 1.0,
    "contrast_high": 1.0,
    "shift_sd": 0.0,
    "shift_range": 0.0,
    "elastic_sd_voxels": 0.0,
    "elastic_points": 8,
}
HANSCH = OFF | {
    "flip_probability": 0.5,
    "contrast_low": 0.75,
    "contrast_high": 1.25,
    "shift_sd": 0.25,
}
SAMPLE = (2, 4, 12, 10)


@pytest.fixture(autouse=True)
def seed():
    with temporary_seed(3):
        yield


def sample(shape: tuple[int, ...] = SAMPLE) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(5)
    return {
        "image": torch.from_numpy(rng.normal(2, 3, shape).astype(np.float32)),
        "segmentation": torch.from_numpy(rng.integers(-1, 4, (2, *shape[1:])).astype(np.int16)),
    }


def drawn(transform: Any, name: str, *, channels: int = 1) -> np.ndarray:
    image = torch.zeros(channels, 2, 2)
    return np.stack([transform.get_parameters(image=image)[name] for _ in range(DRAWS)])


# ---------------------------------------------------------------- which are on


def test_all_off_is_no_transform():
    assert paper_transforms(**OFF) == []


@pytest.mark.parametrize(
    ("numbers", "kinds"),
    [
        ({"flip_probability": 0.5}, [Flips]),
        ({"contrast_low": 0.75}, [Contrast]),
        ({"contrast_high": 1.25}, [Contrast]),
        ({"shift_sd": 0.25}, [Shift]),
        ({"shift_range": 0.1}, [Shift]),
        ({"elastic_sd_voxels": 8.0}, [ElasticDeformation]),
        (HANSCH | {"elastic_sd_voxels": 8.0}, [ElasticDeformation, Flips, Contrast, Shift]),
    ],
)
def test_each_number_switches_its_transform_on(numbers: dict, kinds: list):
    assert [type(transform) for transform in paper_transforms(**OFF | numbers)] == kinds


def test_numbers_that_go_together_wrongly():
    with pytest.raises(
        InputError, match=r"contrast_low \(1.3\) must not exceed contrast_high \(1\)"
    ):
        paper_transforms(**OFF | {"contrast_low": 1.3})
    with pytest.raises(InputError, match="elastic_points must be at least 2, found 1"):
        paper_transforms(**OFF | {"elastic_sd_voxels": 1.0, "elastic_points": 1})


# ---------------------------------------------------------------- laws


def test_the_contrasts_factor_is_uniform():
    factors = drawn(Contrast(0.75, 1.25), "factors").ravel()
    assert 0.75 <= factors.min() < 0.751
    assert 1.249 < factors.max() < 1.25
    assert stats.kstest(factors, stats.uniform(0.75, 0.5).cdf).pvalue > 0.01
    assert factors.mean() == pytest.approx(1, abs=4 * 0.5 / 12**0.5 / DRAWS**0.5)


@pytest.mark.parametrize(("sd", "reach"), [(0.25, 0.0), (0.0, 0.4)])
def test_the_shift_is_normal_or_uniform(sd: float, reach: float):
    shifts = drawn(Shift(sd, reach), "shifts").ravel()
    law = stats.norm(0, sd) if sd else stats.uniform(-reach, 2 * reach)
    assert stats.kstest(shifts, law.cdf).pvalue > 0.01
    assert np.abs(shifts).max() > (0.75 if sd else 0.399)


def test_both_parts_of_the_shift_add_up():
    shifts = drawn(Shift(0.25, 0.4), "shifts").ravel()
    assert shifts.var() == pytest.approx(0.25**2 + 0.4**2 / 3, rel=0.06)
    assert shifts.mean() == pytest.approx(0, abs=4 * shifts.std() / DRAWS**0.5)


def test_channels_are_drawn_independently():
    for transform, name in ((Contrast(0.75, 1.25), "factors"), (Shift(0.25, 0.0), "shifts")):
        first, second = drawn(transform, name, channels=2).T
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / DRAWS**0.5


@pytest.mark.parametrize("probability", [0.5, 0.1])
def test_each_axis_flips_with_its_own_probability(probability: float):
    transform, image = Flips(probability), torch.zeros(1, 2, 2, 2)
    flipped = np.zeros((DRAWS, 3))
    for draw in range(DRAWS):
        flipped[draw, [axis - 1 for axis in transform.get_parameters(image=image)["axes"]]] = 1
    sigma = (probability * (1 - probability) / DRAWS) ** 0.5
    np.testing.assert_allclose(flipped.mean(0), probability, atol=4 * sigma)
    assert np.abs(np.corrcoef(flipped.T) - np.eye(3)).max() < 4 / DRAWS**0.5


# ---------------------------------------------------------------- what they do


def test_flips_turn_image_and_all_segmentations_alike():
    before = sample()
    after = Flips(1.0)(**sample())
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[name], tensor.numpy()[:, ::-1, ::-1, ::-1])
    unchanged = Flips(0.0)(**sample())
    assert all(torch.equal(unchanged[name], tensor) for name, tensor in before.items())


def test_contrast_stretches_about_each_channels_mean():
    before, transform = sample(), Contrast(0.5, 2.0)
    image = transform._apply_to_image(before["image"], factors=np.array([0.5, 2.0]))
    for channel, factor in enumerate((0.5, 2.0)):
        old, new = before["image"][channel].numpy(), image[channel].numpy()
        assert new.mean() == pytest.approx(old.mean(), abs=1e-5)
        np.testing.assert_allclose(new - new.mean(), factor * (old - old.mean()), atol=1e-5)


def test_shift_adds_one_number_to_each_channel():
    before = sample()
    image = Shift(1.0, 0.0)(**sample())["image"]
    difference = (image - before["image"]).flatten(1)
    assert difference.std(1).max() < 1e-6
    assert len(set(difference[:, 0].tolist())) == 2


def test_intensities_of_a_liver_mask_never_change():
    """The mask is a segmentation channel, here the second."""
    before = sample()
    after = sample()
    for transform in paper_transforms(**HANSCH | {"flip_probability": 0.0}):
        after = transform(**after)
    assert torch.equal(after["segmentation"], before["segmentation"])
    assert not torch.allclose(after["image"], before["image"], atol=0.01)


def test_what_is_given_is_not_changed_in_place():
    given = sample()
    for transform in paper_transforms(**HANSCH | {"elastic_sd_voxels": 1.0}):
        transform(**given)
    assert all(torch.equal(given[name], tensor) for name, tensor in sample().items())


# ---------------------------------------------------------------- elastic deformation


def test_control_points_are_displaced_by_sigma():
    transform = ElasticDeformation(8.0, 8)
    fields = np.stack(
        [
            transform.get_parameters(image=torch.zeros(1, 71, 36))["displacement_2YX"]
            for _ in range(500)
        ]
    )
    at_points = fields[:, :, ::10, ::5]
    assert at_points.shape == (500, 2, 8, 8)
    assert stats.kstest(at_points.ravel(), stats.norm(0, 8).cdf).pvalue > 0.01
    np.testing.assert_allclose(at_points.std(0), 8, rtol=0.2)
    assert abs(np.corrcoef(at_points[:, 0, 3, 3], at_points[:, 1, 3, 3])[0, 1]) < 0.2
    assert abs(np.corrcoef(at_points[:, 0, 3, 3], at_points[:, 0, 3, 4])[0, 1]) < 0.2


def test_between_control_points_is_the_natural_bicubic_spline():
    control = np.random.default_rng(0).normal(size=(2, 5, 5))
    found = interpolate_spline(control, (33, 21))
    np.testing.assert_allclose(found[:, ::8, ::5], control, atol=1e-12)
    rows = make_interp_spline(np.linspace(0, 32, 5), control, k=3, axis=1, bc_type="natural")(
        np.arange(33)
    )
    expected = make_interp_spline(np.linspace(0, 20, 5), rows, k=3, axis=2, bc_type="natural")(
        np.arange(21)
    )
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_displacements_on_a_plane_stay_on_it():
    y, x = np.meshgrid(np.linspace(0, 1, 4), np.linspace(0, 1, 4), indexing="ij")
    found = interpolate_spline(np.stack([y, 2 - 3 * x]), (16, 31))
    y, x = np.meshgrid(np.linspace(0, 1, 16), np.linspace(0, 1, 31), indexing="ij")
    np.testing.assert_allclose(found, np.stack([y, 2 - 3 * x]), atol=1e-12)


def test_without_displacement_nothing_changes():
    before = sample()
    after = ElasticDeformation(0.0, 8)(**sample())
    np.testing.assert_allclose(after["image"], before["image"], atol=1e-5)
    assert torch.equal(after["segmentation"], before["segmentation"])
    assert after["segmentation"].dtype == torch.int16


def test_a_displacement_fetches_from_where_it_points():
    """By whole voxels, one down and two to the left: rows come from the next row, columns from two
    before; edges repeat."""
    image = torch.arange(30.0).reshape(1, 5, 6)
    field = np.stack([np.full((5, 6), 1.0), np.full((5, 6), -2.0)])
    rows, columns = [1, 2, 3, 4, 4], [0, 0, 0, 1, 2, 3]
    expected = image[:, rows][:, :, columns]
    torch.testing.assert_close(displace(image, field, nearest=False), expected, atol=1e-4, rtol=0)
    labels = image.to(torch.int16)
    assert torch.equal(displace(labels, field, nearest=True), expected.to(torch.int16))


def test_interpolation_is_scipys():
    rng = np.random.default_rng(1)
    image, labels = rng.normal(size=(20, 24)).astype(np.float32), rng.integers(-1, 4, (20, 24))
    field = interpolate_spline(2 * rng.normal(size=(2, 5, 5)), (20, 24))
    places = np.stack(np.meshgrid(np.arange(20), np.arange(24), indexing="ij")) + field
    linear = ndimage.map_coordinates(image, places, order=1, mode="nearest")
    nearest = ndimage.map_coordinates(labels, places, order=0, mode="nearest")
    np.testing.assert_allclose(
        displace(torch.from_numpy(image)[None], field, nearest=False)[0], linear, atol=1e-4
    )
    np.testing.assert_array_equal(
        displace(torch.from_numpy(labels)[None], field, nearest=True)[0], nearest
    )


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (1, 64, 64)])
def test_a_bright_square_and_its_labels_stay_together(shape: tuple[int, ...]):
    mask = torch.zeros(shape)
    mask[..., 20:44, 16:40] = 1
    segmentation = torch.cat([mask, 2 * mask]).to(torch.int16)
    moved = ElasticDeformation(3.0, 8)(image=mask.clone(), segmentation=segmentation)
    assert not torch.equal(moved["segmentation"], segmentation)
    assert torch.equal(moved["segmentation"][1], 2 * moved["segmentation"][0])
    bright, labelled = moved["image"][0], moved["segmentation"][0]
    assert (
        bright[labelled == 1] >= 0.25 - 1e-4
    ).all()  # a voxel's own share of the linear interpolation
    assert (bright[labelled == 0] <= 0.75 + 1e-4).all()
    assert ((bright > 0.75 + 1e-4) & (labelled == 0)).sum() == 0
    disagreement = ((bright > 0.5) != (labelled == 1)).float().mean() / labelled.float().mean()
    assert disagreement < 0.05


def test_all_slices_and_channels_move_alike():
    one = torch.rand(1, 1, 40, 32)
    moved = ElasticDeformation(3.0, 6)(image=one.expand(2, 5, 40, 32).clone())["image"]
    assert not torch.allclose(moved[0, 0], one[0, 0], atol=0.1)
    assert torch.equal(moved, moved[:1, :1].expand(2, 5, 40, 32))


# ---------------------------------------------------------------- with nnU-Net's


@pytest.mark.parametrize("shape", [(1, 8, 24, 24), (1, 24, 24)])
def test_they_go_before_nnunets_last_transforms(shape: tuple[int, ...]):
    scales = [[1.0] * (len(shape) - 1), [0.5] * (len(shape) - 1)]
    last = nnUNetTrainer.get_validation_transforms(
        scales, is_cascaded=False, foreground_labels=[1, 2]
    )
    batch = sample(shape)
    for transform in paper_transforms(**HANSCH | {"elastic_sd_voxels": 1.0}):
        batch = transform(**batch)
    batch = last(**batch)
    assert batch["image"].shape == shape
    assert [tuple(target.shape) for target in batch["segmentation"]] == [
        (2, *shape[1:]),
        (2, *[n // 2 for n in shape[1:]]),
    ]
    assert all(set(target.unique().tolist()) == {0, 1, 2, 3} for target in batch["segmentation"])


def test_the_same_seed_gives_the_same_sample():
    def once(seed: int) -> dict:
        batch = sample()
        with temporary_seed(seed):
            for transform in paper_transforms(
                **HANSCH | {"elastic_sd_voxels": 1.0, "shift_range": 0.1}
            ):
                batch = transform(**batch)
        return batch

    assert all(torch.equal(a, b) for a, b in zip(once(1).values(), once(1).values(), strict=True))
    assert not torch.equal(once(1)["image"], once(2)["image"])
