"""Stages of seconds, for the tests of the command that runs them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gpu_stages.stage import OK, VERDICT, Row, Setting

PIDS = "FAKE_STAGE_PIDS"
"""Environment variable: the file that gets the process ids of a slow stage."""


def good(setting: Setting) -> Iterator[Row]:
    yield {"trainers": " ".join(setting.trainers), "device": setting.device, VERDICT: OK}


def wrong(setting: Setting) -> Iterator[Row]:
    yield {"loss": 0.123456, VERDICT: "differs | by a lot"}


def broken(setting: Setting) -> Iterator[Row]:
    yield {"n": 1}
    raise RuntimeError("in the middle")


def slow(setting: Setting) -> Iterator[Row]:
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(os.environ[PIDS]).write_text(f"{os.getpid()} {helper.pid}")
    yield {"n": 1}
    time.sleep(600)
    yield {"n": 2}
