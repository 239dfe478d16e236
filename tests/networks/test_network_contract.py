"""What nnU-Net, the trainers and the predictor rely on, for every architecture."""

from __future__ import annotations

from math import prod
from pydoc import locate

import pytest
import torch
from torch import nn

from nnunet_liver_ext import networks
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks import (
    DI2IN,
    AnisotropicUNet,
    ModelsGenesisUNet,
    SegmentationNetwork,
    SliceUNet,
)
from tests.docs_tables import load_tables
from tests.networks.small_networks import BUILD, FITTING, make_positive, noise, outputs_along

TABLES = load_tables()
EVERY = pytest.mark.parametrize("name", list(BUILD))
PAPERS = pytest.mark.parametrize("network", [AnisotropicUNet, DI2IN, SliceUNet, ModelsGenesisUNet])
ANY_SIZE = [(1, 9, 5), (1, 1, 1), (5, 7, 13), (8, 8, 8)]


def test_every_architecture_is_here():
    public = [getattr(networks, name) for name in networks.__all__]
    assert {type(build()) for build in BUILD.values()} == set(public) - {SegmentationNetwork}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("anisotropic_unet", "AnisotropicUNet"),
        ("di2in", "DI2IN"),
        ("slice_unet", "SliceUNet"),
        ("models_genesis_unet", "ModelsGenesisUNet"),
    ],
)
def test_paths_in_saved_plans_stay(module: str, name: str):
    network = getattr(networks, name)
    assert locate(f"nnunet_liver_ext.networks.{module}.{name}") is network
    assert locate(f"nnunet_liver_ext.networks.{name}") is network
    assert network.__module__ == f"nnunet_liver_ext.networks.{module}"


@EVERY
@pytest.mark.parametrize("size", ANY_SIZE)
@pytest.mark.parametrize("batch", [1, 2])
def test_any_size_can_be_segmented(name: str, size: tuple[int, ...], batch: int):
    network = BUILD[name](input_channels=2, num_classes=3).eval()
    with torch.no_grad():
        logits = network(noise(batch, 2, *size))
    assert logits.shape == (batch, 3, *size)
    assert torch.isfinite(logits).all()


@EVERY
def test_evaluation_changes_nothing_in_the_network(name: str):
    network = BUILD[name]().eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        first, second = (network(noise(1, 1, *FITTING[name])) for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@EVERY
def test_the_samples_of_a_batch_are_segmented_alone_unless_the_network_says_otherwise(name: str):
    network = BUILD[name]().eval()
    image, others = noise(1, 1, 6, 12, 16), 5 + 3 * noise(2, 1, 6, 12, 16, seed=1)
    with torch.no_grad():
        alone, together = network(image), network(torch.cat([image, others]))[:1]
    assert torch.allclose(alone, together, atol=1e-5) is not network.uses_batch_statistics


@EVERY
def test_every_parameter_learns(name: str):
    network = BUILD[name](
        deep_supervision=True, **({} if name == "models_genesis" else {"nonlin": nn.Softplus})
    )
    outputs = network(noise(2, 1, *FITTING[name]))
    sum((output**2).mean() for output in outputs).backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all()
        before_a_norm = parameter_name.endswith(("convolution.bias", "conv1.bias"))
        assert before_a_norm or parameter.grad.abs().sum() > 0, parameter_name


@EVERY
def test_deep_supervision_gives_a_list_finest_first(name: str):
    network = BUILD[name](num_classes=3)
    image = noise(2, 1, *FITTING[name])
    network.eval()
    with torch.no_grad():
        plain = network(image)
        network.decoder.deep_supervision = True
        levels = network(image)
        network.decoder.deep_supervision = False
        assert torch.equal(network(image), plain)
    assert isinstance(levels, list)
    assert torch.equal(levels[0], plain)
    scales = network.supervised_scales
    sizes = [
        tuple(round(n * scale) for n, scale in zip(image.shape[2:], level, strict=True))
        for level in scales
    ]
    assert [tuple(level.shape) for level in levels] == [(2, 3, *size) for size in sizes]
    assert network.supervision_weights in (None, [1.0] * len(scales))


@EVERY
def test_deep_supervision_does_not_change_the_state(name: str):
    shapes = [
        {
            key: value.shape
            for key, value in BUILD[name](deep_supervision=enabled).state_dict().items()
        }
        for enabled in (False, True)
    ]
    assert shapes[0] == shapes[1]


@EVERY
@pytest.mark.parametrize("deep_supervision", [False, True])
def test_feature_maps_are_those_that_the_convolutions_give(name: str, deep_supervision: bool):
    network = BUILD[name](
        input_channels=2, num_classes=3, deep_supervision=deep_supervision
    ).train()
    found = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            module.register_forward_hook(
                lambda module, inputs, output: found.append(output.numel())
            )
    sizes = [FITTING[name]] if name == "anisotropic_valid" else [FITTING[name], (5, 9, 11)]
    for size in sizes:
        found.clear()
        with torch.no_grad():
            network(noise(1, 2, *size))
        expected = sum(found)  # the network's copy has the hooks, too
        assert network.compute_conv_feature_map_size(size) == expected


@pytest.mark.parametrize(
    ("network", "arguments", "patch", "numbers"),
    [
        (AnisotropicUNet, {}, (72, 236, 236), 269_118_464),
        (AnisotropicUNet, {"padding": "same"}, (32, 192, 192), 313_362_432),
        (DI2IN, {}, (80, 112, 128), 102_252_080),
        (
            SliceUNet,
            {"neighbours": 1, "residual": True, "encoder": "vgg11"},
            (3, 256, 256),
            147_456_000,
        ),
        (ModelsGenesisUNet, {}, (32, 64, 64), 61_014_016),
    ],
)
def test_feature_maps_of_the_papers_networks(network, arguments, patch, numbers: int):
    with torch.device("meta"):
        built = network(1, 2, deep_supervision=True, **arguments)
    assert built.compute_conv_feature_map_size(patch) == numbers


def test_counting_feature_maps_leaves_the_network_as_it_is():
    network = BUILD["models_genesis"]().eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.compute_conv_feature_map_size((8, 8, 16))
    assert not network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@EVERY
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_receptive_field_is_what_an_output_depends_on(name: str, axis: int):
    """Of one voxel after another: all that it must not see is lit, then the first that it must see,
    then the last."""
    network = make_positive(BUILD[name]())
    expected, period = TABLES.receptive_field(BUILD[name]())[axis], network.size_multiple[axis]
    offsets = TABLES.voxels_seen(BUILD[name](), axis)
    assert len(offsets) == period
    begin = -min(first for first, _ in offsets) // period * period + period
    length = begin + period + max(last for _, last in offsets) + 2
    widths = []
    for voxel, (first_offset, last_offset) in enumerate(offsets, start=begin):
        first, last = voxel + first_offset, voxel + last_offset
        assert 0 < first <= voxel <= last < length - 1
        lit = torch.zeros(3, length, dtype=torch.bool)
        lit[0, :first] = lit[0, last + 1 :] = True
        lit[1, first] = lit[2, last] = True
        assert (outputs_along(network, axis, lit)[:, voxel] > 0).tolist() == [False, True, True]
        widths.append(last - first + 1)
    assert max(widths) == expected


@EVERY
def test_bfloat16(name: str):
    network = BUILD[name](deep_supervision=True).eval()
    image = noise(2, 1, 5, 9, 11)
    with torch.no_grad():
        exact = network(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(image)
    for level, rough_level in zip(exact, rough, strict=True):
        assert rough_level.dtype == torch.bfloat16
        assert level.dtype == torch.float32
        assert (level - rough_level.float()).abs().max() < 0.05 * level.abs().max() + 0.05


@EVERY
@pytest.mark.parametrize("training", [True, False])
def test_compiled_in_one_graph(name: str, training: bool):
    torch._dynamo.reset()
    network = BUILD[name](deep_supervision=True)
    for dropout in network.modules():
        if isinstance(dropout, nn.Dropout | nn.Dropout3d):
            dropout.p = 0.0
    network.train(training)
    image = noise(2, 1, *FITTING[name])
    with torch.no_grad():
        found, expected = (
            torch.compile(network, backend="eager", fullgraph=True)(image),
            network(image),
        )
    assert len(found) == len(network.supervised_scales)
    assert all(
        torch.allclose(one, other, atol=1e-5) for one, other in zip(found, expected, strict=True)
    )


@EVERY
def test_nnunet_builds_it_from_plans(name: str):
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    expected = BUILD[name]()
    kwargs = {
        "strides": [[1, 1, 1], [1, 2, 2], [1, 2, 2]],
        "features_per_stage": [2, 4, 6],
        "n_stages": 3,
    }
    if name == "models_genesis":
        kwargs = {
            "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
            "features_per_stage": [2, 4, 6, 8],
        }
    if name.startswith("anisotropic"):
        kwargs |= {"padding": name.split("_")[1], "kernel_sizes": [[1, 3, 3], [1, 3, 3], [3, 3, 3]]}
    kwargs["conv_op"] = "torch.nn.modules.conv.Conv3d"
    path = f"nnunet_liver_ext.networks.{type(expected).__name__}"
    network = get_network_from_plans(
        path, kwargs, ["conv_op"], 3, 5, allow_init=True, deep_supervision=True
    )
    assert type(network) is type(expected)
    assert network.decoder.deep_supervision is True
    assert (
        next(m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)).in_channels % 3
        == 0
    )
    assert network.supervised_scales[0] == [1, 1, 1]


@EVERY
def test_initialize_is_what_it_says(name: str):
    network = BUILD[name]()
    network.apply(network.initialize)
    convolutions = [
        module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)
    ]
    assert all(module.bias.abs().max() == 0 for module in convolutions)
    wide = type(convolutions[0])(64, 64, 3)
    network.initialize(wide)
    fan = 64 * prod(wide.kernel_size)
    expected = {"Ani": 1 / fan, "DI2": 2 / fan, "Sli": 2 / fan, "Mod": 2 / fan}[
        type(network).__name__[:3]
    ]
    assert wide.weight.var().item() == pytest.approx(expected, rel=0.05)


@EVERY
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"conv_op": nn.Conv1d}, ["conv_op", "Conv1d", "Conv3d", "2D"]),
        (
            {"n_conv_per_stage_decoder": 2},
            ["n_conv_per_stage_decoder", "it has", "features_per_stage"],
        ),
        ({"num_classes": 0}, ["num_classes 0"]),
        ({"input_channels": 0}, ["input_channels 0"]),
        ({"n_stages": 9}, ["n_stages 9", "strides"]),
        ({"features_per_stage": [4, 4]}, ["features_per_stage", "[4, 4]"]),
        ({"strides": [[2, 2, 2]] * 3, "features_per_stage": [4] * 3}, ["stride"]),
        ({"strides": [[1, 1]] * 3, "features_per_stage": [4] * 3}, ["stride"]),
        ({"strides": [[1, 1, 1]], "features_per_stage": [4]}, ["stages"]),
    ],
)
def test_impossible_arguments_are_refused(name: str, arguments: dict, words: list[str]):
    with pytest.raises(InputError) as error:
        BUILD[name](**arguments)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("name", [name for name in BUILD if name != "slices"])
def test_networks_of_volumes_take_no_2d_images(name: str):
    with pytest.raises(InputError, match=r"needs conv_op torch.nn.Conv3d, but it is Conv2d"):
        BUILD[name](conv_op=nn.Conv2d)


@PAPERS
def test_the_paper_s_network_needs_two_numbers_only(network):
    built = network(input_channels=1, num_classes=2)
    assert built.decoder.deep_supervision is False
    assert built.num_parameters == sum(parameter.numel() for parameter in built.parameters())
    assert built.whole_volume is (network is not ModelsGenesisUNet)
