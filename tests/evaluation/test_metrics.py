"""Known values, invariants, bad input; comparisons with other implementations are in
test_metrics_references.py."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.metrics import (
    average_surface_distance,
    dice,
    hausdorff_distance,
    iou,
    mean_average_surface_distance,
    relative_volume_difference,
    surface_dice,
    surface_distances,
    volume_ml,
)

MM = (1.0, 1.0, 1.0)
SPACING_MM = (3.0, 1.5, 1.0)


def voxels(*indices, shape=(9, 9, 9)):
    mask = np.zeros(shape, bool)
    mask[tuple(np.array(indices).T)] = True
    return mask


def block(z, y, x, shape=(20, 20, 20)):
    mask = np.zeros(shape, bool)
    mask[slice(*z), slice(*y), slice(*x)] = True
    return mask


def all_measures(pred, ref, spacing_mm=MM, **options):
    return (
        hausdorff_distance(pred, ref, spacing_mm, **options),
        hausdorff_distance(pred, ref, spacing_mm, 95, **options),
        average_surface_distance(pred, ref, spacing_mm, **options),
        mean_average_surface_distance(pred, ref, spacing_mm, **options),
    )


def test_dice_of_half_overlap_is_one_half():
    reference = np.zeros((4, 4, 4), bool)
    reference[..., :2] = True
    assert dice(np.roll(reference, 1, axis=-1), reference) == pytest.approx(0.5)


def test_dice_counts_voxels():
    assert dice(block((0, 2), (0, 2), (0, 2)), block((0, 2), (0, 2), (0, 1))) == pytest.approx(
        2 * 4 / 12
    )
    assert dice(block((0, 2), (0, 2), (0, 2)), block((5, 7), (0, 2), (0, 2))) == 0


def test_iou_counts_voxels():
    assert iou(block((0, 2), (0, 2), (0, 2)), block((0, 2), (0, 2), (1, 4))) == pytest.approx(
        4 / 16
    )
    assert iou(block((0, 2), (0, 2), (0, 2)), block((5, 7), (0, 2), (0, 2))) == 0


def test_relative_volume_difference_is_of_the_reference_and_signed():
    small, large = block((0, 2), (0, 2), (0, 2)), block((0, 2), (0, 2), (0, 5))
    assert relative_volume_difference(large, small) == pytest.approx(150)
    assert relative_volume_difference(small, large) == pytest.approx(-60)
    empty = np.zeros_like(small)
    assert (relative_volume_difference(empty, small), relative_volume_difference(small, empty)) == (
        -100,
        math.inf,
    )
    assert relative_volume_difference(empty, empty) == 0


def test_two_voxels_are_as_far_apart_as_their_centres():
    pred, ref = voxels((1, 1, 1)), voxels((2, 3, 4))
    expected = math.sqrt((1 * 3.0) ** 2 + (2 * 1.5) ** 2 + (3 * 1.0) ** 2)
    assert all_measures(pred, ref, SPACING_MM) == pytest.approx((expected,) * 4)


@pytest.mark.parametrize(("axis", "spacing"), list(enumerate(SPACING_MM)))
def test_spacing_follows_the_axes(axis, spacing):
    ref = voxels((1, 1, 1))
    assert hausdorff_distance(np.roll(ref, 2, axis=axis), ref, SPACING_MM) == pytest.approx(
        2 * spacing
    )


def test_the_border_of_a_block_is_its_shell():
    distances = surface_distances(block((4, 9), (4, 9), (4, 9)), block((4, 9), (4, 9), (4, 9)), MM)
    assert len(distances.pred_to_ref_mm) == 5**3 - 3**3
    assert not distances.pooled_mm.any()


def test_a_shell_in_a_block_by_hand():
    """A 5³ block against the 3³ block inside it: corners are √3, edges √2, faces and inner voxels 1
    away."""
    outer, inner = block((4, 9), (4, 9), (4, 9)), block((5, 8), (5, 8), (5, 8))
    corners, edges, faces, inner_border = 8, 12 * 3, 6 * 9, 26
    total = corners * math.sqrt(3) + edges * math.sqrt(2) + faces + inner_border
    assert hausdorff_distance(outer, inner, MM) == pytest.approx(math.sqrt(3))
    assert average_surface_distance(outer, inner, MM) == pytest.approx(
        total / (corners + edges + faces + inner_border)
    )
    directed = (
        (corners * math.sqrt(3) + edges * math.sqrt(2) + faces) / (corners + edges + faces),
        1,
    )
    assert mean_average_surface_distance(outer, inner, MM) == pytest.approx(sum(directed) / 2)
    within_one = (faces + inner_border) / (corners + edges + faces + inner_border)
    assert surface_dice(outer, inner, MM, 1) == pytest.approx(within_one)
    assert surface_dice(outer, inner, MM, 0.99) == 0
    assert surface_dice(outer, inner, MM, 1.8) == 1


def test_a_distance_that_equals_the_tolerance_up_to_rounding_is_within():
    ref = voxels((1, 1, 1))
    assert (
        surface_dice(np.roll(ref, 3, axis=0), ref, (0.1, 1, 1), 0.3) == 1
    )  # 3 * 0.1 > 0.3 in floating point


def test_volume_in_ml():
    assert volume_ml(block((0, 10), (0, 10), (0, 10)), (3.0, 1.5, 1.5)) == pytest.approx(6.75)
    assert volume_ml(np.zeros((2, 2, 2), bool), MM) == 0


def test_pooled_hd95_dilutes_a_one_sided_outlier():
    """Three of the prediction's 30 voxels are far off; all of the reference's 80 are within 1 mm of
    the prediction."""
    ref = np.zeros((3, 5, 200), bool)
    ref[0, 0, :80] = True
    pred = np.zeros_like(ref)
    pred[0, 0, 1:80:3] = True  # 27 voxels on the reference; no reference voxel is farther than 1 mm
    pred[0, 0, [90, 91, 92]] = True  # 3 of 30 prediction voxels at 11, 12, 13 mm
    directed = hausdorff_distance(pred, ref, MM, 95)
    assert (
        directed
        == pytest.approx(np.percentile([0] * 27 + [11, 12, 13], 95))
        == pytest.approx(11.55)
    )
    pooled = hausdorff_distance(pred, ref, MM, 95, pooled=True)
    assert (
        pooled
        == pytest.approx(np.percentile([0] * 27 + [11, 12, 13] + [0] * 27 + [1] * 53, 95))
        == pytest.approx(1)
    )
    assert hausdorff_distance(pred, ref, MM, pooled=True) == hausdorff_distance(pred, ref, MM) == 13


@pytest.mark.parametrize("convention", ["standard", "chaos"])
def test_empty_masks_have_defined_values(convention):
    empty, some = np.zeros((5, 5, 5), bool), voxels((2, 2, 2), shape=(5, 5, 5))
    assert dice(empty, empty) == iou(empty, empty) == 1
    assert all_measures(empty, empty, convention=convention) == (0, 0, 0, 0)
    assert surface_dice(empty, empty, MM, 2, convention=convention) == 1
    for pred, ref in (
        (empty, some),
        (some, empty),
        (np.ones_like(some), empty),
        (empty, np.ones_like(some)),
    ):
        assert dice(pred, ref) == iou(pred, ref) == 0
        assert all_measures(pred, ref, convention=convention) == (math.inf,) * 4
        assert hausdorff_distance(pred, ref, MM, 95, pooled=True, convention=convention) == math.inf
        assert surface_dice(pred, ref, MM, 2, convention=convention) == 0


def test_arrays_without_voxels_are_empty_masks():
    nothing = np.zeros((0, 5, 5), bool)
    assert (dice(nothing, nothing), hausdorff_distance(nothing, nothing, MM)) == (1, 0)


def test_a_mask_at_the_edge_of_the_volume():
    """The reference fills the lower half, the prediction one plane more: only the tops differ
    inside the volume."""
    ref, pred = block((0, 10), (0, 20), (0, 20)), block((0, 11), (0, 20), (0, 20))
    assert len(surface_distances(pred, ref, MM, convention="chaos").pred_to_ref_mm) == 400
    assert average_surface_distance(pred, ref, MM, convention="chaos") == pytest.approx(1)
    sides = 4 * 20 - 4
    assert len(surface_distances(pred, ref, MM).ref_to_pred_mm) == 2 * 400 + 8 * sides
    assert hausdorff_distance(pred, ref, MM) == 1
    # The reference's top lies inside the prediction, but its outermost ring is on the prediction's
    # sides.
    moved = 400 + (400 - sides)
    assert average_surface_distance(pred, ref, MM) == pytest.approx(
        moved / (2 * 400 + 8 * sides + 2 * 400 + 9 * sides)
    )


def test_the_edge_conventions_agree_away_from_the_edge():
    pred, ref = block((2, 9), (3, 9), (4, 9)), block((4, 12), (3, 10), (2, 9))
    assert all_measures(pred, ref, SPACING_MM) == all_measures(
        pred, ref, SPACING_MM, convention="chaos"
    )


def test_a_mask_that_fills_the_volume_has_no_border_in_the_chaos_convention():
    full, some = np.ones((5, 5, 5), bool), voxels((2, 2, 2), shape=(5, 5, 5))
    assert all_measures(full, full, convention="chaos") == (0, 0, 0, 0)
    assert surface_dice(full, full, MM, 2, convention="chaos") == 1
    assert all_measures(full, some, convention="chaos") == (math.inf,) * 4
    assert surface_dice(some, full, MM, 2, convention="chaos") == 0
    assert hausdorff_distance(full, some, MM) == pytest.approx(math.sqrt(12))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_number_type_and_memory_order_do_not_matter(dtype, order):
    pred, ref = block((2, 9), (3, 9), (4, 9)), block((4, 12), (3, 10), (2, 9))
    other = np.asarray(pred, dtype, order=order), np.asarray(ref, dtype, order=order)
    assert all_measures(*other, SPACING_MM) == all_measures(pred, ref, SPACING_MM)
    assert dice(*other) == dice(pred, ref)
    assert dice(pred * np.uint8(255), ref) == dice(pred, ref)


def test_input_is_left_as_it_was():
    pred, ref = block((2, 9), (3, 9), (4, 9)), block((4, 12), (3, 10), (2, 9))
    pred.flags.writeable = ref.flags.writeable = False
    assert dice(pred, ref) > 0
    assert all_measures(pred, ref)[0] > 0


@pytest.mark.parametrize(
    "measure", [dice, hausdorff_distance, average_surface_distance, surface_dice]
)
def test_different_shapes_are_refused(measure):
    rest = {dice: (), surface_dice: (MM, 2)}.get(measure, (MM,))
    with pytest.raises(InputError, match=r"differ in shape: \(3, 3, 3\) and \(3, 3, 4\)"):
        measure(np.ones((3, 3, 3), bool), np.ones((3, 3, 4), bool), *rest)


@pytest.mark.parametrize(
    ("pred", "message"),
    [
        (np.full((3, 3, 3), 0.5), "holds fractions such as 0.5"),
        (np.full((3, 3, 3), np.nan), "holds fractions such as nan"),
        (np.arange(27).reshape(3, 3, 3), r"holds several labels \(0..26\)"),
        (np.full((3, 3, 3), -1), r"holds several labels \(-1..-1\)"),
        (np.full((3, 3, 3), "liver"), "must be a bool or integer array"),
    ],
)
def test_what_is_no_mask_is_refused(pred, message):
    ref = np.ones((3, 3, 3), bool)
    for measure in (dice, lambda p, r: hausdorff_distance(p, r, MM), lambda p, r: volume_ml(p, MM)):
        with pytest.raises(InputError, match=message):
            measure(pred, ref)


@pytest.mark.parametrize(
    "spacing_mm",
    [
        (1, 1),
        (1, 1, 1, 1),
        (1, 0, 1),
        (1, -1, 1),
        (1, math.nan, 1),
        (math.inf, 1, 1),
        1.0,
        "abc",
        None,
    ],
)
def test_spacing_must_be_three_positive_numbers(spacing_mm):
    mask = np.ones((3, 3, 3), bool)
    for measure in (hausdorff_distance, average_surface_distance):
        with pytest.raises(InputError, match="three positive numbers"):
            measure(mask, mask, spacing_mm)
    with pytest.raises(InputError, match="three positive numbers"):
        volume_ml(mask, spacing_mm)


def test_other_bad_arguments_are_refused():
    mask = np.ones((3, 3, 3), bool)
    with pytest.raises(InputError, match=r"percentile must lie in 0\.\.100, not 101"):
        hausdorff_distance(mask, mask, MM, 101)
    with pytest.raises(InputError, match="not nan"):
        hausdorff_distance(mask, mask, MM, math.nan)
    with pytest.raises(InputError, match="tolerance_mm must be"):
        surface_dice(mask, mask, MM, -1)
    with pytest.raises(InputError, match="need 3D masks"):
        hausdorff_distance(mask[0], mask[0], MM)
    with pytest.raises(InputError, match="standard, chaos, not 'medpy'"):
        hausdorff_distance(mask, mask, MM, convention="medpy")


shapes = st.shared(array_shapes(min_dims=3, max_dims=3, max_side=7), key="shape")
masks = shapes.flatmap(lambda shape: arrays(bool, shape))
spacings = st.tuples(*[st.floats(0.2, 8)] * 3)


@given(masks, masks, spacings, st.sampled_from(["standard", "chaos"]))
def test_measures_are_symmetric(pred, ref, spacing_mm, convention):
    forth, back = (
        all_measures(*pair, spacing_mm, convention=convention)
        for pair in ((pred, ref), (ref, pred))
    )
    assert forth == pytest.approx(back)
    assert dice(pred, ref) == dice(ref, pred)
    assert iou(pred, ref) == iou(ref, pred)
    assert surface_dice(pred, ref, spacing_mm, 1.5) == pytest.approx(
        surface_dice(ref, pred, spacing_mm, 1.5)
    )


@given(masks, spacings, st.sampled_from(["standard", "chaos"]))
def test_a_mask_is_zero_away_from_itself(mask, spacing_mm, convention):
    assert dice(mask, mask) == iou(mask, mask) == 1
    assert relative_volume_difference(mask, mask) == 0
    assert all_measures(mask, mask, spacing_mm, convention=convention) == (0, 0, 0, 0)
    assert surface_dice(mask, mask, spacing_mm, 0, convention=convention) == 1


@given(masks, masks, spacings, st.floats(0.1, 10))
def test_distances_scale_with_the_spacing(pred, ref, spacing_mm, factor):
    scaled = all_measures(pred, ref, tuple(factor * value for value in spacing_mm))
    assert scaled == pytest.approx(
        [factor * value for value in all_measures(pred, ref, spacing_mm)]
    )


@settings(max_examples=50)
@given(masks, masks, spacings, st.permutations([0, 1, 2]), st.integers(0, 3))
def test_axes_and_margins_do_not_matter(pred, ref, spacing_mm, axes, margin):
    turned = [np.pad(mask.transpose(axes), margin) for mask in (pred, ref)]
    assert all_measures(*turned, [spacing_mm[axis] for axis in axes]) == pytest.approx(
        all_measures(pred, ref, spacing_mm)
    )


@given(masks, masks, spacings)
def test_measures_are_in_order(pred, ref, spacing_mm):
    hd, hd95, asd, masd = all_measures(pred, ref, spacing_mm)
    assert 0 <= asd <= hd
    assert 0 <= masd <= hd
    assert 0 <= iou(pred, ref) <= dice(pred, ref)
    assert 0 <= hd95 <= hd
    assert (
        0 <= surface_dice(pred, ref, spacing_mm, 0) <= surface_dice(pred, ref, spacing_mm, 3) <= 1
    )
