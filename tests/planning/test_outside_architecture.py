"""An architecture from outside the package: its network and its entry are all that is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks.network import Decoder, SegmentationNetwork, Size
from nnunet_liver_ext.networks.strategies import STRATEGIES
from nnunet_liver_ext.planning.architecture_entry import Architecture, Arguments, TinySizes
from nnunet_liver_ext.planning.architectures import ARCHITECTURES
from nnunet_liver_ext.planning.configurations import set_numbers
from nnunet_liver_ext.planning.next_steps import suggest_trainer
from nnunet_liver_ext.planning.plan_dataset import plan_dataset
from nnunet_liver_ext.trainers import nnUNetTrainerDI2IN, nnUNetTrainerSingleInput
from nnunet_liver_ext.trainers.dataset_check import check_dataset
from tests.networks.small_networks import noise
from tests.planning.made_up_datasets import PAIRS, write_dataset

# 1. The network: what an author writes.


class TwoLevels(SegmentationNetwork):
    """Convolution, pooling, convolution, interpolation, concatenation, convolution."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        strides: Sequence[Sequence[int]] = ((1, 1, 1), (2, 2, 2)),
        features_per_stage: Sequence[int] = (8, 16),
        n_stages: int = 2,
        **unknown: Any,
    ) -> None:
        super().__init__(input_channels, num_classes, unknown=unknown)
        fine, coarse = features_per_stage
        self.fine = nn.Conv3d(input_channels, fine, 3, padding=1)
        self.coarse = nn.Conv3d(fine, coarse, 3, padding=1)
        self.head = nn.Conv3d(fine + coarse, num_classes, 1)
        self.decoder = Decoder(deep_supervision)

    @property
    def size_multiple(self) -> Size:
        return 2, 2, 2

    def segment(self, x: Tensor) -> list[Tensor]:
        fine = self.fine(x).relu()
        coarse = self.coarse(functional.max_pool3d(fine, 2)).relu()
        coarse = functional.interpolate(coarse, size=fine.shape[2:], mode="trilinear")
        return [self.head(torch.cat([fine, coarse], 1))]


# 2. The entry: what the planner needs.


def two_level_arguments(spacing_mm: Any, size: Any, options: Mapping[str, Any]) -> Arguments:
    return {"n_stages": 2, "strides": [[1, 1, 1], [2, 2, 2]], "features_per_stage": [8, 16]}


TWO_LEVELS = Architecture(
    name="two-levels",
    title="TwoLevels",
    network=f"{__name__}.TwoLevels",
    arguments=two_level_arguments,
    tiny=lambda configuration, arguments: TinySizes(
        patch=(8, 16, 16), features=(2, 4), strides=((1, 1, 1), (2, 2, 2))
    ),
)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, TWO_LEVELS.name, TWO_LEVELS)


def plan(root: Path, **arguments: Any) -> dict[str, Any]:
    write_dataset(root, PAIRS)
    return json.loads(plan_dataset(601, architecture="two-levels", **arguments).read_text())


def test_it_is_planned_within_memory(empty_root: Path):
    plans = plan(empty_root, gpu_memory_gb=4.0)
    assert plans["plans_name"] == "nnUNetPlansTwoLevels"
    entry = plans["configurations"]["3d_fullres"]
    assert entry["architecture"]["network_class_name"] == f"{__name__}.TwoLevels"
    assert all(n % 2 == 0 for n in entry["patch_size"])
    assert 0.7 * 4.0 < entry["memory"]["estimated_gb"] <= 4.0
    assert set_numbers(plans, "3d_fullres", {"patch_size": [8, 10, 12]})
    with pytest.raises(InputError, match="TwoLevels cannot take patches of 8 x 11 x 12 voxels"):
        set_numbers(plans, "3d_fullres", {"patch_size": [8, 11, 12]})
    assert suggest_trainer(plans, "3d_fullres") == "nnUNetTrainerSingleInput"


def test_its_tiny_plans_are_its_own(empty_root: Path):
    entry = plan(empty_root, tiny=True)["configurations"]["3d_fullres"]
    assert (entry["patch_size"], entry["batch_size"]) == ([8, 16, 16], 2)
    assert entry["architecture"]["arch_kwargs"]["features_per_stage"] == [2, 4]
    assert entry["memory"]["activations_gb"] < 0.01


def test_it_runs_inside_a_strategy(empty_root: Path):
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    entry = plan(empty_root, tiny=True)["configurations"]["3d_fullres"]
    architecture = [
        entry["architecture"][key]
        for key in ("network_class_name", "arch_kwargs", "_kw_requires_import")
    ]

    def build(inputs: int, outputs: int) -> nn.Module:
        return get_network_from_plans(*architecture, inputs, outputs, deep_supervision=False)

    strategy = STRATEGIES["single_input"].build(build, 2, 4)
    views = strategy.train()(noise(2, 2, 7, 9, 11))
    assert [tuple(view.shape) for view in views] == [(2, 2, 7, 9, 11)] * 2
    with torch.no_grad():
        assert strategy.eval()(noise(1, 2, 7, 9, 11)).shape == (1, 4, 7, 9, 11)
    assert strategy.networks[0].compute_conv_feature_map_size((8, 8, 8)) == 512 * (2 + 2) + 64 * 4


def test_only_trainers_of_any_network_take_it(empty_root: Path):
    plans = plan(empty_root, tiny=True)
    any_network, only_di2in = nnUNetTrainerSingleInput.recipe, nnUNetTrainerDI2IN.recipe
    check_dataset("nnUNetTrainerSingleInput", any_network, plans, "3d_fullres", PAIRS)
    with pytest.raises(InputError, match=r"trains the network DI2IN, but .* has TwoLevels"):
        check_dataset("nnUNetTrainerDI2IN", only_di2in, plans, "3d_fullres", PAIRS)
