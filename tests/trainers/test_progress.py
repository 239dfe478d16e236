"""The picture of a training, and the figures of its companion network in the history."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from nnunetv2.training.logging.nnunet_logger import LocalLogger

from nnunet_liver_ext.trainers.objectives.cooperation import Similarity
from nnunet_liver_ext.trainers.phases import BOTH, COMPANION, IN_WORDS, SEGMENTOR, Phase
from nnunet_liver_ext.trainers.progress import History, SparingLogger, draw, record
from nnunet_liver_ext.trainers.scores import mean_of_figures
from tests.training import make_trainer, run_epochs

PHASES = (Phase(SEGMENTOR, 0, 2), Phase(COMPANION, 2, 3), Phase(BOTH, 3, 8))
NAN = math.nan


def remembering(figures: list[Figure]) -> Any:
    """`Figure.savefig` that keeps what it saved."""
    save = Figure.savefig

    def savefig(self: Figure, *args: Any, **more: Any) -> None:
        figures.append(self)
        save(self, *args, **more)

    return savefig


@pytest.fixture
def panels(tmp_path: Path, monkeypatch):
    """panels(history, phases) -> the axes that were drawn, after checking that the picture was
    written."""

    def run(history: History, phases: tuple[Phase, ...] = ()) -> list[Any]:
        figures: list[Figure] = []
        path = tmp_path / "progress_modalities.png"
        with monkeypatch.context() as patch:
            patch.setattr(Figure, "savefig", remembering(figures))
            draw(history, path, phases)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert sorted(tmp_path.iterdir()) == [path]
        (figure,) = figures
        return figure.axes

    return run


def curves(axes: Any) -> dict[str, list[float]]:
    return {line.get_label(): [float(value) for value in line.get_ydata()] for line in axes.lines}


HISTORY = {
    "training loss: CE T1": [0.7, 0.5, 0.5, 0.4],
    "training loss: CE T2": [0.8, 0.6, 0.6, 0.5],
    "training loss: discriminator": [NAN, NAN, 1.3, 1.2],
    "pseudo Dice: T1 liver": [0.1, 0.2, 0.2, 0.3],
    "discriminator accuracy: annotations": [NAN, NAN, 0.5, 0.6],
    "discriminator accuracy: predictions": [NAN, NAN, 0.4, 0.7],
}


def test_a_panel_for_each_group(panels):
    losses, dice, accuracy = panels(HISTORY, PHASES)
    assert [axes.get_ylabel() for axes in (losses, dice, accuracy)] == [
        "training loss",
        "pseudo Dice",
        "discriminator accuracy",
    ]
    assert curves(losses).keys() == {"CE T1", "CE T2", "discriminator"}
    np.testing.assert_array_equal(curves(losses)["discriminator"], [NAN, NAN, 1.3, 1.2])
    assert dice.get_ylim() == accuracy.get_ylim() == (0, 1)
    assert losses.get_ylim() != (0, 1)


def test_phases_that_have_begun_have_their_name_and_background(panels):
    for axes in panels(HISTORY, PHASES):
        assert [text.get_text() for text in axes.texts] == [
            IN_WORDS[phase.name] for phase in PHASES
        ]
        edges = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
        assert edges == [(-0.5, 1.5), (1.5, 2.5), (2.5, 3.5)]
        assert len({patch.get_facecolor() for patch in axes.patches}) == 3
    begun = {name: curve[:2] for name, curve in HISTORY.items()}
    assert [len(axes.patches) for axes in panels(begun, PHASES)] == [1, 1, 1]


def test_one_phase_has_no_background(panels):
    for axes in panels(HISTORY, (Phase(SEGMENTOR, 0, 4),)):
        assert not axes.patches
        assert not axes.texts


def test_curves_of_nothing_but_nan(panels):
    (share,) = panels({"share on wrong voxels: of even bets": [NAN, NAN]}, PHASES)
    assert all(math.isnan(value) for value in curves(share)["of even bets"])
    losses, _ = panels({"training loss: a": [NAN], "pseudo Dice: b": [NAN]}, PHASES)
    assert curves(losses).keys() == {"a"}


def test_recording():
    history: History = {}
    record(history, "a: b", 0.5, 0)
    record(history, "a: late", 2.0, 3)
    assert str(history) == "{'a: b': [0.5], 'a: late': [nan, nan, nan, 2.0]}"
    record(history, "a: b", 1.5, 2)
    assert str(history["a: b"]) == "[0.5, nan, 1.5]"
    record(history, "a: late", 7.0, 1)
    assert str(history["a: late"]) == "[nan, 7.0]"


def test_the_mean_leaves_out_what_is_nan_or_missing():
    outputs = [
        {"a": 1.0, "b": NAN, "c": 5.0},
        {"a": 2.0, "b": 4.0},
        {"a": 6.0, "b": NAN, "loss": 1.0},
    ]
    assert mean_of_figures(outputs, {"loss"}) == {"a": 3.0, "b": 4.0, "c": 5.0}
    assert math.isnan(mean_of_figures([{"a": NAN}], set())["a"])
    assert mean_of_figures([], set()) == {}


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        (
            "nnUNetTrainerGAN",
            {"discriminator accuracy": {"annotations", "predictions"}},
        ),
        (
            "nnUNetTrainerGambling",
            {"share on wrong voxels": {"of the gambler's bets", "of even bets"}},
        ),
        (
            "nnUNetTrainerSimilarityTranslation",
            {
                "Dice of annotations (mean over patches)": {
                    "as they lie",
                    "T1 warped by the registor",
                    "D_S",
                }
            },
        ),
    ],
)
def test_what_a_training_tells_of_its_companion(
    name: str, groups: dict[str, set[str]], nnunet_root: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setattr(
        Similarity, "_best_dice", lambda self, first, second: 0 * first.flatten(1).sum(1) + 0.9
    )
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", remembering(figures))
    trainer = make_trainer(
        nnunet_root, tmp_path, name, num_epochs=3, num_val_iterations_per_epoch=3
    )
    run_epochs(trainer, 3, end=True)
    for group, labels in groups.items():
        found = {
            key.partition(": ")[2]: value
            for key, value in trainer.history.items()
            if key.startswith(f"{group}: ")
        }
        assert set(found) == labels
        seen = [value for curve in found.values() for value in curve if not math.isnan(value)]
        assert seen
        assert all(0 <= value <= 1 for value in seen)
    all_groups = {key.partition(": ")[0] for key in trainer.history}
    assert all_groups == {"training loss", "pseudo Dice", *groups}
    ours = [
        figure for figure in figures if {axes.get_ylabel() for axes in figure.axes} == all_groups
    ]
    assert ours
    assert len(ours[-1].axes) == len(all_groups)
    warmup = trainer.phases[0]
    assert warmup.name == SEGMENTOR
    for key, curve in trainer.history.items():
        if key.partition(": ")[0] in groups:
            assert all(math.isnan(value) for value in curve[: warmup.end])


def test_the_verdict_on_the_registor_is_in_the_log(nnunet_root: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    trainer = make_trainer(
        nnunet_root,
        tmp_path,
        "nnUNetTrainerSimilarityTranslation",
        num_epochs=3,
        num_val_iterations_per_epoch=2,
    )
    run_epochs(trainer, 3)
    log = Path(trainer.log_file).read_text()
    assert log.count("The registor on held-out annotations: Dice ") == 1
    assert log.count("WARNING: the registor has gone ") == 1
    best = trainer.history["Dice of annotations (mean over patches): D_S"]
    assert len(best) == 2
    assert 0 < best[1] <= 1


def test_pictures_are_drawn_only_as_often_as_they_are_cheap(tmp_path: Path, monkeypatch):
    """Each takes 2 s of a clock here: 38 s must pass before the next, so that it is a twentieth."""
    clock, drawn = [100.0], []

    def draw_slowly(*_: Any) -> None:
        clock[0] += 1
        drawn.append(clock[0])

    monkeypatch.setattr("nnunet_liver_ext.trainers.progress.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(LocalLogger, "plot_progress_png", draw_slowly)
    logger = SparingLogger(draw_slowly)
    logger.draw_news(str(tmp_path))
    assert not drawn  # nothing has been recorded
    logger.plot_progress_png(str(tmp_path))
    assert drawn == [101.0, 102.0]
    for _ in range(4):
        clock[0] += 9
        logger.plot_progress_png(str(tmp_path))
    assert drawn == [101.0, 102.0]  # 36 s later
    clock[0] += 2
    logger.plot_progress_png(str(tmp_path))
    assert drawn == [101.0, 102.0, 141.0, 142.0]
    logger.draw_news(str(tmp_path))
    assert len(drawn) == 4
    clock[0] += 1
    logger.plot_progress_png(str(tmp_path))
    logger.draw_news(str(tmp_path))
    assert len(drawn) == 6


def test_the_pictures_show_the_last_epoch_when_the_training_ends(
    nnunet_root: Path, tmp_path: Path, monkeypatch
):
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", remembering(figures))
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerSingleInput")
    run_epochs(trainer, 4, end=True)
    assert len(figures) == 4  # both pictures after the first epoch and at the end
    assert {len(line.get_xdata()) for line in figures[-1].axes[0].lines} == {4}
