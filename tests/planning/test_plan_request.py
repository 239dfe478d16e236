"""What is asked for, what the dataset and the protocol add, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.planning.configuration_memory import requested_recipe
from nnunet_liver_ext.planning.plan_dataset import default_plans_name
from nnunet_liver_ext.planning.plan_request import resolve_request
from nnunet_liver_ext.trainers.protocols import PROTOCOLS
from tests.planning.made_up_datasets import IMAGES, PAIRS, TUMOURS

PREREGISTERED = {**IMAGES, "preregistered": {"fixed": "T2", "moving": "T1"}}


@pytest.mark.parametrize(
    ("dataset_json", "objective", "strategy"),
    [
        (PAIRS, "dice_ce", "single_input"),
        (PAIRS, "gan", "single_input"),
        (PAIRS, "similarity_rigid", "dual_output_specialized"),
        (IMAGES, "dice_ce", "one_view"),
        (TUMOURS, "dice_ce", "image_alone"),
    ],
)
def test_the_strategy_that_a_dataset_has(
    dataset_json: dict[str, Any], objective: str, strategy: str
):
    request = resolve_request(dataset_json, objective=objective)
    assert (request.architecture.name, request.strategy, request.spacing_mm) == (
        "nnunet",
        strategy,
        None,
    )


@pytest.mark.parametrize(
    ("protocol", "dataset_json", "architecture", "spacing"),
    [
        ("couteaux2021", PAIRS, "models-genesis", None),
        ("couteaux2021", PREREGISTERED, "models-genesis", None),
        ("yang2017", IMAGES, "di2in", (3.0, 3.0, 3.0)),
        ("antaros", IMAGES, "slice", (1.5, 1.5)),
        ("hansch2022", TUMOURS, "anisotropic", (1.0, 1.0)),
    ],
)
def test_what_a_protocol_says(
    protocol: str, dataset_json: dict[str, Any], architecture: str, spacing: Any
):
    request = resolve_request(dataset_json, protocol=protocol)
    assert (request.architecture.name, request.spacing_mm) == (architecture, spacing)
    assert request.options == PROTOCOLS[protocol].architecture_options
    recipe = requested_recipe(request).to_json()
    numbers = PROTOCOLS[protocol].numbers
    assert {key: recipe[key] for key in numbers} == numbers


def test_what_is_asked_for_comes_after_the_protocol():
    request = resolve_request(
        TUMOURS,
        protocol="hansch2022",
        spacing_mm=(4.0, 1.0, 1.0),
        options={"n_conv_per_stage": 1},
        numbers={"optimizer": "sgd"},
    )
    assert request.spacing_mm == (4.0, 1.0, 1.0)
    assert request.options == {"padding": "valid", "n_conv_per_stage": 1}
    assert requested_recipe(request).optimizer == "sgd"
    assert requested_recipe(request).num_epochs == 160


def test_options_of_a_protocols_network_are_not_those_of_another():
    assert resolve_request(TUMOURS, protocol="hansch2022", architecture="slice").options == {}


def test_the_networks_own_spacing():
    assert resolve_request(IMAGES, architecture="di2in").spacing_mm == (3.0, 3.0, 3.0)
    assert resolve_request(IMAGES, architecture="di2in", spacing_mm=(2, 2, 2)).spacing_mm == (
        2.0,
        2.0,
        2.0,
    )


@pytest.mark.parametrize(
    ("dataset_json", "asked", "message"),
    [
        (
            IMAGES,
            {"protocol": "hansch2022"},
            "protocol hansch2022 needs an organ mask, .* convert the dataset",
        ),
        (
            IMAGES,
            {"protocol": "couteaux2021"},
            "protocol couteaux2021 is for pairs of images, .* no `pair` entry",
        ),
        (PAIRS, {"protocol": "antaros"}, "protocol antaros is for datasets with one mask per case"),
        (
            PAIRS,
            {"protocol": "none"},
            "unknown protocol 'none'; known are couteaux2021, yang2017, antaros, hansch2022",
        ),
        (
            PAIRS,
            {"architecture": "unet"},
            "no architecture 'unet': choose from nnunet, resenc, anisotropic",
        ),
        (PAIRS, {"strategy": "both"}, "no strategy 'both': choose from one_view"),
        (
            PAIRS,
            {"strategy": "one_view"},
            "one_view does not fit the dataset, which holds pairs: choose from single_input,",
        ),
        (
            IMAGES,
            {"strategy": "dual_input"},
            "dual_input does not fit .* one mask per case: choose from one_view",
        ),
        (
            TUMOURS,
            {"strategy": "one_view"},
            "one_view does not fit .* an organ mask: choose from image_alone",
        ),
        (PAIRS, {"objective": "bce"}, "no objective 'bce': choose from dice_ce"),
        (PAIRS, {"spacing_mm": (1.0,)}, r"spacing 1\.0: give Z,Y,X in mm, or Y,X"),
        (PAIRS, {"spacing_mm": (0.0, 1.0, 1.0)}, "give Z,Y,X in mm"),
        (
            IMAGES,
            {"objective": "gan", "protocol": "antaros"},
            "gan has a companion network, .* three numbers of --spacing",
        ),
        (
            PAIRS,
            {"options": {"padding": "valid"}},
            "architecture nnunet is planned by nnU-Net itself and takes no",
        ),
    ],
)
def test_what_does_not_fit(dataset_json: dict[str, Any], asked: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        resolve_request(dataset_json, **asked)


def test_architectures_have_plans_files_of_their_own():
    names = [
        default_plans_name(architecture, None)
        for architecture in (None, "nnunet", "resenc", "di2in", "models-genesis")
    ]
    assert names == [
        "nnUNetPlans",
        "nnUNetPlans",
        "nnUNetPlansResEnc",
        "nnUNetPlansDI2IN",
        "nnUNetPlansModelsGenesis",
    ]
    assert default_plans_name(None, "yang2017") == "nnUNetPlansDI2IN"
    assert default_plans_name("resenc", "couteaux2021") == "nnUNetPlansResEnc"
