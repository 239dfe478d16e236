from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor, nn
from torch.nn import functional

from nnunet_liver_ext.deformation import blur, warp
from nnunet_liver_ext.losses.adversarial import discriminator_loss
from nnunet_liver_ext.trainers.objectives import OBJECTIVES, Task, View, VoxelLoss, Voxelwise
from nnunet_liver_ext.trainers.objectives import cooperation as similarity_module
from nnunet_liver_ext.trainers.objectives.interface import Losses
from nnunet_liver_ext.trainers.phases import BOTH, COMPANION, SEGMENTOR
from nnunet_liver_ext.trainers.players import frozen
from nnunet_liver_ext.trainers.recipe import Recipe
from tests.training import make_trainer, quietly

SHAPE = (8, 16, 16)
SPACING_MM = (3.0, 1.5, 1.5)
LEVEL_WEIGHTS = (2 / 3, 1 / 3)
ADVERSARIAL = ["gan", "embedding", "gambling"]
SIMILARITY = [key for key in OBJECTIVES if key.startswith("similarity")]
WITH_COMPANION = {
    "nnUNetTrainerGAN": {},
    "nnUNetTrainerEmbedding": {},
    "nnUNetTrainerGambling": {},
    "nnUNetTrainerSimilarity": {},
    "nnUNetTrainerSimilarityTranslation": {},
    "nnUNetTrainerSimilarityRigid": {},
    "nnUNetTrainerSimilarityAffine": {},
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def balls(batch: int, num_classes: int, offset: int) -> Tensor:
    """Labels (B, 1, ...): a ball of each class side by side."""
    z, y, x = torch.meshgrid(*[torch.arange(n) for n in SHAPE], indexing="ij")
    labels = torch.zeros(batch, 1, *SHAPE, dtype=torch.int16)
    for sample in range(batch):
        for label in range(1, num_classes):
            centre = 4 + 7 * (label - 1) + offset
            inside = (z - 4) ** 2 + (y - 8 + sample) ** 2 + (x - centre) ** 2 < 10
            labels[sample, 0][inside] = label
    return labels


def view(name: str, *, num_classes: int = 2, levels: int = 1, batch: int = 2, offset: int = 0, seed: int = 0) -> View:
    """A view whose logits are leaves of the graph, half right and half noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = balls(batch, num_classes, offset)
    logits, targets = [], []
    for level in range(levels):
        target = labels[(..., *[slice(None, None, 2**level)] * 3)]
        one_hot = functional.one_hot(target[:, 0].long(), num_classes).movedim(-1, 1).float()
        logits.append((one_hot + torch.randn(one_hot.shape, generator=generator)).requires_grad_())
        targets.append(target)
    image = torch.randn((batch, 1, *SHAPE), generator=generator)
    return View(name, image, logits if levels > 1 else logits[0], targets if levels > 1 else targets[0])


def pair_of_views(**more: Any) -> list[View]:
    return [view("T1", seed=1, **more), view("T2", seed=2, offset=2, **more)]


def leaves(of: View) -> list[Tensor]:
    return of.logits if isinstance(of.logits, list) else [of.logits]


def voxel_loss(dice: float = 0.0, ce: float = 1.0, *, levels: int = 1, batch_dice: bool = False) -> VoxelLoss:
    def part(weight_dice: float, weight_ce: float) -> nn.Module:
        settings = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False}
        loss = DC_and_CE_loss(
            settings, {}, weight_ce=weight_ce, weight_dice=weight_dice, dice_class=MemoryEfficientSoftDiceLoss
        )
        return loss if levels == 1 else DeepSupervisionWrapper(loss, LEVEL_WEIGHTS)

    parts = {"Dice": (dice, part(1, 0)), "CE": (ce, part(0, 1))}
    return VoxelLoss({name: part for name, part in parts.items() if part[0] > 0})


def build(key: str, *, num_classes: int = 2, levels: int = 1, dice: float = 0.0, **numbers: Any) -> Any:
    strategy = "dual_output_specialized" if key in SIMILARITY else "single_input"
    recipe = Recipe(strategy=strategy, objective=key, **numbers)
    return OBJECTIVES[key](Task(recipe, SHAPE, SPACING_MM, num_classes, 1), voxel_loss(dice, levels=levels))


def gradients(of: Tensor, *tensors: Tensor) -> list[Tensor | None]:
    """None where the graph does not reach."""
    return list(torch.autograd.grad(of, tensors, allow_unused=True, retain_graph=True))


def is_reached(gradient: Tensor | None) -> bool:
    return gradient is not None and bool((gradient != 0).any())


# ---------------------------------------------------------------------- voxel-wise


def trained_on(nnunet_root: Path, results: Path, name: str) -> VoxelLoss:
    """The voxel loss of a named trainer, without deep supervision."""
    trainer = make_trainer(nnunet_root, results, name, deep_supervision=False)
    quietly(trainer.initialize)
    return trainer.objective.voxel_loss


def monai_dice(of: View, *, batch: bool) -> float:
    from monai.losses import DiceLoss

    loss = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=batch, smooth_nr=1e-5, smooth_dr=1e-5)
    return loss(of.logits.detach(), of.target).item() - 1  # nnU-Net's is −Dice, MONAI's is 1 − Dice


def binary_cross_entropy(of: View) -> float:
    return functional.binary_cross_entropy(of.prediction().detach(), (of.target > 0).float()).item()


def test_bce_is_the_binary_cross_entropy_of_the_foreground(nnunet_root: Path, tmp_path: Path):
    total, terms = trained_on(nnunet_root, tmp_path, "nnUNetTrainerBCE")(view("T1"))
    assert list(terms) == ["CE T1"]
    assert total.item() == terms["CE T1"].item() == pytest.approx(binary_cross_entropy(view("T1")), rel=1e-5)


def test_dice_is_monais(nnunet_root: Path, tmp_path: Path):
    loss = trained_on(nnunet_root, tmp_path, "nnUNetTrainerDice")
    total, terms = loss(view("T2"))
    batch_dice = loss.parts["Dice"].dc.batch_dice
    assert list(terms) == ["Dice T2"]
    assert total.item() == terms["Dice T2"].item() == pytest.approx(monai_dice(view("T2"), batch=batch_dice), rel=1e-5)


def test_dice_bce_is_their_sum(nnunet_root: Path, tmp_path: Path):
    loss = trained_on(nnunet_root, tmp_path, "nnUNetTrainerDiceBCE")
    total, terms = loss(view("T1"))
    batch_dice = loss.parts["Dice"].dc.batch_dice
    expected = monai_dice(view("T1"), batch=batch_dice) + binary_cross_entropy(view("T1"))
    assert set(terms) == {"Dice T1", "CE T1"}
    assert total.item() == pytest.approx(expected, rel=1e-5)
    stock = make_trainer(nnunet_root, tmp_path, "nnUNetTrainer")
    quietly(stock.initialize)
    stock.enable_deep_supervision = False
    assert total.item() == pytest.approx(stock._build_loss()(view("T1").logits, view("T1").target).item(), rel=1e-6)


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_dice_with_both_of_nnunets_settings(num_classes: int, batch_dice: bool):
    of = view("T1", num_classes=num_classes)
    total, _ = voxel_loss(dice=1.0, ce=0.0, batch_dice=batch_dice)(of)
    assert total.item() == pytest.approx(monai_dice(of, batch=batch_dice), rel=1e-5)


def test_three_classes_have_the_softmax_cross_entropy():
    of = view("T1", num_classes=3)
    total, _ = voxel_loss()(of)
    assert total.item() == pytest.approx(functional.cross_entropy(of.logits, of.target[:, 0].long()).item(), rel=1e-6)


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_terms_by_view_and_their_weighted_mean(num_classes: int, levels: int):
    task = Task(Recipe(strategy="single_input"), SHAPE, SPACING_MM, num_classes, 1)
    objective = Voxelwise(task, voxel_loss(dice=0.25, ce=2.0, levels=levels))
    losses = objective.segmentor_loss(pair_of_views(num_classes=num_classes, levels=levels), SEGMENTOR)
    terms = {name: term.item() for name, term in losses.terms.items()}
    assert set(terms) == {"Dice T1", "CE T1", "Dice T2", "CE T2"}
    by_view = [0.25 * terms[f"Dice {name}"] + 2 * terms[f"CE {name}"] for name in ("T1", "T2")]
    assert losses.total.item() == pytest.approx(sum(by_view) / 2, rel=1e-5)


def test_deep_supervision_weighs_the_levels():
    of = view("T1", levels=2)
    total, _ = voxel_loss(levels=2)(of)
    levels = [
        functional.cross_entropy(logits, target[:, 0].long()).item()
        for logits, target in zip(of.logits, of.target, strict=True)
    ]
    assert total.item() == pytest.approx(sum(w * level for w, level in zip(LEVEL_WEIGHTS, levels, strict=True)), rel=1e-5)


def test_all_background_and_a_perfect_prediction():
    labels = torch.zeros(1, 1, *SHAPE)
    right = torch.stack([torch.full(SHAPE, 50.0), torch.full(SHAPE, -50.0)])[None].requires_grad_()
    total, terms = voxel_loss(dice=1.0)(View("T1", labels, right, labels))
    assert terms["CE T1"].item() == 0
    assert terms["Dice T1"].item() == pytest.approx(-1)
    total.backward()
    assert torch.isfinite(right.grad).all()


def test_a_patch_that_is_ignored_altogether_has_no_cross_entropy():
    """nnU-Net gives a plain 0 instead of a tensor then."""
    settings = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    parts = {
        name: (1.0, DC_and_CE_loss(settings, {}, ce, dice, ignore_label=2, dice_class=MemoryEfficientSoftDiceLoss))
        for name, ce, dice in (("Dice", 0, 1), ("CE", 1, 0))
    }
    logits, ignored = torch.randn(1, 2, *SHAPE, requires_grad=True), torch.full((1, 1, *SHAPE), 2)
    task = Task(Recipe(strategy="one_view"), SHAPE, SPACING_MM, 2, 1)
    losses = Voxelwise(task, VoxelLoss(parts)).segmentor_loss([View("image", logits, logits, ignored)], SEGMENTOR)
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
    detached = of.detached()
    assert all(not level.requires_grad for level in detached.logits)
    assert all(torch.equal(a, b) for a, b in zip(detached.logits, of.logits, strict=True))
    assert View("T1", of.image, None, of.target).detached().logits is None


# ---------------------------------------------------------------------- adversaries


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("key", ADVERSARIAL)
def test_an_adversarial_term_comes_with_its_weight_and_after_the_warm_up(key: str, num_classes: int, levels: int):
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
    assert both.total.item() == pytest.approx(warmup.total.item() + 0.3 * both.terms[name].item(), rel=1e-5)
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
    views = [one.detached() for one in pair_of_views()]
    losses = objective.companion_loss(views, BOTH)
    annotations = torch.cat([one.annotation(2) for one in views])
    predictions = torch.cat([one.prediction() for one in views])
    with torch.no_grad():
        of_annotations, of_predictions = objective.companion(annotations), objective.companion(predictions)
    assert losses.total.item() == pytest.approx(discriminator_loss(of_annotations, of_predictions).item(), rel=1e-5)
    assert list(losses.terms) == ["discriminator"]
    figures = {name.partition(": ")[2]: value.item() for name, value in losses.figures.items()}
    assert figures["annotations"] == pytest.approx((of_annotations > 0).float().mean().item())
    assert figures["predictions"] == pytest.approx((of_predictions <= 0).float().mean().item())
    assert len({name.partition(": ")[0] for name in losses.figures}) == 1


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_the_gradient_penalty_has_its_weight_in_training_alone(spectral_norm: bool):
    objective = build("gan", gradient_penalty=5.0, spectral_norm=spectral_norm)
    views = [one.detached() for one in pair_of_views()]
    losses = objective.companion_loss(views, BOTH)
    terms = {name: term.item() for name, term in losses.terms.items()}
    assert set(terms) == {"discriminator", "gradient penalty"}
    assert terms["gradient penalty"] > 0
    assert losses.total.item() == pytest.approx(terms["discriminator"] + 5 * terms["gradient penalty"], rel=1e-5)
    losses.total.backward()
    assert all(parameter.grad is not None for parameter in objective.companion.parameters())
    with torch.no_grad():
        assert set(objective.companion_loss(views, BOTH).terms) == {"discriminator"}


@pytest.mark.parametrize("key", ADVERSARIAL)
def test_an_adversary_learns_something_in_a_few_steps(key: str):
    objective = build(key)
    views = [one.detached() for one in pair_of_views()]
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
    views = [one.detached() for one in pair_of_views()]
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
            assert all((gradient == 0).all() for gradient in gradients(term, *[one.logits for one in perfect]))
    figures = build("gambling").companion_loss([one.detached() for one in perfect], BOTH).figures
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


class Constant(nn.Module):
    """A companion that answers as a function says."""

    def __init__(self, answer: Callable[..., Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *seen: Tensor) -> Tensor:
        return self.answer(*seen)


# ---------------------------------------------------------------------- cooperation


def one_voxel_along_x(first: Tensor, second: Tensor) -> Tensor:
    displacement = torch.zeros(len(first), 3, *SHAPE)
    displacement[:, 2] = 1
    return displacement


def shifted(masks: Tensor) -> Tensor:
    """What `one_voxel_along_x` makes of masks: every voxel takes what is one further along x."""
    return torch.cat([masks[..., 1:], torch.zeros_like(masks[..., :1])], -1)


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("key", SIMILARITY)
def test_the_segmentation_loss_keeps_the_sum_over_the_two_images(key: str, num_classes: int, levels: int):
    objective = build(key, num_classes=num_classes, levels=levels, lambda_r=0.3, lambda_p=0.7)
    views = pair_of_views(num_classes=num_classes, levels=levels)
    warmup = objective.segmentor_loss(views, SEGMENTOR)
    terms = {name: term.item() for name, term in warmup.terms.items()}
    assert set(terms) == {"CE T1", "CE T2"}
    assert warmup.total.item() == pytest.approx(terms["CE T1"] + terms["CE T2"], rel=1e-5)
    both = objective.segmentor_loss(views, BOTH)
    assert set(both.terms) == {"CE T1", "CE T2", "similarity (L_p)"}
    expected = 0.3 * (terms["CE T1"] + terms["CE T2"]) + 0.7 * both.terms["similarity (L_p)"].item()
    assert both.total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_both_losses_of_a_known_deformation_and_one_for_all_classes(num_classes: int):
    objective = build("similarity_translation", num_classes=num_classes, lambda_g=0.5)
    objective.companion = Constant(one_voxel_along_x)
    views = pair_of_views(num_classes=num_classes)
    first, second = (one.prediction().detach() for one in views)
    squared = (shifted(first) - second).square()
    squared[..., -1] = 0  # fetched from beyond the patch: unknown
    expected = squared.mean().item()
    assert objective.segmentor_loss(views, BOTH).terms["similarity (L_p)"].item() == pytest.approx(expected, rel=1e-4)
    losses = objective.companion_loss([one.detached() for one in views], BOTH)
    expected = functional.mse_loss(blur(shifted(first)), blur(views[1].annotation(num_classes))).item()
    assert losses.terms["registration (L_g)"].item() == pytest.approx(expected, rel=1e-4)
    assert losses.total.item() == pytest.approx(0.5 * expected, rel=1e-4)


@pytest.mark.parametrize("key", SIMILARITY)
def test_a_registor_gives_one_deformation_for_all_classes(key: str):
    objective = build(key, num_classes=3)
    displacement = objective.companion(*(one.annotation(3) for one in pair_of_views(num_classes=3)))
    assert displacement.shape == (2, 3, *SHAPE)


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("key", SIMILARITY)
def test_the_similarity_loss_reaches_the_second_mask_only(key: str, num_classes: int):
    objective = build(key, num_classes=num_classes)
    first, second = pair_of_views(num_classes=num_classes)
    term = objective.segmentor_loss([first, second], BOTH).terms["similarity (L_p)"]
    to_first, to_second = gradients(term, first.logits, second.logits)
    assert to_first is None or (to_first == 0).all()
    assert is_reached(to_second)
    assert all(gradient is None for gradient in gradients(term, *objective.companion.parameters()))


@pytest.mark.parametrize("key", SIMILARITY)
def test_the_segmentation_loss_does_not_reach_the_registor(key: str):
    objective, views = build(key, lambda_p=0), pair_of_views()
    total = objective.segmentor_loss(views, BOTH).total
    assert all(gradient is None for gradient in gradients(total, *objective.companion.parameters()))
    assert all(is_reached(gradient) for gradient in gradients(total, *[one.logits for one in views]))


@pytest.mark.parametrize("phase", [COMPANION, BOTH])
@pytest.mark.parametrize("key", SIMILARITY)
def test_the_registration_loss_reaches_the_whole_registor(key: str, phase: str):
    objective = build(key)
    views = [one.detached() for one in pair_of_views()]
    total = objective.companion_loss(views, phase).total
    reached = gradients(total, *objective.companion.parameters())
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in reached)
    assert any(is_reached(gradient) for gradient in reached)


@pytest.mark.parametrize("key", SIMILARITY)
def test_alone_the_registor_learns_from_annotations_moved_anew_in_every_step(key: str):
    objective = build(key)
    views = [View(one.name, one.image, None, one.target) for one in pair_of_views()]
    seen: list[Sequence[Tensor]] = []
    registor = objective.companion
    objective.companion = Constant(lambda *masks: seen.append(masks) or registor(*masks))
    for _ in range(2):
        assert torch.isfinite(objective.companion_loss(views, COMPANION).total)
    (first, second), (again, second_again) = seen
    assert not torch.equal(first, again)
    assert not torch.equal(first, views[0].annotation(2))
    assert torch.equal(second, views[1].annotation(2))
    assert torch.equal(second_again, second)
    for moved in (first, again):
        assert moved.min() >= 0
        assert moved.max() <= 1 + 1e-6


@pytest.mark.parametrize("key", SIMILARITY)
def test_empty_masks_teach_nothing_and_break_nothing(key: str):
    objective = build(key)
    labels = torch.zeros(2, 1, *SHAPE)
    views = [View(name, torch.zeros(2, 1, *SHAPE), torch.zeros(2, 2, *SHAPE), labels) for name in ("T1", "T2")]
    for phase in (COMPANION, BOTH):
        total = objective.companion_loss(views, phase).total
        total.backward()
        assert torch.isfinite(total)
    assert torch.isfinite(objective.segmentor_loss(views, BOTH).total)
    assert all(
        parameter.grad is None or torch.isfinite(parameter.grad).all() for parameter in objective.companion.parameters()
    )
    figures = objective.examine(views, thoroughly=False)
    assert len(figures) == 2
    assert all(math.isnan(value.item()) for value in figures.values())


def test_examining_a_known_deformation():
    """A ball of 5 x 5 x 5 voxels, two further along x in T2; the registor goes one of the two voxels."""
    objective = build("similarity_translation")
    labels = torch.zeros(3, 1, *SHAPE)
    labels[:2, :, 2:7, 4:9, 6:11] = 1
    views = [View("T1", labels, None, labels), View("T2", labels, None, labels.roll(-2, -1))]
    objective.companion = Constant(lambda a, b: one_voxel_along_x(a, b))
    figures = {name.partition(": ")[2]: value.item() for name, value in objective.examine(views, thoroughly=False).items()}
    assert figures == {"as they lie": pytest.approx(3 / 5), "T1 warped by the registor": pytest.approx(4 / 5)}


def test_a_thorough_examination_knows_the_best_transform():
    pytest.importorskip("nnunet_liver_ext.evaluation.similarity")
    objective = build("similarity_translation")
    labels = torch.zeros(3, 1, *SHAPE)
    labels[:2, :, 2:7, 4:9, 6:11] = 1
    views = [View("T1", labels, None, labels), View("T2", labels, None, labels.roll(-2, -1))]
    objective.companion = Constant(lambda a, b: one_voxel_along_x(a, b))
    figures = {name.partition(": ")[2]: value.item() for name, value in objective.examine(views, thoroughly=True).items()}
    assert figures == {
        "as they lie": pytest.approx(3 / 5),
        "T1 warped by the registor": pytest.approx(4 / 5),
        "D_S": pytest.approx(1),
    }


@pytest.mark.parametrize(
    ("figures", "share", "warned"),
    [
        ((0.6, 0.96, 1.0), "90%", False),
        ((0.6, 0.8, 1.0), "50%", True),
        ((0.6, 0.5, 1.0), "-25%", True),
        ((0.9, 0.9, 0.9), "100%", False),
        ((0.9, 0.8, 0.9), "nan%", True),
        ((float("nan"),) * 3, "nan%", True),
    ],
)
def test_the_verdict_on_a_registor(figures: tuple[float, float, float], share: str, warned: bool):
    objective = build("similarity_elastic", registor_gate=0.8)
    names = (similarity_module.IDENTITY, similarity_module.REGISTERED, similarity_module.BEST)
    lines = objective.verdict(dict(zip(names, figures, strict=True)))
    assert share in lines[0]
    assert (len(lines) == 2) == warned
    assert all(line.startswith("WARNING: ") and "registor_gate = 80%" in line for line in lines[1:])


# ---------------------------------------------------------------------- the trainer's own steps


@pytest.fixture(scope="module", params=WITH_COMPANION)
def playing(request, nnunet_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    """A trainer in its last phase, and a batch."""
    trainer = make_trainer(nnunet_root, tmp_path_factory.mktemp("playing"), request.param)
    quietly(trainer.initialize)
    trainer.current_epoch = trainer.phases[-1].first
    assert trainer.phase.name == BOTH
    trainer.network.train()
    trainer.objective.train()
    generator = torch.Generator().manual_seed(0)
    codes = torch.zeros(2, 1, 16, 32, 32, dtype=torch.int16)
    codes[:, :, 4:12, 8:20, 8:20] += 1
    codes[:, :, 5:13, 11:23, 12:24] += 2
    scales = trainer._get_deep_supervision_scales()
    targets = [codes[(..., *[slice(None, None, round(1 / scale)) for scale in level])] for level in scales]
    data = torch.randn((2, 2, 16, 32, 32), generator=generator) + torch.cat([codes % 2, codes // 2], 1)
    return trainer, {"data": data, "target": targets}


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def forget_gradients(trainer: Any) -> None:
    for parameter in (*trainer.network.parameters(), *trainer.objective.parameters()):
        parameter.grad = None


def changed(module: nn.Module, before: dict[str, Tensor]) -> list[bool]:
    return [not torch.equal(value, before[name]) for name, value in module.named_parameters()]


def test_the_companions_step_leaves_the_segmentor_alone(playing):
    trainer, batch = playing
    forget_gradients(trainer)
    network, companion = state(trainer.network), state(trainer.objective.companion)
    losses = trainer._companion_step(trainer._forward(batch))
    assert isinstance(losses, Losses)
    assert all(parameter.grad is None for parameter in trainer.network.parameters())
    assert not any(changed(trainer.network, network))
    assert any(is_reached(parameter.grad) for parameter in trainer.objective.companion.parameters())
    assert any(changed(trainer.objective.companion, companion))


def test_the_segmentors_step_leaves_the_companion_alone(playing):
    trainer, batch = playing
    forget_gradients(trainer)
    network, companion = state(trainer.network), state(trainer.objective.companion)
    trainer._segmentor_step(trainer._forward(batch))
    assert all(parameter.grad is None for parameter in trainer.objective.companion.parameters())
    assert all(parameter.requires_grad for parameter in trainer.objective.companion.parameters())
    assert not any(changed(trainer.objective.companion, companion))
    assert any(changed(trainer.network, network))


def test_what_the_companion_adds_reaches_the_segmentor(playing):
    trainer, batch = playing
    views = trainer._forward(batch)
    with frozen(trainer.objective.companion):
        losses = trainer.objective.segmentor_loss(views, BOTH)
        (name,) = [name for name in losses.terms if not name.startswith("CE ")]
        reached = gradients(losses.terms[name], *trainer.network.parameters())
    assert any(is_reached(gradient) for gradient in reached)
    assert all(gradient is None or torch.isfinite(gradient).all() for gradient in reached)


def test_one_forward_pass_serves_both_players(playing):
    """One step each: the companion's step must not spoil the graph that the segmentor still needs."""
    trainer, batch = playing
    calls = []
    handle = trainer.network.register_forward_hook(lambda *_: calls.append(None))
    try:
        numbers = trainer.train_step(batch)
    finally:
        handle.remove()
    assert len(calls) == 1
    assert all(math.isfinite(float(value)) or name.startswith("share") for name, value in numbers.items())


def test_alone_the_companion_changes_and_the_segmentor_does_not(playing):
    trainer, batch = playing
    network, companion = state(trainer.network), state(trainer.objective.companion)
    phases = trainer.phases
    trainer.phases = [type(phases[0])(COMPANION, 0, 1000)]
    try:
        trainer.train_step(batch)
    finally:
        trainer.phases = phases
    assert not any(changed(trainer.network, network))
    assert any(changed(trainer.objective.companion, companion))


def test_alone_the_segmentor_changes_and_the_companion_does_not(playing):
    trainer, batch = playing
    network, companion = state(trainer.network), state(trainer.objective.companion)
    phases = trainer.phases
    trainer.phases = [type(phases[0])(SEGMENTOR, 0, 1000)]
    try:
        numbers = trainer.train_step(batch)
    finally:
        trainer.phases = phases
    assert any(changed(trainer.network, network))
    assert not any(changed(trainer.objective.companion, companion))
    assert set(numbers) == {"loss", "training loss: CE T1", "training loss: CE T2"}


def test_a_player_that_raises_leaves_the_companion_unfrozen():
    companion = nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), frozen(companion):
        assert not any(parameter.requires_grad for parameter in companion.parameters())
        raise ZeroDivisionError
    assert all(parameter.requires_grad for parameter in companion.parameters())
    with frozen(None):
        pass


def test_a_warped_mask_is_that_of_the_first_image(playing):
    """The registor warps T1 onto T2, in training as in its examination."""
    trainer, batch = playing
    if not trainer.recipe.objective.startswith("similarity"):
        pytest.skip("no registor")
    views = [one.detached() for one in trainer._forward(batch)]
    with torch.no_grad():
        first, second = (one.prediction() for one in views)
        warped = warp(first, trainer.objective.companion(first, second))
        expected = functional.mse_loss(blur(warped), blur(views[1].annotation(2)))
        assert trainer.objective.companion_loss(views, BOTH).terms["registration (L_g)"] == pytest.approx(expected.item())
