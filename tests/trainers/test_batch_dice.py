"""A patch without foreground must teach the Dice of a batch what its own Dice cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nnunet_liver_ext.trainers.objectives.views import View
from nnunet_liver_ext.trainers.protocols import PROTOCOLS
from tests.training import make_trainer, quietly

SHAPE = (8, 16, 16)


def gradients_of_patches(trainer: Any) -> list[float]:
    """Largest gradient with respect to the logits of a patch with a tumour and of one without, in
    both of which a ball is predicted."""
    quietly(trainer.initialize)
    labels = torch.zeros(2, 1, *SHAPE)
    labels[0, :, 2:6, 4:12, 4:12] = 1
    logits = torch.zeros(2, 2, *SHAPE)
    logits[:, 1] = -6
    logits[:, 1, 2:6, 2:10, 4:12] = 2
    logits.requires_grad_()
    view = View("image", torch.zeros(2, 1, *SHAPE), logits, labels)
    trainer.objective.segmentor_loss([view], "segmentor").total.backward()
    return logits.grad.abs().flatten(1).amax(1).tolist()


def tumour_trainer(root: Path, results: Path, **configuration: Any) -> Any:
    numbers = {"deep_supervision": False}
    return make_trainer(root, results, "nnUNetTrainerLiverTumor", configuration, **numbers)


def test_by_the_protocol_a_patch_without_a_tumour_teaches(nnunet_root: Path, tmp_path: Path):
    edition = {"protocol": "hansch2022", "protocol_edition": PROTOCOLS["hansch2022"].edition}
    trainer = tumour_trainer(nnunet_root, tmp_path, **edition)
    with_tumour, without = gradients_of_patches(trainer)
    assert without > 1e-5
    assert with_tumour / 10 < without < 10 * with_tumour


def test_new_plans_of_tumours_say_so_without_a_protocol(nnunet_root: Path, tmp_path: Path):
    with_tumour, without = gradients_of_patches(tumour_trainer(nnunet_root, tmp_path))
    assert with_tumour / 10 < without < 10 * with_tumour


@pytest.mark.parametrize("entries", [{}, {"protocol": "hansch2022"}])
def test_plans_from_before_keep_the_dice_of_each_patch(
    nnunet_root: Path, tmp_path: Path, entries: dict[str, Any]
):
    trainer = tumour_trainer(nnunet_root, tmp_path, batch_dice=False, **entries)
    with_tumour, without = gradients_of_patches(trainer)
    assert with_tumour > 1e-5
    assert without < 1e-8


@pytest.mark.parametrize(("recipe", "plans"), [(None, True), (True, False), (False, True)])
def test_the_recipe_counts_before_the_plans(
    nnunet_root: Path, tmp_path: Path, recipe: bool | None, plans: bool
):
    trainer = make_trainer(
        nnunet_root, tmp_path, "nnUNetTrainerLiverTumor", {"batch_dice": plans}, batch_dice=recipe
    )
    quietly(trainer.initialize)
    assert trainer._build_nnunet_loss().loss.dc.batch_dice is (plans if recipe is None else recipe)
    assert trainer.plans_manager.plans["configurations"]["3d_fullres"]["batch_dice"] is plans
