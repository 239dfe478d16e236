"""Which sizes there are, and that all levels of a crop show the same region."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import (
    DownsampleSegForDSTransform,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.data.crops import (
    bucketed_sizes,
    core,
    crop_batch,
    draw_size,
    envelope,
)
from nnunet_liver_ext.trainers.data.ordered_batches import temporary_seed

PATCH, STEP, IMAGE = (32, 128, 128), (4, 16, 16), (60, 200, 300)
SCALES = [[1.0, 1.0, 1.0], [1.0, 0.5, 0.5], [0.5, 0.25, 0.25], [0.25, 0.125, 0.125]]


def sizes_of(
    count: int = 6, smallest: float = 0.5, seed: int = 0, **other
) -> list[tuple[int, ...]]:
    numbers = {"patch_size": PATCH, "size_multiple": STEP, "image_size": IMAGE} | other
    return bucketed_sizes(**numbers, count=count, smallest=smallest, seed=seed)


# ---------------------------------------------------------------- sizes


def test_all_sizes_of_a_small_case_by_hand():
    """Axes of 1 to 4 blocks of 8, of at most 2 x 2 blocks together; the image has 3 blocks along
    x."""
    found = bucketed_sizes((16, 16), (8, 8), (100, 20), count=99, smallest=0.5, seed=0)
    assert found[0] == (16, 16)
    assert set(found) == {(8, 8), (8, 16), (8, 24), (16, 8), (16, 16), (24, 8), (32, 8)}
    assert len(found) == 7


@given(
    blocks=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    step=st.integers(1, 16),
    image=st.integers(1, 200),
    smallest=st.floats(0.05, 1.0),
    count=st.integers(1, 8),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_sizes_keep_their_promises(blocks, step, image, smallest, count, seed):
    patch, dims = tuple(n * step for n in blocks), len(blocks)
    sizes = bucketed_sizes(
        patch, [step] * dims, [image] * dims, count=count, smallest=smallest, seed=seed
    )
    assert sizes[0] == patch
    assert len(set(sizes)) == len(sizes) <= count
    needed = math.ceil(image / step) * step
    for size in sizes[1:]:
        assert math.prod(size) <= math.prod(patch)
        for n, whole in zip(size, patch, strict=True):
            assert n % step == 0
            assert n <= min(2 * whole, needed)
            assert n >= min(smallest * whole, needed) - 1e-6


def test_the_same_seed_gives_the_same_sizes():
    assert sizes_of(seed=1) == sizes_of(seed=1)
    assert len({tuple(sizes_of(seed=seed)) for seed in range(10)}) == 10


def test_ratios_are_spread_evenly():
    """Over many seeds: y and x alike, from half to twice the patch, on average as the weights
    say."""
    sizes = np.array(
        [size for seed in range(400) for size in sizes_of(seed=seed, image_size=(999,) * 3)[1:]],
        float,
    )
    logarithms = np.log2(sizes / PATCH)
    assert (logarithms.min(0) == -1).all()
    assert (logarithms.max(0) == 1).all()
    ratio = logarithms[:, 1] - logarithms[:, 2]
    assert abs(ratio.mean()) < 4 * ratio.std() / len(ratio) ** 0.5
    assert ratio.std() > 0.5  # ratios of 1 : 2 are common
    assert np.abs(np.diff(logarithms.mean(0))).max() < 0.15
    every = np.array(
        [
            size
            for size in product(range(16, 65, 4), range(64, 257, 16), range(64, 257, 16))
            if math.prod(size) <= math.prod(PATCH) and size != PATCH
        ],
        float,
    )
    weights = 1 / every.prod(1)
    expected = (np.log2(every / PATCH) * weights[:, None]).sum(0) / weights.sum()
    np.testing.assert_allclose(logarithms.mean(0), expected, atol=4 * 0.5 / len(sizes) ** 0.5)


def test_one_size_is_the_patch_and_so_are_all_when_nothing_else_fits():
    assert sizes_of(count=1) == [PATCH]
    assert bucketed_sizes((8, 8), (8, 8), (5, 5), count=5, smallest=1.0, seed=0) == [(8, 8)]


def test_the_shortest_length_is_the_share_itself():
    """0.55 * 100 is 55.00000000000001 on a computer."""
    sizes = bucketed_sizes((100, 100), (5, 5), (100, 100), count=99, smallest=0.55, seed=0)
    assert core(sizes) == (55, 55)


def test_many_multiples_are_thinned():
    sizes = bucketed_sizes(
        (160, 160, 160), (1, 1, 1), (400, 400, 400), count=20, smallest=0.4, seed=0
    )
    assert len(sizes) == 20
    assert min(core(sizes)) >= 64


def test_wrong_numbers():
    with pytest.raises(
        InputError,
        match=r"patch size \(32, 120, 128\): each axis must be a multiple of \(4, 16, 16\)",
    ):
        sizes_of(patch_size=(32, 120, 128))
    for count, smallest in ((0, 0.5), (3, 0.0), (3, 1.5)):
        with pytest.raises(InputError, match="at least one size and a smallest share in"):
            sizes_of(count=count, smallest=smallest)


def test_envelope_and_core():
    assert envelope([(8, 32, 16), (16, 8, 16)]) == (16, 32, 16)
    assert core([(8, 32, 16), (16, 8, 16)]) == (8, 8, 16)


def test_sizes_are_drawn_alike_and_with_numpys_state():
    sizes = sizes_of(count=4)
    with temporary_seed(0):
        drawn = [draw_size(sizes) for _ in range(10_000)]
    with temporary_seed(0):
        assert [draw_size(sizes) for _ in range(5)] == drawn[:5]
    counts = np.array([drawn.count(size) for size in sizes])
    np.testing.assert_allclose(counts / 10_000, 0.25, atol=4 * (0.25 * 0.75 / 10_000) ** 0.5)


# ---------------------------------------------------------------- crops


def batch_of(shape: tuple[int, ...]) -> dict:
    """Every voxel knows its place in the data; targets as nnU-Net makes them."""
    segmentation = torch.arange(math.prod(shape)).reshape(1, *shape)
    targets = DownsampleSegForDSTransform(SCALES)(segmentation=segmentation.double().clone())[
        "segmentation"
    ]
    data = segmentation.float().repeat(3, 1, 1, 1)
    return {
        "data": torch.stack([data, -data]),
        "target": [torch.stack([t, -t]) for t in targets],
        "keys": ["a", "b"],
    }


@pytest.mark.parametrize("size", [(8, 32, 48), (16, 64, 64), (4, 16, 16), (12, 48, 16)])
def test_every_level_is_the_downsampled_crop(size: tuple[int, int, int]):
    shape = (16, 64, 64)
    batch = batch_of(shape)
    found = crop_batch(batch, size, SCALES)
    assert found["data"].shape == (2, 3, *size)
    assert found["keys"] == ["a", "b"]
    assert torch.equal(found["data"][0, 0].double(), found["target"][0][0, 0].double())
    again = DownsampleSegForDSTransform(SCALES)(segmentation=found["target"][0][0].clone())[
        "segmentation"
    ]
    for level, expected in zip(found["target"], again, strict=True):
        assert torch.equal(level[0], expected)
        assert torch.equal(level[1], -expected)
    assert found["data"].is_contiguous()
    assert all(level.is_contiguous() for level in found["target"])


@pytest.mark.parametrize("size", [(8, 32, 48), (4, 16, 16), (12, 48, 16)])
@pytest.mark.parametrize("scales", [None, SCALES])
def test_a_crop_is_in_the_middle_and_has_the_central_voxel(size, scales):
    data = torch.zeros(1, 1, 16, 64, 64)
    data[0, 0, 8, 32, 32] = 1  # where nnU-Net puts the voxel that a patch is centred on
    targets = [
        data[..., :: round(1 / s[0]), :: round(1 / s[1]), :: round(1 / s[2])] for s in SCALES
    ]
    found = crop_batch({"data": data, "target": targets if scales else data}, size, scales)
    place = torch.nonzero(found["data"][0, 0])
    assert len(place) == 1
    steps = (4, 8, 8) if scales else (1, 1, 1)
    assert all(
        abs(at - n / 2) <= step / 2
        for at, n, step in zip(place[0].tolist(), size, steps, strict=True)
    )


def test_a_single_target_stays_a_tensor_and_the_whole_is_the_whole():
    batch = {"data": torch.rand(2, 1, 10, 12), "target": torch.rand(2, 2, 10, 12)}
    found = crop_batch(batch, (5, 4), None)
    assert torch.equal(found["target"], batch["target"][:, :, 3:8, 4:8])
    assert torch.equal(found["data"], batch["data"][:, :, 3:8, 4:8])
    whole = crop_batch(batch, (10, 12), None)
    assert all(torch.equal(whole[name], batch[name]) for name in batch)
    with pytest.raises(ValueError, match="does not fit into a batch"):
        crop_batch(batch, (11, 4), None)


def test_crops_of_every_size_reach_the_images_border():
    """With the envelope as patch and the core as final patch, nnU-Net's own choice of boxes."""
    from types import SimpleNamespace

    from nnunet_liver_ext.trainers.data.ordered_batches import SeededDataLoader

    sizes = [(4, 8, 8), (2, 16, 8), (8, 4, 8)]

    class Rows:
        identifiers = ("case",)

        def load_case(self, identifier):
            seg = np.zeros((1, 12, 24, 24), np.int16)
            seg[0, 0], seg[0, -1] = 1, 2
            return np.zeros((1, 12, 24, 24), np.float32), seg, None, {"class_locations": {}}

    labels = SimpleNamespace(has_ignore_label=False, all_labels=[0, 1])
    loader = SeededDataLoader(Rows(), 8, envelope(sizes), core(sizes), labels)
    for size in sizes:
        seen = torch.cat([crop_batch(next(loader), size, None)["target"] for _ in range(12)])
        assert {1, 2} <= set(seen.unique().tolist())
