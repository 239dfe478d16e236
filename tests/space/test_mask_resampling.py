"""Masks on other grids: place, volume and shape against ellipsoids whose truth is known."""

import numpy as np
import pytest

from nnunet_liver_ext.space.images import Grid, array, image_like
from nnunet_liver_ext.space.mask_resampling import mask_on_grid, signed_depth
from tests.dataset_conversion.conftest import AXIAL, T1_GRID, T2_GRID, ball
from tests.space.test_common_grid import turned

LIVER = (np.array([-20.0, 5.0, 10.0]), np.array([65.0, 55.0, 60.0]))
KIDNEY = (np.array([75.0, 10.0, -20.0]), np.array([27.0, 25.0, 50.0]))
ORGANS = {1: LIVER, 2: KIDNEY}  # centre and half axes in mm
FINE, COMMON, THICK = (1.1, 1.1, 3.0), (1.5, 1.5, 3.0), (1.2, 1.2, 5.5)


def random_grid(spacing, tilt: float, rng: np.random.Generator) -> Grid:
    """A grid around all organs with an origin between voxels."""
    axes = np.array(turned(rng.uniform(-tilt, tilt, 3))).reshape(3, 3)
    size = np.ceil(np.array([230, 160, 170]) / spacing).astype(int)
    middle = np.array([10.0, 5, 5]) + axes @ (rng.uniform(-0.5, 0.5, 3) * spacing)
    origin = middle - axes @ ((size - 1) / 2 * spacing)
    return Grid(tuple(size.tolist()), spacing, tuple(origin.tolist()), tuple(axes.ravel().tolist()))


def points(grid: Grid) -> np.ndarray:
    """Voxels' centres in mm, (z, y, x, 3)."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.size[::-1]), indexing="ij"), -1)[..., ::-1]
    return index @ grid.steps_mm.T + np.array(grid.origin)


def organs_on(grid: Grid) -> np.ndarray:
    labels = np.zeros(grid.size[::-1], np.uint8)
    where = points(grid)
    for label, (centre, half_axes) in ORGANS.items():
        labels[(((where - centre) / half_axes) ** 2).sum(-1) <= 1] = label
    return labels


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


@pytest.mark.parametrize("tilt", [0, 0.02, 0.3])
@pytest.mark.parametrize(("spacing", "other"), [(FINE, COMMON), (COMMON, FINE), (THICK, THICK)])
def test_every_class_keeps_its_place_volume_and_shape(spacing, other, tilt):
    rng = np.random.default_rng(7)
    own, grid = random_grid(spacing, tilt, rng), random_grid(other, tilt, rng)
    labels, truth, where = organs_on(own), organs_on(grid), points(grid)
    moved = array(mask_on_grid(image_like(labels, own), grid, 3))
    for label, (centre, half_axes) in ORGANS.items():
        shift = np.linalg.solve(own.steps_mm, where[moved == label].mean(0) - centre)
        assert np.abs(shift).max() < 0.1
        volume = np.count_nonzero(moved == label) * np.prod(other)
        assert volume == pytest.approx(4 / 3 * np.pi * np.prod(half_axes), rel=0.005)
        before = np.count_nonzero(labels == label) * np.prod(spacing)
        assert volume == pytest.approx(before, rel=0.002)
        assert dice(moved == label, truth == label) > 0.99


@pytest.mark.parametrize("spacing", [COMMON, THICK])
def test_a_mask_does_not_follow_the_slices_half_a_slice_apart(spacing):
    """The worst case of a decision at one half: then every voxel moves by half a slice."""
    rng = np.random.default_rng(0)
    own = random_grid(spacing, 0, rng)
    for shift in (0.2, 0.5, 0.8):
        origin = (*own.origin[:2], own.origin[2] + shift * spacing[2])
        grid = Grid(own.size, spacing, origin, own.direction)
        moved = array(mask_on_grid(image_like(organs_on(own), own), grid, 3))
        for label, (centre, _) in ORGANS.items():
            z = points(grid)[moved == label].mean(0)[2]
            assert z == pytest.approx(centre[2], abs=0.1 * spacing[2])


def test_there_and_back_the_masks_stay():
    """Where the voxels are halved or stay, and between grids of about the same voxels."""
    rng = np.random.default_rng(3)
    for spacing, other, least in (
        (COMMON, (0.75, 0.75, 1.5), 0.995),
        (COMMON, FINE, 0.995),
        (FINE, COMMON, 0.992),
    ):
        own, grid = random_grid(spacing, 0, rng), random_grid(other, 0, rng)
        labels = organs_on(own)
        there = mask_on_grid(image_like(labels, own), grid, 3)
        back = array(mask_on_grid(there, own, 3))
        for label in ORGANS:
            assert dice(back == label, labels == label) > least


def test_voxels_that_both_grids_have_keep_their_labels():
    """Flipped, turned, cut and wider: nothing is interpolated, not even of noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (7, 9, 11)).astype(np.uint8)
    own = Grid((11, 9, 7), (1.5, 1.2, 3.0), (10.0, -20.0, 30.0), AXIAL)
    other = Grid(  # x is z backwards, y is x, z is y, from two voxels outside on
        (7, 15, 9),
        (3.0, 1.5, 1.2),
        (10.0 - 2 * 1.5, -20.0, 30.0 + 6 * 3.0),
        (0, 1, 0, 0, 0, 1, -1, 0, 0),
    )
    moved = array(mask_on_grid(image_like(labels, own), other, 5))
    np.testing.assert_array_equal(moved[:, 2:13], labels.transpose(1, 2, 0)[..., ::-1])
    assert not moved[:, :2].any()
    assert not moved[:, 13:].any()


def test_classes_that_touch_have_no_gap():
    """A lesion within the liver and one at its border: the liver's outline is that of both."""
    rng = np.random.default_rng(5)
    own, grid = random_grid(THICK, 0.1, rng), random_grid(COMMON, 0.1, rng)
    lesions = ((-20.0, 5, 10), 20.0), ((-20.0, 55, 10), 16.0)

    def labels_on(one: Grid) -> np.ndarray:
        labels = (organs_on(one) == 1).astype(np.uint8)
        for centre, radius in lesions:
            near = np.linalg.norm(points(one) - centre, axis=-1) <= radius
            labels[near & (labels == 1)] = 2
        return labels

    moved, truth = array(mask_on_grid(image_like(labels_on(own), own), grid, 3)), labels_on(grid)
    whole = array(mask_on_grid(image_like((labels_on(own) > 0).astype(np.uint8), own), grid, 2)) > 0
    assert dice(moved > 0, whole) > 0.9995
    deep = np.linalg.norm((points(grid) - LIVER[0]) / LIVER[1], axis=-1) < 0.9
    assert (moved[deep] > 0).all()
    assert dice(moved == 2, truth == 2) > 0.96
    assert np.count_nonzero(moved == 2) == pytest.approx(np.count_nonzero(truth == 2), rel=0.02)


def test_a_plane_has_its_depth():
    """A region below a plane, of any slope: near it the depth is the distance to the plane."""
    rng = np.random.default_rng(1)
    grid = Grid((40, 40, 30), (1.2, 1.2, 3.0), (0.0, 0.0, 0.0), AXIAL)
    inner = (slice(4, -4), slice(6, -6), slice(6, -6))
    for _ in range(5):
        normal = rng.normal(size=3)
        normal /= np.linalg.norm(normal)
        middle = points(grid).reshape(-1, 3).mean(0) + rng.uniform(-1, 1, 3)
        distance = (middle - points(grid)) @ normal
        depth = signed_depth(distance > 0, grid.spacing_mm)
        beside = np.abs(distance[inner]) < 0.6
        error = (depth - distance)[inner][beside]
        assert abs(error.mean()) < 0.05
        assert error.std() < 0.35
    assert (np.sign(depth) == np.where(distance > 0, 1, -1)).all()


def test_what_the_image_cuts_off_is_not_rounded():
    """A column through the whole image: flat where the image ends, and as thick as its voxels."""
    own = Grid((20, 20, 6), (1.0, 1.0, 5.0), (0.0, 0.0, 0.0), AXIAL)
    labels = np.zeros((6, 20, 20), np.uint8)
    labels[:, 5:15, 5:15] = 1
    grid = Grid((20, 20, 40), (1.0, 1.0, 1.0), (0.0, 0.0, -5.0), AXIAL)
    moved = array(mask_on_grid(image_like(labels, own), grid, 2))
    z = np.arange(40) - 5.0
    inside = (z >= -2.5) & (z < 27.5)
    np.testing.assert_array_equal(moved[inside], np.broadcast_to(labels[0], (inside.sum(), 20, 20)))
    assert not moved[~inside].any()


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 5, 5), (2, 2, 2)])
def test_small_lesions_are_not_lost(size):
    """One voxel, one slice, a few voxels: they keep their volume."""
    own = Grid((15, 15, 9), (1.5, 1.5, 3.0), (0.0, 0.0, 0.0), AXIAL)
    labels = np.zeros((9, 15, 15), np.uint8)
    labels[tuple(slice(4, 4 + n) for n in size)] = 1
    grid = Grid((80, 80, 80), (0.3, 0.3, 0.3), (-1.0, -1.0, 0.1), AXIAL)
    moved = mask_on_grid(image_like(labels, own), grid, 2)
    volume = np.count_nonzero(array(moved)) * 0.3**3
    assert volume == pytest.approx(labels.sum() * 6.75, rel=0.01)


def test_nothing_everything_and_elsewhere():
    own = Grid((10, 10, 1), (1.0, 1.0, 5.0), (0.0, 0.0, 0.0), AXIAL)
    grid = Grid((10, 10, 3), (1.0, 1.0, 2.0), (0.3, 0.0, -2.0), AXIAL)
    everything = image_like(np.full((1, 10, 10), 2, np.uint8), own)
    assert (array(mask_on_grid(everything, grid, 3))[:, :, :9] == 2).all()
    nothing = image_like(np.zeros((1, 10, 10), np.uint8), own)
    assert not array(mask_on_grid(nothing, grid, 3)).any()
    elsewhere = Grid((10, 10, 3), (1.0, 1.0, 2.0), (100.3, 0.0, -2.0), AXIAL)
    assert not array(mask_on_grid(everything, elsewhere, 3)).any()


def test_masks_are_decided_at_one_half():
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[:, :, 2:] = 1
    grid = Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), AXIAL)
    fine = Grid((31, 1, 1), (0.1, 1.0, 1.0), (0.0, 1.0, 1.0), AXIAL)
    line = array(mask_on_grid(image_like(mask, grid), fine, 2))[0, 0]
    np.testing.assert_array_equal(
        line, np.arange(31) > 15
    )  # the edge is half-way between voxels 1 and 2; a tie is background


def test_labels_are_interpolated_each_by_itself():
    """Between 1 and 3 there is no 2, which interpolating the numbers would give."""
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[:, :, :2], mask[:, :, 2:] = 1, 3
    grid = Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), AXIAL)
    fine = Grid((31, 1, 1), (0.1, 1.0, 1.0), (0.0, 1.0, 1.0), AXIAL)
    line = array(mask_on_grid(image_like(mask, grid), fine, 4))[0, 0]
    assert set(line) == {1, 3}
    assert (line[:15] == 1).all()
    assert (line[16:] == 3).all()


def test_a_mask_keeps_its_volume_and_place():
    fine = Grid((44, 44, 22), (1.5, 1.5, 3.0), (-31.0, -30.0, -28.0), AXIAL)
    centre = (3.0, -4.0, 1.0)
    moved = array(mask_on_grid(image_like(ball(T1_GRID, centre), T1_GRID), fine, 2)) > 0
    truth = ball(fine, centre)
    assert 2 * (moved & truth).sum() / (moved.sum() + truth.sum()) > 0.95
    assert not array(mask_on_grid(image_like(ball(T1_GRID, centre), T1_GRID), T2_GRID, 2))[0].any()
