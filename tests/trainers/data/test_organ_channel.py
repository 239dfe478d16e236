"""A liver mask that is stored as a channel and travels as a segmentation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.data.augmentation import paper_transforms
from nnunet_liver_ext.trainers.data.ordered_batches import SeededDataLoader, temporary_seed
from nnunet_liver_ext.trainers.data.organ_channel import LeadingChannels, Mask, OrganChannel
from tests.trainers.stored_cases import IMAGE_CHANNELS, SHAPE, case_arrays, load_dataset, store_case

BOXES = [
    [[2, 7], [3, 20], [0, 20]],
    [[-3, 12], [-5, 30], [4, 26]],  # beyond the image on most sides
    [[9, 12], [23, 30], [-6, 1]],  # one voxel of it
]
LABELS = SimpleNamespace(has_ignore_label=False, all_labels=[0, 1])


@pytest.fixture(params=["b2nd", "npz"])
def dataset(request, tmp_path: Path) -> Any:
    for seed, name in enumerate(("a", "b")):
        store_case(tmp_path, name, seed, (1,), ending=request.param)
    return load_dataset(tmp_path, request.param)


def test_a_case_has_one_channel_less_and_the_mask_beside_it(dataset):
    organ_dataset = OrganChannel(dataset, IMAGE_CHANNELS)
    assert organ_dataset.identifiers == ["a", "b"]
    image, labels = case_arrays(1, (1,))
    data, seg, mask, properties = organ_dataset.load_case("b")
    assert data.shape == (IMAGE_CHANNELS, *SHAPE)
    np.testing.assert_array_equal(data[:], image[:-1])
    np.testing.assert_array_equal(seg[:], labels)
    assert (mask.shape, mask.dtype, mask[:].dtype) == (SHAPE, np.int8, np.int8)
    np.testing.assert_array_equal(mask[:], image[-1] > 0.5)
    assert 0 < mask[:].mean() < 1
    np.testing.assert_array_equal(np.asarray(mask), mask[:])
    np.testing.assert_array_equal(np.asarray(data), data[:])
    assert properties["spacing"] == (1, 1, 1)
    assert (
        organ_dataset.properties("b")["class_locations"][1].tolist()
        == properties["class_locations"][1].tolist()
    )


@pytest.mark.parametrize("box", BOXES)
def test_nnunets_crop_of_the_views_is_that_of_arrays(dataset, box):
    image, _ = case_arrays(0, (1,))
    data, _, mask, _ = OrganChannel(dataset, IMAGE_CHANNELS).load_case("a")
    np.testing.assert_array_equal(
        crop_and_pad_nd(data, box, 0), crop_and_pad_nd(image[:-1], box, 0)
    )
    found = crop_and_pad_nd(mask, box, -1, cast_cropped_to=np.int16)
    expected = crop_and_pad_nd((image[-1] > 0.5).astype(np.int8), box, -1, cast_cropped_to=np.int16)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


class Recording:
    """An array that notes what is read of it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, 0

    def __getitem__(self, key: Any) -> np.ndarray:
        part = self.array[key]
        self.read += part.size
        return part


def test_only_the_patch_is_read():
    stored = Recording(case_arrays(0, (1,))[0])
    crop_and_pad_nd(LeadingChannels(stored, IMAGE_CHANNELS), BOXES[0], 0)
    assert stored.read == IMAGE_CHANNELS * 5 * 17 * 20
    stored.read = 0
    crop_and_pad_nd(Mask(stored, IMAGE_CHANNELS), BOXES[0], -1, cast_cropped_to=np.int16)
    assert stored.read == 5 * 17 * 20


def test_views_are_indexed_like_arrays():
    image = case_arrays(0, (1,))[0]
    view, expected = LeadingChannels(image, IMAGE_CHANNELS), image[:IMAGE_CHANNELS]
    for key in (
        slice(None),
        ...,
        0,
        -1,
        (slice(1, None), 3),
        (-1, slice(2, 4), ..., 5),
        (..., slice(0, 2)),
        slice(0, 9),
    ):
        np.testing.assert_array_equal(view[key], expected[key])
    with pytest.raises(IndexError):
        view[IMAGE_CHANNELS]
    mask = Mask(image, IMAGE_CHANNELS)
    for key in (slice(None), ..., (3, 4), (slice(2, 4), ..., 5)):
        np.testing.assert_array_equal(mask[key], (image[-1] > 0.5)[key])


@pytest.mark.parametrize("patch", [(12, 32, 16), (20, 12)])
def test_nnunets_loader_gives_the_mask_as_second_segmentation(dataset, patch):
    """Patches beyond the image: there the data are 0, and −1 becomes no liver; downsampling keeps
    both channels."""
    scales = [[1.0] * len(patch), [0.5] * len(patch)]
    last = nnUNetTrainer.get_validation_transforms(scales, is_cascaded=False, foreground_labels=[1])
    loader = SeededDataLoader(
        OrganChannel(dataset, IMAGE_CHANNELS), 2, patch, patch, LABELS, 0.5, transforms=last
    )
    raw = SeededDataLoader(dataset, 2, patch, patch, LABELS, 0.5, transforms=last)
    for _ in range(4):
        found, expected = next(loader), next(raw)
        assert list(found["keys"]) == list(expected["keys"])
        assert torch.equal(found["data"], expected["data"][:, :IMAGE_CHANNELS])
        full, half = found["target"]
        assert full.shape == (2, 2, *patch)
        assert torch.equal(full[:, :1], expected["target"][0])
        assert torch.equal(full[:, 1], (expected["data"][:, -1] > 0.5).to(full.dtype))
        halves = (..., *[slice(1, None, 2)] * len(patch))
        assert torch.equal(half, full[halves])


def test_the_mask_moves_with_the_image_and_keeps_its_values(dataset):
    """A first image channel that is the mask: after flips, deformation, contrast and shift, both
    still say the same."""

    class MaskTwice:
        identifiers = dataset.identifiers

        def load_case(self, identifier):
            data, *rest = dataset.load_case(identifier)
            mask = (data[2:3] > 0.5).astype(np.float32)
            return np.concatenate([mask, data[2:3]]), *rest

    transforms = paper_transforms(
        flip_probability=0.5,
        contrast_low=0.75,
        contrast_high=1.25,
        shift_sd=0.25,
        shift_range=0.0,
        elastic_sd_voxels=1.0,
        elastic_points=4,
    )

    def together(**sample):
        for transform in transforms:
            sample = transform(**sample)
        return sample

    loader = SeededDataLoader(
        OrganChannel(MaskTwice(), 1), 2, (8, 20, 16), (8, 20, 16), LABELS, transforms=together
    )
    for _ in range(6):
        batch = next(loader)
        for image, mask in zip(batch["data"][:, 0], batch["target"][:, 1], strict=True):
            assert set(mask.unique().tolist()) <= {-1, 0, 1}
            bright = image > (image.min() + image.max()) / 2
            assert (bright != (mask == 1)).float().mean() < 0.06
            assert 0.05 < bright.float().mean() < 0.95


def test_the_same_seed_gives_the_same_batch(dataset):
    def once() -> dict:
        loader = SeededDataLoader(
            OrganChannel(dataset, IMAGE_CHANNELS), 2, (8, 8, 8), (8, 8, 8), LABELS
        )
        with temporary_seed(0):
            return next(loader)

    assert torch.equal(once()["target"], once()["target"])


def test_cases_that_do_not_fit_are_refused(dataset):
    with pytest.raises(
        InputError, match="a: is stored with 3 channels, but its liver mask should be the last of 2"
    ):
        OrganChannel(dataset, 1).load_case("a")
    dataset.load_case = lambda identifier: (np.zeros((2, 3, 3, 3)), None, np.zeros((3, 3, 3)), {})
    with pytest.raises(InputError, match="a cascade cannot be trained"):
        OrganChannel(dataset, 1).load_case("a")
