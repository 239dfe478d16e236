"""Everything that needs a GPU, measured by one command within nine minutes.

    python benchmarks/gpu.py OUT [--only step-time ...] [--limit SECONDS] [--trainers ...]

Nothing has to be installed: it is enough that Python finds what the package needs (PYTHONPATH),
the package itself is taken from beside this folder. All data are made here, by the phantom.

Each stage runs in a process of its own with its own time limit; what an earlier stage leaves of its
time goes to the following ones. After each row OUT/results.json and OUT/results.md are written
anew, so that a run that is cut off leaves what it has found; OUT/log.txt has what the stages print.
Stages that OUT has from earlier runs are kept. --limit is the time limit of every chosen stage.

Exit status: 0 if every stage went to its end and every verdict is ok, 1 if not, 2 without CUDA.
--device cpu --tiny runs the stages on a CPU, for their own tests: such figures say nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from gpu_stages import STAGES, Setting, Stage  # noqa: E402
from gpu_stages.results import (  # noqa: E402
    FINISHED,
    StageResult,
    read_results,
    write_results,
)

NO_CUDA = (
    "There is no CUDA here, and gpu.py measures what needs a GPU: run it on a machine with one"
    " (--device cpu --tiny only tests the stages themselves)."
)
POLL_S = 0.2


def main(arguments: Sequence[str] | None = None, stages: Sequence[Stage] = STAGES) -> int:
    """The command; returns the exit status.

    Args:
        arguments: of the command line; None: those of this process.
        stages: what can be run.
    """
    chosen = _parse(arguments, stages)
    if chosen.device == "cuda" and not _has_cuda():
        print(NO_CUDA, file=sys.stderr)
        return 2
    wanted = [stage for stage in stages if not chosen.only or stage.name in chosen.only]
    if chosen.limit is not None:
        wanted = [replace(stage, limit_s=chosen.limit) for stage in wanted]
    with _tidy_when_terminated(), tempfile.TemporaryDirectory(prefix="gpu_") as folder:
        setting = Setting(chosen.device, Path(folder), chosen.tiny, tuple(chosen.trainers))
        results = run_stages(wanted, setting, chosen.out)
    for stage in wanted:
        print(f"{stage.name}: {results[stage.name].state}")
    print(f"{chosen.out / 'results.md'} has the tables.")
    return 0 if all(results[stage.name].is_good for stage in wanted) else 1


def _parse(arguments: Sequence[str] | None, stages: Sequence[Stage]) -> argparse.Namespace:
    names = [stage.name for stage in stages]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help="folder for results.json, results.md and log.txt")
    parser.add_argument("--only", nargs="+", choices=names, metavar="STAGE", help=", ".join(names))
    parser.add_argument("--limit", type=float, help="seconds for each stage")
    parser.add_argument("--trainers", nargs="+", default=[], help="only these, where it applies")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small enough for a CPU")
    chosen = parser.parse_args(arguments)
    if chosen.out.exists() and not chosen.out.is_dir():
        parser.error(f"{chosen.out} is a file; the results need a folder")
    return chosen


@contextlib.contextmanager
def _tidy_when_terminated() -> Iterator[None]:
    """SIGTERM ends the block like an error, so that what it cleans up is cleaned up."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def run_stages(stages: Sequence[Stage], setting: Setting, out: Path) -> dict[str, StageResult]:
    """Runs the stages one after the other; all results of `out`, those of earlier runs included."""
    results, time_left_s = read_results(out), 0.0
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.txt").open("ab") as log:
        for stage in stages:
            result = StageResult(stage.title, "running", tiny=setting.tiny)
            results[stage.name] = result
            limit_s = stage.limit_s + time_left_s
            run_stage(stage, setting, limit_s, result, log, lambda: write_results(results, out))
            time_left_s = max(0.0, limit_s - result.seconds)
    return results


def run_stage(
    stage: Stage,
    setting: Setting,
    limit_s: float,
    result: StageResult,
    log: object,
    save: Callable[[], None],
) -> None:
    """Runs a stage in a process of its own, which ends with this one.

    Args:
        stage: what is run.
        setting: what it is run with.
        limit_s: after so many seconds it is ended, with all processes that it has started.
        result: is filled in.
        log: file for what it prints.
        save: is called whenever the result has changed.
    """
    print(f"{stage.name}: {stage.title} (at most {limit_s:.0f} s)", flush=True)
    found = setting.folder / f"{stage.name}.jsonl"
    found.write_text("")
    start, process = time.monotonic(), _start(stage, setting, found, log)
    try:
        while process.poll() is None and time.monotonic() - start < limit_s:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
            if _take(found, result):
                result.seconds = time.monotonic() - start
                save()
        code = process.poll()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    _take(found, result)
    result.seconds = time.monotonic() - start
    if code is None:
        result.state = "cut off: what is missing was not reached"
    else:
        result.state = FINISHED if code == 0 else f"failed with status {code}, see log.txt"
    save()


def _start(stage: Stage, setting: Setting, found: Path, log: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "gpu_stages.run_stage", stage.function]
    command += ["--found", str(found), "--folder", str(setting.folder)]
    command += ["--device", setting.device]
    command += ["--tiny"] * setting.tiny
    command += ["--trainers", *setting.trainers] if setting.trainers else []
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )


def _take(found: Path, result: StageResult) -> bool:
    """Whether the file has something new, which is then in the result."""
    lines = [line for line in found.read_text().splitlines(keepends=True) if line.endswith("\n")]
    entries = [json.loads(line) for line in lines]
    rows = [entry["row"] for entry in entries if "row" in entry]
    is_new = len(rows) > len(result.rows)
    result.rows = rows
    result.machine = next((entry["machine"] for entry in entries if "machine" in entry), "")
    return is_new


if __name__ == "__main__":
    sys.exit(main())
