"""Commands as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent


class Shell:
    """Runs commands of this environment with nnU-Net's folders in one place; every command has a
    time limit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("nnUNet_")},
            "nnUNet_def_n_proc": "2",
            "nnUNet_n_proc_DA": "1",
            "MPLBACKEND": "agg",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }
        for kind in ("raw", "preprocessed", "results"):
            (root / kind).mkdir(parents=True, exist_ok=True)
            self.environment[f"nnUNet_{kind}"] = str(root / kind)

    def run(self, *command: str | Path, fails: bool = False) -> str:
        done = subprocess.run(
            [str(word) for word in command],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output[-4000:]
        return output

    def start(self, *command: str) -> subprocess.Popen:
        return subprocess.Popen(
            command,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
