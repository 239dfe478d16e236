from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks import SliceUNet
from nnunet_liver_ext.networks.slice_unet import gather_neighbours
from tests.networks.small_networks import SMALL_SLICES, noise

VGG11_SHAPES = {
    0: (64, 3),
    3: (128, 64),
    6: (256, 128),
    8: (256, 256),
    11: (512, 256),
    13: (512, 512),
    16: (512, 512),
} | {18: (512, 512)}
"""Features and input channels of torchvision's convolutions."""


def small(channels: int = 1, **arguments) -> SliceUNet:
    torch.manual_seed(0)
    return SliceUNet(channels, 2, **{**SMALL_SLICES, **arguments})


@pytest.mark.parametrize("neighbours", [0, 1, 4])
@pytest.mark.parametrize("residual", [False, True])
def test_a_slice_depends_on_its_neighbours_alone(neighbours: int, residual: bool):
    network = small(2, neighbours=neighbours, residual=residual).eval()
    volume = noise(1, 2, 14, 8, 12)
    with torch.no_grad():
        whole = network(volume)
        for first, last in ((0, 10), (3, 14), (2, 12)):
            slab = network(volume[:, :, first:last])
            inner = slice(
                neighbours if first else 0, slab.shape[2] - (neighbours if last < 14 else 0)
            )
            assert torch.allclose(
                slab[:, :, inner], whole[:, :, first:last][:, :, inner], atol=1e-5
            )
        changed = volume.clone()
        changed[:, :, 6] += 1
        moved = (network(changed) - whole).abs().amax((0, 1, 3, 4)) > 1e-6
    assert moved.nonzero().flatten().tolist() == list(
        range(max(0, 6 - neighbours), 6 + neighbours + 1)
    )


@pytest.mark.parametrize("neighbours", [0, 1])
@pytest.mark.parametrize("training", [False, True])
def test_of_single_slices_it_is_the_same_network(neighbours: int, training: bool):
    arguments = {"neighbours": neighbours, "residual": True, "dropout_op": None}
    in_3d = small(2, **arguments)
    in_2d = small(2, **arguments, conv_op=nn.Conv2d, strides=[[1, 1], [2, 2], [2, 2]])
    in_2d.load_state_dict(in_3d.state_dict())
    slices = noise(3, 2, 9, 14)  # no multiples of the strides
    with torch.no_grad():
        expected = in_3d.train(training)(slices[:, :, None])[:, :, 0]
        assert torch.equal(in_2d.train(training)(slices), expected)
    assert in_2d.size_multiple == (4, 4)
    assert in_2d.supervised_scales == [[1.0, 1.0]]
    size = in_2d.compute_conv_feature_map_size((8, 12))
    assert size == in_3d.compute_conv_feature_map_size((1, 8, 12))
    with pytest.raises(InputError, match="cannot take patches of 8 x 10 voxels"):
        in_2d.check_patch((8, 10))


@pytest.mark.parametrize("neighbours", [0, 2])
@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_chunks_give_what_all_slices_at_once_give(neighbours: int, at_once: int):
    network = small(neighbours=neighbours).eval()
    volume = noise(2, 1, 7, 9, 6)
    with torch.no_grad():
        network.slices_at_once = 7
        expected = network(volume)
        network.slices_at_once = at_once
        assert torch.allclose(network(volume), expected, atol=1e-5)


def test_chunks_bound_what_is_computed_at_once():
    network, seen = small(neighbours=1).eval(), []
    network.slices_at_once = 3
    network.encoder[0].register_forward_pre_hook(
        lambda _, inputs: seen.append(tuple(inputs[0].shape))
    )
    with torch.no_grad():
        network(noise(2, 1, 7, 8, 8))
    assert seen == [(6, 3, 8, 8), (6, 3, 8, 8), (2, 3, 8, 8)]


def test_neighbours_are_channels_from_the_lowest_slice_up():
    volume = torch.arange(10.0).view(1, 2, 5, 1, 1)  # channel 0 has 0 to 4, channel 1 has 5 to 9
    seen = gather_neighbours(volume, 0, 5, 1).flatten(2)
    assert seen[0].tolist() == [
        [0, 5, 0, 5, 1, 6],
        [0, 5, 1, 6, 2, 7],
        [1, 6, 2, 7, 3, 8],
        [2, 7, 3, 8, 4, 9],
        [3, 8, 4, 9, 4, 9],
    ]
    assert torch.equal(gather_neighbours(volume, 3, 5, 1).flatten(2)[0], seen[0, 3:])


def test_it_is_the_2d_network_on_every_slice():
    """Written out with the network's own weights."""
    network = small(residual=False, norm_op=None).eval()
    weights = network.state_dict()
    volume = noise(1, 1, 3, 8, 8)

    def convolved(x, name):
        return functional.relu(
            functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)
        )

    def block(x, name):
        return convolved(convolved(x, f"{name}.units.0.convolution"), f"{name}.units.1.convolution")

    def upsampled(x, stage):
        name = f"decoder.transposed.{stage}"
        return functional.conv_transpose2d(
            x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2
        )

    for index in range(3):
        fine = block(volume[:, :, index], "encoder.0")
        middle = block(functional.max_pool2d(fine, 2), "encoder.1")
        x = block(functional.max_pool2d(middle, 2), "encoder.2")
        x = block(torch.cat([upsampled(x, 1), middle], 1), "decoder.blocks.1")
        x = block(torch.cat([upsampled(x, 0), fine], 1), "decoder.blocks.0")
        head = functional.conv2d(
            x, weights["decoder.seg_layers.0.weight"], weights["decoder.seg_layers.0.bias"]
        )
        with torch.no_grad():
            assert torch.allclose(network(volume)[:, :, index], head, atol=1e-5)


def test_a_short_skip_passes_over_a_block():
    block = small(residual=True, norm_op=None).decoder.blocks[0]
    for unit in block.units:
        nn.init.zeros_(unit.convolution.weight)
        nn.init.zeros_(unit.convolution.bias)
    x = noise(1, 4, 6, 6)
    assert torch.allclose(block(x), functional.relu(block.shortcut(x)))


def test_the_base_network_has_four_poolings_and_dropout_in_the_two_deepest_blocks():
    network = SliceUNet(1, 2)
    assert network.size_multiple == (1, 16, 16)
    assert [block.units[-1].convolution.out_channels for block in network.encoder] == [
        64,
        128,
        256,
        512,
        1024,
    ]
    assert [isinstance(block.dropout, nn.Dropout) for block in network.encoder] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert network.encoder[4].dropout.p == 0.5
    assert {module.padding for module in network.modules() if isinstance(module, nn.Conv2d)} == {
        (1, 1),
        (0, 0),
    }


@pytest.mark.parametrize(("v", "r", "t"), list(product((0, 1), (False, True), ("plain", "vgg11"))))
def test_the_report_s_options_go_together(v: int, r: bool, t: str):
    with torch.device("meta"):
        network = SliceUNet(1, 2, neighbours=v, residual=r, encoder=t)
    assert network.eval()(torch.empty(1, 1, 1, 256, 256, device="meta")).shape == (
        1,
        2,
        1,
        256,
        256,
    )
    shortcuts = [name for name in network.state_dict() if "shortcut" in name]
    assert bool(shortcuts) is r


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("neighbours", [0, 1])
def test_vgg11_s_names_are_torchvision_s(channels: int, neighbours: int):
    with torch.device("meta"):
        network = SliceUNet(channels, 2, encoder="vgg11", neighbours=neighbours)
    names, state = network.vgg11_names(), network.state_dict()
    assert list(names) == [
        f"features.{layer}.{kind}" for layer in VGG11_SHAPES for kind in ("weight", "bias")
    ]
    assert len(set(names.values())) == 16
    for layer, (features, inputs) in VGG11_SHAPES.items():
        inputs = channels * (2 * neighbours + 1) if layer == 0 else inputs
        assert state[names[f"features.{layer}.weight"]].shape == (features, inputs, 3, 3)
        assert state[names[f"features.{layer}.bias"]].shape == (features,)


def test_vgg11_s_encoder_computes_vgg11_s_features():
    """torchvision's chain: a convolution and a ReLU for each number, a pooling after 1, 4, 9 and
    14."""
    torch.manual_seed(0)
    network = SliceUNet(3, 2, encoder="vgg11").eval()
    state = {theirs: network.state_dict()[ours] for theirs, ours in network.vgg11_names().items()}
    assert (
        sum(value.numel() for value in state.values()) == 9_220_480
    )  # of torchvision's vgg11().features
    x, expected = noise(1, 3, 16, 16), []
    for layer in VGG11_SHAPES:
        if layer in (3, 6, 11, 16):
            expected.append(x)
            x = functional.max_pool2d(x, 2)
        x = functional.relu(
            functional.conv2d(
                x, state[f"features.{layer}.weight"], state[f"features.{layer}.bias"], padding=1
            )
        )
    expected.append(x)
    found = []
    for block in network.encoder:
        block.register_forward_hook(lambda _, inputs, output: found.append(output))
    with torch.no_grad():
        network(noise(1, 3, 16, 16)[:, :, None])
    assert all(
        torch.allclose(one, other, rtol=1e-4, atol=1e-6)
        for one, other in zip(found, expected, strict=True)
    )


def test_a_plain_encoder_has_no_vgg11_names():
    with pytest.raises(InputError, match="encoder='vgg11'"):
        small().vgg11_names()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"neighbours": -1}, "neighbours of 0 or more, but has -1"),
        ({"encoder": "resnet"}, "'plain' or 'vgg11', not 'resnet'"),
        (
            {"strides": [[1, 1, 1], [2, 2, 2]], "features_per_stage": [4, 4]},
            "cannot pool across slices",
        ),
        ({"encoder": "vgg11", "features_per_stage": [4] * 5}, "64, 128, 256, 512, 512"),
        ({"encoder": "vgg11", "n_conv_per_stage": 2}, "1, 1, 2, 2, 2"),
        ({"norm_op": nn.GroupNorm}, "not GroupNorm"),
        ({"kernel_sizes": [3] * 5}, "no argument 'kernel_sizes'"),
    ],
)
def test_what_does_not_exist_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        SliceUNet(1, 2, **arguments)
