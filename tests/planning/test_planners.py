"""Plans from fingerprints: topology, patch and batch by memory, for every architecture and
protocol."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.experiment_planning import plan_and_preprocess_api as planner_api
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
    ExperimentPlanner,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_liver_ext.console import quiet
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks import SliceUNet
from nnunet_liver_ext.networks.anisotropic_unet import KERNEL_SIZES, STRIDES
from nnunet_liver_ext.planning import configuration_memory
from nnunet_liver_ext.planning.architectures import ARCHITECTURES
from nnunet_liver_ext.planning.configuration_memory import configuration_sizes, describe_training
from nnunet_liver_ext.planning.network_of_plans import build_without_weights
from nnunet_liver_ext.planning.plan_dataset import plan_dataset
from nnunet_liver_ext.trainers.protocols import PROTOCOLS
from nnunet_liver_ext.trainers.recipe import Recipe
from tests.planning.conftest import by_voxels
from tests.planning.made_up_datasets import IMAGES, PAIRS, TUMOURS, write_dataset

LARGE = {"spacing": (4.0, 1.0, 1.0), "shape": (64, 360, 400)}


def plan(
    root: Path,
    dataset_json: dict[str, Any],
    *,
    spacing: Any = None,
    shape: Any = None,
    **asked: Any,
) -> dict[str, Any]:
    more = {
        key: value for key, value in (("spacing", spacing), ("shape", shape)) if value is not None
    }
    if not any((root / "raw").iterdir()):
        write_dataset(root, dataset_json, **more)
    return json.loads(plan_dataset(601, **asked).read_text())


def build(plans: dict[str, Any], configuration: str = "3d_fullres") -> Any:
    """As nnU-Net builds it, without memory for the weights."""
    manager = PlansManager(plans).get_configuration(configuration)
    network = build_without_weights(manager.configuration["architecture"])
    patch = tuple(manager.patch_size)
    with torch.device("meta"):
        output = network.train()(torch.zeros(2, 1, *patch))
    return network, patch, output


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
@pytest.mark.parametrize("dataset_json", [PAIRS, IMAGES], ids=["pairs", "images"])
def test_every_architecture_is_planned_within_memory(
    architecture: str, dataset_json: dict[str, Any], empty_root: Path, memory_by_voxels: Any
):
    asked = {"architecture": architecture, "gpu_memory_gb": 2.2}
    plans = plan(empty_root, dataset_json, spacing=(4.0, 1.0, 1.0), shape=(48, 128, 144), **asked)
    entry = plans["configurations"]["3d_fullres"]
    assert entry["architecture"]["network_class_name"] == ARCHITECTURES[architecture].network
    assert entry["architecture"]["arch_kwargs"]["strides"][0] == [1, 1, 1]
    assert entry["preprocessor_name"] == "DefaultPreprocessor"
    assert plans["experiment_planner_used"] == (
        "ResEncUNetPlanner" if architecture == "resenc" else "ExperimentPlanner"
    )
    assert ("2d" in plans["configurations"]) == (architecture in ("nnunet", "resenc"))
    memory = entry["memory"]
    needed = by_voxels(
        describe_training(dataset_json, Recipe(strategy="one_view")),
        configuration_sizes(plans, "3d_fullres"),
    ).total_gb
    assert memory["estimated_gb"] == pytest.approx(needed, abs=1e-3)
    assert needed <= 2.2
    network, patch, _ = build(plans)
    multiple = getattr(network, "size_multiple", (1, 1, 1))
    assert all(n % step == 0 for n, step in zip(patch, multiple, strict=True))


@pytest.mark.parametrize("architecture", ["anisotropic", "di2in", "slice", "models-genesis"])
def test_more_memory_is_used(architecture: str, empty_root: Path, memory_by_voxels: Any):
    def used(gb: float) -> float:
        name = f"plans_{gb:g}"
        plans = plan(
            empty_root,
            PAIRS,
            **LARGE,
            architecture=architecture,
            gpu_memory_gb=gb,
            plans_name=name,
            spacing_mm=(4.0, 1.0, 1.0),
        )
        return plans["configurations"]["3d_fullres"]["memory"]["estimated_gb"]

    assert 0.8 * 4 < used(4.0) <= 4.0
    assert 0.8 * 7 < used(7.0) <= 7.0


@pytest.mark.parametrize("slices_mm", [3.0, 4.0, 5.0])
def test_the_papers_topology_comes_out_of_its_data(
    slices_mm: float, empty_root: Path, memory_by_voxels: Any
):
    plans = plan(
        empty_root,
        IMAGES,
        spacing=(slices_mm, 1.0, 1.0),
        shape=(64, 360, 400),
        architecture="anisotropic",
    )
    arguments = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    assert arguments["strides"] == [list(stride) for stride in STRIDES]
    assert arguments["kernel_sizes"] == [list(kernel) for kernel in KERNEL_SIZES]
    assert (arguments["features_per_stage"], arguments["padding"]) == (
        [16, 32, 64, 128, 256],
        "same",
    )
    assert arguments["dropout_before_convolutions"] is True


def test_di2in_takes_whole_volumes_of_3_mm(empty_root: Path, memory_by_voxels: Any):
    entry = plan(empty_root, IMAGES, **LARGE, architecture="di2in")["configurations"]["3d_fullres"]
    assert entry["spacing"] == [3.0, 3.0, 3.0]
    assert entry["median_image_size_in_voxels"] == [85.0, 120.0, 133.0]
    assert entry["patch_size"] == [96, 128, 144]
    assert entry["data_identifier"] == "nnUNetPlansDI2IN_3d_fullres_3x3x3mm"


def test_di2in_rather_takes_one_whole_volume_than_two_parts(
    empty_root: Path, memory_by_voxels: Any
):
    whole_gb = 96 * 128 * 144 * 1e-6 + 1.25
    entry = plan(empty_root, IMAGES, **LARGE, architecture="di2in", gpu_memory_gb=whole_gb + 0.1)
    entry = entry["configurations"]["3d_fullres"]
    assert (entry["patch_size"], entry["batch_size"]) == ([96, 128, 144], 1)


@pytest.mark.parametrize(
    ("options", "slices"), [({}, 4), ({"neighbours": 1}, 6), ({"neighbours": 4}, 12)]
)
def test_slabs_have_four_slices_with_all_their_neighbours(
    options: dict[str, Any], slices: int, empty_root: Path, memory_by_voxels: Any
):
    entry = plan(
        empty_root,
        IMAGES,
        spacing=(4.0, 1.0, 1.0),
        shape=(40, 230, 400),
        architecture="slice",
        options=options,
    )
    entry = entry["configurations"]["3d_fullres"]
    assert entry["patch_size"] == [slices, 240, 256]
    assert entry["architecture"]["arch_kwargs"]["neighbours"] == options.get("neighbours", 0)


def test_vgg11_has_its_own_features(empty_root: Path, memory_by_voxels: Any):
    plans = plan(empty_root, IMAGES, architecture="slice", options={"encoder": "vgg11"})
    assert build(plans)[0].vgg11_names()


def test_unpadded_patches_fit_the_network_and_the_memory(empty_root: Path, memory_by_voxels: Any):
    def patch(gb: float) -> list[int]:
        asked = {
            "architecture": "anisotropic",
            "options": {"padding": "valid"},
            "gpu_memory_gb": gb,
        }
        plans = plan(empty_root, IMAGES, **LARGE, **asked, plans_name=f"plans_{gb:g}")
        _, size, output = build(plans)
        assert tuple(output.shape[2:]) == tuple(
            n - 2 * margin for n, margin in zip(size, (20, 92, 92), strict=True)
        )
        return list(size)

    assert patch(20.0) == [72, 236, 236]
    less = patch(8.0)
    assert less < [72, 236, 236]
    assert 2 * math.prod(less) * 1e-6 + 1.25 <= 8.0


def test_too_little_memory_says_how_much_would_do(empty_root: Path, memory_by_voxels: Any):
    with pytest.raises(
        InputError, match=r"^1\.3 GB are too little for this training: .* needs 1\.4 GB; plan with"
    ):
        plan(empty_root, IMAGES, **LARGE, architecture="models-genesis", gpu_memory_gb=1.3)
    least = plan(empty_root, IMAGES, architecture="models-genesis", gpu_memory_gb=1.4)
    patch = least["configurations"]["3d_fullres"]["patch_size"]
    assert patch[0] == 32
    assert max(patch) < 64
    with pytest.raises(InputError, match="GB are too little for this training"):
        plan(empty_root, IMAGES, architecture="nnunet", gpu_memory_gb=1.26)


SINGLE_SLICES = {"spacing": (999.0, 1.0, 1.0), "shape": (1, 300, 280)}


@pytest.mark.parametrize("architecture", ["anisotropic", "di2in", "models-genesis"])
def test_single_slices_are_nothing_for_volumes(
    architecture: str, empty_root: Path, memory_by_voxels: Any
):
    with pytest.raises(
        InputError,
        match=rf"holds single slices, and {architecture} is for volumes: plan with --architecture"
        " slice, or with nnunet, and train its configuration 2d",
    ):
        plan(empty_root, IMAGES, **SINGLE_SLICES, architecture=architecture)
    assert list(plan(empty_root, IMAGES)["configurations"]) == ["2d"]


@pytest.mark.parametrize("options", [{}, {"encoder": "vgg11", "neighbours": 1, "residual": True}])
def test_single_slices_run_through_the_slice_network(
    options: dict[str, Any], empty_root: Path, memory_by_voxels: Any
):
    plans = plan(
        empty_root, IMAGES, **SINGLE_SLICES, architecture="slice", options=options, gpu_memory_gb=4
    )
    assert list(plans["configurations"]) == ["2d"]
    entry = plans["configurations"]["2d"]
    assert (entry["spacing"], entry["patch_size"]) == ([1.0, 1.0], [256, 256])
    network, patch, output = build(plans, "2d")
    assert isinstance(network, SliceUNet)
    assert tuple(output.shape[2:]) == patch


def test_the_protocol_of_single_slices(empty_root: Path, memory_by_voxels: Any):
    plans = plan(empty_root, IMAGES, **SINGLE_SLICES, protocol="antaros")
    assert list(plans["configurations"]) == ["2d"]
    entry = plans["configurations"]["2d"]
    assert (entry["batch_size"], entry["spacing"]) == (1, [1.5, 1.5])
    assert entry["patch_size"] == [208, 192]
    assert (entry["protocol"], entry["protocol_edition"]) == (
        "antaros",
        PROTOCOLS["antaros"].edition,
    )
    own = plan(empty_root, IMAGES, protocol="antaros", architecture="nnunet", plans_name="own")
    assert own["configurations"]["2d"]["protocol"] == "antaros"


@pytest.mark.parametrize(
    ("protocol", "dataset_json", "expected"),
    [
        ("couteaux2021", PAIRS, {"batch_size": 1, "spacing": [4.0, 1.0, 1.0]}),
        (
            "yang2017",
            IMAGES,
            {"batch_size": 4, "spacing": [3.0, 3.0, 3.0], "patch_size": [96, 128, 144]},
        ),
        ("antaros", IMAGES, {"batch_size": 1, "spacing": [1.5, 1.5], "patch_size": [4, 240, 256]}),
        (
            "hansch2022",
            TUMOURS,
            {"batch_size": 2, "spacing": [1.0, 1.0], "patch_size": [72, 236, 236]},
        ),
    ],
)
def test_protocols(
    protocol: str,
    dataset_json: dict[str, Any],
    expected: dict[str, Any],
    empty_root: Path,
    memory_by_voxels,
):
    plans = plan(empty_root, dataset_json, **LARGE, protocol=protocol, gpu_memory_gb=11.0)
    assert plans["plans_name"] == ARCHITECTURES[PROTOCOLS[protocol].architecture].plans_name
    entry = plans["configurations"]["3d_fullres"]
    assert {key: entry[key] for key in expected} == expected
    assert entry["protocol"] == protocol
    assert entry["protocol_edition"] == PROTOCOLS[protocol].edition
    assert entry["memory"]["estimated_gb"] <= 11.0
    assert entry["batch_dice"] is (dataset_json is TUMOURS)
    assert list(plans["configurations"]) == ["3d_fullres"]


def test_the_distance_of_slices_can_stay_as_it_is(empty_root: Path, memory_by_voxels: Any):
    plans = plan(empty_root, IMAGES, **LARGE, architecture="nnunet", spacing_mm=(2.0, 2.0))
    assert set(plans["configurations"]) == {"2d", "3d_fullres"}
    entry = plans["configurations"]["3d_fullres"]
    assert entry["spacing"] == [2.0, 2.0]
    assert entry["median_image_size_in_voxels"] == [64.0, 180.0, 200.0]
    assert configuration_sizes(plans, "3d_fullres").spacing_mm == (4.0, 2.0, 2.0)
    assert entry["data_identifier"] == "nnUNetPlans_3d_fullres_2x2mm"


@pytest.mark.parametrize(
    ("spacing", "shape", "forward"),
    [((0.7, 0.8, 0.8), (300, 320, 320), [0, 1, 2]), ((1.0, 1.0, 5.0), (300, 320, 40), [2, 0, 1])],
)
def test_the_slices_are_those_of_the_file_unless_another_axis_is_far_coarser(
    spacing: Any, shape: Any, forward: list[int], empty_root: Path, memory_by_voxels: Any
):
    asked = {"architecture": "anisotropic", "spacing_mm": (1.5, 1.5)}
    plans = plan(empty_root, IMAGES, spacing=spacing, shape=shape, **asked)
    assert plans["transpose_forward"] == forward
    assert [forward[plans["transpose_backward"][axis]] for axis in range(3)] == [0, 1, 2]
    size = [round(n * mm / 1.5) for n, mm in zip(shape, spacing, strict=True)]
    expected = [shape[forward[0]], size[forward[1]], size[forward[2]]]
    assert plans["configurations"]["3d_fullres"]["median_image_size_in_voxels"] == pytest.approx(
        expected, abs=1
    )


def test_data_at_nnunets_own_spacing_serve_all_architectures(
    empty_root: Path, memory_by_voxels: Any
):
    names = {
        plan(empty_root, IMAGES, architecture=name)["configurations"]["3d_fullres"][
            "data_identifier"
        ]
        for name in ("nnunet", "resenc", "anisotropic", "slice", "models-genesis")
    }
    assert names == {"nnUNetPlans_3d_fullres"}


def test_an_ordinary_dataset_gets_nnunets_own_plan(empty_root: Path):
    """With the traced step: patches of about 128³, for which nnU-Net's rule and ours agree on 8
    GB."""
    plans = plan(empty_root, IMAGES, spacing=(5.0, 1.2, 1.2), shape=(44, 288, 320))
    with quiet():
        ExperimentPlanner(601, plans_name="stock").plan_experiment()
    stock = json.loads(
        (empty_root / "preprocessed" / "Dataset601_MadeUp" / "stock.json").read_text()
    )
    for name, entry in stock["configurations"].items():
        found = plans["configurations"][name]
        same = (
            "patch_size",
            "batch_size",
            "architecture",
            "spacing",
            "median_image_size_in_voxels",
        )
        assert {key: found[key] for key in same} == {key: entry[key] for key in same}
        assert 0.8 * 8 < found["memory"]["estimated_gb"] <= 8.0


def test_plans_of_something_else_are_not_taken_for_those_asked_for(
    empty_root: Path, memory_by_voxels: Any
):
    plan(empty_root, IMAGES, architecture="slice", plans_name="mine")
    plan(empty_root, IMAGES, plans_name="mine")  # nothing is said of the network: they are kept
    with pytest.raises(
        InputError, match=r"mine\.json: was planned for .*SliceUNet; give other plans another name"
    ):
        plan(empty_root, IMAGES, architecture="di2in", plans_name="mine")
    with pytest.raises(InputError, match="another name"):
        plan(empty_root, IMAGES, protocol="antaros", plans_name="mine")
    plan(empty_root, IMAGES, protocol="antaros", plans_name="of_antaros")
    path = plans_path(empty_root).with_name("of_antaros.json")
    path.write_text(path.read_text().replace('"protocol_edition": 2', '"protocol_edition": 1'))
    with pytest.raises(InputError, match=r"was planned for antaros, .*--overwrite"):
        plan(empty_root, IMAGES, protocol="antaros", plans_name="of_antaros")


def test_a_failure_leaves_no_half_of_a_plan(
    empty_root: Path, memory_by_voxels: Any, monkeypatch: pytest.MonkeyPatch
):
    def fail(*arguments: Any) -> None:
        raise InputError("it does not fit.")

    path = plans_path(empty_root)
    with monkeypatch.context() as patch:
        patch.setattr(configuration_memory, "add_memory", fail)
        with pytest.raises(InputError, match="it does not fit"):
            plan(empty_root, IMAGES)
        assert not path.exists()
    plan(empty_root, IMAGES)
    before = path.read_bytes()
    monkeypatch.setattr(configuration_memory, "add_memory", fail)
    monkeypatch.setattr(planner_api, "extract_fingerprint_dataset", lambda *_, **__: None)
    with pytest.raises(InputError, match="it does not fit"):
        plan(empty_root, IMAGES, overwrite=True, gpu_memory_gb=3.0)
    assert path.read_bytes() == before


def plans_path(root: Path) -> Path:
    return root / "preprocessed" / "Dataset601_MadeUp" / "nnUNetPlans.json"
