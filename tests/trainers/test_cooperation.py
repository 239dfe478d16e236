from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nnunet_liver_ext.dataset_conversion.toy import make_pair
from nnunet_liver_ext.deformation import blur
from nnunet_liver_ext.networks.registor_heads import centroid
from nnunet_liver_ext.trainers.objectives import OBJECTIVES, ObjectiveSetup, View
from nnunet_liver_ext.trainers.objectives import cooperation as similarity_module
from nnunet_liver_ext.trainers.objectives.cooperation import TranslationNumbers
from nnunet_liver_ext.trainers.phases import BOTH, COMPANION, SEGMENTOR
from tests.objectives import (
    SHAPE,
    SIMILARITY,
    Constant,
    build,
    gradients,
    is_reached,
    pair_of_views,
    voxel_loss,
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


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
def test_the_segmentation_loss_keeps_the_sum_over_the_two_images(
    key: str, num_classes: int, levels: int
):
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
    assert objective.segmentor_loss(views, BOTH).terms["similarity (L_p)"].item() == pytest.approx(
        expected, rel=1e-4
    )
    losses = objective.companion_loss([one.detach() for one in views], BOTH)
    expected = functional.mse_loss(
        blur(shifted(first)), blur(views[1].annotation(num_classes))
    ).item()
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
    assert all(
        is_reached(gradient) for gradient in gradients(total, *[one.logits for one in views])
    )


@pytest.mark.parametrize("phase", [COMPANION, BOTH])
@pytest.mark.parametrize("key", SIMILARITY)
def test_the_registration_loss_reaches_the_whole_registor(key: str, phase: str):
    objective = build(key)
    views = [one.detach() for one in pair_of_views()]
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
    views = [
        View(name, torch.zeros(2, 1, *SHAPE), torch.zeros(2, 2, *SHAPE), labels)
        for name in ("T1", "T2")
    ]
    for phase in (COMPANION, BOTH):
        total = objective.companion_loss(views, phase).total
        total.backward()
        assert torch.isfinite(total)
    assert torch.isfinite(objective.segmentor_loss(views, BOTH).total)
    assert all(
        parameter.grad is None or torch.isfinite(parameter.grad).all()
        for parameter in objective.companion.parameters()
    )
    figures = objective.examine(views, thoroughly=False)
    assert len(figures) == 2
    assert all(math.isnan(value.item()) for value in figures.values())


def test_examining_a_known_deformation():
    """A ball of 5 x 5 x 5 voxels, two further along x in T2; the registor goes one of the two
    voxels."""
    objective = build("similarity_translation")
    labels = torch.zeros(3, 1, *SHAPE)
    labels[:2, :, 2:7, 4:9, 6:11] = 1
    views = [View("T1", labels, None, labels), View("T2", labels, None, labels.roll(-2, -1))]
    objective.companion = Constant(lambda a, b: one_voxel_along_x(a, b))
    figures = {
        name.partition(": ")[2]: value.item()
        for name, value in objective.examine(views, thoroughly=False).items()
    }
    assert figures == {
        "as they lie": pytest.approx(3 / 5),
        "T1 warped by the registor": pytest.approx(4 / 5),
    }


def test_a_thorough_examination_knows_the_best_transform():
    pytest.importorskip("nnunet_liver_ext.evaluation.similarity.relative")
    objective = build("similarity_translation")
    labels = torch.zeros(3, 1, *SHAPE)
    labels[:2, :, 2:7, 4:9, 6:11] = 1
    views = [View("T1", labels, None, labels), View("T2", labels, None, labels.roll(-2, -1))]
    objective.companion = Constant(lambda a, b: one_voxel_along_x(a, b))
    figures = {
        name.partition(": ")[2]: value.item()
        for name, value in objective.examine(views, thoroughly=True).items()
    }
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


def test_the_registor_can_answer_every_shift_that_it_learns_from():
    """On the toy's pairs, which are shifted by up to 32 of 240 pixels themselves, the shift that is
    left is never longer; the masks differ a little, and so do their centroids from the shift."""
    size, pairs = 240, [make_pair(seed) for seed in range(30)]
    masks = [
        torch.stack([torch.from_numpy(mask)[None].float() for mask in of_image])
        for of_image in zip(*[(pair.mask_1, pair.mask_2) for pair in pairs], strict=True)
    ]
    setup = ObjectiveSetup(TranslationNumbers(), (size, size), (1.0, 1.0), 2, 1)
    objective = OBJECTIVES["similarity_translation"](setup, voxel_loss())
    drawn = torch.cat(
        [centroid(objective.move_masks(*masks)) - centroid(masks[1]) for _ in range(10)]
    )
    own = (centroid(masks[0]) - centroid(masks[1])).abs()
    assert drawn.abs().max() < 32 + 0.5
    assert drawn.abs().max() > 28  # and the whole range is used
    fresh = own.repeat(10, 1) + 32 * (2 * torch.rand(300, 2) - 1)
    assert (fresh.abs() > 32).any(1).float().mean() > 0.3  # without regard to the pair's own


def test_the_registor_has_the_bounds_of_the_recipe():
    bounds = {"max_shift_voxels": 2.0, "max_rotation_deg": 5.0, "max_log_stretch": 0.05}
    described = build("similarity_affine", **bounds).describe()
    assert (
        "a rotation by at most 5°, a stretch by at most exp(±0.05), a shift by at most 2 x 2 x 2"
        " voxels" in described
    )
    del bounds["max_log_stretch"]
    moved = build("similarity_rigid", **bounds | {"max_shift_voxels": 0.0})
    ball = pair_of_views()[0].annotation(2)
    assert not torch.equal(moved.move_masks(ball, ball), ball)
    still = build("similarity_rigid", **bounds | {"max_shift_voxels": 0.0, "max_rotation_deg": 0.0})
    assert torch.allclose(still.move_masks(ball, ball), ball, atol=1e-5)
