"""Plans -> plans, on a small but complete plans file."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.planning.architectures import NNUNET, TINY_NNUNET
from nnunet_liver_ext.planning.configurations import (
    add_variant,
    inherited_value,
    remove_cascade,
    set_numbers,
)
from nnunet_liver_ext.planning.tiny_plans import make_tiny


@pytest.fixture
def plans() -> dict[str, Any]:
    """As nnU-Net writes them: strides multiply to (2, 8, 8) in 3d_fullres."""
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 4,
            "features_per_stage": [32, 64, 128, 256],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 2]],
            "kernel_sizes": [[3, 3, 3]] * 4,
            "n_conv_per_stage": [2] * 4,
            "n_conv_per_stage_decoder": [2] * 3,
            "conv_bias": True,
        },
        "_kw_requires_import": ["conv_op"],
    }
    full = {
        "batch_size": 2,
        "patch_size": [32, 128, 128],
        "spacing": [3.0, 1.5, 1.5],
        "architecture": architecture,
    }
    full["median_image_size_in_voxels"] = [60.0, 220.0, 250.0]
    return {
        "plans_name": "nnUNetPlans",
        "dataset_name": "Dataset501_Liver",
        "configurations": {
            "2d": {"batch_size": 12, "patch_size": [128, 128]},
            "3d_lowres": {**deepcopy(full), "next_stage": "3d_cascade_fullres"},
            "3d_fullres": full,
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
    }


CHANGES = [
    lambda plans: add_variant(
        plans, "mine", "3d_fullres", {"num_epochs": 5, "patch_size": [16, 64, 64]}
    ),
    lambda plans: set_numbers(plans, "3d_fullres", {"num_epochs": 5, "batch_size": 4}),
    lambda plans: make_tiny(plans, NNUNET),
    remove_cascade,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_goes_in_stays_as_it_is(change, plans):
    before = deepcopy(plans)
    assert change(plans) != before
    assert plans == before


def test_a_variant_inherits_and_carries_its_numbers(plans):
    found = add_variant(
        plans,
        "mine",
        "3d_fullres",
        {"num_epochs": 5, "seed": 1, "batch_size": 4, "patch_size": [16, 64, 64]},
    )
    assert found["configurations"]["mine"] == {
        "inherits_from": "3d_fullres",
        "batch_size": 4,
        "patch_size": [16, 64, 64],
        "recipe": {"num_epochs": 5, "seed": 1},
    }
    assert {name: found["configurations"][name] for name in plans["configurations"]} == plans[
        "configurations"
    ]
    assert inherited_value(found, "mine", "spacing") == [3.0, 1.5, 1.5]
    assert inherited_value(found, "mine", "batch_size") == 4


def test_a_variant_of_a_variant(plans):
    found = add_variant(plans, "mine", "3d_fullres", {"num_epochs": 5})
    found = add_variant(found, "mine_too", "mine", {"patch_size": [16, 64, 64]})
    assert found["configurations"]["mine_too"] == {
        "inherits_from": "mine",
        "patch_size": [16, 64, 64],
    }
    assert inherited_value(found, "mine_too", "recipe") == {"num_epochs": 5}


def test_a_variant_without_numbers(plans):
    assert add_variant(plans, "same", "2d", {})["configurations"]["same"] == {"inherits_from": "2d"}


def test_numbers_are_added_to_those_that_are_there(plans):
    found = set_numbers(plans, "3d_fullres", {"num_epochs": 5, "initial_lr": 0.1})
    found = set_numbers(found, "3d_fullres", {"num_epochs": 6})
    assert found["configurations"]["3d_fullres"]["recipe"] == {"num_epochs": 6, "initial_lr": 0.1}


@pytest.mark.parametrize("name", ["a__b", "__", ""])
def test_names_that_nnunet_would_split(name: str, plans):
    with pytest.raises(InputError, match="splits folder names at '__'"):
        add_variant(plans, name, "3d_fullres", {})


def test_a_name_that_is_taken_and_a_base_that_is_missing(plans):
    with pytest.raises(InputError, match="nnUNetPlans have a configuration 3d_lowres already"):
        add_variant(plans, "3d_lowres", "3d_fullres", {})
    message = "no configuration 3d_full; there are 2d, 3d_lowres, 3d_fullres, 3d_cascade_fullres"
    with pytest.raises(InputError, match=message):
        add_variant(plans, "mine", "3d_full", {})
    with pytest.raises(InputError, match=message):
        set_numbers(plans, "3d_full", {})


@pytest.mark.parametrize(
    "patch",
    [
        [31, 128, 128],
        [32, 124, 128],
        [32, 128],
        [32, 128, 128, 8],
        [0, 128, 128],
        [32.0, 128, 128],
        32,
        "32",
        None,
    ],
)
def test_a_patch_that_does_not_fit_the_strides(patch, plans):
    with pytest.raises(
        InputError, match=r"must be 3 multiples of the network's strides \[2, 8, 8\]"
    ):
        set_numbers(plans, "3d_fullres", {"patch_size": patch})
    assert set_numbers(plans, "3d_fullres", {"patch_size": [2, 8, 8]})


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, "2", None])
def test_a_batch_size_that_is_none(batch_size, plans):
    with pytest.raises(InputError, match="batch_size must be a whole number above 0"):
        set_numbers(plans, "3d_fullres", {"batch_size": batch_size})


@pytest.fixture
def flat_plans(plans) -> dict[str, Any]:
    """As nnU-Net writes them for a dataset of single slices: strides multiply to (8, 8)."""
    kwargs = deepcopy(plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"])
    kwargs |= {"strides": [[1, 1], [2, 2], [2, 2], [2, 2]], "kernel_sizes": [[3, 3]] * 4}
    entry = {
        "batch_size": 12,
        "patch_size": [240, 240],
        "spacing": [1.0, 1.0],
        "architecture": {"arch_kwargs": kwargs},
    }
    return {
        **plans,
        "configurations": {"2d": {**entry, "median_image_size_in_voxels": [240.0, 240.0]}},
    }


@pytest.mark.parametrize(("name", "fixture"), [("3d_fullres", "plans"), ("2d", "flat_plans")])
def test_tiny_plans(name: str, fixture: str, request: pytest.FixtureRequest):
    found = make_tiny(request.getfixturevalue(fixture), NNUNET)
    assert list(found["configurations"]) == [name]
    entry = found["configurations"][name]
    kwargs = entry["architecture"]["arch_kwargs"]
    assert entry["patch_size"] == list(TINY_NNUNET[name].patch)
    assert kwargs["features_per_stage"] == list(TINY_NNUNET[name].features)
    stages = len(TINY_NNUNET[name].features)
    assert [len(kwargs[key]) for key in ("strides", "kernel_sizes", "n_conv_per_stage")] == [
        stages
    ] * 3
    assert {len(axes) for key in ("strides", "kernel_sizes") for axes in kwargs[key]} == {
        len(entry["patch_size"])
    }
    assert len(kwargs["n_conv_per_stage_decoder"]) == stages - 1
    assert kwargs["conv_bias"] is True
    assert entry["recipe"]["num_epochs"] == 10
    assert set_numbers(
        found, name, {"patch_size": list(TINY_NNUNET[name].patch)}
    )  # its patch fits its strides


def test_plans_that_cannot_be_tiny(plans):
    del plans["configurations"]["3d_fullres"], plans["configurations"]["2d"]
    with pytest.raises(InputError, match="no configuration 3d_fullres; there are 3d_lowres"):
        make_tiny(plans, NNUNET)


def test_a_tiny_patch_is_not_much_larger_than_small_images(plans):
    plans["configurations"]["3d_fullres"]["median_image_size_in_voxels"] = [5.0, 40.5, 33.0]
    entry = make_tiny(plans, NNUNET)["configurations"]["3d_fullres"]
    factors = np.prod(entry["architecture"]["arch_kwargs"]["strides"], axis=0)
    for patch, factor, size in zip(entry["patch_size"], factors, (5.0, 40.5, 33.0), strict=True):
        assert patch % factor == 0
        assert size <= patch < size + factor


def test_tiny_patches_of_slices(flat_plans):
    flat_plans["configurations"]["2d"]["median_image_size_in_voxels"] = [64.0, 90.0]
    assert make_tiny(flat_plans, NNUNET)["configurations"]["2d"]["patch_size"] == [64, 96]


def test_tiny_plans_of_slices_keep_their_variants(flat_plans):
    found = make_tiny(add_variant(flat_plans, "mine", "2d", {"num_epochs": 5}), NNUNET)
    assert set(found["configurations"]) == {"2d", "mine"}


def test_tiny_plans_keep_the_variants_that_they_can(plans):
    plans = add_variant(plans, "mine", "3d_fullres", {"num_epochs": 5})
    plans = add_variant(plans, "mine_too", "mine", {"num_epochs": 6})
    plans = add_variant(plans, "flat", "2d", {"num_epochs": 7})
    assert set(make_tiny(plans, NNUNET)["configurations"]) == {"3d_fullres", "mine", "mine_too"}


def test_pairs_have_no_cascade(plans):
    found = remove_cascade(plans)
    assert set(found["configurations"]) == {"2d", "3d_lowres", "3d_fullres"}
    assert not any("next_stage" in entry for entry in found["configurations"].values())
    assert remove_cascade(found) == found


def test_an_unknown_ancestor(plans):
    with pytest.raises(KeyError):
        inherited_value(plans, "2d", "nothing of the kind")
