"""One stage in its process: `python -m gpu_stages.run_stage` as gpu.py calls it.

What it finds goes to a file line by line, so that nothing is lost when it is cut off. It ends with
the process that started it, of which its standard input tells.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import sys
import threading
from importlib import metadata
from pathlib import Path
from pkgutil import resolve_name

from gpu_stages.stage import Row, Setting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("function", help="MODULE:NAME of the stage's function")
    parser.add_argument("--found", type=Path, required=True, help="file that gets a line for each")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--trainers", nargs="*", default=[])
    arguments = parser.parse_args()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    setting = Setting(arguments.device, arguments.folder, arguments.tiny, tuple(arguments.trainers))
    with arguments.found.open("a") as found:

        def tell(entry: dict) -> None:
            found.write(json.dumps(entry) + "\n")
            found.flush()

        tell({"machine": describe_machine(arguments.device)})
        for row in resolve_name(arguments.function)(setting):
            tell({"row": printable(row)})


def describe_machine(device: str) -> str:
    """The device, Python and torch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    where = f"{platform.machine()} CPU"
    if device == "cuda":
        import torch

        memory_gb = torch.cuda.get_device_properties(0).total_memory / 1e9
        where = (
            f"{torch.cuda.get_device_name()} ({memory_gb:.0f} GB), CUDA {torch.version.cuda}, cuDNN"
            f" {torch.backends.cudnn.version()}"
        )
    versions = f"Python {platform.python_version()}, torch {metadata.version('torch')}"
    return f"{where}; {cores} CPU cores, {versions}"


def printable(row: Row) -> Row:
    """The row with nan and infinity as words, which JSON does not have."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }


def _end_with_parent() -> None:
    """Waits until nobody holds the other end of standard input; then ends its whole group."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
