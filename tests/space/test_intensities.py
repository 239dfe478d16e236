import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_liver_ext.dataset_conversion.intensity_ranges import RANKS, Sample, pooled_percentiles
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.intensities import Intensities

RAMP = np.arange(202, dtype=np.int16).reshape(2, 1, 101)


@pytest.mark.parametrize("kind", ["none", "zscore", "nnunet"])
def test_what_is_not_normalised_at_conversion_stays_as_it_is(kind: str):
    assert Intensities.of_kind(kind).apply(RAMP) is RAMP


@pytest.mark.parametrize("kind", ["none", "zscore", "nnunet", "slice", "organ"])
def test_what_is_written_is_read(kind: str):
    intensities = Intensities.of_kind(kind)
    assert Intensities.from_json(json.loads(json.dumps(intensities.to_json()))) == intensities


@pytest.mark.parametrize("entry", [None, {"kind": "none"}])
def test_earlier_versions_left_normalisation_to_nnunet(entry):
    assert Intensities.from_json(entry) == Intensities("nnunet")


def test_patient_maps_the_percentiles_to_0_and_1_and_clips_beyond():
    values = np.arange(101.0).reshape(1, 1, 101)
    found = Intensities("patient", (10, 60)).apply(values)
    np.testing.assert_allclose(found[0, 0], np.clip((np.arange(101) - 10) / 50, 0, 1), atol=1e-6)
    assert found.dtype == np.float32


def test_slice_treats_each_slice_by_itself_and_an_even_slice_is_0():
    values = np.stack(
        [np.arange(101.0)[None], 1000 + 10 * np.arange(101.0)[None], np.full((1, 101), 7.0)]
    )
    found = Intensities("slice", (0, 100)).apply(values)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    np.testing.assert_allclose(found[0, 0], np.arange(101) / 100, atol=1e-6)
    assert not found[2].any()


def test_dataset_uses_the_range_of_each_channel():
    intensities = Intensities("dataset", (1, 99), ((0.0, 10.0), (100.0, 300.0)))
    values = np.array([[[-5.0, 5.0, 200.0]]])
    np.testing.assert_allclose(intensities.apply(values)[0, 0], [0, 0.5, 1])
    np.testing.assert_allclose(intensities.apply(values, index=1)[0, 0], [0, 0, 0.5])
    with pytest.raises(InputError, match="range of channel 2 is not known"):
        intensities.apply(values, index=2)


def test_organ_takes_its_percentiles_from_the_liver_and_does_not_clip():
    """Hansch et al. 2022: the 2nd and 98th percentile within the liver mask go to 0 and 1."""
    values = np.concatenate([np.arange(101.0), [-100.0, 500.0]])[None, None]
    organ = (np.arange(103) <= 100).astype(np.uint8)[None, None]
    found = Intensities.of_kind("organ").apply(values, organ)[0, 0]
    np.testing.assert_allclose(found, (values[0, 0] - 2) / 96, rtol=1e-6)
    assert found.min() < 0
    assert found.max() > 1


@pytest.mark.parametrize(
    ("intensities", "organ", "message"),
    [
        (
            Intensities("patient"),
            None,
            r"no contrast to normalise: percentiles 1 and 99 of the image are both 4",
        ),
        (Intensities("slice"), None, "no contrast to normalise"),
        (
            Intensities.of_kind("organ"),
            np.ones((2, 3, 3)),
            "percentiles 2 and 98 of the liver mask are both 4",
        ),
        (Intensities.of_kind("organ"), np.zeros((2, 3, 3)), "empty liver mask"),
        (Intensities.of_kind("organ"), None, "no liver mask"),
    ],
)
def test_images_without_contrast_are_refused(intensities: Intensities, organ, message: str):
    with pytest.raises(InputError, match=message):
        intensities.apply(np.full((2, 3, 3), 4), organ)


@pytest.mark.parametrize("percentiles", [(99, 1), (5, 5), (-1, 99), (1, 101), (float("nan"), 99)])
def test_impossible_percentiles_are_refused(percentiles):
    with pytest.raises(InputError, match=r"low < high in 0\.\.100"):
        Intensities("patient", percentiles)


def test_unknown_kinds_are_refused():
    with pytest.raises(InputError, match="none, slice, patient, dataset, organ, not 'min-max'"):
        Intensities.of_kind("min-max")


@pytest.mark.parametrize(
    "intensities",
    [
        Intensities(),
        Intensities.of_kind("organ"),
        Intensities("dataset", (0.5, 99.5), ((-3.25, 1e4), (0.0, 1.0))),
    ],
)
def test_the_json_round_trip(intensities: Intensities):
    again = Intensities.from_json(json.loads(json.dumps(intensities.to_json())))
    assert again.to_json() == intensities.to_json()
    values = np.random.default_rng(0).normal(0, 100, (3, 4, 5))
    organ = np.ones(values.shape)
    np.testing.assert_array_equal(again.apply(values, organ), intensities.apply(values, organ))


def test_datasets_of_earlier_versions_are_not_normalised():
    assert Intensities.from_json(None) == Intensities()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(-50, 50), min_size=1, max_size=30), min_size=1, max_size=5),
    st.floats(0, 100, allow_nan=False),
)
def test_pooled_percentiles_of_small_images_are_numpy_s(images: list[list[int]], percentile: float):
    """Exact where every voxel is kept: the inverse of the pooled distribution."""
    samples = [Sample.from_voxels(np.array(values)) for values in images]
    every = np.concatenate([np.array(values) for values in images])
    low, high = (
        np.percentile(every, max(0, min(100, percentile + shift)), method="inverted_cdf")
        for shift in (-1e-9, 1e-9)
    )
    assert low <= pooled_percentiles(samples, [percentile])[0] <= high


def test_pooled_percentiles_of_large_images_are_off_by_less_than_a_rank():
    rng = np.random.default_rng(1)
    images = [rng.normal(0, 1, 5 * RANKS), rng.normal(3, 2, 2 * RANKS), rng.exponential(1, 300)]
    samples = [Sample.from_voxels(values) for values in images]
    assert [len(sample.values) for sample in samples] == [RANKS, RANKS, 300]
    every = np.sort(np.concatenate(images))
    for percentile, found in zip(
        (0.5, 1, 50, 99, 99.5), pooled_percentiles(samples, [0.5, 1, 50, 99, 99.5]), strict=True
    ):
        share = np.searchsorted(every, found) / every.size
        assert share == pytest.approx(percentile / 100, abs=2 / RANKS)
