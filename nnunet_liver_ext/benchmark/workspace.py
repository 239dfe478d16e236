"""A folder in which a chain of stock nnU-Net commands runs: nnU-Net's folders, log, settings."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.environment import PLUGIN_FOLDER
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.folder_lock import FolderLock

Result = TypeVar("Result")

LOG = "log.txt"
LONGEST_STEP_S = 24 * 3600
LOOK_EVERY_S = 1.0
EPOCH_BEGINS = re.compile(rb": Epoch (\d+) *$", re.MULTILINE)
"""nnU-Net's line at the beginning of an epoch."""


class Workspace:
    """nnU-Net's folders below one folder, and the commands that are run there.

    They become this process's folders, too.
    """

    def __init__(self, folder: Path, console: Console, settings: Mapping[str, Any]) -> None:
        """
        Args:
            folder: made if it is missing.
            console: where the steps and their times are shown; what nnU-Net prints goes to
                `log.txt` in the folder.
            settings: what the work depends on.

        Raises:
            InputError: the folder was begun with other settings, whose results would be shown under
                these.
        """
        self._processes: set[subprocess.Popen[bytes]] = set()
        self.out = folder.resolve()
        self.console = console
        self.lock = FolderLock(self.out)
        folders = {
            f"nnUNet_{kind}": self.out / f"nnUNet_{kind}"
            for kind in ("raw", "preprocessed", "results")
        }
        for path in folders.values():
            path.mkdir(exist_ok=True)
        defaults = {"nnUNet_def_n_proc": "2", "nnUNet_n_proc_DA": "1", "MPLBACKEND": "agg"}
        here = {variable: str(path) for variable, path in folders.items()}
        self.environment = {
            **defaults,
            **os.environ,
            **here,
            "nnUNet_extTrainer": str(PLUGIN_FOLDER),
        }
        os.environ.update(here)
        self.raw, self.preprocessed, self.results = folders.values()
        self._check_settings(settings)

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        path = self.out / "settings.json"
        text = json.dumps({key: str(value) for key, value in settings.items()}, indent=2)
        if path.exists() and path.read_text() != text:
            raise InputError(
                f"{self.out}: was begun with other settings ({path.name}); choose another --out or"
                " delete it."
            )
        with atomic_write(path) as unfinished:
            unfinished.write_text(text)

    def run_step(self, what: str, do: Callable[[], Result]) -> Result:
        """Does a step, and shows what it was and how long it took."""
        start = time.monotonic()
        with self.console.status(what):
            result = do()
        self.console.print(f"[green]done[/] {what} [dim]({time.monotonic() - start:.0f} s)[/]")
        return result

    def model_folder(
        self, dataset: int, trainer: str, configuration: str, plans: str = "nnUNetPlans"
    ) -> Path:
        """The folder of a trained model."""
        name = next(
            (path.name for path in self.raw.glob(f"Dataset{dataset:03d}_*")),
            f"Dataset{dataset:03d}",
        )
        return self.results / name / f"{trainer}__{plans}__{configuration}"

    def preprocess(self, dataset: int, configuration: str) -> Path:
        """nnUNetv2_preprocess, once."""
        done = self.preprocessed / f".done_{dataset}_{configuration}"
        if not done.exists():
            names = ("-plans_name", "nnUNetPlans", "-c", configuration)
            self.run("nnUNetv2_preprocess", "-d", str(dataset), *names, "-np", "2")
            done.touch()
        return done

    def train(
        self,
        dataset: int,
        trainer: str,
        configuration: str,
        device: str,
        *,
        log: str = LOG,
        tell_epoch: Callable[[int], None] | None = None,
    ) -> Path:
        """nnUNetv2_train of fold 0, continued where it was interrupted.

        Args:
            dataset: its number.
            trainer: class name.
            configuration: of the dataset's plans.
            device: cpu, cuda or mps.
            log: file of the folder for what nnU-Net prints.
            tell_epoch: called with the number of epochs that are done, each time that one begins.

        Returns:
            The model's folder.

        Raises:
            InputError: training failed (the message names the log).
        """
        folder = self.model_folder(dataset, trainer, configuration)
        fold = folder / "fold_0"
        if not (fold / "validation" / "summary.json").exists():
            again = ["--c"] if any(fold.glob("checkpoint_*.pth")) else []
            what = (str(dataset), configuration, "0", "-tr", trainer, "-device", device)
            self.run("nnUNetv2_train", *what, *again, log=log, tell_epoch=tell_epoch)
        return folder

    def run(
        self,
        command: str,
        *arguments: str,
        log: str = LOG,
        tell_epoch: Callable[[int], None] | None = None,
    ) -> None:
        """Runs a command of this environment; its output goes to the log, a file of the folder.

        Raises:
            InputError: it failed (the message names the log).
        """
        program, path = Path(sys.executable).parent / command, self.out / log
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(f"\n$ {command} {' '.join(arguments)}\n")
            file.flush()
            begun = path.stat().st_size
            process = subprocess.Popen(
                [program, *arguments], env=self.environment, stdout=file, stderr=subprocess.STDOUT
            )
            with self._running(process):
                self._wait(process, command, path, begun, tell_epoch)
        if process.returncode != 0:
            raise InputError(
                f"{command} ended with code {process.returncode}; its output is at the end of"
                f" {path}."
            )

    def stop(self) -> None:
        """Ends the commands that are running; trainings go on from their last checkpoint."""
        for process in list(self._processes):
            process.terminate()

    @contextmanager
    def _running(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        self._processes.add(process)
        try:
            yield
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
            self._processes.discard(process)

    def _wait(
        self,
        process: subprocess.Popen[bytes],
        command: str,
        log: Path,
        begun: int,
        tell_epoch: Callable[[int], None] | None,
    ) -> None:
        """Waits for the end of a command, and tells the epochs of a training meanwhile."""
        end = time.monotonic() + LONGEST_STEP_S
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_EVERY_S)
            if tell_epoch is not None and (epoch := last_epoch(log, begun)) is not None:
                tell_epoch(epoch)
            if process.returncode is not None:
                return
            if time.monotonic() > end:
                raise InputError(
                    f"{command} did not end within {LONGEST_STEP_S // 3600} hours (log: {log}); "
                    "run the same command again to continue."
                )


def last_epoch(log: Path, begun: int = 0) -> int | None:
    """The number of the last epoch that a training's log tells of, from byte `begun` on."""
    with log.open("rb") as file:
        file.seek(begun)
        epochs = EPOCH_BEGINS.findall(file.read())
    return int(epochs[-1]) if epochs else None


def warnings_of_training(log: Path) -> list[str]:
    """What a trainer has warned of in its log, each once; nothing if there is no log."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    parts = (line.partition(": WARNING: ") for line in lines)
    return list(dict.fromkeys(text.strip() for _, mark, text in parts if mark))
