from __future__ import annotations

from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks import AnisotropicUNet
from nnunet_liver_ext.networks.valid_convolutions import ValidAxis
from tests.networks.small_networks import BUILD, noise

FIGURE_1 = [
    *[((1, 3, 3), 16)] * 2,
    *[((1, 3, 3), 32)] * 2,
    *[((1, 3, 3), 64), ((3, 1, 1), 64)] * 2,
    *[((1, 3, 3), 128), ((3, 1, 1), 128)] * 2,
    *[((1, 3, 3), 256), ((3, 1, 1), 256)] * 2,
    ((2, 2, 2), 256),
    *[((1, 3, 3), 256), ((3, 1, 1), 256)] * 2,
    ((2, 2, 2), 128),
    *[((1, 3, 3), 128), ((3, 1, 1), 128)] * 2,
    ((1, 2, 2), 64),
    *[((1, 3, 3), 64)] * 2,
    ((1, 2, 2), 32),
    *[((1, 3, 3), 32)] * 2,
    ((1, 1, 1), 2),
]
"""Kernel (z, y, x) and features of each convolution, from the input to the output."""
UNPADDED = {
    "paper": {},
    "three stages": {
        "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        "kernel_sizes": ((1, 3, 3), (1, 3, 3), (3, 3, 3)),
        "features_per_stage": (2, 2, 2),
    },
    "wide kernels, strides of 3": {
        "strides": ((1, 1, 1), (1, 3, 2), (3, 1, 2)),
        "kernel_sizes": ((3, 5, 3), (1, 3, 1), (5, 3, 3)),
        "features_per_stage": (2, 2, 2),
        "n_conv_per_stage": (1, 2, 3),
    },
}


def on_meta(**arguments) -> AnisotropicUNet:
    """Shapes without computation."""
    with torch.device("meta"):
        return AnisotropicUNet(1, 2, **arguments)


def test_the_published_patch_gives_the_published_output():
    network = on_meta().train()
    assert network(torch.empty(2, 1, 72, 236, 236, device="meta")).shape == (2, 2, 32, 52, 52)
    assert network.margin == (20, 92, 92)


def test_layers_are_those_of_figure_1():
    network, ran = on_meta(), []
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            module.register_forward_hook(
                lambda module, *_: ran.append((module.kernel_size, module.out_channels))
            )
    network.train()(torch.empty(1, 1, 72, 236, 236, device="meta"))
    assert ran == FIGURE_1
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    rectifiers = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    assert (
        len(norms)
        == len(rectifiers)
        == sum(kernel in ((1, 3, 3), (3, 1, 1)) for kernel, _ in FIGURE_1)
    )
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout3d)] == [
        0.25
    ] * 4


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        ({"dropout_before_convolutions": True}, "dropout convolutions"),  # figure 1
        ({}, "convolutions dropout"),  # plans from before the argument
    ],
)
def test_where_dropout_stands(padding: str, arguments: dict[str, bool], order: str):
    network, ran = on_meta(padding=padding, **arguments), []
    decoder = network.decoder
    for name, layers in {
        "concatenated": decoder.transposed,
        "convolutions": decoder.blocks,
        "dropout": decoder.dropouts,
    }.items():
        for stage, layer in enumerate(layers):
            layer.register_forward_hook(lambda *_, entry=(stage, name): ran.append(entry))
    size = (72, 236, 236) if padding == "valid" else (32, 64, 64)
    network.train()(torch.empty(1, 1, *size, device="meta"))
    names = ["concatenated", *order.split()]
    assert ran == [(stage, name) for stage in (3, 2, 1, 0) for name in names]


def test_dropout_takes_whole_concatenated_channels_before_the_convolutions():
    network = BUILD["anisotropic_same"](dropout_before_convolutions=True)
    seen: list[torch.Tensor] = []
    network.decoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.decoder.dropouts[0].p = 0.5
    torch.manual_seed(0)
    network.train()(noise(1, 1, 4, 8, 8))
    empty = (seen[0] == 0).flatten(2).all(2)
    assert 0 < empty.float().mean() < 1


def test_same_padding_has_the_same_layers():
    valid, same = on_meta().state_dict(), on_meta(padding="same").state_dict()
    assert {name: value.shape for name, value in same.items() if "seg_layers" not in name} == {
        name: value.shape for name, value in valid.items() if "seg_layers" not in name
    }


@pytest.mark.parametrize("arguments", UNPADDED.values(), ids=UNPADDED)
def test_the_margin_is_what_an_output_lacks(arguments):
    network = on_meta(**arguments).train()
    for extra in (0, 1, 3):
        axes = network.geometry.axes
        size = [axis.smallest_output + extra * axis.step + 2 * axis.margin for axis in axes]
        output = network(torch.empty(1, 1, *size, device="meta"))
        assert [n - m for n, m in zip(size, output.shape[2:], strict=True)] == [
            2 * n for n in network.margin
        ]


@pytest.mark.parametrize("arguments", UNPADDED.values(), ids=UNPADDED)
def test_sizes_that_fit_are_those_that_divide_all_the_way(arguments):
    """Found anew by following the sizes through the stages."""
    for axis in on_meta(**arguments).geometry.axes:
        fitting = {size: _output_size(axis, size) for size in range(1, 300)}
        assert {size for size, output in fitting.items() if output} == {
            n for n in range(1, 300) if axis.takes(n)
        }
        assert all(output == size - 2 * axis.margin for size, output in fitting.items() if output)


def _output_size(axis: ValidAxis, size: int) -> int | None:
    skips = []
    for loss, stride in zip(axis.encoder_loss, axis.strides, strict=True):
        if size % stride:
            return None
        size = size // stride - loss
        skips.append(size)
    for stage in reversed(range(len(axis.decoder_loss))):
        size = size * axis.strides[stage + 1]
        if size > skips[stage] or size < 1 or (skips[stage] - size) % 2:
            return None
        size -= axis.decoder_loss[stage]
    return size if size > 0 else None


def test_a_patch_that_does_not_fit_is_refused_with_those_that_do():
    with pytest.raises(
        InputError,
        match=r"40 x 200 x 236 voxels.* such as 44 x 188/204 x 236, which are 40 x 184 x 184",
    ):
        on_meta().train()(torch.empty(1, 1, 40, 200, 236, device="meta"))
    with pytest.raises(InputError, match="44 x 188"):
        on_meta().compute_conv_feature_map_size((4, 8, 8))


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_tiles_cover_a_volume_on_the_grid_of_the_strides(data):
    axis = ValidAxis(
        (0, 4, 4), (0, 4), data.draw(st.sampled_from([(1, 2, 2), (1, 1, 2), (1, 3, 1)]))
    )
    size, largest = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 60))
    number, advance, output = axis.tiling(size, largest)
    assert axis.takes(output + 2 * axis.margin)
    assert number == 1 or (advance % axis.step == 0 and 0 < advance <= output)
    assert (number - 1) * advance < size <= (number - 1) * advance + output
    assert output <= max(largest, axis.smallest_output + axis.step) + axis.step
    assert number <= ceil(size / max(axis.step, largest // axis.step * axis.step))


@pytest.mark.parametrize("flipped", [(), (2,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("largest", [(1, 1, 1), (2, 8, 100)])
def test_tiles_give_what_one_pass_gives(flipped, largest):
    network = BUILD["anisotropic_valid"]()
    network(5 * noise(2, 1, 18, 44, 48))  # so that the running statistics are not trivial
    network.eval()
    volume = noise(1, 1, 3, 6, 10, seed=1).flip(flipped)
    with torch.no_grad():
        network.largest_tile = (1000, 1000, 1000)
        whole = network(volume)
        network.largest_tile = largest
        tiled = network(volume)
    assert tiled.shape == whole.shape == (1, 2, 3, 6, 10)
    assert (tiled - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_whole_volumes_equal_the_unpadded_network_on_a_volume_with_zeros_around_it():
    network = BUILD["anisotropic_valid"]().eval()
    patch = torch.zeros(1, 1, 20, 44, 48)
    (z, y, x), inside = network.margin, noise(1, 1, 4, 4, 8)
    patch[:, :, z:-z, y:-y, x:-x] = inside
    with torch.no_grad():
        padded_itself = network(inside)
        network.keeps_size_in_evaluation = False
        unpadded = network(patch)
        with pytest.raises(InputError, match="padding='valid'"):
            network(inside)
    assert torch.allclose(padded_itself, unpadded, rtol=1e-5, atol=1e-6)


def test_an_unpadded_output_does_not_depend_on_where_the_patch_was_cut():
    """Two patches a total stride apart agree where they overlap; padded convolutions would not."""
    network = BUILD["anisotropic_valid"]().eval()
    network.keeps_size_in_evaluation = False
    volume = noise(1, 1, 20, 44, 52)
    with torch.no_grad():
        first, second = network(volume[..., :48]), network(volume[..., 4:])
    assert torch.allclose(first[..., 4:], second[..., :-4], rtol=1e-4, atol=1e-6)


def test_no_tile_is_larger_than_allowed():
    with torch.device("meta"):
        network, seen = BUILD["anisotropic_valid"]().eval(), []
    network.largest_tile = (2, 8, 12)
    network.encoder[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2:]))
    network(torch.empty(1, 1, 3, 15, 20, device="meta"))
    assert len(seen) == 2 * 2 * 2
    assert all(
        n <= most + 2 * m for n, most, m in zip(seen[0], (2, 8, 12), network.margin, strict=True)
    )


def test_same_padding_supervises_all_stages_of_the_decoder():
    network = on_meta(padding="same", deep_supervision=True)
    assert network.supervised_scales == [
        [1, 1, 1],
        [1, 1 / 2, 1 / 2],
        [1, 1 / 4, 1 / 4],
        [1 / 2, 1 / 8, 1 / 8],
    ]
    levels = network(torch.empty(1, 1, 8, 32, 48, device="meta"))
    assert [tuple(level.shape[2:]) for level in levels] == [
        (8, 32, 48),
        (8, 16, 24),
        (8, 8, 12),
        (4, 4, 6),
    ]
    assert network.margin == (0, 0, 0)
    assert network.whole_volume is False


def test_levels_of_odd_sizes_have_the_sizes_that_nnunet_gives_their_targets():
    from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import (
        DownsampleSegForDSTransform,
    )

    network = BUILD["anisotropic_same"](deep_supervision=True)
    image = noise(1, 1, 5, 11, 13)
    transform = DownsampleSegForDSTransform(ds_scales=network.supervised_scales)
    targets = transform(segmentation=torch.zeros(1, 5, 11, 13))["segmentation"]
    assert [level.shape[2:] for level in network(image)] == [target.shape[1:] for target in targets]


def test_what_does_not_exist_is_refused():
    with pytest.raises(InputError, match="'valid' or 'same', not 'reflect'"):
        AnisotropicUNet(1, 2, padding="reflect")
    with pytest.raises(InputError, match="odd kernel_sizes"):
        AnisotropicUNet(1, 2, kernel_sizes=[[2, 3, 3]] * 5)
    with pytest.raises(InputError, match="5 strides, but 4 kernel_sizes"):
        AnisotropicUNet(1, 2, kernel_sizes=[[1, 3, 3]] * 4)
