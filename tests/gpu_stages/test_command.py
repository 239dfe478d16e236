"""benchmarks/gpu.py: what it leaves behind, whatever becomes of a stage."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gpu
import pytest
from gpu_stages import STAGES, Setting, Stage
from gpu_stages.results import StageResult, read_results, write_results
from gpu_stages.run_stage import printable

from tests.gpu_stages import fake_stages

ROOT = Path(__file__).resolve().parents[2]
ON_CPU = ("--device", "cpu", "--tiny")
LIMIT_S = 60.0


def stage(name: str, limit_s: float = LIMIT_S) -> Stage:
    return Stage(name, f"A {name} stage", limit_s, f"tests.gpu_stages.fake_stages:{name}")


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for yet does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_without_cuda_it_says_so_and_ends_with_2(tmp_path: Path):
    """As a script, from another folder, without PYTHONPATH."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), str(tmp_path / "out")],
        cwd=tmp_path,
        env={**environment, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stderr.strip() == gpu.NO_CUDA
    assert not (tmp_path / "out").exists()


def test_all_stages_fit_into_nine_minutes_and_can_be_called():
    assert sum(stage.limit_s for stage in STAGES) <= 9 * 60
    assert len({stage.name for stage in STAGES}) == len(STAGES)
    for stage in STAGES:
        module, _, function = stage.function.partition(":")
        source = ROOT / "benchmarks" / f"{module.replace('.', '/')}.py"
        assert f"\ndef {function}(setting: Setting) -> Iterator[Row]:" in source.read_text()


def test_a_stage_that_fails_does_not_take_the_others_with_it(tmp_path: Path):
    arguments = [str(tmp_path), *ON_CPU, "--trainers", "a", "b"]
    assert gpu.main(arguments, [stage("broken"), stage("wrong"), stage("good")]) == 1
    results = read_results(tmp_path)
    assert {name: result.state for name, result in results.items()} == {
        "broken": "failed with status 1, see log.txt",
        "wrong": "finished",
        "good": "finished",
    }
    assert {name: result.is_good for name, result in results.items()} == {
        "broken": False,
        "wrong": False,
        "good": True,
    }
    assert results["broken"].rows == [{"n": 1}]
    assert results["good"].rows == [{"trainers": "a b", "device": "cpu", "verdict": "ok"}]
    assert all("torch" in result.machine and result.tiny for result in results.values())
    assert "RuntimeError: in the middle" in (tmp_path / "log.txt").read_text()
    page = (tmp_path / "results.md").read_text()
    assert "| loss | verdict |\n| --- | --- |\n| 0.1235 | differs \\| by a lot |\n" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "log.txt",
        "results.json",
        "results.md",
    ]
    # another run adds to it
    assert gpu.main([str(tmp_path), *ON_CPU, "--only", "good"], [stage("good")]) == 0
    assert read_results(tmp_path)["wrong"] == results["wrong"]


def test_a_stage_that_takes_too_long_is_cut_off_with_all_that_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(fake_stages.PIDS, str(tmp_path / "pids"))
    result, states = StageResult("slow", "running"), []
    setting = Setting("cpu", tmp_path)

    def save() -> None:
        states.append((result.state, len(result.rows)))

    with (tmp_path / "log.txt").open("wb") as log:
        gpu.run_stage(stage("slow"), setting, 6.0, result, log, save)
    assert result.state.startswith("cut off")
    assert result.rows == [{"n": 1}]
    assert states == [("running", 1), (result.state, 1)]
    assert 6.0 <= result.seconds < 30.0
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert wait_for(lambda: not any(map(is_alive, pids)))


def test_when_the_command_is_killed_its_stage_ends_and_its_rows_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(fake_stages.PIDS, str(tmp_path / "pids"))
    out = tmp_path / "out"
    script = (
        "import gpu; from tests.gpu_stages.test_command import stage;"
        f" gpu.main([{str(out)!r}, '--device', 'cpu'], [stage('slow')])"
    )
    paths = [str(ROOT), str(ROOT / "benchmarks")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(tmp_path)}
    command = subprocess.Popen([sys.executable, "-c", script], env=environment)
    try:
        assert wait_for(lambda: (out / "results.json").exists(), 60.0)
    finally:
        command.send_signal(signal.SIGKILL)
        command.wait()
    entry = json.loads((out / "results.json").read_text())["slow"]
    assert (entry["state"], entry["rows"]) == ("running", [{"n": 1}])
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert wait_for(lambda: not any(map(is_alive, pids)))


def test_what_a_stage_leaves_of_its_time_goes_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    limits: list[float] = []
    taken = iter((10.0, 75.0, 5.0))

    def run_stage(stage, setting, limit_s, result, log, save) -> None:
        limits.append(limit_s)
        result.seconds = next(taken)

    monkeypatch.setattr(gpu, "run_stage", run_stage)
    stages = [stage("good", 30.0), stage("wrong", 40.0), stage("broken", 50.0)]
    gpu.run_stages(stages, Setting("cpu", tmp_path), tmp_path)
    assert limits == [30.0, 60.0, 50.0]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path, capsys):
    (tmp_path / "out").touch()
    with pytest.raises(SystemExit) as ended:
        gpu.main([str(tmp_path / "out"), *ON_CPU], [stage("good")])
    assert ended.value.code == 2
    assert "is a file; the results need a folder" in capsys.readouterr().err


def test_numbers_that_json_does_not_have_are_words():
    row = {"a": math.inf, "b": math.nan, "c": 1.5, "d": "x", "e": None, "f": 2}
    assert printable(row) == {**row, "a": "inf", "b": "nan"}


def test_results_that_cannot_be_written_leave_the_former_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_results({"good": StageResult("Good", "finished", rows=[{"n": 1}])}, tmp_path)
    before = (tmp_path / "results.json").read_text()

    def fail(self: Path, text: str) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="no space left"):
        write_results({"good": StageResult("Good", "finished", rows=[{"n": 2}])}, tmp_path)
    assert (tmp_path / "results.json").read_text() == before
    assert len(list(tmp_path.iterdir())) == 2
