"""Datasets that do not fit a trainer: one sentence, nothing created. And what does fit, to the end
of an epoch."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.space.images import Grid, array, image_like, read_image, write_image
from tests.conftest import CASES, PREREGISTERED
from tests.training import find_trainer, make_trainer, quietly, read_inputs, run_epochs, weights

PAIRED, ORDINARY = "nnUNetTrainerSingleInput", "nnUNetTrainerPreregistered"
ADVERSARIAL, SIMILAR = "nnUNetTrainerGAN", "nnUNetTrainerSimilarity"
ORDINARY_LABELS = {"background": 0, "liver": 1}
Change = Callable[[dict[str, Any], dict[str, Any]], None]


def no_pair(plans: dict[str, Any], dataset_json: dict[str, Any]) -> None:
    del dataset_json["pair"]


def two_labels(plans: dict[str, Any], dataset_json: dict[str, Any]) -> None:
    dataset_json["labels"] = ORDINARY_LABELS


def ignore_label(plans: dict[str, Any], dataset_json: dict[str, Any]) -> None:
    dataset_json["labels"]["ignore"] = 4


def regions(plans: dict[str, Any], dataset_json: dict[str, Any]) -> None:
    dataset_json["labels"] = {"background": 0, "T1 liver": [1, 3], "T2 liver": [2, 3], "both": 3}
    dataset_json["regions_class_order"] = [1, 2, 3]


def third_channel(plans: dict[str, Any], dataset_json: dict[str, Any]) -> None:
    dataset_json["channel_names"]["2"] = "DWI"


def cascade(plans: dict[str, Any], dataset_json: dict[str, Any]) -> None:
    configurations = plans["configurations"]
    configurations["3d_lowres"] = {"inherits_from": "3d_fullres", "next_stage": "cascade"}
    configurations["cascade"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}


def numbers(**changed: Any) -> Change:
    """Other numbers in the recipe of the plans."""

    def change(plans: dict[str, Any], dataset_json: dict[str, Any]) -> None:
        plans["configurations"]["3d_fullres"]["recipe"] |= changed

    return change


def two_spacings(plans: dict[str, Any], dataset_json: dict[str, Any]) -> None:
    plans["configurations"]["3d_fullres"]["spacing"] = [1.5, 1.5]


def unknown_protocol(plans: dict[str, Any], dataset_json: dict[str, Any]) -> None:
    plans["configurations"]["3d_fullres"]["protocol"] = "nobody2020"


def thin_patch(plans: dict[str, Any], dataset_json: dict[str, Any]) -> None:
    plans["configurations"]["3d_fullres"]["patch_size"] = [2, 32, 32]


@pytest.mark.parametrize(
    ("trainer", "change", "configuration", "message"),
    [
        (
            PAIRED,
            no_pair,
            "3d_fullres",
            f"{PAIRED} needs pairs, but dataset.json of Dataset501_Blobs has no `pair` entry",
        ),
        (
            PAIRED,
            two_labels,
            "3d_fullres",
            "make 4 pair codes, but the labels are background, liver",
        ),
        (
            PAIRED,
            ignore_label,
            "3d_fullres",
            "an ignore label or regions are not possible in pairs",
        ),
        (PAIRED, regions, "3d_fullres", "has regions, which are not possible in pairs"),
        (
            PAIRED,
            third_channel,
            "3d_fullres",
            "needs a pair of images, but Dataset501_Blobs has 3 channels",
        ),
        (
            PAIRED,
            cascade,
            "cascade",
            "configuration cascade is a cascade, which is not possible with pairs",
        ),
        (
            PAIRED,
            cascade,
            "3d_ful",
            "have no configuration 3d_ful; there are 3d_fullres, 3d_lowres, cascade",
        ),
        (
            ORDINARY,
            None,
            "3d_fullres",
            "is for datasets with one mask per case, but Dataset501_Blobs holds pairs",
        ),
        (
            SIMILAR,
            no_pair,
            "3d_fullres",
            f"{SIMILAR} needs pairs, but dataset.json of Dataset501_Blobs has no `pair` entry",
        ),
        (
            SIMILAR,
            thin_patch,
            "3d_fullres",
            "registor needs patches of at least 4 voxels along each axis, but the patch is 2 x 32",
        ),
        (
            SIMILAR,
            numbers(lambda_p=-1),
            "3d_fullres",
            "recipe: lambda_p must lie in [0, 1000], found -1",
        ),
        (
            SIMILAR,
            numbers(lambda_r="0.1"),
            "3d_fullres",
            "recipe: lambda_r must be float or int, found '0.1'",
        ),
        (
            SIMILAR,
            numbers(lambda_g=float("nan")),
            "3d_fullres",
            "recipe: lambda_g must lie in [0, 1000], found nan",
        ),
        (
            SIMILAR,
            numbers(registor_gate=1.5),
            "3d_fullres",
            "recipe: registor_gate must lie in [0, 1], found 1.5",
        ),
        (SIMILAR, numbers(lambda_q=1), "3d_fullres", "unknown recipe keys ['lambda_q']"),
        (
            "nnUNetTrainerGAN",
            numbers(betting_weight=1.0),
            "3d_fullres",
            (
                "betting_weight is a number of objective gambling; this trainer's objective gan has"
                " spectral_norm, gradient_penalty, adversarial_weight."
            ),
        ),
        (
            "nnUNetTrainerGAN",
            numbers(lambda_p=0.5),
            "3d_fullres",
            "lambda_p is a number of objective similarity_elastic and similarity_translation",
        ),
        (
            PAIRED,
            numbers(adversarial_weight=0.5),
            "3d_fullres",
            (
                "adversarial_weight is a number of objective gan; this trainer's objective dice_ce"
                " has no numbers of its own."
            ),
        ),
        (
            SIMILAR,
            numbers(max_rotation_deg=5.0),
            "3d_fullres",
            (
                "max_rotation_deg is a number of objective similarity_rigid and similarity_affine;"
                " this trainer's objective"
            ),
        ),
        (
            SIMILAR,
            numbers(warmup_epochs=3, companion_epochs=2),
            "3d_fullres",
            (
                "warmup_epochs (3) and companion_epochs (2) are longer than the training"
                " (num_epochs: 4)"
            ),
        ),
        (
            ADVERSARIAL,
            numbers(warmup_epochs=5),
            "3d_fullres",
            "warmup_epochs (5) and companion_epochs (0) are longer",
        ),
        (
            "nnUNetTrainerGambling",
            numbers(budget_floor=0),
            "3d_fullres",
            "recipe: budget_floor must lie in [1e-06, 1], found 0",
        ),
        (
            ADVERSARIAL,
            numbers(companion_steps=0),
            "3d_fullres",
            "recipe: companion_steps must lie in [1, 1e+06], found 0",
        ),
        (
            ADVERSARIAL,
            numbers(segmentor_checkpoint=5),
            "3d_fullres",
            "segmentor_checkpoint must be str or null, found 5",
        ),
        (
            ADVERSARIAL,
            numbers(dice_weight=0, ce_weight=0),
            "3d_fullres",
            "all weights of voxel terms are 0 (dice_weight, ce_weight), so the segmentor would",
        ),
        (
            ADVERSARIAL,
            numbers(companion_batch_size=3),
            "3d_fullres",
            "must be a multiple of the batch size (2)",
        ),
        (
            ADVERSARIAL,
            numbers(companion_batch_size=4, crop_sizes=3),
            "3d_fullres",
            "companion_batch_size joins several batches, which crop_sizes gives different sizes",
        ),
        (
            ADVERSARIAL,
            two_spacings,
            "3d_fullres",
            "its companion network needs the distance of slices",
        ),
        (
            PAIRED,
            numbers(foreground_share=0.9),
            "3d_fullres",
            "recipe: foreground_share needs an organ mask",
        ),
        (
            PAIRED,
            numbers(contrast_low=1.2),
            "3d_fullres",
            "contrast_low (1.2) must not be above contrast_high (1.0)",
        ),
        (
            PAIRED,
            unknown_protocol,
            "3d_fullres",
            "unknown protocol 'nobody2020'; known are couteaux2021",
        ),
        (
            "nnUNetTrainerEmbedding",
            numbers(embedding_layer=4),
            "3d_fullres",
            (
                "embedding_layer is 4, but the discriminator of patches of 16 x 32 x 32 voxels has"
                " 3 layers"
            ),
        ),
        (
            "nnUNetTrainerEmbedding",
            numbers(embedding_layer=0),
            "3d_fullres",
            "embedding_layer must lie in [1, 1000], found 0",
        ),
    ],
)
def test_refused_before_anything_is_created(
    trainer: str,
    change: Change | None,
    configuration: str,
    message: str,
    nnunet_root: Path,
    tmp_path: Path,
    monkeypatch,
):
    plans, dataset_json = read_inputs(nnunet_root, PAIRED)
    if change is not None:
        change(plans, dataset_json)
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    with pytest.raises(InputError, match=re.escape(message)) as error:
        find_trainer(trainer)(plans, configuration, 0, dataset_json, torch.device("cpu"))
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def ordinary(nnunet_root: Path, tmp_path: Path, monkeypatch):
    """ordinary(labels, ...) -> a trainer on a preprocessed dataset whose label maps hold 0, 1 and a
    few slices of 2."""

    def prepare(labels: dict[str, Any], **more: Any) -> Any:
        from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        plans, dataset_json = read_inputs(nnunet_root, ORDINARY)
        dataset_json |= {"labels": labels, **more}
        preprocessed = tmp_path / "preprocessed" / PREREGISTERED
        data = preprocessed / plans["configurations"]["3d_fullres"]["data_identifier"]
        data.mkdir(parents=True)
        for name in ("dataset_fingerprint.json", "splits_final.json"):
            shutil.copyfile(
                nnunet_root / "preprocessed" / PREREGISTERED / name, preprocessed / name
            )
        manager, raw = PlansManager(plans), nnunet_root / "raw" / PREREGISTERED
        preprocessor = DefaultPreprocessor(verbose=False)
        for case in CASES:
            images = [
                str(raw / "imagesTr" / f"{case}_{channel:04d}.nii.gz") for channel in range(2)
            ]
            label = with_twos(raw / "labelsTr" / f"{case}.nii.gz", tmp_path / f"{case}.nii.gz")
            configuration = manager.get_configuration("3d_fullres")
            preprocessor.run_case_save(
                str(data / case), images, str(label), manager, configuration, dataset_json
            )
        monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
        monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
        return quietly(
            find_trainer(ORDINARY), plans, "3d_fullres", 0, dataset_json, torch.device("cpu")
        )

    return prepare


def with_twos(source: Path, target: Path) -> Path:
    image = read_image(source)
    labels = array(image).astype(np.uint8)
    labels[9:12][labels[9:12] == 1] = 2
    write_image(image_like(labels, Grid.from_image(image)), target)
    return target


@pytest.mark.parametrize(
    ("labels", "more", "heads", "names"),
    [
        ({"background": 0, "liver": 1, "ignore": 2}, {}, 2, ["liver"]),
        (
            {"background": 0, "liver": [1, 2], "tumour": 2},
            {"regions_class_order": [1, 2]},
            2,
            ["liver", "tumour"],
        ),
        (
            {"background": 0, "organ": [1, 2], "ignore": 3},
            {"regions_class_order": [1]},
            1,
            ["organ"],
        ),
    ],
)
def test_an_ordinary_dataset_may_have_an_ignore_label_and_regions(
    labels, more, heads: int, names: list[str], ordinary
):
    trainer = ordinary(labels, **more)
    quietly(trainer.initialize)
    assert trainer.label_manager.num_segmentation_heads == heads
    before = weights(trainer)
    run_epochs(trainer, 1)
    assert any(not torch.equal(value, before[key]) for key, value in weights(trainer).items())
    curves = {
        name: curve for name, curve in trainer.history.items() if name.startswith("pseudo Dice")
    }
    assert list(curves) == [f"pseudo Dice: {name}" for name in names]
    assert np.isfinite([value for curve in trainer.history.values() for value in curve]).all()


THREE_CLASSES = [
    "nnUNetTrainerDualOutput",
    "nnUNetTrainerEmbedding",
    "nnUNetTrainerGambling",
    "nnUNetTrainerSimilarityRigid",
]


@pytest.mark.parametrize("name", THREE_CLASSES)
def test_three_classes_in_pairs(name: str, nnunet_root: Path, tmp_path: Path, monkeypatch):
    """The codes 0..3 of the stored label maps read with K = 3: 1 and 2 are two organs in T1, 3 is
    the first in T2."""
    pair = PairLabels(("T1", "T2"), ("background", "liver", "spleen"))
    plans, dataset_json = read_inputs(nnunet_root, PAIRED, warmup_epochs=0, companion_epochs=0)
    dataset_json |= {"labels": pair.dataset_labels(), "pair": pair.to_json()}
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    trainer = quietly(find_trainer(name), plans, "3d_fullres", 0, dataset_json, torch.device("cpu"))
    quietly(trainer.initialize)
    images = 2 if trainer.recipe.strategy.startswith("dual_output") else 1
    assert trainer.network.networks[0].decoder.seg_layers[-1].out_channels == images * 3
    run_epochs(trainer, 1)
    assert {name for name in trainer.history if name.startswith("pseudo Dice: ")} == {
        f"pseudo Dice: {name}" for name in pair.regions()
    }
    terms = {
        name: curve for name, curve in trainer.history.items() if name.startswith("training loss: ")
    }
    assert {"training loss: CE T1", "training loss: CE T2"} < set(terms)
    assert all(np.isfinite(curve).all() for curve in terms.values())


TWO_DIMENSIONAL = [
    PAIRED,
    "nnUNetTrainerDualOutputSpecialized",
    ORDINARY,
    ADVERSARIAL,
    "nnUNetTrainerGambling",
    SIMILAR,
]
TWO_DIMENSIONAL += ["nnUNetTrainerSimilarityAffine"]


@pytest.mark.parametrize("name", TWO_DIMENSIONAL)
def test_two_dimensional_configurations(name: str, nnunet_root: Path, tmp_path: Path, monkeypatch):
    plans, dataset_json = read_inputs(nnunet_root, name, warmup_epochs=0, companion_epochs=0)
    entry = json.loads(json.dumps(plans["configurations"]["3d_fullres"]["architecture"]))
    kwargs = entry["arch_kwargs"]
    kwargs |= {
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "strides": [[1, 1]] + [[2, 2]] * (kwargs["n_stages"] - 1),
        "kernel_sizes": [[3, 3]] * kwargs["n_stages"],
    }
    plane = {"patch_size": [32, 32], "spacing": [1.5, 1.5], "architecture": entry}
    plans["configurations"]["2d"] = {"inherits_from": "3d_fullres", **plane}
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    trainer = quietly(find_trainer(name), plans, "2d", 0, dataset_json, torch.device("cpu"))
    quietly(trainer.initialize)
    before = weights(trainer)
    run_epochs(trainer, 1)
    assert any(not torch.equal(value, before[key]) for key, value in weights(trainer).items())
    assert all(
        np.isfinite(curve).all()
        for name, curve in trainer.history.items()
        if "loss" in name or "pseudo" in name
    )


def test_no_seed_draws_another_one_each_time(nnunet_root: Path, tmp_path: Path):
    trainers = [make_trainer(nnunet_root, tmp_path / str(i), PAIRED, seed=None) for i in range(2)]
    for trainer in trainers:
        quietly(trainer.initialize)
    first, second = (weights(trainer) for trainer in trainers)
    assert any(not torch.equal(value, second[key]) for key, value in first.items())
