from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from nnunet_liver_ext.networks import DI2IN
from tests.networks.small_networks import BUILD, noise


def small(**arguments) -> DI2IN:
    """The paper's five stages, thin."""
    torch.manual_seed(0)
    return DI2IN(1, 2, features_per_stage=(2, 3, 4, 5, 6), **arguments)


def test_branches_are_upsampled_by_1_4_and_16():
    network = small(deep_supervision=True).eval()
    sizes = []
    for layer in network.decoder.seg_layers:
        layer.register_forward_hook(lambda _, inputs, output: sizes.append(tuple(output.shape[2:])))
    with torch.no_grad():
        outputs = network(noise(1, 1, 16, 32, 48))
    assert sizes == [(16, 32, 48), (4, 8, 12), (1, 2, 3)]
    assert [tuple(output.shape) for output in outputs] == [(1, 2, 16, 32, 48)] * 4
    assert network.supervised_scales == [[1, 1, 1]] * 4
    assert network.supervision_weights == [1, 1, 1, 1]


def test_branches_are_interpolated_and_the_final_output_is_a_convolution_over_all():
    network, coarse = small(deep_supervision=True).eval(), []
    for layer in network.decoder.seg_layers:
        layer.register_forward_hook(lambda _, inputs, output: coarse.append(output))
    with torch.no_grad():
        final, *branches = network(noise(1, 1, 16, 16, 32))
        for branch, logits, factor in zip(branches, coarse, (1, 4, 16), strict=True):
            expected = functional.interpolate(
                logits, scale_factor=factor, mode="trilinear", align_corners=False
            )
            assert torch.allclose(branch, expected, atol=1e-6)
        layer = network.decoder.final
        leaky = functional.leaky_relu(torch.cat(branches, 1), 0.01)
        assert torch.allclose(
            final, functional.conv3d(leaky, layer.weight, layer.bias, padding=1), atol=1e-6
        )


def test_bridges_are_concatenated():
    network = DI2IN(1, 2)
    first = [block[0].convolution for block in network.decoder.blocks]
    assert [conv.in_channels for conv in first] == [16 + 32, 32 + 64, 64 + 128, 128 + 256]
    assert [block[0].convolution.stride[0] for block in network.encoder] == [1, 2, 2, 2, 2]


def test_every_convolution_is_3x3x3_and_all_but_the_outputs_are_normalised():
    network = DI2IN(1, 2)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    assert {conv.kernel_size for conv in convolutions} == {(3, 3, 3)}
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    assert len(norms) == len(convolutions) - 4 == 2 * (5 + 4)
    assert not [
        module
        for module in network.modules()
        if isinstance(module, nn.ConvTranspose3d | nn.MaxPool3d)
    ]


def test_all_outputs_are_logits_of_either_sign():
    outputs = small(deep_supervision=True).train()(noise(2, 1, 16, 16, 32))
    for output in outputs:
        assert output.min() < -0.05
        assert output.max() > 0.05


def test_other_strides_have_their_own_factors():
    network = BUILD["di2in"](deep_supervision=True)
    assert network.size_multiple == (2, 4, 4)
    assert [tuple(output.shape[2:]) for output in network(noise(2, 1, 3, 5, 9))] == [(3, 5, 9)] * 4


def test_what_lies_beyond_a_volume_is_zero():
    network = small().eval()
    volume = noise(1, 1, 16, 16, 32)
    volume[:, :, 11:] = 0
    with torch.no_grad():
        assert torch.allclose(network(volume[:, :, :11]), network(volume)[:, :, :11], atol=1e-6)
