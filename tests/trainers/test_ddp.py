"""Two processes that train together, with gloo on the CPU.

What it covers: our own set-up and steps under `DistributedDataParallel`, that each rank draws its
own batches, that the weights of the segmentor and of its companion stay equal in every phase
although each rank begins with its own, that a step is skipped by all ranks or by none, that scores
are gathered, and that a checkpoint is written once and without DDP's names. What it does not: CUDA
and nccl (nnU-Net insists on them when a trainer is made, so it is made as for one process and told
of the other before it is initialised), SyncBatchNorm, torch.compile and mixed precision.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_liver_ext.trainers.companion import Companion
from nnunet_liver_ext.trainers.objectives import Objective
from tests.training import make_trainer, quietly

RANKS = 2
STEPS = 3
NNUNET_TRAINER = "nnunetv2.training.nnUNetTrainer.nnUNetTrainer"


def join(rank: int, out: str, trainer: Any) -> None:
    """Initialises a trainer as nnU-Net does for DDP, without CUDA; each rank begins with weights of
    its own."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{out}/rendezvous", rank=rank, world_size=RANKS
    )
    trainer.is_ddp, trainer.local_rank = True, rank
    set_up = Companion.__init__

    def with_its_own_weights(module: nn.Module) -> nn.Module:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.01 * rank)
        return module

    def wrapped(network: nn.Module, device_ids: list[int]) -> DistributedDataParallel:
        return DistributedDataParallel(with_its_own_weights(network))

    def begin(
        companion: Companion, objective: Objective, network: nn.Module, *args: Any, **more: Any
    ) -> None:
        set_up(companion, objective, with_its_own_weights(network), *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{NNUNET_TRAINER}.DDP", wrapped)
        patch.setattr(Companion, "__init__", begin)
        quietly(trainer.initialize)


def spawn(function: Any, *args: Any) -> None:
    mp.spawn(function, args=tuple(str(arg) for arg in args), nprocs=RANKS)


def run_rank(rank: int, root: str, out: str) -> None:
    results = Path(out) / "results"
    trainer = make_trainer(
        Path(root),
        results,
        "nnUNetTrainerDualOutput",
        seed=7 + rank,
        num_iterations_per_epoch=STEPS,
        best_by="image_dice",
    )
    join(rank, out, trainer)
    loader, loader_val = quietly(trainer.get_dataloaders)
    quietly(trainer.on_epoch_start)
    quietly(trainer.on_train_epoch_start)
    batches = [next(loader) for _ in range(STEPS)]
    outputs = [trainer.train_step(batch) for batch in batches]
    quietly(trainer.on_train_epoch_end, outputs)
    with torch.no_grad():
        quietly(trainer.on_validation_epoch_start)
        local = trainer.validation_step(next(loader_val))
        quietly(trainer.on_validation_epoch_end, [local])
    trainer.save_checkpoint(f"{out}/checkpoint_{rank}.pth")
    torch.save(trainer.network.module.state_dict(), f"{out}/weights_{rank}.pth")
    report = {
        "seed": trainer.seed,
        "data": [float(batch["data"].double().sum()) for batch in batches],
        "batch": len(batches[0]["data"]),
        "loss": [float(output["loss"]) for output in outputs],
        "term": [float(output["training loss: CE T1"]) for output in outputs],
        "mean term": trainer.history["training loss: CE T1"],
        "mean loss": float(trainer.logger.get_value("train_losses", -1)),
        "tp": local["tp_hard"].tolist(),
        "fp": local["fp_hard"].tolist(),
        "fn": local["fn_hard"].tolist(),
        "dice": trainer.logger.get_value("dice_per_class_or_region", -1),
        "image dice": trainer.history["whole images, dice: T1 liver"],
        "best by": trainer.logger.get_value("ema_fg_dice", -1),
    }
    Path(out, f"rank_{rank}.json").write_text(json.dumps(report))
    dist.destroy_process_group()


def test_two_ranks_train_one_network_on_different_batches(
    nnunet_root: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    spawn(run_rank, nnunet_root, tmp_path)
    first, second = (
        json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(RANKS)
    )
    assert (first["seed"], second["seed"]) == (7, 7)
    assert (first["batch"], second["batch"]) == (1, 1)
    assert not set(first["data"]) & set(second["data"])
    states = [torch.load(tmp_path / f"weights_{rank}.pth") for rank in range(RANKS)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert first["mean loss"] == second["mean loss"]
    assert abs(first["mean loss"] - sum(first["loss"] + second["loss"]) / (2 * STEPS)) < 1e-6
    assert (
        first["mean term"]
        == second["mean term"]
        == [pytest.approx(sum(first["term"] + second["term"]) / (2 * STEPS))]
    )
    assert first["dice"] == second["dice"]
    assert first["image dice"] == second["image dice"]
    assert first["best by"] == second["best by"]
    for index, dice in enumerate(first["dice"]):
        tp, fp, fn = (first[key][index] + second[key][index] for key in ("tp", "fp", "fn"))
        assert dice == 2 * tp / (2 * tp + fp + fn)
    assert not (tmp_path / "checkpoint_1.pth").exists()
    saved = torch.load(tmp_path / "checkpoint_0.pth", weights_only=False)
    assert all(
        torch.equal(value, states[0][name]) for name, value in saved["network_weights"].items()
    )
    assert not list(tmp_path.glob(".unfinished*"))


def networks(trainer: Any) -> dict[str, dict[str, Tensor]]:
    """Copies of the weights of both players."""
    players = {"segmentor": trainer.network.module, "companion": trainer.objective.companion}
    return {
        player: {k: v.clone() for k, v in module.state_dict().items()}
        for player, module in players.items()
    }


def run_phases(rank: int, root: str, out: str, name: str) -> None:
    numbers = {
        "warmup_epochs": 1,
        "companion_epochs": 1,
        "companion_steps": 2,
        "num_iterations_per_epoch": 2,
    }
    trainer = make_trainer(Path(root), Path(out) / "results", name, seed=7, **numbers)
    join(rank, out, trainer)
    trainer.dataloader_train, _ = quietly(trainer.get_dataloaders)
    states, sums = [networks(trainer)], []
    draw = type(trainer.dataloader_train).__next__

    def drawn(loader: Any) -> Any:
        batch = draw(loader)
        sums.append(float(batch["data"].double().sum()))
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(trainer.dataloader_train), "__next__", drawn)
        for trainer.current_epoch in range(3):
            quietly(trainer.on_epoch_start)
            quietly(trainer.on_train_epoch_start)
            for _ in range(trainer.num_iterations_per_epoch):
                trainer.train_step(next(trainer.dataloader_train))
            states.append(networks(trainer))
    states.append(after_an_overflow_of_rank_1(trainer, rank))
    torch.save(
        {"states": states, "sums": sums, "scale": trainer.companion.scaler.get_scale()},
        f"{out}/rank_{rank}.pth",
    )
    dist.destroy_process_group()


def after_an_overflow_of_rank_1(trainer: Any, rank: int) -> dict[str, dict[str, Tensor]]:
    """A step of the companion whose scaled loss is infinite on rank 1 alone."""
    objective, companion_loss = trainer.objective, trainer.objective.companion_loss
    trainer.companion.scaler = torch.GradScaler("cpu", init_scale=2.0**60)
    factor = 1e25 if rank == 1 else 1.0

    def large(*args: Any) -> Any:
        losses = companion_loss(*args)
        return replace(losses, total=losses.total * factor)

    objective.companion_loss = large
    game, loader = trainer.game, trainer.dataloader_train
    views = game.companion_views(next(loader), trainer.phase.name, lambda: next(loader))
    game.play_companion(views, trainer.phase.name)
    return networks(trainer)


@pytest.mark.parametrize("name", ["nnUNetTrainerGAN", "nnUNetTrainerSimilarityTranslation"])
def test_both_players_are_the_same_on_all_ranks_in_every_phase(
    name: str, nnunet_root: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    spawn(run_phases, nnunet_root, tmp_path, name)
    first, second = (torch.load(tmp_path / f"rank_{rank}.pth") for rank in range(RANKS))
    for state, other in zip(first["states"], second["states"], strict=True):
        for player in ("segmentor", "companion"):
            assert all(
                torch.equal(value, other[player][key]) for key, value in state[player].items()
            )
    begin, warmed_up, registered, both, overflowed = first["states"]

    def learned(player: str, before: dict, after: dict) -> bool:
        return any(
            not torch.equal(value, after[player][key]) for key, value in before[player].items()
        )

    expected = [(True, False), (False, True), (True, True), (False, False)]
    steps = [(begin, warmed_up), (warmed_up, registered), (registered, both), (both, overflowed)]
    assert [
        (learned("segmentor", *step), learned("companion", *step)) for step in steps
    ] == expected
    assert first["scale"] == second["scale"] == 2.0**59
    assert len(first["sums"]) == len(second["sums"]) == 2 + 2 + 2 * 3
    assert len(set(first["sums"] + second["sums"])) == 2 * len(first["sums"])


def mean_of_gradients(rank: int, out: str) -> None:
    from nnunet_liver_ext.trainers.players import average_gradients, broadcast

    dist.init_process_group(
        "gloo", init_method=f"file://{out}/rendezvous", rank=rank, world_size=RANKS
    )
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.fill_(rank + 1)
    broadcast(module)
    assert all((tensor == 1).all() for tensor in module.state_dict().values())
    parameters = [*module.parameters(), nn.Parameter(torch.zeros(1))]
    for index, parameter in enumerate(parameters[:-1]):
        parameter.grad = torch.full_like(parameter, float(index + 10 * rank))
    average_gradients(parameters)
    assert all(
        (parameter.grad == index + 5).all() for index, parameter in enumerate(parameters[:-1])
    )
    assert parameters[-1].grad is None
    dist.destroy_process_group()


def test_the_mean_of_gradients_and_the_first_ranks_weights(tmp_path: Path):
    spawn(mean_of_gradients, tmp_path)
