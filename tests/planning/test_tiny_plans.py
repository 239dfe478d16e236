"""Tiny plans of every architecture: small, right for their network, and trained on in a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_liver_ext.planning.architectures import ARCHITECTURES
from nnunet_liver_ext.planning.configurations import set_numbers
from nnunet_liver_ext.planning.plan_dataset import plan_dataset
from tests.planning.made_up_datasets import IMAGES, TUMOURS, write_dataset

CASES = [(name, {}) for name in ARCHITECTURES] + [
    ("anisotropic", {"padding": "valid"}),
    ("slice", {"neighbours": 1}),
    ("slice", {"encoder": "vgg11", "residual": True}),
]


@pytest.mark.parametrize(("architecture", "options"), CASES)
def test_a_tiny_network_takes_its_patch(
    architecture: str, options: dict[str, Any], empty_root: Path
):
    write_dataset(empty_root, IMAGES)
    plans = json.loads(
        plan_dataset(601, architecture=architecture, options=options, tiny=True).read_text()
    )
    assert list(plans["configurations"]) == ["3d_fullres"]
    entry = plans["configurations"]["3d_fullres"]
    of_plans = [
        entry["architecture"][key]
        for key in ("network_class_name", "arch_kwargs", "_kw_requires_import")
    ]
    network = get_network_from_plans(*of_plans, 1, 2, deep_supervision=True).train()
    assert sum(parameter.numel() for parameter in network.parameters()) < 60_000
    assert torch.Size(entry["patch_size"]).numel() < 50_000
    output = network(torch.zeros(entry["batch_size"], 1, *entry["patch_size"]))
    margin = (8, 40, 40) if options.get("padding") == "valid" else (0, 0, 0)
    assert list(output[0].shape[2:]) == [
        n - lost for n, lost in zip(entry["patch_size"], margin, strict=True)
    ]
    assert entry["memory"]["activations_gb"] < 0.1
    assert entry["recipe"]["num_epochs"] == 10
    assert set_numbers(plans, "3d_fullres", {"patch_size": entry["patch_size"]})
    assert entry["architecture"]["arch_kwargs"].get("neighbours", 0) == options.get("neighbours", 0)


def test_slabs_of_few_slices_are_not_thinner_than_four(empty_root: Path):
    write_dataset(empty_root, IMAGES, shape=(3, 40, 40))
    plans = json.loads(plan_dataset(601, architecture="slice", tiny=True).read_text())
    assert plans["configurations"]["3d_fullres"]["patch_size"] == [4, 40, 40]


def test_the_protocol_stays(empty_root: Path):
    write_dataset(empty_root, TUMOURS)
    entry = json.loads(plan_dataset(601, protocol="hansch2022", tiny=True).read_text())[
        "configurations"
    ]["3d_fullres"]
    assert entry["protocol"] == "hansch2022"
    assert entry["spacing"] == [1.0, 1.0]
    assert entry["memory"]["strategy"] == "image_alone"
