from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks import ModelsGenesisUNet
from nnunet_liver_ext.networks.models_genesis_unet import BatchStatisticsNorm3d
from nnunet_liver_ext.networks.strategies import SingleInput
from tests.networks.small_networks import BUILD, noise

UNITS = {
    "down_tr64.ops.0": (1, 32),
    "down_tr64.ops.1": (32, 64),
    "down_tr128.ops.0": (64, 64),
    "down_tr128.ops.1": (64, 128),
    "down_tr256.ops.0": (128, 128),
    "down_tr256.ops.1": (128, 256),
    "down_tr512.ops.0": (256, 256),
    "down_tr512.ops.1": (256, 512),
    "up_tr256.ops.0": (512 + 256, 256),
    "up_tr256.ops.1": (256, 256),
    "up_tr128.ops.0": (256 + 128, 128),
    "up_tr128.ops.1": (128, 128),
    "up_tr64.ops.0": (128 + 64, 64),
    "up_tr64.ops.1": (64, 64),
}
"""Channels in and out of each 3x3x3 convolution."""


def published_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "out_tr.final_conv.weight": (1, 64, 1, 1, 1),
        "out_tr.final_conv.bias": (1,),
    }
    for unit, (inputs, features) in UNITS.items():
        shapes |= {
            f"{unit}.conv1.weight": (features, inputs, 3, 3, 3),
            f"{unit}.conv1.bias": (features,),
        }
        shapes |= {
            f"{unit}.bn1.{name}": (features,)
            for name in ("weight", "bias", "running_mean", "running_var")
        }
        shapes[f"{unit}.bn1.num_batches_tracked"] = ()
    for stage, features in (("up_tr256", 512), ("up_tr128", 256), ("up_tr64", 128)):
        shapes |= {
            f"{stage}.up_conv.weight": (features, features, 2, 2, 2),
            f"{stage}.up_conv.bias": (features,),
        }
    return shapes


def test_names_and_shapes_are_the_checkpoint_s():
    with torch.device("meta"):
        network = ModelsGenesisUNet(1, 1)
    assert network.num_parameters == 19_073_665
    assert {
        name: tuple(value.shape) for name, value in network.state_dict().items()
    } == published_shapes()
    assert len(network.state_dict()) == 106


@pytest.mark.parametrize("training", [True, False])
def test_it_computes_what_its_description_says(training: bool):
    """Written out with the network's own weights; batch norm by its formula."""
    network = BUILD["models_genesis"](input_channels=2, num_classes=3).train(training)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    image = noise(2, 2, 8, 16, 8)

    def unit(x: Tensor, name: str) -> Tensor:
        x = functional.conv3d(
            x, weights[f"{name}.conv1.weight"], weights[f"{name}.conv1.bias"], padding=1
        )
        mean, var = (
            x.mean((0, 2, 3, 4), keepdim=True),
            x.var((0, 2, 3, 4), correction=0, keepdim=True),
        )
        return ((x - mean) / (var + 1e-5).sqrt()).clamp(min=0)  # weights of 1 and biases of 0

    def stage(x: Tensor, name: str) -> Tensor:
        return unit(unit(x, f"{name}.ops.0"), f"{name}.ops.1")

    def up(x: Tensor, skip: Tensor, name: str) -> Tensor:
        weight, bias = weights[f"{name}.up_conv.weight"], weights[f"{name}.up_conv.bias"]
        return stage(
            torch.cat([functional.conv_transpose3d(x, weight, bias, stride=2), skip], 1), name
        )

    fine = stage(image, "down_tr64")
    middle = stage(functional.max_pool3d(fine, 2), "down_tr128")
    coarse = stage(functional.max_pool3d(middle, 2), "down_tr256")
    x = stage(functional.max_pool3d(coarse, 2), "down_tr512")
    x = up(up(up(x, coarse, "up_tr256"), middle, "up_tr128"), fine, "up_tr64")
    expected = functional.conv3d(
        x, weights["out_tr.final_conv.weight"], weights["out_tr.final_conv.bias"]
    )
    with torch.no_grad():
        assert torch.allclose(network(image), expected, atol=1e-4)


def test_running_statistics_are_kept_in_training_and_never_read():
    ours, reference = BatchStatisticsNorm3d(3), nn.BatchNorm3d(3)
    batch = 2 + noise(2, 3, 4, 4, 4)
    assert torch.allclose(ours(batch), reference(batch), atol=1e-6)
    for name, value in reference.state_dict().items():
        assert torch.allclose(ours.state_dict()[name], value), name
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    other = 5 * noise(2, 3, 4, 4, 4, seed=1)
    expected = functional.batch_norm(other, None, None, training=True)
    assert torch.allclose(ours.eval()(other), expected, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_strategies_find_that_it_mixes_a_batch():
    """Two images of a case must then run one after the other in evaluation."""
    network = BUILD["models_genesis"]().eval()
    assert network.uses_batch_statistics
    strategy = SingleInput([network]).eval()
    pair = noise(1, 2, 8, 8, 16)
    changed = pair.clone()
    changed[:, 1] += 5 * noise(1, 8, 8, 16, seed=1)
    with torch.no_grad():
        assert torch.equal(strategy.views(pair)[0], strategy.views(changed)[0])


@pytest.mark.parametrize("training", [True, False])
def test_a_patch_of_one_coarse_voxel_is_widened(training: bool):
    network = BUILD["models_genesis"]().train(training)
    with torch.no_grad():
        logits = network(noise(1, 1, 8, 8, 8))
    assert logits.shape == (1, 2, 8, 8, 8)
    assert torch.isfinite(logits).all()
    assert logits.std() > 0


def test_its_structure_is_fixed():
    with pytest.raises(InputError, match="has the strides"):
        ModelsGenesisUNet(1, 1, strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]])
    with pytest.raises(InputError, match="even features_per_stage"):
        ModelsGenesisUNet(1, 1, features_per_stage=[3, 4, 4, 4])
    with pytest.raises(InputError, match="no argument 'norm_op'"):
        ModelsGenesisUNet(1, 1, norm_op=nn.InstanceNorm3d)
