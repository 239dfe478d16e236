from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from nnunet_liver_ext.losses.adversarial import (
    accuracy,
    deception_loss,
    discriminator_loss,
    embedding_loss,
    gradient_penalty,
)

SHAPE = (2, 1, 2, 3, 4)
HALVES = [torch.float16, torch.bfloat16]


def test_a_discriminator_that_knows_nothing_loses_two_ln_2():
    nothing = torch.zeros(SHAPE)
    assert discriminator_loss(nothing, nothing).item() == pytest.approx(2 * math.log(2))
    assert deception_loss(nothing).item() == pytest.approx(math.log(2))


def test_by_hand():
    annotations, predictions = torch.tensor([[[1.0, -2.0]]]), torch.tensor([[[0.5, 3.0, -1.0]]])
    of_annotations = [-math.log(1 / (1 + math.exp(-z))) for z in (1.0, -2.0)]
    of_predictions = [-math.log(1 - 1 / (1 + math.exp(-z))) for z in (0.5, 3.0, -1.0)]
    expected = sum(of_annotations) / 2 + sum(of_predictions) / 3
    assert discriminator_loss(annotations, predictions).item() == pytest.approx(expected)
    deceiving = [-math.log(1 / (1 + math.exp(-z))) for z in (0.5, 3.0, -1.0)]
    assert deception_loss(predictions).item() == pytest.approx(sum(deceiving) / 3)


def test_the_minima_are_zero_and_on_the_right_side():
    sure = torch.full(SHAPE, 200.0)
    assert discriminator_loss(sure, -sure).item() == 0
    assert deception_loss(sure).item() == 0
    assert discriminator_loss(-sure, sure).item() == pytest.approx(400)
    assert deception_loss(-sure).item() == pytest.approx(200)


def test_the_discriminator_learns_annotations_up_and_predictions_down():
    annotations, predictions = (
        torch.zeros(SHAPE, requires_grad=True),
        torch.zeros(SHAPE, requires_grad=True),
    )
    discriminator_loss(annotations, predictions).backward()
    assert (annotations.grad < 0).all()
    assert (predictions.grad > 0).all()


def test_deceiving_pushes_up_and_does_not_saturate():
    """Where D is sure that a mask is predicted, the segmentor has its full gradient: −1 per region,
    not 0."""
    logits = torch.full(SHAPE, -50.0, requires_grad=True)
    deception_loss(logits).backward()
    assert torch.allclose(logits.grad, torch.full(SHAPE, -1 / logits.numel()))


def test_embedding_loss_is_the_mean_square():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn((2, 8, 3, 4), generator=generator) for _ in range(2))
    assert embedding_loss(a, a).item() == 0
    assert embedding_loss(a, b).item() == pytest.approx(((a - b).numpy() ** 2).mean(), rel=1e-6)
    assert embedding_loss(torch.zeros(2, 8), torch.full((2, 8), 3.0)).item() == 9


def test_gradient_penalty_of_a_linear_discriminator_is_half_the_squared_weight():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((1, 2, 4, 5), generator=generator).requires_grad_()
    masks = torch.rand((3, 2, 4, 5), generator=generator).requires_grad_()
    penalty = gradient_penalty(functional.conv2d(masks, weight), masks)
    assert penalty.item() == pytest.approx(weight.square().sum().item() / 2, rel=1e-6)
    penalty.backward()
    assert torch.allclose(weight.grad, weight.detach())


def test_gradient_penalty_of_a_discriminator_that_is_not_linear():
    """D(y) = (w · y)³: ∂D/∂y = 3 (w · y)² w, so the penalty is ½ · mean of 9 (w · y)⁴ |w|²."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(6, generator=generator).requires_grad_()
    masks = torch.rand((4, 1, 6), generator=generator).requires_grad_()
    penalty = gradient_penalty((masks @ weight) ** 3, masks)
    by_hand = (
        9 * (masks.detach() @ weight.detach()) ** 4 * weight.detach().square().sum()
    ).mean() / 2
    assert penalty.item() == pytest.approx(by_hand.item(), rel=1e-5)
    penalty.backward()
    assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("size", [0.0, 1e4, -1e4])
def test_half_precision_of_any_size_is_finite(dtype: torch.dtype, size: float):
    logits, other = (
        torch.full(SHAPE, value, dtype=dtype, requires_grad=True) for value in (size, -size)
    )
    for loss in (
        discriminator_loss(logits, other),
        deception_loss(logits),
        embedding_loss(logits, other),
    ):
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(other.grad).all()


def test_half_precision_equals_float32_of_the_same_numbers():
    logits = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).half()
    assert deception_loss(logits) == deception_loss(logits.float())
    assert embedding_loss(logits, -logits) == embedding_loss(logits.float(), -logits.float())


def test_accuracy_is_the_share_of_right_answers():
    logits = torch.tensor([[[3.0, 0.1, -0.1, -7.0]]])
    assert accuracy(logits, annotations=True).item() == 0.5
    assert accuracy(logits[..., :3], annotations=True).item() == pytest.approx(2 / 3)
    assert accuracy(logits[..., :3], annotations=False).item() == pytest.approx(1 / 3)
    assert accuracy(-logits.abs(), annotations=False).item() == 1
