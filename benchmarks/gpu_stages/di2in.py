"""DI2IN on a whole liver at 3 mm: the network alone, and from a file to a mask in a file.

Yang et al. 2017 report less than a second for a case on a GPU.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from di2in_inference import measure_alone, seconds_file_to_file

from gpu_stages.small_trainings import quietly
from gpu_stages.stage import OK, VERDICT, Row, Setting

SIZE, TINY_SIZE = (80, 110, 130), (16, 32, 32)
REPEATS = 5
PAPER_S = 1.0


def measure(setting: Setting) -> Iterator[Row]:
    """A row for each precision of the network alone, and one from file to file."""
    size, repeats = (TINY_SIZE, 1) if setting.tiny else (SIZE, REPEATS)
    volume = " x ".join(map(str, size))
    for alone in measure_alone(size, repeats, [setting.device]):
        row = _row(f"alone, {alone.precision}", volume, alone.seconds, setting.device)
        yield {**row, "memory, GB": alone.memory_gb}
    with quietly():
        seconds = seconds_file_to_file(size, repeats, setting.device)
    yield _row("from file to file", volume, seconds, setting.device)


def _row(what: str, volume: str, seconds: list[float], device: str) -> Row:
    median = statistics.median(seconds)
    slow = device == "cuda" and median >= PAPER_S
    return {
        "what": what,
        "voxels": volume,
        "median, s": median,
        "fastest, s": min(seconds),
        "slowest, s": max(seconds),
        VERDICT: f"slower than the paper's {PAPER_S:g} s" if slow else OK,
    }
