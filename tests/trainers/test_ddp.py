"""Two processes that train together, with gloo on the CPU.

What it covers: our steps under `DistributedDataParallel`, that each rank draws its own batches, that weights stay equal
although each rank begins with its own, that scores are gathered, and that a checkpoint is written once and without
DDP's names. What it does not: nnU-Net's own set-up (it insists on CUDA and nccl, so a trainer is made and initialised as
for one process and wrapped here), SyncBatchNorm, torch.compile and gradient scaling.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from tests.training import make_trainer, quietly

RANKS = 2
STEPS = 3


def wrap(trainer: Any, rank: int) -> None:
    """What nnU-Net does for DDP, without CUDA."""
    trainer.local_rank = rank
    quietly(trainer.initialize)
    trainer.is_ddp = True
    quietly(trainer._set_batch_size_and_oversample)
    trainer.network = DistributedDataParallel(trainer.network)
    trainer.objective.loss = trainer._build_loss()


def run_rank(rank: int, root: str, out: str) -> None:
    torch.set_num_threads(1)
    results = Path(out) / "results"
    trainer = make_trainer(Path(root), results, "nnUNetTrainerDualOutput", seed=7 + rank, num_iterations_per_epoch=STEPS)
    dist.init_process_group("gloo", init_method=f"file://{out}/rendezvous", rank=rank, world_size=RANKS)
    wrap(trainer, rank)
    trainer.seed = 7  # from here on both draw from the same seed; the initial weights came from different ones
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
        "data": [float(batch["data"].double().sum()) for batch in batches],
        "batch": len(batches[0]["data"]),
        "loss": [float(output["loss"]) for output in outputs],
        "mean loss": float(trainer.logger.get_value("train_losses", -1)),
        "tp": local["tp_hard"].tolist(),
        "fp": local["fp_hard"].tolist(),
        "fn": local["fn_hard"].tolist(),
        "dice": trainer.logger.get_value("dice_per_class_or_region", -1),
    }
    Path(out, f"rank_{rank}.json").write_text(json.dumps(report))
    dist.destroy_process_group()


def test_two_ranks_train_one_network_on_different_batches(nnunet_root: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    mp.spawn(run_rank, args=(str(nnunet_root), str(tmp_path)), nprocs=RANKS)
    first, second = (json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(RANKS))
    assert (first["batch"], second["batch"]) == (1, 1)
    assert not set(first["data"]) & set(second["data"])
    states = [torch.load(tmp_path / f"weights_{rank}.pth") for rank in range(RANKS)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert first["mean loss"] == second["mean loss"]
    assert abs(first["mean loss"] - sum(first["loss"] + second["loss"]) / (2 * STEPS)) < 1e-6
    assert first["dice"] == second["dice"]
    for index, dice in enumerate(first["dice"]):
        tp, fp, fn = (first[key][index] + second[key][index] for key in ("tp", "fp", "fn"))
        assert dice == 2 * tp / (2 * tp + fp + fn)
    assert not (tmp_path / "checkpoint_1.pth").exists()
    saved = torch.load(tmp_path / "checkpoint_0.pth", weights_only=False)
    assert all(torch.equal(value, states[0][name]) for name, value in saved["network_weights"].items())
    assert not list(tmp_path.glob(".unfinished*"))
