"""How many of the loader's batches the two players take in an iteration.

They count in the seeded batch index.
"""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_liver_ext.trainers.phases import BOTH, COMPANION, SEGMENTOR, PhaseName
from nnunet_liver_ext.trainers.recipe import Recipe


@dataclass(frozen=True)
class Turns:
    """k_D : k_S steps in an iteration of the phase in which both play."""

    companion_steps: int
    segmentor_steps: int
    companion_batches: int
    """Batches of the loader in one of the companion's."""

    @classmethod
    def from_recipe(cls, recipe: Recipe, batch_size: int) -> Turns:
        """A recipe's turns; `companion_batch_size` is a multiple of the loader's batch size."""
        wanted = recipe.companion_batch_size
        return cls(
            recipe.companion_steps,
            recipe.segmentor_steps,
            1 if wanted is None else max(1, wanted // batch_size),
        )

    def on_one_batch(self, phase: PhaseName) -> bool:
        """Whether both players take their step on the same batch and the same forward pass."""
        return phase == BOTH and (
            self.companion_steps,
            self.segmentor_steps,
            self.companion_batches,
        ) == (1, 1, 1)

    def batches(self, phase: PhaseName) -> int:
        """Batches of the loader in one iteration of a phase."""
        if phase == SEGMENTOR or self.on_one_batch(phase):
            return 1
        if phase == COMPANION:
            return self.companion_batches
        return self.companion_steps * self.companion_batches + self.segmentor_steps
