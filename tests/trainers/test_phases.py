from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.game import Game
from nnunet_liver_ext.trainers.objectives import OBJECTIVES
from nnunet_liver_ext.trainers.objectives.cooperation import Similarity
from nnunet_liver_ext.trainers.phases import (
    BOTH,
    COMPANION,
    SEGMENTOR,
    Phase,
    PhaseSchedule,
    find_phase,
    plan_phases,
)
from nnunet_liver_ext.trainers.recipe import Recipe
from tests.training import make_trainer, quietly, run_epochs, weights

THREE = (Phase(SEGMENTOR, 0, 4), Phase(COMPANION, 4, 6), Phase(BOTH, 6, 16))
SHARES = {"adversarial": (0.5, 0.0), "similarity": (0.4, 0.1)}


def planned(
    shares: str = "similarity", *, has_companion: bool = True, **numbers: Any
) -> list[tuple[str, int, int]]:
    objective = {"adversarial": "gambling", "similarity": "similarity_elastic"}[shares]
    objective = objective if has_companion else "dice_ce"
    phases = plan_phases(Recipe(strategy="single_input", objective=objective, **numbers))
    return [(phase.name, phase.first, phase.end) for phase in phases]


@pytest.fixture(scope="module", autouse=True)
def quick():
    """No workers, and no search for the best transform: phases depend on neither."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_n_proc_DA", "0")
        patch.setattr(Similarity, "_best_dice", lambda self, first, second: torch.ones(len(first)))
        yield


# ---------------------------------------------------------------------- planning


def test_the_shares_are_those_of_the_objectives():
    for key, objective in OBJECTIVES.items():
        if objective.has_companion:
            shares = SHARES["similarity" if key.startswith("similarity") else "adversarial"]
            assert (objective.warmup_share, objective.companion_share) == shares


@pytest.mark.parametrize(
    ("shares", "num_epochs", "expected"),
    [
        ("similarity", 4, [(SEGMENTOR, 0, 1), (COMPANION, 1, 2), (BOTH, 2, 4)]),
        ("similarity", 10, [(SEGMENTOR, 0, 4), (COMPANION, 4, 5), (BOTH, 5, 10)]),
        ("similarity", 1000, [(SEGMENTOR, 0, 400), (COMPANION, 400, 500), (BOTH, 500, 1000)]),
        ("adversarial", 4, [(SEGMENTOR, 0, 2), (BOTH, 2, 4)]),
        ("adversarial", 10, [(SEGMENTOR, 0, 5), (BOTH, 5, 10)]),
        ("adversarial", 1000, [(SEGMENTOR, 0, 500), (BOTH, 500, 1000)]),
        ("similarity", 3, [(SEGMENTOR, 0, 1), (COMPANION, 1, 2), (BOTH, 2, 3)]),
        ("similarity", 2, [(BOTH, 0, 2)]),
        ("similarity", 1, [(BOTH, 0, 1)]),
    ],
)
def test_default_phases(shares: str, num_epochs: int, expected: list):
    assert planned(shares, num_epochs=num_epochs) == expected


@pytest.mark.parametrize("num_epochs", range(1, 60))
@pytest.mark.parametrize("shares", SHARES)
def test_phases_cover_every_epoch_once_and_both_are_trained(shares: str, num_epochs: int):
    phases = planned(shares, num_epochs=num_epochs)
    assert [epoch for _, first, end in phases for epoch in range(first, end)] == list(
        range(num_epochs)
    )
    assert phases[-1][0] == BOTH


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (
            {"warmup_epochs": 3, "companion_epochs": 2},
            [(SEGMENTOR, 0, 3), (COMPANION, 3, 5), (BOTH, 5, 10)],
        ),
        ({"warmup_epochs": 0, "companion_epochs": 0}, [(BOTH, 0, 10)]),
        ({"warmup_epochs": 0}, [(COMPANION, 0, 1), (BOTH, 1, 10)]),
        ({"companion_epochs": 0}, [(SEGMENTOR, 0, 4), (BOTH, 4, 10)]),
        ({"warmup_epochs": 10, "companion_epochs": 0}, [(SEGMENTOR, 0, 10)]),
        ({"warmup_epochs": 2, "companion_epochs": 8}, [(SEGMENTOR, 0, 2), (COMPANION, 2, 10)]),
        ({"segmentor_checkpoint": "a"}, [(COMPANION, 0, 1), (BOTH, 1, 10)]),
        ({"companion_checkpoint": "b"}, [(SEGMENTOR, 0, 4), (BOTH, 4, 10)]),
        ({"segmentor_checkpoint": "a", "companion_checkpoint": "b"}, [(BOTH, 0, 10)]),
        (
            {"segmentor_checkpoint": "a", "warmup_epochs": 2},
            [(SEGMENTOR, 0, 2), (COMPANION, 2, 3), (BOTH, 3, 10)],
        ),
    ],
)
def test_given_numbers_and_checkpoints(numbers: dict, expected: list):
    assert planned(num_epochs=10, **numbers) == expected


def test_without_a_companion_there_is_one_phase():
    assert planned(has_companion=False, num_epochs=7, warmup_epochs=2, companion_epochs=90) == [
        (SEGMENTOR, 0, 7)
    ]


def test_phases_longer_than_the_training():
    message = (
        "recipe: warmup_epochs (8) and companion_epochs (3) are longer than the training"
        " (num_epochs: 10)."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        planned(num_epochs=10, warmup_epochs=8, companion_epochs=3)
    with pytest.raises(InputError, match=r"warmup_epochs \(10\) and companion_epochs \(1\)"):
        planned(num_epochs=10, warmup_epochs=10)


def test_the_phase_of_an_epoch():
    assert [find_phase(THREE, epoch).name for epoch in (0, 3, 4, 5, 6, 15, 16, 99)] == [
        SEGMENTOR,
        SEGMENTOR,
        COMPANION,
        COMPANION,
        BOTH,
        BOTH,
        BOTH,
        BOTH,
    ]


# ---------------------------------------------------------------------- learning rates


@pytest.mark.parametrize("exponent", [0.0, 0.9, 2.0])
def test_the_learning_rate_begins_anew_in_each_phase(exponent: float):
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [parameter]} for parameter in parameters], lr=99)
    schedule = PhaseSchedule(optimizer, THREE, 2.0, 0.5, exponent)
    for epoch in range(16):
        schedule.step(epoch)
        phase = next(phase for phase in THREE if phase.first <= epoch < phase.end)
        start = 0.5 if phase.name == BOTH else 2.0
        expected = start * (1 - (epoch - phase.first) / (phase.end - phase.first)) ** exponent
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
            [expected] * 2, rel=1e-12
        )
    schedule.step(16)
    assert optimizer.param_groups[0]["lr"] == (0.5 if exponent == 0 else 0)


def test_one_phase_has_nnunets_own_schedule():
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

    own, stock = (torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01) for _ in range(2))
    schedule = PhaseSchedule(own, (Phase(SEGMENTOR, 0, 50),), 0.01, None, 0.9)
    scheduler = PolyLRScheduler(stock, 0.01, 50)
    for epoch in range(50):
        schedule.step(epoch)
        scheduler.step(epoch)
        assert own.param_groups[0]["lr"] == pytest.approx(stock.param_groups[0]["lr"], rel=1e-12)


def test_both_players_have_their_learning_rates(nnunet_root: Path, tmp_path: Path):
    trainer = make_trainer(
        nnunet_root,
        tmp_path,
        "nnUNetTrainerSimilarityTranslation",
        num_epochs=8,
        warmup_epochs=2,
        companion_epochs=2,
        initial_lr=0.1,
        joint_lr=0.01,
        companion_lr=0.002,
        joint_companion_lr=0.001,
        lr_exponent=1,
    )
    quietly(trainer.initialize)
    rates = []
    for trainer.current_epoch in range(8):
        quietly(trainer.on_train_epoch_start)
        rates.append((trainer.optimizer.param_groups[0]["lr"], trainer.companion.learning_rate))
    alone = [(0.1, 0.002), (0.05, 0.001)] * 2
    joint = [(0.01 * left, 0.001 * left) for left in (1, 0.75, 0.5, 0.25)]
    assert rates == [pytest.approx(pair) for pair in alone + joint]


# ---------------------------------------------------------------------- batches


class Counted:
    """Batches with their number; what nnU-Net calls its loader."""

    def __init__(self) -> None:
        self.drawn = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self.drawn += 1
        return self.drawn - 1


@pytest.mark.parametrize(("companion_steps", "segmentor_steps"), [(3, 2), (1, 1), (2, 1), (1, 2)])
def test_every_step_has_a_fresh_batch(
    companion_steps: int, segmentor_steps: int, nnunet_root: Path, tmp_path: Path, monkeypatch
):
    steps = {"companion_steps": companion_steps, "segmentor_steps": segmentor_steps}
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerGAN", num_epochs=4, **steps)
    played: list[tuple[str, int]] = []
    trainer.objective = SimpleNamespace(companion=True)
    monkeypatch.setattr(Game, "views", lambda self, batch: batch)
    monkeypatch.setattr(Game, "companion_views", lambda self, batch, phase, draw: batch)
    for player in ("companion", "segmentor"):
        monkeypatch.setattr(
            Game,
            f"play_{player}",
            lambda self, views, phase, player=player: played.append((player, views)),
        )
    trainer.dataloader_train = loader = Counted()
    drawn = []
    for trainer.current_epoch in range(4):
        assert trainer.batches_used() == trainer.dataloader_train.drawn
        for _ in range(trainer.num_iterations_per_epoch):
            trainer.game.play(next(loader), trainer.phase.name, lambda: next(loader))
        drawn.append(list(played))
        played.clear()
    assert drawn[0] == [("segmentor", 0), ("segmentor", 1), ("segmentor", 2)]
    assert drawn[1] == [("segmentor", 3), ("segmentor", 4), ("segmentor", 5)]
    players = ["companion"] * companion_steps + ["segmentor"] * segmentor_steps
    assert [player for player, _ in drawn[2]] == players * 3
    batches = [batch for _, batch in drawn[2] + drawn[3]]
    if companion_steps == segmentor_steps == 1:
        assert batches == [6 + step // 2 for step in range(12)]
    else:
        assert batches == list(range(6, 6 + len(batches)))


def companion_state(trainer: Any) -> dict[str, torch.Tensor]:
    found = {
        f"weight {name}": value for name, value in trainer.objective.companion.state_dict().items()
    }
    for index, moments in trainer.companion.optimizer.state_dict()["state"].items():
        found |= {f"{name} of {index}": torch.as_tensor(value) for name, value in moments.items()}
    return {name: value.clone() for name, value in found.items()}


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert not [name for name, value in expected.items() if not torch.equal(value, found[name])]


UNEQUAL = {
    "companion_steps": 3,
    "segmentor_steps": 2,
    "num_epochs": 5,
    "num_iterations_per_epoch": 2,
}


@pytest.mark.parametrize("interrupted_after", [1, 2, 3, 4])
def test_unequal_steps_interrupted_and_continued(
    interrupted_after: int, unequal, nnunet_root: Path, tmp_path: Path
):
    """In the middle of each phase and between the phases."""
    name, straight = unequal
    first = make_trainer(nnunet_root, tmp_path, name, **UNEQUAL)
    run_epochs(first, interrupted_after)
    second = make_trainer(nnunet_root, tmp_path, name, **UNEQUAL)
    quietly(second.load_checkpoint, str(Path(second.output_folder) / "checkpoint_latest.pth"))
    assert second.current_epoch == interrupted_after
    assert_equal(companion_state(second), companion_state(first))
    run_epochs(second, 5)
    assert_equal(weights(second), weights(straight))
    assert_equal(companion_state(second), companion_state(straight))


@pytest.fixture(scope="module")
def unequal(nnunet_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """A trainer with three phases (2, 1 and 2 epochs) after five epochs without a break."""
    name = "nnUNetTrainerSimilarityTranslation"
    trainer = make_trainer(nnunet_root, tmp_path_factory.mktemp("unequal"), name, **UNEQUAL)
    seen: list[int] = []
    train_step = trainer.train_step
    trainer.train_step = lambda batch: seen.append(batch["index"]) or train_step(batch)
    run_epochs(trainer, 5)
    assert seen == [0, 1, 2, 3, 4, 5, 6, 11, 16, 21]
    return name, trainer


# ---------------------------------------------------------------------- checkpoints and log


@pytest.fixture(scope="module")
def logged(
    nnunet_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, list[list[str]], list[dict]]:
    """A trainer after three phases, the checkpoints that were there after each epoch, and the
    weights before it."""
    trainer = make_trainer(
        nnunet_root,
        tmp_path_factory.mktemp("logged"),
        "nnUNetTrainerGAN",
        warmup_epochs=1,
        companion_epochs=1,
    )
    files: list[list[str]] = []
    states: list[dict] = []
    on_epoch_start, on_epoch_end = trainer.on_epoch_start, trainer.on_epoch_end

    def start() -> None:
        states.append(
            copy.deepcopy(
                {
                    "segmentor": trainer.network.state_dict(),
                    "companion": trainer.objective.companion.state_dict(),
                }
            )
        )
        on_epoch_start()

    def end() -> None:
        on_epoch_end()
        files.append(sorted(path.name for path in Path(trainer.output_folder).glob("*.pth")))

    trainer.on_epoch_start, trainer.on_epoch_end = start, end
    run_epochs(trainer, 4)
    return trainer, files, states


def test_only_the_last_phase_has_a_best_epoch(logged):
    trainer, files, _ = logged
    assert files[:2] == [["checkpoint_latest.pth"]] * 2
    assert files[2] == ["checkpoint_best.pth", "checkpoint_latest.pth"]
    best = torch.load(Path(trainer.output_folder) / "checkpoint_best.pth", weights_only=False)
    assert best["current_epoch"] >= 3
    assert best["nnunet_liver_ext"]["phase"] == BOTH


def test_a_training_that_is_continued_before_the_last_phase_has_no_best_epoch_yet(
    nnunet_root: Path, tmp_path: Path
):
    numbers = {"warmup_epochs": 2, "companion_epochs": 1}
    run_epochs(make_trainer(nnunet_root, tmp_path, "nnUNetTrainerGAN", **numbers), 1)
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerGAN", **numbers)
    folder = Path(trainer.output_folder)
    quietly(trainer.load_checkpoint, str(folder / "checkpoint_latest.pth"))
    assert trainer._best_ema is None
    run_epochs(trainer, 3)
    assert not (folder / "checkpoint_best.pth").exists()
    third = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerGAN", **numbers)
    quietly(third.load_checkpoint, str(folder / "checkpoint_latest.pth"))
    run_epochs(third, 4)
    assert (folder / "checkpoint_best.pth").exists()
    assert third._best_ema == third.logger.get_value("ema_fg_dice", None)[-1]


def test_the_moving_average_begins_anew_with_the_last_phase(logged):
    trainer, _, _ = logged
    means, averages = (
        trainer.logger.get_value(key, None) for key in ("mean_fg_dice", "ema_fg_dice")
    )
    expected = [
        means[0],
        0.9 * means[0] + 0.1 * means[1],
        means[2],
        0.9 * means[2] + 0.1 * means[3],
    ]
    assert averages == pytest.approx(expected)


def test_the_log_names_the_phase(logged):
    trainer, _, _ = logged
    log = Path(trainer.log_file).read_text()
    assert log.count("Phase: the segmentor alone (epochs 0 to 0)") == 1
    assert log.count("Phase: the companion network alone (epochs 1 to 1)") == 1
    assert log.count("Phase: segmentor and companion network (epochs 2 to 3)") == 2


def test_who_learns_in_which_phase(logged):
    trainer, _, states = logged
    states = [
        *states,
        {
            "segmentor": trainer.network.state_dict(),
            "companion": trainer.objective.companion.state_dict(),
        },
    ]

    def learned(player: str, epoch: int) -> bool:
        before, after = states[epoch][player], states[epoch + 1][player]
        return any(not torch.equal(before[name], after[name]) for name in before)

    assert [learned("segmentor", epoch) for epoch in range(4)] == [True, False, True, True]
    assert [learned("companion", epoch) for epoch in range(4)] == [False, True, True, True]


def test_every_checkpoint_holds_the_companion_and_its_optimizer(logged):
    trainer, _, _ = logged
    extra = torch.load(Path(trainer.output_folder) / "checkpoint_latest.pth", weights_only=False)[
        "nnunet_liver_ext"
    ]
    assert extra["phase"] == BOTH
    saved = {name for name in extra["objective"] if name.startswith("companion.")}
    assert saved == {f"companion.{name}" for name in trainer.objective.companion.state_dict()}
    assert extra["companion"]["optimizer"]["state"]
    assert extra["companion"]["scaler"] is None
