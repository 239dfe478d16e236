"""The same numbers from other implementations: scipy on the full volume, MONAI, and CHAOS's own
recipe."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter
from scipy.spatial import KDTree

from nnunet_liver_ext.evaluation import surface
from nnunet_liver_ext.evaluation.metrics import (
    average_surface_distance,
    hausdorff_distance,
    surface_dice,
    surface_distances,
)


def full_volume_distances(pred, ref, spacing_mm, border_value=0):
    """Both directions' distances by a distance transform of the whole volume; border_value=1 is
    CHAOS's."""
    pred_border, ref_border = (
        mask & ~binary_erosion(mask, border_value=border_value) for mask in (pred, ref)
    )
    return [
        distance_transform_edt(~other, sampling=spacing_mm)[own]
        for own, other in ((pred_border, ref_border), (ref_border, pred_border))
    ]


def rough_ball(shape, spacing_mm, centre_mm, radius_mm, seed, bumps=0.1):
    axes = np.meshgrid(
        *[np.arange(n) * s for n, s in zip(shape, spacing_mm, strict=True)], indexing="ij"
    )
    distance = np.sqrt(
        sum((axis - centre) ** 2 for axis, centre in zip(axes, centre_mm, strict=True))
    )
    noise = gaussian_filter(
        np.random.default_rng(seed).standard_normal(shape), [8 / s for s in spacing_mm]
    )
    return distance < radius_mm * (1 + bumps * noise / noise.std())


SPACING_MM = (3.0, 1.5, 1.5)
SHAPE = (40, 90, 100)
REFERENCE = rough_ball(SHAPE, SPACING_MM, (60, 60, 60), 35, seed=0)
PREDICTIONS = {
    "similar": rough_ball(SHAPE, SPACING_MM, (60, 62, 61), 36, seed=1),
    "moved a little": rough_ball(SHAPE, SPACING_MM, (66, 60, 68), 35, seed=2),
    "far away": rough_ball(SHAPE, SPACING_MM, (30, 110, 125), 20, seed=3),
    "with an island": REFERENCE | rough_ball(SHAPE, SPACING_MM, (100, 120, 130), 5, seed=4),
    "one voxel": np.arange(REFERENCE.size).reshape(SHAPE) == 0,
    "cut off by the volume": rough_ball(SHAPE, SPACING_MM, (0, 60, 0), 60, seed=5),
}


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("convention", ["standard", "chaos"])
@pytest.mark.parametrize("way", ["tree", "transform"])
def test_equal_to_a_distance_transform_of_the_whole_volume(name, convention, way, monkeypatch):
    monkeypatch.setattr(surface, "TRANSFORM_NS", 0.0 if way == "transform" else np.inf)
    surface._border_distances.cache_clear()
    prediction = PREDICTIONS[name]
    expected = full_volume_distances(
        prediction, REFERENCE, SPACING_MM, border_value=int(convention == "chaos")
    )
    found = surface_distances(prediction, REFERENCE, SPACING_MM, convention=convention)
    np.testing.assert_allclose(
        np.sort(found.pred_to_ref_mm), np.sort(expected[0]), rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(
        np.sort(found.ref_to_pred_mm), np.sort(expected[1]), rtol=0, atol=1e-9
    )
    assert found.hausdorff_distance() == pytest.approx(max(map(np.max, expected)), abs=1e-9)
    directed = max(np.percentile(distances, 95) for distances in expected)
    assert found.hausdorff_distance(percentile=95) == pytest.approx(directed, abs=1e-9)
    pooled = np.concatenate(expected)
    assert found.hausdorff_distance(percentile=95, pooled=True) == pytest.approx(
        np.percentile(pooled, 95), abs=1e-9
    )
    assert found.average_surface_distance() == pytest.approx(pooled.mean(), abs=1e-9)


small_shapes = st.shared(array_shapes(min_dims=3, max_dims=3, max_side=9), key="shape")
small_masks = small_shapes.flatmap(lambda shape: arrays(bool, shape))
spacings = st.tuples(*[st.sampled_from([0.1, 0.7, 1.0, 1.5, 3.0, 10.0, 100.0])] * 3)


@settings(max_examples=150)
@given(small_masks, small_masks, spacings, st.sampled_from([0, 1]))
def test_equal_to_a_distance_transform_for_any_masks(pred, ref, spacing_mm, border_value):
    borders = [mask & ~binary_erosion(mask, border_value=border_value) for mask in (pred, ref)]
    if not (borders[0].any() and borders[1].any()):
        return  # what then holds is in test_metrics.py
    expected = full_volume_distances(pred, ref, spacing_mm, border_value)
    found = surface_distances(
        pred, ref, spacing_mm, convention="chaos" if border_value else "standard"
    )
    np.testing.assert_allclose(
        np.sort(found.pred_to_ref_mm), np.sort(expected[0]), rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(
        np.sort(found.ref_to_pred_mm), np.sort(expected[1]), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize(
    "spacing_mm", [(1, 1, 1), (5, 0.7, 0.7), (0.5, 2, 9), (1e-3, 1, 50), (100, 0.1, 0.1)]
)
def test_offsets_are_the_shortest_ones_and_none_is_left_out(spacing_mm):
    rings = surface._offset_rings(tuple(map(float, spacing_mm)))
    found = {tuple(offset) for ring in rings for offset in ring.offsets}
    assert len(found) == sum(len(ring.offsets) for ring in rings)
    reach = np.abs(np.array(list(found))).max(axis=0) + 1
    around = np.stack(
        np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), -1
    ).reshape(-1, 3)
    left_out = np.array([offset for offset in around if tuple(offset) not in found])
    assert rings[0].length_mm == 0
    assert rings[-1].length_mm <= np.linalg.norm(left_out * spacing_mm, axis=1).min() * (1 + 1e-12)
    assert all(a.length_mm < b.length_mm for a, b in pairwise(rings))


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("spacing_mm", [SPACING_MM, (1.0, 1.0, 1.0), (5.0, 0.8, 1.2)])
def test_equal_to_monai(name, spacing_mm):
    prediction = PREDICTIONS[name]
    tensors = [torch.from_numpy(mask)[None, None] for mask in (prediction, REFERENCE)]
    options = {"include_background": True, "spacing": list(spacing_mm)}
    for percentile in (None, 95, 50):
        expected = float(compute_hausdorff_distance(*tensors, percentile=percentile, **options))
        found = hausdorff_distance(
            prediction, REFERENCE, spacing_mm, 100 if percentile is None else percentile
        )
        assert found == pytest.approx(expected, abs=1e-4)
    expected = float(compute_average_surface_distance(*tensors, symmetric=True, **options))
    assert average_surface_distance(prediction, REFERENCE, spacing_mm) == pytest.approx(
        expected, abs=1e-4
    )
    expected = float(compute_surface_dice(*tensors, [2.0], **options))
    assert surface_dice(prediction, REFERENCE, spacing_mm, 2.0) == pytest.approx(expected, abs=1e-4)


def test_measures_asked_for_one_after_the_other_search_once(monkeypatch):
    surface._border_distances.cache_clear()
    searches = []
    search = surface._nearest_distances
    monkeypatch.setattr(
        surface, "_nearest_distances", lambda *rest: searches.append(1) or search(*rest)
    )
    prediction = PREDICTIONS["similar"].copy()
    hausdorff_distance(prediction, REFERENCE, SPACING_MM)
    hausdorff_distance(prediction, REFERENCE, SPACING_MM, 95)
    before = average_surface_distance(prediction, REFERENCE, SPACING_MM)
    assert len(searches) == 2  # one for each direction
    prediction[:, 40:] = False  # the same array, another mask
    assert average_surface_distance(prediction, REFERENCE, SPACING_MM) > before
    assert len(searches) == 4


@pytest.mark.parametrize("name", ["similar", "cut off by the volume"])
def test_equal_to_the_recipe_of_chaos(name):
    """ASSD and MSSD as Kavur et al. publish them: eroded with border_value=1, k-d trees, both
    directions pooled."""
    points = [
        np.argwhere(mask ^ binary_erosion(mask, border_value=1)) * SPACING_MM
        for mask in (PREDICTIONS[name], REFERENCE)
    ]
    pooled = np.concatenate(
        [KDTree(points[1]).query(points[0])[0], KDTree(points[0]).query(points[1])[0]]
    )
    found = surface_distances(PREDICTIONS[name], REFERENCE, SPACING_MM, convention="chaos")
    assert found.average_surface_distance() == pytest.approx(pooled.mean(), abs=1e-9)
    assert found.hausdorff_distance() == pytest.approx(pooled.max(), abs=1e-9)
