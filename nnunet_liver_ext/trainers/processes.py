"""What the processes of a training share: the seed, and the computer's cores."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import distributed as dist

from nnunet_liver_ext.dataset_json.incomplete import IncompleteCases
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.recipe import Recipe


def draw_seed() -> int:
    """A seed from the system's entropy."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def share_seed(seed: int) -> int:
    """The seed of rank 0, which the checkpoint keeps."""
    seeds = [seed]
    dist.broadcast_object_list(seeds, src=0)
    return seeds[0]


def check_ranks(trainer: str, recipe: Recipe, incomplete: IncompleteCases) -> None:
    """InputError if several ranks cannot train this recipe on incomplete pairs."""
    if incomplete and "specialized" in recipe.strategy:
        raise InputError(
            f"{trainer}: with incomplete pairs a rank may have nothing to teach one of its"
            " networks; train it on one GPU."
        )


def respect_omp_num_threads() -> None:
    """Keeps to OMP_NUM_THREADS; nnUNetv2_train takes all cores, whoever else is there."""
    threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if threads.isdigit():
        torch.set_num_threads(max(1, int(threads)))
