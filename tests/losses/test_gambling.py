from __future__ import annotations

import math

import pytest
import torch

from nnunet_liver_ext.losses.gambling import betting_map, share_of_bets, voxel_errors, winnings


def logits_of(*labels: int, confidence: float = 2.0) -> torch.Tensor:
    """(1, 2, n): logits of a segmentor that says `labels`."""
    label = torch.tensor(labels, dtype=torch.float32)
    return torch.stack([(1 - label) * confidence, label * confidence])[None]


def test_bets_by_hand():
    logits = torch.tensor([[[0.0, math.log(3), -math.log(3)]]])
    raw = [0.52, 0.77, 0.27]
    expected = [value / (sum(raw) / 3) for value in raw]
    assert betting_map(logits, 0.02)[0].tolist() == pytest.approx(expected, rel=1e-6)
    without_a_choice = betting_map(torch.full((1, 1, 4), -3.0), 0.02)
    assert without_a_choice.tolist() == [pytest.approx([1.0] * 4)]


def test_the_mean_bet_of_each_sample_is_one():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((3, 1, 4, 5, 6), generator=generator) * torch.tensor(
        [0.1, 3.0, 50.0]
    ).view(3, 1, 1, 1, 1)
    bets = betting_map(logits)
    assert bets.shape == (3, 4, 5, 6)
    assert bets.mean((1, 2, 3)).tolist() == pytest.approx([1.0] * 3, rel=1e-5)
    assert (bets > 0).all()


def test_a_sample_does_not_bet_with_the_budget_of_another():
    logits = torch.randn((2, 1, 8), generator=torch.Generator().manual_seed(0))
    other = logits.clone()
    other[1] += 5 * torch.arange(8)
    assert torch.equal(betting_map(logits)[0], betting_map(other)[0])


def test_the_floor_limits_how_unequal_the_bets_can_be():
    logits = torch.tensor([[[1e4, -1e4]]])
    assert betting_map(logits, 0.02)[0, 0] / betting_map(logits, 0.02)[0, 1] == pytest.approx(
        1.02 / 0.02, rel=1e-4
    )


def test_voxel_errors_are_the_cross_entropy():
    logits = torch.tensor([[[0.0, 1.0], [0.0, 3.0], [0.0, -1.0]]])  # (1, 3, 2)
    labels = torch.tensor([[[2, 1]]])
    second = -math.log(math.exp(3) / (math.exp(1) + math.exp(3) + math.exp(-1)))
    assert voxel_errors(logits, labels)[0].tolist() == pytest.approx([math.log(3), second])


def test_winnings_by_hand():
    bets, errors = torch.tensor([[2.0, 0.5, 0.5]]), torch.tensor([[0.1, 0.0, 4.0]])
    assert winnings(bets, errors).item() == pytest.approx((0.2 + 0 + 2) / 3)


def test_even_bets_win_the_mean_cross_entropy():
    logits, labels = logits_of(0, 1, 1), torch.tensor([[[0, 0, 1]]])
    errors = voxel_errors(logits, labels)
    assert winnings(betting_map(torch.zeros(1, 1, 3)), errors).item() == pytest.approx(
        errors.mean().item()
    )


def test_the_gambler_bets_more_on_wrong_voxels_and_less_on_right_ones():
    labels = torch.tensor([[[0, 1, 0, 1]]])
    errors = voxel_errors(logits_of(0, 0, 1, 1), labels)
    bets = torch.zeros((1, 1, 4), requires_grad=True)
    (-winnings(betting_map(bets), errors)).backward()
    uphill = -bets.grad[0, 0]  # where a step of gradient descent goes
    assert (uphill[[1, 2]] > 0).all()
    assert (uphill[[0, 3]] < 0).all()
    assert uphill.sum().abs() < 1e-6


def test_the_segmentor_is_pushed_towards_the_label_and_harder_where_more_is_bet():
    logits, labels = torch.zeros((1, 2, 3), requires_grad=True), torch.tensor([[[1, 1, 0]]])
    winnings(torch.tensor([[2.0, 0.5, 0.5]]), voxel_errors(logits, labels)).backward()
    step = -logits.grad[0, 1]
    assert step.tolist() == pytest.approx([2 * 0.5 / 3, 0.5 * 0.5 / 3, -0.5 * 0.5 / 3])


def test_the_bets_vanish_with_their_gradient_where_the_segmentor_is_right():
    labels = torch.tensor([[[0, 1, 1]]])
    bets = torch.tensor([[0.1, 0.1, 2.8]])
    logits = logits_of(0, 1, 1, confidence=200.0).requires_grad_()
    lost = winnings(bets, voxel_errors(logits, labels))
    lost.backward()
    assert lost.item() == 0
    assert (logits.grad == 0).all()
    wrong = logits_of(0, 1, 0, confidence=200.0).requires_grad_()
    lost = winnings(bets, voxel_errors(wrong, labels))
    lost.backward()
    assert lost.item() == pytest.approx(2.8 * 200 / 3)
    assert (wrong.grad[..., 2] != 0).all()
    assert (wrong.grad[..., :2] == 0).all()


def test_without_any_error_the_gambler_has_nothing_to_win_and_no_gradient():
    bets = torch.randn((2, 1, 3, 3), requires_grad=True)
    won = winnings(betting_map(bets), torch.zeros(2, 3, 3))
    won.backward()
    assert won.item() == 0
    assert (bets.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [0.0, 1e4, -1e4])
def test_half_precision_of_any_size_is_finite(dtype: torch.dtype, size: float):
    stakes = torch.tensor([size, -size, size, 0.0], dtype=dtype).view(1, 1, 4).requires_grad_()
    logits = torch.tensor([[size, -size, 0.0, size], [-size, size, size, size]], dtype=dtype)[
        None
    ].requires_grad_()
    labels = torch.tensor([[[0, 0, 1, 1]]], dtype=torch.int16)
    bets, errors = betting_map(stakes), voxel_errors(logits, labels)
    assert bets.dtype == errors.dtype == torch.float32
    won = winnings(bets, errors)
    won.backward()
    assert torch.isfinite(won)
    for tensor in (bets, errors, stakes.grad, logits.grad):
        assert torch.isfinite(tensor).all()


def test_half_precision_bets_sum_up_over_many_voxels():
    """In float16 a sum of 10⁵ bets would be infinite."""
    bets = betting_map(torch.zeros((1, 1, 100_000), dtype=torch.float16))
    assert bets.sum().item() == pytest.approx(100_000)


def test_all_background_is_an_ordinary_case():
    labels = torch.zeros((1, 1, 4, 4))
    logits = torch.zeros((1, 2, 4, 4), requires_grad=True)
    lost = winnings(betting_map(torch.zeros((1, 1, 4, 4))), voxel_errors(logits, labels))
    lost.backward()
    assert lost.item() == pytest.approx(math.log(2))
    assert (logits.grad[:, 1] > 0).all()


def test_share_of_bets():
    bets = torch.tensor([[2.0, 0.5], [1.0, 0.5]])
    wrong = torch.tensor([[True, False], [False, True]])
    assert share_of_bets(bets, wrong).item() == pytest.approx(2.5 / 4)
    assert share_of_bets(bets, torch.ones_like(wrong)).item() == 1
    assert math.isnan(share_of_bets(bets, torch.zeros_like(wrong)).item())
