from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch.nn import functional

from nnunet_liver_ext.losses.adversarial import discriminator_loss
from nnunet_liver_ext.trainers.objectives import ObjectiveSetup, View, VoxelLoss, Voxelwise
from nnunet_liver_ext.trainers.objectives.interface import ObjectiveNumbers
from nnunet_liver_ext.trainers.phases import BOTH, SEGMENTOR
from tests.objectives import (
    LEVEL_WEIGHTS,
    SHAPE,
    SPACING_MM,
    Constant,
    build,
    gradients,
    is_reached,
    leaves,
    pair_of_views,
    view,
    voxel_loss,
)
from tests.training import make_trainer, quietly

ADVERSARIAL = ["gan", "embedding", "gambling"]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# ---------------------------------------------------------------------- voxel-wise


def trained_on(nnunet_root: Path, results: Path, name: str) -> VoxelLoss:
    """The voxel loss of a named trainer, without deep supervision."""
    trainer = make_trainer(nnunet_root, results, name, deep_supervision=False)
    quietly(trainer.initialize)
    return trainer.objective.voxel_loss


def monai_dice(of: View, *, batch: bool) -> float:
    from monai.losses import DiceLoss

    loss = DiceLoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=batch,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
    )
    return loss(of.logits.detach(), of.target).item() - 1  # nnU-Net's is −Dice, MONAI's is 1 − Dice


def binary_cross_entropy(of: View) -> float:
    return functional.binary_cross_entropy(of.prediction().detach(), (of.target > 0).float()).item()


def test_bce_is_the_binary_cross_entropy_of_the_foreground(nnunet_root: Path, tmp_path: Path):
    loss = trained_on(nnunet_root, tmp_path, "nnUNetTrainerBCE")
    total, terms = loss.loss_of_view(view("T1"))
    assert list(terms) == ["CE T1"]
    assert (
        total.item()
        == terms["CE T1"].item()
        == pytest.approx(binary_cross_entropy(view("T1")), rel=1e-5)
    )


def test_dice_is_monais(nnunet_root: Path, tmp_path: Path):
    loss = trained_on(nnunet_root, tmp_path, "nnUNetTrainerDice")
    total, terms = loss.loss_of_view(view("T2"))
    batch_dice = loss.parts["Dice"].dc.batch_dice
    assert list(terms) == ["Dice T2"]
    assert (
        total.item()
        == terms["Dice T2"].item()
        == pytest.approx(monai_dice(view("T2"), batch=batch_dice), rel=1e-5)
    )


def test_dice_bce_is_their_sum(nnunet_root: Path, tmp_path: Path):
    loss = trained_on(nnunet_root, tmp_path, "nnUNetTrainerDiceBCE")
    total, terms = loss.loss_of_view(view("T1"))
    batch_dice = loss.parts["Dice"].dc.batch_dice
    expected = monai_dice(view("T1"), batch=batch_dice) + binary_cross_entropy(view("T1"))
    assert set(terms) == {"Dice T1", "CE T1"}
    assert total.item() == pytest.approx(expected, rel=1e-5)
    stock = make_trainer(nnunet_root, tmp_path, "nnUNetTrainer")
    quietly(stock.initialize)
    stock.enable_deep_supervision = False
    assert total.item() == pytest.approx(
        stock._build_loss()(view("T1").logits, view("T1").target).item(), rel=1e-6
    )


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_dice_with_both_of_nnunets_settings(num_classes: int, batch_dice: bool):
    of = view("T1", num_classes=num_classes)
    total, _ = voxel_loss(dice=1.0, ce=0.0, batch_dice=batch_dice).loss_of_view(of)
    assert total.item() == pytest.approx(monai_dice(of, batch=batch_dice), rel=1e-5)


def test_three_classes_have_the_softmax_cross_entropy():
    of = view("T1", num_classes=3)
    total, _ = voxel_loss().loss_of_view(of)
    assert total.item() == pytest.approx(
        functional.cross_entropy(of.logits, of.target[:, 0].long()).item(), rel=1e-6
    )


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_terms_by_view_and_their_weighted_mean(num_classes: int, levels: int):
    setup = ObjectiveSetup(ObjectiveNumbers(), SHAPE, SPACING_MM, num_classes, 1)
    objective = Voxelwise(setup, voxel_loss(dice=0.25, ce=2.0, levels=levels))
    losses = objective.segmentor_loss(
        pair_of_views(num_classes=num_classes, levels=levels), SEGMENTOR
    )
    terms = {name: term.item() for name, term in losses.terms.items()}
    assert set(terms) == {"Dice T1", "CE T1", "Dice T2", "CE T2"}
    by_view = [0.25 * terms[f"Dice {name}"] + 2 * terms[f"CE {name}"] for name in ("T1", "T2")]
    assert losses.total.item() == pytest.approx(sum(by_view) / 2, rel=1e-5)


def test_deep_supervision_weighs_the_levels():
    of = view("T1", levels=2)
    total, _ = voxel_loss(levels=2).loss_of_view(of)
    levels = [
        functional.cross_entropy(logits, target[:, 0].long()).item()
        for logits, target in zip(of.logits, of.target, strict=True)
    ]
    assert total.item() == pytest.approx(
        sum(w * level for w, level in zip(LEVEL_WEIGHTS, levels, strict=True)), rel=1e-5
    )


def test_all_background_and_a_perfect_prediction():
    labels = torch.zeros(1, 1, *SHAPE)
    right = torch.stack([torch.full(SHAPE, 50.0), torch.full(SHAPE, -50.0)])[None].requires_grad_()
    total, terms = voxel_loss(dice=1.0).loss_of_view(View("T1", labels, right, labels))
    assert terms["CE T1"].item() == 0
    assert terms["Dice T1"].item() == pytest.approx(-1)
    total.backward()
    assert torch.isfinite(right.grad).all()


def test_a_patch_that_is_ignored_altogether_has_no_cross_entropy():
    """nnU-Net gives a plain 0 instead of a tensor then."""
    settings = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    parts = {
        name: (
            1.0,
            DC_and_CE_loss(
                settings, {}, ce, dice, ignore_label=2, dice_class=MemoryEfficientSoftDiceLoss
            ),
        )
        for name, ce, dice in (("Dice", 0, 1), ("CE", 1, 0))
    }
    logits, ignored = torch.randn(1, 2, *SHAPE, requires_grad=True), torch.full((1, 1, *SHAPE), 2)
    setup = ObjectiveSetup(ObjectiveNumbers(), SHAPE, SPACING_MM, 2, 1)
    losses = Voxelwise(setup, VoxelLoss(parts)).segmentor_loss(
        [View("image", logits, logits, ignored)], SEGMENTOR
    )
    assert losses.terms["CE image"].item() == 0
    losses.total.backward()
    assert torch.isfinite(logits.grad).all()


# ---------------------------------------------------------------------- views


def test_views_give_the_finest_level_without_background():
    of = view("T1", num_classes=3, levels=2)
    assert of.prediction().shape == of.annotation(3).shape == (2, 2, *SHAPE)
    assert torch.allclose(of.prediction(), of.logits[0].softmax(1)[:, 1:])
    assert torch.equal(of.annotation(3)[:, 1], (of.target[0][:, 0] == 2).float())
    assert of.annotation(3).sum(1).max() == 1
    detached = of.detach()
    assert all(not level.requires_grad for level in detached.logits)
    assert all(torch.equal(a, b) for a, b in zip(detached.logits, of.logits, strict=True))
    assert View("T1", of.image, None, of.target).detach().logits is None


# ---------------------------------------------------------------------- adversaries


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("key", ADVERSARIAL)
def test_an_adversarial_term_comes_with_its_weight_and_after_the_warm_up(
    key: str, num_classes: int, levels: int
):
    name, weight = {
        "gan": ("deceiving the discriminator", "adversarial_weight"),
        "embedding": ("embedding", "embedding_weight"),
        "gambling": ("bets", "betting_weight"),
    }[key]
    objective = build(key, num_classes=num_classes, levels=levels, **{weight: 0.3}).eval()
    views = pair_of_views(num_classes=num_classes, levels=levels)
    warmup = objective.segmentor_loss(views, SEGMENTOR)
    assert set(warmup.terms) == {"CE T1", "CE T2"}
    assert warmup.total.item() == objective.voxelwise(views).total.item()
    both = objective.segmentor_loss(views, BOTH)
    assert set(both.terms) == {"CE T1", "CE T2", name}
    assert both.total.item() == pytest.approx(
        warmup.total.item() + 0.3 * both.terms[name].item(), rel=1e-5
    )
    assert both.terms[name].item() > 0


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("key", ADVERSARIAL)
def test_an_adversarial_term_reaches_the_finest_logits_of_both_views(key: str, num_classes: int):
    objective = build(key, num_classes=num_classes, levels=2)
    views = pair_of_views(num_classes=num_classes, levels=2)
    _, _, term = objective.adversarial_term(views)
    for one in views:
        fine, coarse = gradients(term, *leaves(one))
        assert is_reached(fine)
        assert coarse is None


def test_the_discriminators_loss_and_figures():
    objective = build("gan").eval()
    views = [one.detach() for one in pair_of_views()]
    losses = objective.companion_loss(views, BOTH)
    annotations = torch.cat([one.annotation(2) for one in views])
    predictions = torch.cat([one.prediction() for one in views])
    with torch.no_grad():
        of_annotations, of_predictions = (
            objective.companion(annotations),
            objective.companion(predictions),
        )
    assert losses.total.item() == pytest.approx(
        discriminator_loss(of_annotations, of_predictions).item(), rel=1e-5
    )
    assert list(losses.terms) == ["discriminator"]
    figures = {name.partition(": ")[2]: value.item() for name, value in losses.figures.items()}
    assert figures["annotations"] == pytest.approx((of_annotations > 0).float().mean().item())
    assert figures["predictions"] == pytest.approx((of_predictions <= 0).float().mean().item())
    assert len({name.partition(": ")[0] for name in losses.figures}) == 1


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_the_gradient_penalty_has_its_weight_in_training_alone(spectral_norm: bool):
    objective = build("gan", gradient_penalty=5.0, spectral_norm=spectral_norm)
    views = [one.detach() for one in pair_of_views()]
    losses = objective.companion_loss(views, BOTH)
    terms = {name: term.item() for name, term in losses.terms.items()}
    assert set(terms) == {"discriminator", "gradient penalty"}
    assert terms["gradient penalty"] > 0
    assert losses.total.item() == pytest.approx(
        terms["discriminator"] + 5 * terms["gradient penalty"], rel=1e-5
    )
    losses.total.backward()
    assert all(parameter.grad is not None for parameter in objective.companion.parameters())
    with torch.no_grad():
        assert set(objective.companion_loss(views, BOTH).terms) == {"discriminator"}


@pytest.mark.parametrize("key", ADVERSARIAL)
def test_an_adversary_learns_something_in_a_few_steps(key: str):
    objective = build(key)
    views = [one.detach() for one in pair_of_views()]
    optimizer = torch.optim.Adam(objective.companion.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        loss = objective.companion_loss(views, BOTH).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_gambler_gets_richer_than_even_bets():
    objective = build("gambling")
    views = [one.detach() for one in pair_of_views()]
    optimizer = torch.optim.Adam(objective.companion.parameters(), 1e-2)
    for _ in range(15):
        losses = objective.companion_loss(views, BOTH)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    group = "share on wrong voxels"
    figures = objective.companion_loss(views, BOTH).figures
    assert figures[f"{group}: of the gambler's bets"] > figures[f"{group}: of even bets"] > 0


@pytest.mark.parametrize("layer", [None, 1])
def test_the_embedding_is_compared_in_the_layer_that_was_asked_for(layer: int | None):
    objective = build("embedding", embedding_layer=layer).eval()
    views = pair_of_views()
    _, _, term = objective.adversarial_term(views)
    depth = layer or len(objective.companion.layers)
    features = objective.companion.features
    with torch.no_grad():
        difference = features(torch.cat([one.prediction() for one in views]), depth) - features(
            torch.cat([one.annotation(2) for one in views]), depth
        )
    assert term.item() == pytest.approx(difference.square().mean().item(), rel=1e-4)


def test_a_perfect_prediction_has_no_embedding_loss_and_pays_no_bets():
    perfect = []
    for one in pair_of_views():
        hot = functional.one_hot(one.target[:, 0].long(), 2).movedim(-1, 1).float()
        perfect.append(View(one.name, one.image, (200 * hot).requires_grad_(), one.target))
    for key in ("embedding", "gambling"):
        _, _, term = build(key).adversarial_term(perfect)
        assert term.item() == pytest.approx(0, abs=1e-10)
        if key == "gambling":
            assert all(
                (gradient == 0).all()
                for gradient in gradients(term, *[one.logits for one in perfect])
            )
    figures = build("gambling").companion_loss([one.detach() for one in perfect], BOTH).figures
    assert all(math.isnan(value.item()) for value in figures.values())


def test_even_bets_pay_the_cross_entropy():
    objective, views = build("gambling"), pair_of_views()
    objective.companion = Constant(lambda seen: torch.zeros_like(seen[:, :1]))
    _, _, term = objective.adversarial_term(views)
    assert term.item() == pytest.approx(objective.voxelwise(views).total.item(), rel=1e-5)


def test_the_gambler_sees_each_image_with_its_own_prediction():
    objective, views = build("gambling"), pair_of_views()
    seen = []
    objective.companion = Constant(lambda channels: seen.append(channels) or channels[:, :1])
    objective.bets(views)
    assert seen[0].shape == (4, 2, *SHAPE)
    assert torch.equal(seen[0][:, :1], torch.cat([one.image for one in views]))
    assert torch.equal(seen[0][:, 1:], torch.cat([one.prediction() for one in views]))
    assert not seen[0].requires_grad
