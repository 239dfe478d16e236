from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nnunet_liver_ext.deformation import warp
from nnunet_liver_ext.losses.registration import registration_loss, similarity_loss


def masks(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def blurred(images: torch.Tensor) -> np.ndarray:
    result = images.double().numpy()
    for axis in range(2, images.ndim):
        result = ndimage.convolve1d(result, [0.25, 0.5, 0.25], axis=axis, mode="nearest")
    return result


@pytest.mark.parametrize("shape", [(2, 1, 5, 6, 7), (1, 3, 8, 5), (1, 1, 4, 4, 1)])
def test_registration_loss_against_scipy(shape: tuple[int, ...]):
    warped, annotation = masks(0, *shape), (masks(1, *shape) > 0.5).float()
    expected = ((blurred(warped) - blurred(annotation)) ** 2).mean()
    assert registration_loss(warped, annotation).item() == pytest.approx(expected, rel=1e-5)


def test_similarity_loss_is_the_mean_square():
    warped, prediction = masks(0, 2, 2, 4, 5), masks(1, 2, 2, 4, 5)
    expected = ((warped - prediction).numpy().astype(float) ** 2).mean()
    assert similarity_loss(warped, prediction).item() == pytest.approx(expected, rel=1e-5)


def test_the_minimum_is_zero_and_the_worst_is_one():
    mask = (masks(0, 2, 1, 6, 6, 6) > 0.5).float()
    empty, full = torch.zeros_like(mask), torch.ones_like(mask)
    for loss in (registration_loss, similarity_loss):
        assert loss(mask, mask).item() == 0
        assert loss(empty, empty).item() == 0
        assert loss(empty, full).item() == pytest.approx(1)
        assert loss(full, empty).item() == pytest.approx(1)


def test_similarity_loss_trains_the_prediction_alone():
    warped, prediction = (masks(seed, 1, 1, 4, 4).requires_grad_() for seed in range(2))
    similarity_loss(warped, prediction).backward()
    assert warped.grad is None
    difference = prediction.detach() - warped.detach()
    assert torch.allclose(prediction.grad, 2 * difference / difference.numel())


def test_registration_loss_trains_the_displacement():
    """A bar that lies a voxel too far is moved back: what pulls must look further along that axis,
    and that axis only."""
    line = torch.zeros(1, 1, 12, 4)
    line[:, :, 4:7] = 1
    displacement = torch.zeros((1, 2, 12, 4), requires_grad=True)
    registration_loss(warp(line, displacement), line.roll(-1, 2)).backward()
    assert displacement.grad[:, 0].sum() < 0
    assert displacement.grad[:, 1, :, 1:-1].abs().max() < 1e-6


def test_the_low_pass_filter_gives_a_gradient_across_a_gap_of_one_voxel():
    """Without the filter, masks that nearly touch would not feel each other."""
    first, second = torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 9, 9)
    first[..., 2, 4], second[..., 4, 4] = 1, 1
    first.requires_grad_()
    registration_loss(first, second).backward()
    assert first.grad[0, 0, 3, 4] < first.grad[0, 0, 1, 4]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4, -1e4])
def test_half_precision_of_any_size_is_finite(dtype: torch.dtype, size: float):
    a = torch.full((1, 1, 4, 4, 4), size, dtype=dtype, requires_grad=True)
    b = torch.full((1, 1, 4, 4, 4), -size, dtype=dtype, requires_grad=True)
    for loss in (registration_loss(a, b.detach()), similarity_loss(a, b)):
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        loss.backward()
    for tensor in (a, b):
        assert torch.isfinite(tensor.grad).all()


def test_half_precision_equals_float32_of_the_same_numbers():
    a, b = masks(0, 1, 1, 4, 4).half(), masks(1, 1, 1, 4, 4).half()
    assert registration_loss(a, b) == registration_loss(a.float(), b.float())
    assert similarity_loss(a, b) == similarity_loss(a.float(), b.float())


def test_what_was_not_seen_costs_nothing_and_has_no_gradient():
    warped, prediction = torch.zeros(1, 1, 1, 4), torch.full((1, 1, 1, 4), 0.5, requires_grad=True)
    seen = torch.tensor([True, True, False, False]).view(1, 1, 1, 4)
    loss = similarity_loss(warped, prediction, seen)
    assert loss.item() == pytest.approx(2 * 0.25 / 4)
    loss.backward()
    assert prediction.grad.flatten().tolist() == pytest.approx([0.25, 0.25, 0.0, 0.0])
