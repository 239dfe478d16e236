"""The pair code against its definition, for K = 2..4 classes, in numpy and torch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import zoom
from torch.nn.functional import interpolate

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.pairing import (
    PairLabels,
    decode_pair,
    encode_pair,
    join_logits,
    num_marginal_classes,
    split_logits,
    split_probabilities,
)

ONE_ORGAN = PairLabels(("T1", "T2"), ("background", "liver"))
TWO_ORGANS = PairLabels(("T1", "T2"), ("background", "liver", "spleen"))
CLASSES = st.integers(2, 4)


@st.composite
def two_masks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    num_classes = draw(CLASSES)
    shape = draw(array_shapes(min_dims=1, max_dims=3, max_side=5))
    labels = st.integers(0, num_classes - 1)
    return (
        draw(arrays(np.uint8, shape, elements=labels)),
        draw(arrays(np.uint8, shape, elements=labels)),
        num_classes,
    )


def two_logits(seed: int, num_classes: int, size: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """u and v, (2, K, size, size + 1, size + 2), double precision."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, num_classes, size, size + 1, size + 2)
    u, v = (5 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return u, v


logits = st.builds(two_logits, st.integers(0, 10_000), CLASSES)


@given(two_masks())
def test_decoding_is_the_inverse_of_encoding(masks):
    mask_1, mask_2, num_classes = masks
    code = encode_pair(mask_1, mask_2, num_classes)
    for found, expected in zip(decode_pair(code, num_classes), (mask_1, mask_2), strict=True):
        np.testing.assert_array_equal(found, expected)
    tensors = encode_pair(torch.from_numpy(mask_1), torch.from_numpy(mask_2), num_classes)
    np.testing.assert_array_equal(tensors.numpy(), code)
    for found, expected in zip(decode_pair(tensors, num_classes), (mask_1, mask_2), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)


def test_the_codes_of_two_classes():
    mask_1, mask_2 = np.array([False, True, False, True]), np.array([False, False, True, True])
    assert encode_pair(mask_1, mask_2).tolist() == [0, 1, 2, 3]
    assert encode_pair(torch.from_numpy(mask_1), torch.from_numpy(mask_2)).tolist() == [0, 1, 2, 3]
    assert encode_pair(np.array([2]), np.array([1]), 3).tolist() == [5]


@settings(deadline=None)
@given(logits)
def test_the_most_likely_pair_is_the_pair_of_the_most_likely(both):
    u, v = both
    codes = join_logits(u, v).argmax(1)
    c1, c2 = decode_pair(codes, u.shape[1])
    assert torch.equal(c1, u.argmax(1))
    assert torch.equal(c2, v.argmax(1))


@settings(deadline=None)
@given(logits)
def test_the_softmax_of_a_pair_is_the_product_of_the_softmaxes(both):
    u, v = both
    num_classes = u.shape[1]
    joint, p, q = join_logits(u, v).softmax(1), u.softmax(1), v.softmax(1)
    for c1 in range(num_classes):
        for c2 in range(num_classes):
            torch.testing.assert_close(joint[:, c1 + num_classes * c2], p[:, c1] * q[:, c2])


@settings(deadline=None)
@given(logits)
def test_splitting_gives_the_marginals(both):
    u, v = both
    joint = join_logits(u, v)
    for found, expected in zip(split_logits(joint), both, strict=True):
        torch.testing.assert_close(found.softmax(1), expected.softmax(1))
    for found, expected in zip(split_probabilities(joint.softmax(1)[0].numpy()), both, strict=True):
        np.testing.assert_allclose(found, expected.softmax(1)[0].numpy(), rtol=1e-10)


@pytest.mark.parametrize("num_classes", [2, 3, 4])
def test_splitting_any_joint_distribution_gives_its_marginals(num_classes: int):
    """Also of one that is no product, such as the mean of several models' softmaxes."""
    joint = (
        torch.rand(
            (1, num_classes**2, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )
        + 0.1
    )
    joint /= joint.sum(1, keepdim=True)
    u, v = split_logits(joint.log())
    for label in range(num_classes):
        of_image_1 = sum(joint[:, label + num_classes * other] for other in range(num_classes))
        of_image_2 = sum(joint[:, other + num_classes * label] for other in range(num_classes))
        torch.testing.assert_close(u.softmax(1)[:, label], of_image_1)
        torch.testing.assert_close(v.softmax(1)[:, label], of_image_2)


@settings(deadline=None)
@given(st.integers(0, 1000), CLASSES)
def test_averaging_commutes_with_joining(seed: int, num_classes: int):
    (u, v), (u_other, v_other) = two_logits(seed, num_classes), two_logits(seed + 5000, num_classes)
    mean_of_joined = (join_logits(u, v).float() + 3 * join_logits(u_other, v_other).float()) / 4
    joined_means = join_logits((u + 3 * u_other) / 4, (v + 3 * v_other) / 4).float()
    torch.testing.assert_close(mean_of_joined, joined_means, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3, 4])
def test_linear_resampling_commutes_with_joining(num_classes: int):
    u, v = (x.float() for x in two_logits(1, num_classes))

    def trilinear(x: torch.Tensor) -> torch.Tensor:
        return interpolate(x, size=(7, 3, 11), mode="trilinear")

    torch.testing.assert_close(
        trilinear(join_logits(u, v)), join_logits(trilinear(u), trilinear(v)), atol=1e-5, rtol=1e-5
    )

    def spline(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(zoom(x.numpy(), (1, 1, 1.7, 0.6, 1.3), order=1))

    torch.testing.assert_close(
        spline(join_logits(u, v)), join_logits(spline(u), spline(v)), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(("num_classes", "dtype"), [(2, np.uint8), (16, np.uint8), (17, np.uint16)])
def test_codes_take_the_smallest_type_that_holds_them(num_classes: int, dtype: type):
    highest = np.full((2, 3), num_classes - 1, np.int64)
    code = encode_pair(highest, highest, num_classes)
    assert code.dtype == dtype
    assert (code == num_classes**2 - 1).all()
    tensor = encode_pair(torch.from_numpy(highest), torch.from_numpy(highest), num_classes)
    assert tensor.dtype == torch.int64
    assert (tensor == num_classes**2 - 1).all()


def test_empty_arrays():
    empty = np.zeros((0, 4), np.uint8)
    assert encode_pair(empty, empty).shape == (0, 4)
    assert [part.shape for part in decode_pair(empty)] == [(0, 4), (0, 4)]
    assert encode_pair(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)


def test_floats_are_taken_when_they_hold_integers():
    assert encode_pair(np.array([1.0, 0.0]), np.array([1.0, 1.0])).tolist() == [3, 2]
    for values in (np.array([0.4]), torch.tensor([0.4])):
        with pytest.raises(InputError, match="must be integers"):
            encode_pair(values, values)
    with pytest.raises(InputError, match=r"0\.\.1, found nan"):
        encode_pair(np.array([np.nan]), np.array([1.0]))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_what_cannot_be_encoded(kind):
    fine, high, negative = (kind(np.array([value, 0], np.int16)) for value in (1, 2, -1))
    with pytest.raises(InputError, match=r"0\.\.1, found 0\.\.2"):
        encode_pair(fine, high)
    with pytest.raises(InputError, match=r"0\.\.1, found -1\.\.0"):
        encode_pair(negative, fine)
    with pytest.raises(InputError, match=r"differ in shape: \(2,\) and \(1,\)"):
        encode_pair(fine, fine[:1])
    with pytest.raises(InputError, match="at least 2 classes"):
        encode_pair(fine, fine, 1)
    with pytest.raises(InputError, match=r"0\.\.3, found 0\.\.4"):
        decode_pair(kind(np.array([0, 4])))
    with pytest.raises(InputError, match="at least 2 classes"):
        decode_pair(fine, 1)


def test_what_cannot_be_joined_or_split():
    with pytest.raises(InputError, match="differ in shape"):
        join_logits(torch.zeros(1, 2, 3), torch.zeros(1, 3, 3))
    for channels in (1, 2, 3, 5, 8):
        with pytest.raises(InputError, match=f"{channels} labels are no pair code"):
            split_logits(torch.zeros(1, channels, 3))
        with pytest.raises(InputError, match="no pair code"):
            split_probabilities(np.zeros((channels, 3)))
    assert [num_marginal_classes(n) for n in (4, 9, 16)] == [2, 3, 4]


def test_codes_and_regions_of_one_organ():
    assert ONE_ORGAN.codes(0, 1) == (1, 3)
    assert ONE_ORGAN.codes(1, 1) == (2, 3)
    assert ONE_ORGAN.codes(0, 0) == (0, 2)
    assert ONE_ORGAN.regions() == {"T1 liver": (1, 3), "T2 liver": (2, 3)}
    assert ONE_ORGAN.dataset_labels() == {
        "background": 0,
        "T1 liver only": 1,
        "T2 liver only": 2,
        "T1 liver and T2 liver": 3,
    }


def test_codes_and_regions_of_two_organs():
    assert TWO_ORGANS.regions() == {
        "T1 liver": (1, 4, 7),
        "T1 spleen": (2, 5, 8),
        "T2 liver": (3, 4, 5),
        "T2 spleen": (6, 7, 8),
    }
    labels = TWO_ORGANS.dataset_labels()
    assert list(labels.values()) == list(range(9))
    assert labels["T1 spleen and T2 liver"] == 5
    assert labels["T2 spleen only"] == 6


@pytest.mark.parametrize("pair", [ONE_ORGAN, TWO_ORGANS])
def test_a_dataset_json_is_read_back(pair: PairLabels):
    content = json.loads(json.dumps({"labels": pair.dataset_labels(), "pair": pair.to_json()}))
    assert PairLabels.from_dataset_json(content) == pair
    assert PairLabels.from_dataset_json({"labels": {"background": 0, "liver": 1}}) is None


@pytest.mark.parametrize(
    ("labels", "entry", "message"),
    [
        (
            {"background": 0, "a": 1, "b": 2, "c": 3, "ignore": 4},
            ONE_ORGAN.to_json(),
            "ignore label",
        ),
        ({"background": 0, "a": 1, "b": 2, "ignore": 3}, ONE_ORGAN.to_json(), "ignore label"),
        ({"background": 0, "liver": 1}, ONE_ORGAN.to_json(), "4 pair codes"),
        (ONE_ORGAN.dataset_labels(), TWO_ORGANS.to_json(), "9 pair codes"),
        (
            ONE_ORGAN.dataset_labels(),
            {"modalities": ["T1", "T2"]},
            "must hold `modalities` and `classes`",
        ),
        (ONE_ORGAN.dataset_labels(), ["T1", "T2"], "must hold `modalities` and `classes`"),
        (
            ONE_ORGAN.dataset_labels(),
            {"modalities": ["T1", "T1"], "classes": ["background", "liver"]},
            "different names",
        ),
        (
            ONE_ORGAN.dataset_labels(),
            {"modalities": ["T1"], "classes": ["background", "liver"]},
            "two modalities",
        ),
        (
            {"background": 0},
            {"modalities": ["T1", "T2"], "classes": ["background"]},
            "at least 2 classes",
        ),
    ],
)
def test_a_pair_entry_that_does_not_fit(labels, entry, message: str):
    with pytest.raises(InputError, match=message):
        PairLabels.from_dataset_json({"labels": labels, "pair": entry})
