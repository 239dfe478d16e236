"""Memory that is counted without being used."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnunet_liver_ext.planning.fake_tensor_memory import LiveStorages, fake_tensors, mixed_precision

FLOAT, HALF = 4, 2


def test_storages_are_counted_once_and_until_they_are_given_back():
    before = torch.zeros(1000)
    with LiveStorages() as live:
        ten = torch.zeros(10)
        views = [ten[2:], ten.view(5, 2), ten.detach()]
        assert live.bytes == 10 * FLOAT
        ten.add_(1)
        before.mul_(2)
        assert live.bytes == live.peak == 10 * FLOAT
        more = ten + 1
        assert live.bytes == 20 * FLOAT
        del ten, more
        assert live.bytes == 10 * FLOAT  # a view still holds the first
        del views
        assert live.bytes == 0
    assert live.peak == 20 * FLOAT


def test_what_has_no_content_counts_as_if_it_had():
    def step(network: nn.Module) -> tuple[int, int]:
        with LiveStorages() as live:
            network(torch.zeros(2, 1, 4, 8, 8)).square().mean().backward()
        return live.peak, live.bytes

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.LeakyReLU(inplace=True), nn.MaxPool3d(2)
        )

    real = step(build())
    with fake_tensors():
        assert step(build()) == real
    assert (
        real[1] == sum(parameter.numel() for parameter in build().parameters()) * FLOAT
    )  # the gradients


def test_a_terabyte_costs_nothing():
    with fake_tensors(), LiveStorages() as live:
        torch.zeros(2**38)
    assert live.peak == 2**40


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: functional.conv3d(x, torch.zeros(2, 2, 1, 1, 1)), torch.bfloat16),
        (lambda x: functional.max_pool3d(x.bfloat16(), 2), torch.bfloat16),
        (
            lambda x: functional.interpolate(x.bfloat16(), scale_factor=2, mode="trilinear"),
            torch.bfloat16,
        ),
        (lambda x: nn.BatchNorm3d(2)(x.bfloat16()), torch.bfloat16),
        (lambda x: x.bfloat16().softmax(1), torch.float32),
        (lambda x: functional.log_softmax(x.bfloat16(), 1), torch.float32),
        (
            lambda x: functional.cross_entropy(x.bfloat16(), torch.zeros(1, 2, 2, 2).long()),
            torch.float32,
        ),
        (lambda x: functional.mse_loss(x.bfloat16(), x.bfloat16()), torch.float32),
    ],
)
def test_types_are_those_of_cudas_autocast(function, expected: torch.dtype):
    """PyTorch's table of CUDA ops that autocast to float16 and float32."""
    with fake_tensors(), mixed_precision():
        assert function(torch.zeros(1, 2, 2, 2, 2)).dtype == expected


def test_without_mixed_precision_all_is_float32():
    with fake_tensors(), mixed_precision(False):
        assert (
            functional.conv3d(torch.zeros(1, 2, 2, 2, 2), torch.zeros(2, 2, 1, 1, 1)).dtype
            == torch.float32
        )
