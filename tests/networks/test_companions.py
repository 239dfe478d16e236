from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nnunet_liver_ext.networks.companions import (
    GAMBLER_FEATURES,
    MOST_HALVINGS,
    SMALLEST_AXIS,
    Discriminator,
    build_gambler,
    num_discriminator_layers,
    strides_and_kernels,
)

GEOMETRIES = [
    ((32, 160, 160), (3.0, 1.5, 1.5)),
    ((20, 320, 256), (3.0, 0.8, 0.8)),
    ((28, 96, 80), (2.5, 1.2, 1.2)),
    ((24, 40, 56), (1.0, 1.0, 1.0)),
    ((4, 64, 64), (6.0, 1.0, 1.0)),
    ((1, 64, 64), (6.0, 1.0, 1.0)),
    ((320, 16, 16), (1.0, 1.0, 1.0)),
    ((17, 33, 36), (1.0, 1.0, 1.0)),
    ((4, 4, 4), (1.0, 1.0, 1.0)),
    ((512, 448), (0.8, 0.8)),
    ((20, 33), (1.0, 1.0)),
    ((3, 3), (1.0, 1.0)),
]
SMALL = [(patch, spacing) for patch, spacing in GEOMETRIES if math.prod(patch) <= 30_000]
PATCH, SPACING_MM = (16, 32, 32), (3.0, 1.5, 1.5)


def sizes(patch: tuple[int, ...], strides: list[list[int]]) -> list[tuple[int, ...]]:
    """After each stage."""
    found = [patch]
    for stage in strides:
        found.append(tuple(n // stride for n, stride in zip(found[-1], stage, strict=True)))
    return found[1:]


@pytest.mark.parametrize(("patch", "spacing_mm"), GEOMETRIES)
def test_no_axis_falls_below_four_voxels(patch: tuple[int, ...], spacing_mm: tuple[float, ...]):
    strides, kernels = strides_and_kernels(patch, spacing_mm)
    assert len(strides) == len(kernels) <= MOST_HALVINGS + 1
    assert strides[0] == [1] * len(patch)
    previous = patch
    for size, stage in zip(sizes(patch, strides), strides, strict=True):
        assert all(n % stride == 0 for n, stride in zip(previous, stage, strict=True))
        assert all(n >= min(SMALLEST_AXIS, whole) for n, whole in zip(size, patch, strict=True))
        previous = size


@pytest.mark.parametrize(
    ("patch", "spacing_mm", "last"),
    [
        ((32, 160, 160), (3.0, 1.5, 1.5), (4, 10, 10)),
        ((16, 32, 32), (3.0, 1.5, 1.5), (4, 4, 4)),
        ((4, 64, 64), (6.0, 1.0, 1.0), (4, 4, 4)),
        ((1, 64, 64), (6.0, 1.0, 1.0), (1, 4, 4)),
        ((24, 40, 56), (1.0, 1.0, 1.0), (6, 5, 7)),
        ((512, 448), (0.8, 0.8), (32, 28)),
    ],
)
def test_axes_are_halved_as_long_as_they_may(patch, spacing_mm, last):
    assert sizes(patch, strides_and_kernels(patch, spacing_mm)[0])[-1] == last


def test_a_coarse_axis_is_halved_later_than_fine_ones():
    strides, kernels = strides_and_kernels((32, 160, 160), (3.0, 1.5, 1.5))
    assert strides[1:3] == [[1, 2, 2], [2, 2, 2]]
    assert kernels[:2] == [[1, 3, 3], [3, 3, 3]]


@pytest.mark.parametrize(("patch", "spacing_mm"), SMALL)
@pytest.mark.parametrize("spectral", [False, True])
def test_discriminators_give_a_logit_for_each_region(patch, spacing_mm, spectral: bool):
    network = Discriminator(1, patch_size=patch, spacing_mm=spacing_mm, spectral=spectral)
    assert len(network.layers) == num_discriminator_layers(patch, spacing_mm) >= 1
    masks = torch.rand((2, 1, *patch), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(masks)
    assert logits.shape == (2, 1, *sizes(patch, strides_and_kernels(patch, spacing_mm)[0])[-1])
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_what_comes_out_of_each_layer(channels: int):
    network = Discriminator(channels, patch_size=PATCH, spacing_mm=SPACING_MM)
    masks = torch.rand((2, channels, *PATCH), generator=torch.Generator().manual_seed(0))
    shapes = [
        tuple(network.features(masks, layer).shape) for layer in range(1, len(network.layers) + 1)
    ]
    assert shapes == [(2, 32, 16, 16, 16), (2, 64, 8, 8, 8), (2, 128, 4, 4, 4)]
    assert torch.equal(network(masks), network.answer(network.features(masks, 3)))
    assert network(masks).shape == (2, 1, 4, 4, 4)


def test_the_amount_of_foreground_is_seen():
    """An instance norm in the first layer would make a mask and its half indistinguishable."""
    network = Discriminator(1, patch_size=PATCH, spacing_mm=SPACING_MM)
    masks = (torch.rand((1, 1, *PATCH), generator=torch.Generator().manual_seed(0)) > 0.5).float()
    assert not any("Norm" in type(module).__name__ for module in network.layers[0].modules())
    assert all(
        any("Norm" in type(module).__name__ for module in layer.modules())
        for layer in list(network.layers)[1:]
    )
    with torch.no_grad():
        assert not torch.allclose(network.features(masks, 1), network.features(masks / 2, 1))


def test_each_sample_is_judged_alone():
    network = Discriminator(1, patch_size=PATCH, spacing_mm=SPACING_MM)
    masks = torch.rand((2, 1, *PATCH), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(network(masks)[:1], network(masks[:1]), atol=1e-5)


def test_spectral_norm_bounds_the_largest_singular_value():
    torch.manual_seed(0)
    network = Discriminator(1, patch_size=PATCH, spacing_mm=SPACING_MM, spectral=True)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    assert len(convolutions) == len(network.layers) + 1
    with torch.no_grad():
        for convolution in convolutions:
            convolution.parametrizations.weight.original.mul_(37.0)
        for _ in range(30):  # one power iteration each
            network(torch.zeros(1, 1, *PATCH))
    for convolution in convolutions:
        largest = torch.linalg.matrix_norm(convolution.weight.detach().flatten(1), ord=2).item()
        assert largest == pytest.approx(1, abs=0.02)
    plain = Discriminator(1, patch_size=PATCH, spacing_mm=SPACING_MM)
    assert not any("parametrizations" in name for name, _ in plain.named_parameters())


def test_an_evaluation_does_not_change_a_spectral_norm():
    network = Discriminator(1, patch_size=PATCH, spacing_mm=SPACING_MM, spectral=True).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.rand(1, 1, *PATCH))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("spectral", [False, True])
def test_a_gradient_penalty_reaches_every_convolution(spectral: bool):
    from nnunet_liver_ext.losses.adversarial import gradient_penalty

    network = Discriminator(1, patch_size=PATCH, spacing_mm=SPACING_MM, spectral=spectral)
    masks = torch.rand((2, 1, *PATCH), generator=torch.Generator().manual_seed(0)).requires_grad_()
    gradient_penalty(network(masks), masks).backward()
    kernels = [parameter for name, parameter in network.named_parameters() if parameter.ndim == 5]
    assert len(kernels) == len(network.layers) + 1
    assert all(
        torch.isfinite(kernel.grad).all() and kernel.grad.abs().sum() > 0 for kernel in kernels
    )


@pytest.mark.parametrize(("patch", "spacing_mm"), SMALL)
@pytest.mark.parametrize("channels", [2, 4])
def test_gamblers_bet_on_every_voxel(patch, spacing_mm, channels: int):
    network = build_gambler(channels, patch_size=patch, spacing_mm=spacing_mm)
    seen = torch.rand((1, channels, *patch), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        bets = network(seen)
    assert bets.shape == (1, 1, *patch)
    assert torch.isfinite(bets).all()


def test_the_gambler_has_a_stage_for_each_stride():
    network = build_gambler(2, patch_size=PATCH, spacing_mm=SPACING_MM)
    strides, _ = strides_and_kernels(PATCH, SPACING_MM)
    assert [stage[0].convs[0].conv.out_channels for stage in network.encoder.stages] == list(
        GAMBLER_FEATURES[: len(strides)]
    )


@pytest.mark.parametrize("size", [(16, 32, 32), (15, 32, 40), (8, 24, 24), (3, 33, 17)])
def test_the_gambler_takes_crops_of_any_size(size: tuple[int, int, int]):
    """What is padded behind a crop is cut off again; sizes that fit are taken as they are."""
    gambler = build_gambler(2, patch_size=PATCH, spacing_mm=SPACING_MM).eval()
    x = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(0))
    multiples = gambler.multiple
    assert all(n % multiple == 0 for n, multiple in zip(PATCH, multiples, strict=True))
    padded = torch.zeros(
        1, 2, *[-(-n // multiple) * multiple for n, multiple in zip(size, multiples, strict=True)]
    )
    z, y, x_size = size
    padded[:, :, :z, :y, :x_size] = x
    with torch.no_grad():
        assert torch.equal(gambler(x), gambler(padded)[:, :, :z, :y, :x_size])


def test_the_gamblers_weights_keep_their_names():
    """Checkpoints of earlier versions are read."""
    names = set(build_gambler(2, patch_size=PATCH, spacing_mm=SPACING_MM).state_dict())
    assert "encoder.stages.0.0.convs.0.conv.weight" in names
    assert "decoder.seg_layers.0.weight" in names
