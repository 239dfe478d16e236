from __future__ import annotations

from dataclasses import replace

import pytest

from nnunet_liver_ext.trainers.phases import BOTH, COMPANION, SEGMENTOR
from nnunet_liver_ext.trainers.recipe import Recipe
from nnunet_liver_ext.trainers.turns import Turns

RECIPE = Recipe(strategy="one_view")


@pytest.mark.parametrize(
    ("numbers", "batches"),
    [
        ({}, (1, 1, 1)),
        (
            {"companion_steps": 10, "companion_batch_size": 8},
            (1, 2, 21),
        ),  # Yang et al. 2017, algorithm 1, batch 4
        ({"companion_steps": 2, "segmentor_steps": 3}, (1, 1, 5)),
        ({"companion_batch_size": 12}, (1, 3, 4)),
        ({"companion_batch_size": 4}, (1, 1, 1)),
    ],
)
def test_batches_of_an_iteration(numbers: dict, batches: tuple[int, int, int]):
    turns = Turns.from_recipe(replace(RECIPE, **numbers), 4)
    assert tuple(turns.batches(phase) for phase in (SEGMENTOR, COMPANION, BOTH)) == batches
    assert turns.on_one_batch(BOTH) == (batches == (1, 1, 1))
    assert not turns.on_one_batch(COMPANION)
