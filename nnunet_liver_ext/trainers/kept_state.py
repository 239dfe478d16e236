"""The best state of a training, which replaces the last one where the recipe keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import distributed as dist

from nnunet_liver_ext.checkpoint_files import read_nnunet_checkpoint
from nnunet_liver_ext.environment import is_trusted
from nnunet_liver_ext.networks.strategies import unwrap
from nnunet_liver_ext.trainers.recipe import PLANS_KEY

if TYPE_CHECKING:
    from nnunet_liver_ext.trainers.base import LiverTrainer


def keep_best_state(trainer: LiverTrainer, *, has_score: bool) -> bool:
    """Gives a training that ends the weights of its best epoch.

    Args:
        trainer: after its last epoch.
        has_score: whether any epoch has a score.

    Returns:
        Whether there was a best state; without one the last state stays, and the log says so.
    """
    best = Path(trainer.output_folder) / "checkpoint_best.pth"
    if not has_score or trainer.disable_checkpointing or not best.is_file():
        trainer.print_to_log_file(
            "WARNING: no epoch of this training has a score, or none was saved; the last state is"
            " kept."
        )
        return False
    if trainer.is_ddp:
        dist.barrier()  # rank 0 has written it
    checkpoint = read_nnunet_checkpoint(best, trust=is_trusted())
    unwrap(trainer.network).load_state_dict(checkpoint["network_weights"])
    trainer.objective.load_state_dict(checkpoint[PLANS_KEY]["objective"])
    trainer.print_to_log_file(
        f"The state after epoch {checkpoint['current_epoch'] - 1} was the best one and is kept."
    )
    return True
