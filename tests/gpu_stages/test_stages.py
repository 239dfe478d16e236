"""The stages of benchmarks/gpu.py, tiny and on a CPU, in this process; their verdicts by hand."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import memory
import pytest
import step_time
import torch
import trainer_process
from gpu_stages import (
    di2in,
    elastic_similarity,
    precision,
    prediction,
    resume,
    small_trainings,
    step_times,
    training_memory,
)
from gpu_stages.stage import OK, VERDICT, Setting

INF, NAN = math.inf, math.nan


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    with patch.dict(os.environ, {"nnUNet_extTrainer": ""}):
        yield Setting("cpu", tmp_path_factory.mktemp("gpu"), tiny=True)


def with_trainers(setting: Setting, *names: str) -> Setting:
    return Setting(setting.device, setting.folder, setting.tiny, names)


def test_on_a_cpu_the_same_steps_have_the_same_losses(setting: Setting):
    """The images, weights and batches of each way are the same, so that ways can be compared."""
    names = ("nnUNetTrainerSimilarity", "nnUNetTrainerDI2INAN", "nnUNetTrainerLiverTumor")
    rows = list(precision.measure(with_trainers(setting, *names)))
    assert sorted(row["trainer"] for row in rows) == ["DI2INAN", "LiverTumor", "Similarity"]
    for row in rows:
        assert row[VERDICT] == OK
        assert row["again, first step"] == row["again, 4 steps"] == 0.0
        assert math.isfinite(row["float32"])


def test_an_interrupted_training_on_a_cpu_is_the_same(setting: Setting):
    with patch.dict(os.environ, {"nnUNet_n_proc_DA": "0"}):  # batches are made in this process
        (row,) = resume.measure(with_trainers(setting, "nnUNetTrainerGAN"))
    assert row == {
        "trainer": "GAN",
        "batches": "12, the same",
        "between two runs": 0.0,
        "interrupted": 0.0,
        VERDICT: OK,
    }


def test_an_unknown_trainer_is_named(setting: Setting):
    with pytest.raises(ValueError, match="nnUNetTrainerNobody"):
        small_trainings.trainer_names(with_trainers(setting, "nnUNetTrainerNobody"))
    everything = small_trainings.trainer_names(setting)
    assert {"nnUNetTrainerGambling", "nnUNetTrainerDI2IN", "nnUNetTrainerLiver"} < set(everything)


def test_what_goes_wrong_with_a_trainer_is_its_verdict(setting: Setting, tmp_path: Path):
    for compare in (precision.compare_ways, resume.compare_interrupted):
        row = compare(tmp_path, "cpu", "nnUNetTrainerBCE")
        assert row["trainer"] == "BCE"
        assert row[VERDICT].startswith("FileNotFoundError: ")


@pytest.mark.parametrize(
    ("losses", "others", "expected"),
    [
        ([{"loss": 0.5}], [{"loss": 0.25}], 0.25),
        ([{"loss": 5.0}], [{"loss": 4.0}], 0.25),
        ([{"loss": -5.0, "x": 1.0}], [{"loss": -4.0, "x": 1.5}], 0.5 / 1.5),
        ([{"loss": 1.0}, {"loss": NAN}], [{"loss": 1.0}, {"loss": 1.0}], INF),
        ([{"loss": NAN}, {"loss": 1.0}], [{"loss": 1.0}, {"loss": 1.0}], INF),
        ([{"loss": 1.0}], [{"loss": 1.0, "x": 1.0}], INF),
        ([{"loss": 1.0}], [], INF),
        ([], [], 0.0),
    ],
)
def test_the_largest_difference_of_losses(losses: list, others: list, expected: float):
    assert small_trainings.largest_difference(losses, others) == pytest.approx(expected)


def test_verdicts():
    assert precision.judge("mixed", 0.01, 0.5) == ""
    assert precision.judge("mixed", 0.02, 0.5) == "mixed: differs by 0.02 in the first step"
    assert "not finite" in precision.judge("mixed", 0.0, INF)
    assert resume.judge(True, 0.0, 0.001) == OK
    assert resume.judge(True, 0.01, 0.04) == OK
    assert resume.judge(True, 0.01, 0.05) == "losses differ by 0.05"
    assert resume.judge(True, 0.0, INF) == "losses differ by inf"
    assert resume.judge(True, 0.0, NAN) == "losses differ by nan"
    assert resume.judge(False, 0.0, 0.0) == "other batches"


def test_float32_is_without_autocast_and_tf32():
    def state() -> tuple:
        backends = torch.backends
        return (
            torch.get_autocast_dtype("cuda"),
            backends.cudnn.allow_tf32,
            backends.cuda.matmul.allow_tf32,
        )

    before = state()
    with precision.use_precision(mixed=True):
        assert state() == before
    with precision.use_precision(mixed=False):
        assert state() == (torch.float32, False, False)
    assert state() == before


@pytest.mark.parametrize(("factor", "steps"), [(65536.0, 0), (16384.0, 2), (1.0, 16)])
def test_steps_that_the_scaler_has_left_out(factor: float, steps: int):
    scaler = SimpleNamespace(get_scale=lambda: factor)
    assert precision.count_left_out(scaler) == steps
    assert precision.count_left_out(None) == 0


def test_what_the_driver_says_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert memory.taken_from_device() is None
    driver = tmp_path / "nvidia-smi"
    driver.write_text(f"#!/bin/sh\necho '1, 77'\necho '{os.getpid()}, 2048'\n")
    driver.chmod(0o755)
    assert memory.taken_from_device() == 2 * 2**30
    driver.write_text(f"#!/bin/sh\necho '{os.getpid()}, [N/A]'\n")
    assert memory.taken_from_device() is None


def figures(foreseen: float, allocated: float, of_device: float) -> memory.Figures:
    """With an estimate of 8 GB of the device."""
    expected = {"allocated": foreseen, "of the device": 8.0}
    return memory.Figures(
        (1, 1, 1), 2, expected, {"allocated": allocated, "of the device": of_device}
    )


def test_verdicts_on_memory():
    assert training_memory.judge(figures(6.0, 5.5, 7.5), 8.0) == OK
    assert training_memory.judge(figures(6.0, 5.0, 7.5), 8.0) == "allocated: foreseen +20%"
    assert training_memory.judge(figures(6.0, 5.0, 7.5), 8.0, compiled=True) == OK
    assert training_memory.judge(figures(6.0, 7.5, 7.5), 8.0) == "allocated: foreseen -20%"
    assert "above the 8 GB" in training_memory.judge(figures(6.0, 6.0, 8.5), 8.0)


def test_every_architecture_with_every_objective_is_measured(setting: Setting):
    from nnunet_liver_ext.planning.architectures import ARCHITECTURES
    from nnunet_liver_ext.trainers.objectives import OBJECTIVES

    trainings = training_memory.trainings_of(Setting("cuda", setting.folder))
    cases = {(training.case.architecture, training.case.objective) for training in trainings}
    assert cases == {(name, key) for name in ARCHITECTURES for key in OBJECTIVES}
    assert any(training.case.unpadded for training in trainings)
    assert {training.case.architecture for training in trainings if training.compiled} == {"nnunet"}


def test_the_memory_that_is_foreseen_is_that_of_a_real_step(setting: Setting):
    (row,) = training_memory.measure(setting)
    assert row[VERDICT] == OK
    assert row["most at any moment, foreseen"] == pytest.approx(
        row["most at any moment, GB"], rel=0.02
    )


def test_di2in_alone_and_from_file_to_file(setting: Setting):
    rows = list(di2in.measure(setting))
    assert [row["what"] for row in rows] == ["alone, float32", "from file to file"]
    assert all(0 < row["fastest, s"] <= row["median, s"] <= row["slowest, s"] for row in rows)
    assert all(row[VERDICT] == OK for row in rows)


def test_elastic_similarity_is_the_same_on_both_devices(setting: Setting):
    (row,) = elastic_similarity.measure(setting)
    assert row["D_S, one core"] == row["D_S, cpu"] > row["Dice as they are"]
    assert row[VERDICT] == OK


def test_both_commands_predict_every_pair(setting: Setting):
    rows = list(prediction.measure(setting))
    assert [row["with"] for row in rows] == ["nnUNetv2_predict", "nnunet_liver predict"]
    assert [row[VERDICT] for row in rows] == [OK, OK]
    assert rows[0]["to nnU-Net"] == 1.0
    assert rows[1]["to nnU-Net"] == rows[1]["pairs per minute"] / rows[0]["pairs per minute"]


def test_the_rate_is_that_after_the_first_pair(tmp_path: Path):
    for name, second in (("a_T1", 100), ("a_T2", 104), ("b_T1", 110), ("b_T2", 109), ("c", 124)):
        mask = tmp_path / f"{name}.nii.gz"
        mask.touch()
        os.utime(mask, (second, second))
    assert prediction.rate_of(tmp_path) == (pytest.approx(60 * 2 / 20), 5)


# ------------------------------------------------------------------ step times


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for kind in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{kind}", str(tmp_path / kind))
    step_time.write_plans(tmp_path, step_times.TINY_SIZE, step_times.GPU_MEMORY_GB)
    return tmp_path


def answers(name: str, root: Path, questions: Sequence[int]) -> list[float | str]:
    """What a trainer's process answers."""
    ours, theirs = multiprocessing.Pipe()
    with patch.object(theirs, "recv", side_effect=[*questions, EOFError]):
        trainer_process.serve(theirs, name, str(root), "cpu", 1)
    found = []
    while ours.poll():
        found.append(ours.recv())
    return found


def test_a_process_answers_with_seconds_memory_or_what_is_wrong(plans: Path):
    seconds, held = answers("nnUNetTrainerDualOutput", plans, [1, 0])
    assert 0 < seconds < 60
    assert held >= 0
    (reason,) = answers("nnUNetTrainerNobody", plans, [1])
    assert "nnUNetTrainerNobody" in reason


SECONDS = {step_time.STOCK: 1.0, step_time.SINGLE: 2.0, "nnUNetTrainerGAN": 3.0}


class FakePlayer:
    """A trainer whose steps take what `SECONDS` says; others do not work."""

    def __init__(self, name: str, root: Path, device: str, threads: int) -> None:
        self.name, self.ended = name, False

    def answer(self) -> float:
        if self.name not in SECONDS:
            raise RuntimeError(f"{self.name}: out of memory")
        return SECONDS[self.name]

    def ask(self, steps: int) -> float:
        return SECONDS[self.name] if steps else 1e9 * SECONDS[self.name]

    def end(self) -> None:
        self.ended = True


def test_ratios_of_step_times_and_a_trainer_that_does_not_work(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(step_time, "Player", FakePlayer)
    wanted = ("nnUNetTrainerGAN", "nnUNetTrainerGambling")
    rows = list(step_times.measure(Setting("cpu", tmp_path, True, wanted)))
    assert [row["trainer"] for row in rows] == ["nnU-Net's own", "SingleInput", "Gambling", "GAN"]
    assert [row["patch"] for row in rows] == 4 * ["16 x 32 x 32, 2 pairs"]
    assert rows[2][VERDICT] == "nnUNetTrainerGambling: out of memory"
    gan = rows[3]
    assert (gan["step, s"], gan["to stock"], gan["to SingleInput"]) == (3.0, 3.0, 1.5)
    assert (gan["memory, GB"], gan["memory to stock"], gan["memory to SingleInput"]) == (3, 3, 1.5)
    assert (gan["wanted"], gan[VERDICT]) == ("1.35 of SingleInput", "slower than wanted")
    assert (rows[1]["wanted"], rows[1][VERDICT]) == ("2 of stock", OK)


def test_step_times_are_those_of_trainers_that_the_plans_are_for(setting: Setting):
    names = step_times.trainers_in_order(setting)
    assert len(names) == len(set(names))
    assert "nnUNetTrainerPreregistered" in names
    assert not {"nnUNetTrainerDI2IN", "nnUNetTrainerLiverTumor"} & set(names)
