from functools import cache

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.phantom import PhantomPair, jacobian_determinant, make_pair
from nnunet_liver_ext.dataset_conversion.phantom.acquisition import (
    acquire,
    grid_around,
    slice_profile,
)
from nnunet_liver_ext.dataset_conversion.phantom.annotation import annotate
from nnunet_liver_ext.dataset_conversion.phantom.randomness import generator, smooth_field
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import Grid, array, image_like

DEMO_SEEDS = tuple(range(8))
STUDY_SEED = 4
STUDY_SEEDS = (STUDY_SEED,)
CASES = [*(("demo", seed) for seed in DEMO_SEEDS), *(("study", seed) for seed in STUDY_SEEDS)]
THICK_SLICES_MM = 5


@cache
def pair_of(difficulty: str, seed: int) -> PhantomPair:
    return make_pair(seed, difficulty=difficulty)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def volume_ml(mask: sitk.Image) -> float:
    return np.count_nonzero(array(mask)) * float(np.prod(mask.GetSpacing())) / 1000


def images_of(pair: PhantomPair) -> list[sitk.Image]:
    named = [value for value in vars(pair).values() if isinstance(value, sitk.Image)]
    assert len(named) == 12
    return named


def best_threshold_dice(values: np.ndarray, mask: np.ndarray, levels: int = 200) -> float:
    """The best Dice of {a <= value <= b} with the mask over all intervals of quantised
    intensities."""
    low, high = np.quantile(values, (0.001, 0.999))
    level = np.clip((values - low) / (high - low) * levels, 0, levels - 1).astype(int)
    hits = np.concatenate([[0], np.cumsum(np.bincount(level[mask], minlength=levels))])
    chosen = np.concatenate([[0], np.cumsum(np.bincount(level, minlength=levels))])
    true_positives = np.maximum(hits[None] - hits[:, None], 0)
    predicted = np.maximum(chosen[None] - chosen[:, None], 0)
    return float((2 * true_positives / (predicted + np.count_nonzero(mask))).max())


def body_of(image: sitk.Image) -> np.ndarray:
    """Everything inside the skin, lungs included."""
    bright = sitk.BinaryThreshold(sitk.SmoothingRecursiveGaussian(image, 3.0), 100, 1e5)
    closed = sitk.BinaryMorphologicalClosing(bright, (4, 4, 1))
    return array(sitk.BinaryFillhole(closed)) > 0


def test_threshold_search_finds_a_separable_mask():
    values = np.random.default_rng(0).random(10_000)
    mask = (values > 0.3) & (values < 0.6)
    assert best_threshold_dice(values, mask) > 0.98


@pytest.mark.parametrize("difficulty", ["demo", "study"])
def test_same_seed_same_pair_whatever_numpys_global_state(difficulty: str):
    sizes = {"t1_size": (64, 48, 24), "t2_size": (64, 48, 12)} if difficulty == "study" else {}
    np.random.seed(1)
    first = make_pair(7, difficulty=difficulty, **sizes)
    np.random.seed(2)
    second = make_pair(7, difficulty=difficulty, **sizes)
    for a, b in zip(images_of(first), images_of(second), strict=True):
        assert Grid.from_image(a) == Grid.from_image(b)
        np.testing.assert_array_equal(array(a), array(b))
    assert first.motion == second.motion


def test_other_seeds_give_other_patients():
    first, second = pair_of("demo", 0), pair_of("demo", 1)
    assert first.motion != second.motion
    assert dice(array(first.t1_mask) > 0, array(second.t1_mask) > 0) < 0.95
    assert np.abs(array(first.t1) - array(second.t1)).mean() > 30


def test_the_same_patient_at_another_visit():
    first, second = pair_of("demo", 3), make_pair(1003, anatomy_seed=3, difficulty="demo")
    moved = sitk.Resample(second.t1_true_mask, first.t1, sitk.Transform(), sitk.sitkNearestNeighbor)
    assert dice(array(first.t1_true_mask) > 0, array(moved) > 0) > 0.93
    assert first.motion != second.motion
    assert not np.array_equal(array(first.t1), array(second.t1))


@pytest.mark.parametrize(("difficulty", "seed"), CASES)
def test_no_intensity_threshold_finds_the_liver(difficulty: str, seed: int):
    pair = pair_of(difficulty, seed)
    for image, mask in ((pair.t1, pair.t1_true_mask), (pair.t2, pair.t2_true_mask)):
        body = body_of(image)
        liver = array(mask) > 0
        assert np.count_nonzero(liver & body) > 0.99 * np.count_nonzero(liver)
        assert best_threshold_dice(array(image)[body].astype(float), liver[body]) < 0.7


@pytest.mark.parametrize(("difficulty", "seed"), CASES)
def test_liver_volume_and_overlap(difficulty: str, seed: int):
    pair = pair_of(difficulty, seed)
    assert 900 < volume_ml(pair.t1_true_mask) < 2100
    on_t1 = sitk.Resample(pair.t2_true_mask, pair.t1, sitk.Transform(), sitk.sitkNearestNeighbor)
    assert 0.4 < dice(array(pair.t1_true_mask) > 0, array(on_t1) > 0) < 0.95


def test_overlap_is_that_of_the_paper_on_average():
    overlaps = []
    for seed in DEMO_SEEDS:
        pair = pair_of("demo", seed)
        on_t1 = sitk.Resample(
            pair.t2_true_mask, pair.t1, sitk.Transform(), sitk.sitkNearestNeighbor
        )
        overlaps.append(dice(array(pair.t1_true_mask) > 0, array(on_t1) > 0))
    assert np.mean(overlaps) == pytest.approx(0.75, abs=0.06)  # Couteaux et al. 2021 report .75


@pytest.mark.parametrize(("difficulty", "seed"), CASES)
def test_the_deformation_maps_one_liver_onto_the_other(difficulty: str, seed: int):
    pair = pair_of(difficulty, seed)
    t1_liver = sitk.Cast(pair.t1_true_mask, sitk.sitkFloat32)
    inside = sitk.Resample(
        sitk.Cast(pair.t1_true_mask * 0 + 1, sitk.sitkFloat32),
        pair.t2,
        pair.transform(),
        sitk.sitkLinear,
    )
    warped = sitk.Resample(t1_liver, pair.t2, pair.transform(), sitk.sitkLinear)
    seen = array(inside) > 0.5  # by T1's field of view
    assert dice((array(warped) > 0.5)[seen], (array(pair.t2_true_mask) > 0)[seen]) > 0.95


@pytest.mark.parametrize(("difficulty", "seed"), CASES)
def test_the_deformation_can_be_inverted_and_is_a_breath(difficulty: str, seed: int):
    pair = pair_of(difficulty, seed)
    assert jacobian_determinant(pair.deformation).min() > 0.2
    assert 6 <= abs(pair.motion.dome_mm) <= 28
    field = sitk.GetArrayFromImage(pair.deformation)
    shift = np.array(pair.motion.shift_mm)
    assert np.abs(field[..., 2] - shift[2]).max() < 40
    z = pair.deformation.GetOrigin()[2] + 6.0 * np.arange(field.shape[0])
    middle = [n // 2 for n in field.shape[1:3]]
    at_dome = (
        field[np.abs(z - 20 * np.sign(z).max()).argmin(), middle[0], middle[1] - 8, 2] - shift[2]
    )
    assert np.sign(at_dome) == -np.sign(pair.motion.dome_mm)
    pelvis = field[z < -230]
    assert pelvis.size == 0 or np.abs(pelvis[..., 2] - shift[2]).max() < 15


def test_a_point_of_t2_shows_what_is_at_the_displaced_point_of_t1():
    pair = make_pair(5, difficulty="demo", lesions=4)
    transform = pair.transform()
    compared = 0
    for lesion in range(1, 5):
        index = np.argwhere(array(pair.t2_lesions) == lesion)
        if len(index) < 6:
            continue
        centre = pair.t2.TransformContinuousIndexToPhysicalPoint(
            [float(v) for v in index.mean(0)[::-1]]
        )
        there = np.argwhere(array(pair.t1_lesions) == lesion).mean(0)[::-1]
        expected = pair.t1.TransformContinuousIndexToPhysicalPoint([float(v) for v in there])
        np.testing.assert_allclose(transform.TransformPoint(centre), expected, atol=4.0)
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize(("difficulty", "seed"), CASES)
def test_annotations_are_noisier_in_t2(difficulty: str, seed: int):
    pair = pair_of(difficulty, seed)
    t1 = dice(array(pair.t1_mask) > 0, array(pair.t1_true_mask) > 0)
    t2 = dice(array(pair.t2_mask) > 0, array(pair.t2_true_mask) > 0)
    assert 0.9 < t2 < t1 < 1


@pytest.mark.parametrize(("difficulty", "seed"), CASES)
def test_t2_has_its_own_thick_and_oblique_grid(difficulty: str, seed: int):
    pair = pair_of(difficulty, seed)
    assert pair.t2.GetSpacing()[2] > THICK_SLICES_MM
    assert pair.t2.GetSpacing()[:2] != pair.t1.GetSpacing()[:2]
    normal = np.array(pair.t2.GetDirection()).reshape(3, 3)[:, 2]
    assert 0 < np.degrees(np.arccos(normal[2])) < 9
    for image in (
        pair.t1_mask,
        pair.t1_true_mask,
        pair.t1_lesions,
        pair.water,
        pair.fat,
        pair.fat_fraction,
    ):
        assert Grid.from_image(image) == Grid.from_image(pair.t1)
    for image in (pair.t2_mask, pair.t2_true_mask, pair.t2_lesions):
        assert Grid.from_image(image) == Grid.from_image(pair.t2)


@pytest.mark.parametrize("difficulty", ["demo", "study"])
def test_lesions_are_dark_in_t1_and_bright_in_t2(difficulty: str):
    pair = (
        pair_of("study", STUDY_SEED)
        if difficulty == "study"
        else make_pair(11, difficulty="demo", lesions=5)
    )
    assert array(pair.t1_lesions).any()
    for image, lesions, mask, sign in (
        (pair.t1, pair.t1_lesions, pair.t1_true_mask, -1),
        (pair.t2, pair.t2_lesions, pair.t2_true_mask, 1),
    ):
        values, inside = array(image), array(lesions) > 0
        assert set(np.unique(array(lesions))) <= set(range(6))
        rest = (array(mask) > 0) & ~inside
        assert sign * (np.median(values[inside]) - np.median(values[rest])) > 40
        assert np.count_nonzero(inside & (array(mask) > 0)) > 0.6 * np.count_nonzero(inside)
    assert not array(make_pair(11, difficulty="demo", lesions=0).t1_lesions).any()


def test_number_of_lesions_varies_from_0_to_5():
    found = {int(array(pair_of("demo", seed).t1_lesions).max()) for seed in DEMO_SEEDS}
    assert len(found) > 2
    assert found <= set(range(6))


@pytest.mark.parametrize("difficulty", ["demo", "study"])
def test_fat_fraction(difficulty: str):
    pair = pair_of(difficulty, STUDY_SEED)
    fraction = array(pair.fat_fraction)
    assert fraction.min() >= 0
    assert fraction.max() <= 100
    assert np.isfinite(fraction).all()
    liver = np.median(fraction[array(pair.t1_true_mask) > 0])
    assert 1 < liver < 26
    assert fraction[body_of(pair.t1)].max() > 85  # subcutaneous fat


def test_sizes_and_spacings_can_be_chosen():
    pair = make_pair(
        0,
        difficulty="demo",
        t1_size=(40, 32, 20),
        t1_spacing=(8, 8, 9),
        t2_size=(50, 40, 16),
        t2_spacing=(7, 7, 12),
    )
    assert pair.t1.GetSize() == (40, 32, 20)
    assert pair.t1.GetSpacing() == (8, 8, 9)
    assert pair.t2.GetSize() == (50, 40, 16)
    assert pair.t2.GetSpacing() == (7, 7, 12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must not be negative"),
        ({"seed": 0, "anatomy_seed": -2}, "anatomy_seed must not be negative"),
        ({"seed": 0, "lesions": 99}, "0 to 20 lesions, not 99"),
        ({"seed": 0, "difficulty": "easy"}, "unknown difficulty 'easy'"),
        ({"seed": 0, "t1_size": (64, 64, 2)}, "t1_size needs three numbers"),
        ({"seed": 0, "t2_spacing": (1.0, 0.0, 5.0)}, "t2_spacing needs three numbers"),
    ],
)
def test_arguments_out_of_range(arguments: dict, message: str):
    with pytest.raises(InputError, match=message):
        make_pair(**arguments)


def test_generators_depend_on_seed_and_purpose():
    draws = {generator(seed, purpose).random() for seed in (0, 1) for purpose in ("scan", "motion")}
    assert len(draws) == 4
    assert generator(3, "scan").random() == generator(3, "scan").random()


def test_smooth_field_has_mean_0_variance_1_and_no_jumps():
    field = smooth_field((60, 80, 100), (3.0, 2.0, 2.0), 15.0, np.random.default_rng(0))
    assert field.mean() == pytest.approx(0, abs=0.1)
    assert field.std() == pytest.approx(1, abs=0.1)
    assert np.abs(np.diff(field, axis=2)).max() < 0.8


def test_slices_average_over_their_thickness():
    """A step in z is seen by a slice centred on it as one half, by slices a thickness away as 0 and
    1."""
    fine = Grid((4, 4, 81), (10.0, 10.0, 0.5), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    step = np.zeros(fine.size[::-1], np.float32)
    step[41:] = 1
    step[40] = 0.5  # the edge is at 20 mm
    thick = Grid((2, 2, 3), (10.0, 10.0, 8.0), (5.0, 5.0, 12.0), fine.direction)
    np.testing.assert_allclose(
        acquire(image_like(step, fine), thick)[:, 0, 0], [0, 0.5, 1], atol=1e-5
    )


@pytest.mark.parametrize("subslices", [2, 4, 8])
def test_slice_profile_is_symmetric_with_the_slice_s_width(subslices: int):
    profile = slice_profile(subslices)
    assert profile.sum() == pytest.approx(1)
    np.testing.assert_allclose(profile, profile[::-1])
    width = profile.sum() / profile.max() / subslices  # in thicknesses
    assert width == pytest.approx(1, abs=0.01)


def test_grid_around_is_centred():
    grid = grid_around((1.0, 2.0, 3.0), (11, 7, 5), (2.0, 3.0, 4.0), (4.0, -3.0, 1.0))
    np.testing.assert_allclose(grid.corners().mean(0), (1, 2, 3), atol=1e-9)


def test_annotation_without_noise_is_the_true_mask():
    z, y, x = np.mgrid[:20, :40, :40]
    fraction = (np.hypot(np.hypot((z - 10) * 2, y - 20), x - 20) < 12).astype(np.float32)
    exact = annotate(fraction, (2.0, 1.0, 1.0), np.random.default_rng(0), border_mm=0, slice_mm=0)
    np.testing.assert_array_equal(exact, fraction > 0.5)
    assert not annotate(
        np.zeros_like(fraction), (2.0, 1.0, 1.0), np.random.default_rng(0), border_mm=1
    ).any()
