"""A trainer in a process of its own, which takes training steps when it is asked to."""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import resource
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

STOCK = "nnUNetTrainer"
OF_ONE_MASK = ("nnUNetTrainerPreregistered", "nnUNetTrainerLiver")
"""Trainers that learn from two channels and one mask."""
LONGEST_ANSWER_S = 900
"""A compilation takes minutes."""
WARM_UP_STEPS = {"cuda": 8, "cpu": 2}


def serve(connection: Connection, name: str, root: str, device: str, threads: int) -> None:
    """Makes a trainer; then answers a number of steps with the seconds of one, and 0 with the peak
    memory in bytes. What goes wrong is the last answer, as text."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            import torch

            import nnunet_liver_ext.trainers  # noqa: F401  (imported before memory is looked at, with all of nnU-Net)

            torch.set_num_threads(threads)
            held = _memory(device)
            trainer, batch = _make_trainer(name, Path(root), torch.device(device))
            while True:
                steps = connection.recv()
                connection.send(
                    _seconds_per_step(trainer, batch, steps, device)
                    if steps
                    else _memory(device) - held
                )
        except EOFError:  # nobody asks any more
            return
        except Exception as error:
            connection.send(f"{type(error).__name__}: {error}".splitlines()[0])


def _make_trainer(name: str, root: Path, device: Any) -> tuple[Any, dict[str, Any]]:
    import nnunetv2.training.nnUNetTrainer.nnUNetTrainer as stock

    from nnunet_liver_ext import trainers

    plans = json.loads((root / "plans.json").read_text())
    kind = "one_mask" if name in OF_ONE_MASK else "pairs"
    dataset_json = json.loads((root / f"{kind}.json").read_text())
    plans["configurations"]["3d_fullres"]["recipe"] = {
        "warmup_epochs": 0,
        "companion_epochs": 0,
        "seed": 1,
    }
    plans["continue_training"] = False
    trainer_class = stock.nnUNetTrainer if name == STOCK else getattr(trainers, name)
    trainer = trainer_class(plans, "3d_fullres", 0, dataset_json, device)
    trainer.initialize()
    trainer.network.train()
    return trainer, _make_batch(trainer, len(dataset_json["labels"]))


def _make_batch(trainer: Any, num_labels: int) -> dict[str, Any]:
    """Noise, and labels of two balls that overlap (codes 0 to 3 of a pair) or of one."""
    import torch
    from torch.nn import functional

    size, batch_size = (
        trainer.configuration_manager.patch_size,
        trainer.configuration_manager.batch_size,
    )
    torch.manual_seed(0)
    data = torch.randn(batch_size, 2, *size)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in size], indexing="ij")
    balls = [
        torch.stack([(axis - centre) ** 2 for axis in axes]).sum(0) < 0.4 for centre in (-0.1, 0.1)
    ]
    labels = balls[0].float() + (2 * balls[1].float() if num_labels == 4 else 0)
    labels = labels.expand(batch_size, 1, *size)
    scales = trainer._get_deep_supervision_scales()
    target = [
        functional.interpolate(labels, scale_factor=tuple(scale)).to(torch.int16)
        for scale in scales
    ]
    if trainer.device.type == "cuda":
        data, target = data.pin_memory(), [level.pin_memory() for level in target]
    return {"data": data, "target": target}


def _seconds_per_step(trainer: Any, batch: dict[str, Any], steps: int, device: str) -> float:
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else gc.collect
    wait()
    start = time.perf_counter()
    for _ in range(steps):
        trainer.train_step(batch)
    if device == "cuda":
        wait()
    return (time.perf_counter() - start) / steps


def _memory(device: str) -> int:
    """Peak so far, in bytes."""
    import torch

    return (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )


class Player:
    """The other end of a trainer's process, which warms up as soon as it is there."""

    def __init__(self, name: str, root: Path, device: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.name, arguments = name, (theirs, name, str(root), device, threads)
        self.process = context.Process(target=serve, args=arguments)
        self.process.start()
        theirs.close()
        self.connection.send(WARM_UP_STEPS[device])

    def answer(self) -> float:
        """What it answers to the last question.

        Raises:
            RuntimeError: it does not answer any more, and why.
        """
        if not self.connection.poll(LONGEST_ANSWER_S):
            raise RuntimeError(f"{self.name} has not answered for {LONGEST_ANSWER_S} s.")
        try:
            answer = self.connection.recv()
        except (EOFError, ConnectionError):
            raise RuntimeError(f"{self.name}: its process has ended.") from None
        if isinstance(answer, str):
            raise RuntimeError(f"{self.name}: {answer}")
        return answer

    def ask(self, steps: int) -> float:
        self.connection.send(steps)
        return self.answer()

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()
