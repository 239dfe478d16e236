"""Losses that become nan or infinite, and steps that overflow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nnunet_liver_ext.errors import NonFiniteLoss
from nnunet_liver_ext.losses import adversarial
from nnunet_liver_ext.losses import registration as similarity
from nnunet_liver_ext.trainers.objectives import Losses
from nnunet_liver_ext.trainers.objectives.voxelwise import VoxelLoss
from nnunet_liver_ext.trainers.players import losses_to_numbers, make_optimizer, optimizer_step
from tests.training import make_trainer, quietly, run_epochs


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")


def spoil(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, factor: float) -> None:
    original = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args: original(*args) * factor)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("trainer_name", "module", "function", "term"),
    [
        ("nnUNetTrainerGAN", adversarial, "discriminator_loss", "discriminator"),
        ("nnUNetTrainerGAN", adversarial, "deception_loss", "deceiving the discriminator"),
        (
            "nnUNetTrainerSimilarityTranslation",
            similarity,
            "similarity_loss",
            r"similarity \(L_p\)",
        ),
        (
            "nnUNetTrainerSimilarityTranslation",
            similarity,
            "registration_loss",
            r"registration \(L_g\)",
        ),
    ],
)
def test_training_stops_at_a_companions_term(
    trainer_name: str,
    module: Any,
    function: str,
    term: str,
    value: float,
    nnunet_root: Path,
    tmp_path: Path,
    monkeypatch,
):
    trainer = make_trainer(nnunet_root, tmp_path, trainer_name, warmup_epochs=0, companion_epochs=0)
    run_epochs(trainer, 1)
    files = {path: path.read_bytes() for path in Path(trainer.output_folder).glob("*.pth")}
    assert files
    spoil(monkeypatch, module, function, value)
    with pytest.raises(
        NonFiniteLoss, match=f'training stopped in epoch 1: the loss "{term}" is {value}'
    ) as error:
        run_epochs(trainer, 2)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in Path(trainer.output_folder).glob("*.pth")} == files


def test_training_stops_at_a_voxel_loss(nnunet_root: Path, tmp_path: Path, monkeypatch):
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerSingleInput")
    run_epochs(trainer, 1)
    checkpoint = Path(trainer.output_folder) / "checkpoint_latest.pth"
    before = checkpoint.read_bytes()
    loss_of_view = VoxelLoss.loss_of_view

    def spoiled(self: VoxelLoss, view: Any) -> tuple[Tensor, dict[str, Tensor]]:
        total, terms = loss_of_view(self, view)
        if view.name == "T2":
            terms["CE T2"] = terms["CE T2"] * math.nan
        return total, terms

    monkeypatch.setattr(VoxelLoss, "loss_of_view", spoiled)
    with pytest.raises(NonFiniteLoss, match='in epoch 1: the loss "CE T2" is nan'):
        run_epochs(trainer, 2)
    assert checkpoint.read_bytes() == before


def test_a_figure_may_be_nan_and_a_total_may_not():
    one, nan = torch.tensor(1.0), torch.tensor(math.nan)
    numbers = losses_to_numbers([Losses(one, {"a": one}, {"share: b": nan})], 0)
    assert numbers["total"] == 1
    assert math.isnan(numbers["share: b"])
    with pytest.raises(NonFiniteLoss, match='in epoch 5: the loss "total" is nan'):
        losses_to_numbers([Losses(nan, {"a": one})], 5)


def test_numbers_of_several_steps_are_means_and_the_total_is_the_last_ones():
    def losses(total: float, **terms: float) -> Losses:
        return Losses(
            torch.tensor(total), {name: torch.tensor(term) for name, term in terms.items()}
        )

    played = [losses(1.0, d=1.0), losses(2.0, d=3.0), losses(5.0, s=4.0), losses(7.0, s=8.0)]
    assert losses_to_numbers(played, 0) == {
        "total": 7.0,
        "training loss: d": 2.0,
        "training loss: s": 6.0,
    }


class Player:
    """One weight that is pushed down by one in each step, with a scaler of its own."""

    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.zeros(1))
        self.optimizer = torch.optim.SGD([self.weight], lr=1.0)
        self.scaler = torch.GradScaler("cpu", init_scale=2.0**10)

    def step(self, factor: float = 1.0, clip: float = 12.0) -> None:
        optimizer_step(
            (self.weight * factor).sum(), [self.weight], self.optimizer, self.scaler, clip=clip
        )


def test_an_overflow_of_one_player_shrinks_its_own_steps_alone():
    first, second = Player(), Player()
    for _ in range(2):
        first.step()
        second.step(3e38)  # finite, but not when it is scaled
    assert (first.weight.item(), first.scaler.get_scale()) == (-2, 2.0**10)
    assert (second.weight.item(), second.scaler.get_scale()) == (0, 2.0**8)
    second.step()
    assert second.weight.item() == -1


def test_the_gradient_is_clipped_after_it_was_unscaled():
    player = Player()
    player.step(100.0, clip=2.0)
    assert player.weight.item() == pytest.approx(-2, rel=1e-5)
    plain = Player()
    optimizer_step((plain.weight * 100).sum(), [plain.weight], plain.optimizer, None, clip=2.0)
    assert plain.weight.item() == pytest.approx(-2, rel=1e-5)


def test_old_gradients_are_forgotten():
    player = Player()
    player.weight.grad = torch.tensor([50.0])
    player.step()
    assert player.weight.item() == -1


def test_a_companions_scaler_is_its_own_and_is_saved(nnunet_root: Path, tmp_path: Path):
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerGAN")
    quietly(trainer.initialize)
    assert trainer.companion.scaler is None
    trainer.companion.scaler = torch.GradScaler("cpu", init_scale=2.0**7)
    path = tmp_path / "checkpoint.pth"
    trainer.save_checkpoint(str(path))
    other = make_trainer(nnunet_root, tmp_path / "other", "nnUNetTrainerGAN")
    quietly(other.initialize)
    other.companion.scaler = torch.GradScaler("cpu")
    quietly(other.load_checkpoint, str(path))
    assert other.companion.scaler.get_scale() == 2.0**7
    without = make_trainer(nnunet_root, tmp_path / "without", "nnUNetTrainerGAN")
    quietly(without.load_checkpoint, str(path))
    assert without.companion.scaler is None


def test_optimizers():
    parameters = [nn.Parameter(torch.zeros(1))]
    numbers = {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.01}
    sgd = make_optimizer("sgd", parameters, **numbers).param_groups[0]
    assert (sgd["lr"], sgd["momentum"], sgd["nesterov"], sgd["weight_decay"]) == (
        0.1,
        0.5,
        True,
        0.01,
    )
    assert not make_optimizer("sgd", parameters, **{**numbers, "momentum": 0.0}).param_groups[0][
        "nesterov"
    ]
    for kind, expected in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)):
        optimizer = make_optimizer(kind, parameters, **numbers)
        group = optimizer.param_groups[0]
        assert type(optimizer) is expected
        assert (group["lr"], group["betas"], group["weight_decay"]) == (0.1, (0.5, 0.999), 0.01)
