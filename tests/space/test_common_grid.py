import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.common_grid import (
    common_grid,
    image_on_grid,
    parse_spacing,
)
from nnunet_liver_ext.space.images import Grid, array, image_like
from nnunet_liver_ext.space.mask_resampling import mask_on_grid
from tests.dataset_conversion.conftest import AXIAL, T1_GRID, T2_GRID


def on(grid: Grid, values=None) -> sitk.Image:
    return image_like(np.zeros(grid.size[::-1], np.float32) if values is None else values, grid)


def turned(angles) -> tuple[float, ...]:
    """Axes turned about x, then y, then z."""
    turn = sitk.Euler3DTransform((0, 0, 0), *(float(angle) for angle in angles))
    return turn.GetMatrix()


def box(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Outer corners of the voxels in mm; for grids along the axes."""
    half = np.array(grid.spacing) / 2
    return grid.corners().min(0) - half, grid.corners().max(0) + half


def test_the_grid_covers_both_fields_of_view_and_no_more():
    grid = common_grid([on(T1_GRID), on(T2_GRID)], (1.5, 1.5, 3.0))
    assert grid.spacing == (1.5, 1.5, 3.0)
    assert grid.direction == AXIAL
    (low, high), boxes = box(grid), [box(T1_GRID), box(T2_GRID)]
    covered = np.min([b[0] for b in boxes], axis=0), np.max([b[1] for b in boxes], axis=0)
    assert (low <= covered[0] + 1e-6).all()
    assert (high >= covered[1] - 1e-6).all()
    assert (high - low < covered[1] - covered[0] + np.array(grid.spacing)).all()


def test_a_point_keeps_its_place_in_space_whatever_the_orientation():
    """A coronal, left-right flipped first image: the grid's axes are turned to L, P, S."""
    coronal = Grid((10, 8, 6), (2.0, 5.0, 3.0), (40.0, 0.0, 50.0), (-1, 0, 0, 0, 0, 1, 0, -1, 0))
    values = np.zeros(coronal.size[::-1], np.float32)
    values[3, 2, 4] = 100  # z, y, x
    image = on(coronal, values)
    grid = common_grid([image], "native-t1")
    assert grid.direction == pytest.approx(AXIAL)
    assert grid.spacing == pytest.approx((2.0, 3.0, 5.0))
    moved = image_on_grid(image, grid, "linear")
    where = np.unravel_index(array(moved).argmax(), array(moved).shape)[::-1]
    assert moved.TransformIndexToPhysicalPoint([int(n) for n in where]) == pytest.approx(
        image.TransformIndexToPhysicalPoint((4, 2, 3))
    )
    assert array(moved).max() == pytest.approx(100, rel=1e-5)


def test_an_oblique_first_image_gives_the_axes():
    angle = np.deg2rad(10)
    turned = (np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1)
    oblique = Grid((20, 18, 12), (3.0, 3.0, 4.0), (-30.0, -27.0, -24.0), turned)
    grid = common_grid([on(oblique), on(T2_GRID)])
    assert grid.direction == pytest.approx(turned)
    for corner in T2_GRID.corners().tolist():
        index = on(grid).TransformPhysicalPointToContinuousIndex(corner)
        assert all(-0.5 <= i <= n - 0.5 for i, n in zip(index, grid.size, strict=True))


def test_images_that_do_not_overlap_are_refused():
    far = Grid(T2_GRID.size, T2_GRID.spacing, (500.0, 0.0, 0.0), AXIAL)
    with pytest.raises(InputError, match="do not overlap in space"):
        common_grid([on(T1_GRID), on(far)])


@pytest.mark.parametrize("interpolation", ["bspline", "linear"])
def test_an_edge_does_not_ring_and_outside_is_background(interpolation):
    values = np.full(T1_GRID.size[::-1], 50, np.float32)
    values[:, :, 10:] = 1000
    wide = Grid((80, 70, 60), (1.1, 1.3, 1.7), (-50.0, -50.0, -60.0), AXIAL)
    moved = array(image_on_grid(on(T1_GRID, values), wide, interpolation))
    inside = array(image_on_grid(on(T1_GRID, np.ones_like(values)), wide, "linear")) > 0
    assert moved.dtype == np.float32
    assert moved[inside].min() == 50
    assert moved[inside].max() == pytest.approx(1000)
    assert (moved[~inside] == 0).all()
    assert 0.05 < inside.mean() < 0.95


def test_outside_a_ct_is_air():
    values = np.full(T1_GRID.size[::-1], 40, np.int16)
    values[0] = -1000
    wide = Grid((30, 30, 30), (4.0, 4.0, 4.0), (-60.0, -60.0, -60.0), AXIAL)
    assert array(image_on_grid(on(T1_GRID, values), wide))[0, 0, 0] == -1000


def test_bspline_keeps_a_smooth_image_better_than_linear():
    def field(grid: Grid) -> np.ndarray:
        x, y, z = grid.size
        points = (
            np.array(grid.origin)
            + np.stack(np.meshgrid(*map(np.arange, (x, y, z)), indexing="ij"), -1) * grid.spacing
        )
        return (np.sin(points / 6.0).sum(-1).transpose(2, 1, 0) * 100 + 500).astype(np.float32)

    fine = Grid((24, 20, 14), (1.1, 1.2, 1.3), (-14.0, -12.0, -10.0), AXIAL)
    errors = {
        kind: np.abs(
            array(image_on_grid(on(T1_GRID, field(T1_GRID)), fine, kind)) - field(fine)
        ).mean()
        for kind in ("bspline", "linear")
    }
    assert errors["bspline"] < 0.3 * errors["linear"]
    assert errors["bspline"] < 3


@pytest.mark.parametrize("spacing", ["native-t1", (3.0, 2.0, 4.0)])
def test_the_grid_is_in_phase_with_the_first_image_along_axes_of_its_spacing(spacing):
    rng = np.random.default_rng(0)
    for tilt in (0, 0.2):
        origin = tuple(rng.uniform(-40, -20, 3).tolist())
        first = Grid((20, 18, 12), (3.0, 3.0, 4.0), origin, turned(rng.uniform(-tilt, tilt, 3)))
        grid = common_grid([on(first), on(T2_GRID)], spacing)
        index = grid.index_of(first.corners())
        same = [0, 1, 2] if spacing == "native-t1" else [0, 2]
        np.testing.assert_allclose(index[:, same], np.rint(index[:, same]), atol=1e-6)
        for other in (first, T2_GRID):
            corners = grid.index_of(other.corners(beyond=0.5))
            assert (corners.min(0) > -0.502).all()
            assert (corners.max(0) < np.array(grid.size) - 0.498).all()


def test_the_first_images_mask_is_unchanged_on_its_own_voxels():
    labels = np.random.default_rng(0).integers(0, 4, T1_GRID.size[::-1]).astype(np.uint8)
    grid = common_grid([on(T1_GRID), on(T2_GRID)], "native-t1")
    corner = np.rint(grid.index_of(np.array([T1_GRID.origin]))[0]).astype(int)
    x, y, z = (slice(start, start + n) for start, n in zip(corner, T1_GRID.size, strict=True))
    moved = array(mask_on_grid(image_like(labels, T1_GRID), grid, 4))
    np.testing.assert_array_equal(moved[z, y, x], labels)
    assert np.count_nonzero(moved) == np.count_nonzero(labels)


@pytest.mark.parametrize("entry", ["1.5", (1, 2), (1, 2, "x"), (1, 2, 0), None])
def test_a_spacing_is_three_positive_numbers(entry):
    with pytest.raises(InputError, match="spacing must be"):
        parse_spacing(entry)
