"""Converting many studies in several processes: each leaves a complete case, or a reason why not and no file."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.case_conversion import Converted, Reader, Settings, convert_study
from nnunet_liver_ext.dataset_conversion.manifest import Case, Source
from nnunet_liver_ext.errors import CaseFailure, InputError
from nnunet_liver_ext.images import replaced, write_image
from nnunet_liver_ext.studies import Study
from nnunet_liver_ext.workers import exit_with_parent


@dataclass(frozen=True)
class Job:
    """One study to convert: everything that a worker process needs."""

    study: Study
    case: str
    """Pseudonym."""
    held_out: bool
    settings: Settings
    reader: Reader
    folder: Path
    """The dataset's."""
    source_root: Path
    """What the paths of sources in pairs.json are relative to."""

    @property
    def part(self) -> str:
        return "Ts" if self.held_out or not self.study.masks else "Tr"

    def sources(self) -> dict[str, Source]:
        masks = {f"{name} mask": path for name, path in self.study.masks.items()}
        return {name: Source.of(path, self.source_root) for name, path in {**self.study.images, **masks}.items()}

    def outputs(self) -> list[Path]:
        """The files of the case: channel 0, channel 1, label if there are masks."""
        images, label, _ = self._files(self.part)
        return [*images, label] if self.study.masks else images

    def leftovers(self) -> list[Path]:
        """Files of an earlier conversion of the case, or of one that failed."""
        everything = [
            path for part in ("Tr", "Ts") for images, *others in [self._files(part)] for path in [*images, *others]
        ]
        return [path for path in everything if path not in self.outputs()]

    @property
    def transform_file(self) -> Path:
        return self.folder / "transforms" / f"{self.case}.h5"

    def _files(self, part: str) -> tuple[list[Path], Path, Path]:
        images = [self.folder / f"images{part}" / f"{self.case}_{channel:04d}.nii.gz" for channel in range(2)]
        return images, self.folder / f"labels{part}" / f"{self.case}.nii.gz", self.transform_file


def is_converted(job: Job, case: Case) -> bool:
    """True if the case was made from these very files and all it consists of is there."""
    if case.folder != job.part or not all(path.exists() for path in job.outputs()):
        return False
    if job.settings.preregister and not job.transform_file.exists():
        return False
    try:
        now = job.sources()
    except OSError:
        return False  # the conversion will say why
    return now.keys() == case.sources.keys() and all(case.sources[name].has_content_of(now[name]) for name in now)


def convert_jobs(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, Case | CaseFailure]]:
    """Converts in several processes and yields results as they come.

    Raises:
        InputError: a worker process was killed from outside.
    """
    if processes == 1 or len(jobs) <= 1:
        for job in jobs:
            yield job, convert_job(job)
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // processes)
    pool = ProcessPoolExecutor(min(processes, len(jobs)), context, _start_worker, (threads,))
    try:
        waiting = {pool.submit(convert_job, job): job for job in jobs}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    except BrokenProcessPool:
        raise InputError(
            "a worker process was killed, probably because memory ran out; repeat the command with fewer --processes."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def convert_job(job: Job) -> Case | CaseFailure:
    """Converts one study and writes it; of a study that fails nothing stays."""
    try:
        sources = job.sources()
        converted = convert_study(job.study, job.settings, job.reader)
        _write(converted, job)
    except (InputError, OSError, RuntimeError, MemoryError) as error:
        _delete([*job.outputs(), *job.leftovers()])
        return CaseFailure(job.study.name, _reason(error))
    return Case(
        name=job.case,
        group=job.case.partition("_")[0],
        patient=job.study.patient,
        study=job.study.study,
        folder=job.part,
        sources=sources,
        native_grids=converted.native_grids,
        grid=converted.grid,
    )


def _write(converted: Converted, job: Job) -> None:
    _delete(job.leftovers())
    label = [] if converted.label is None else [converted.label]
    for image, path in zip([*converted.channels, *label], job.outputs(), strict=True):
        write_image(image, path)
    if converted.transform is not None:
        with replaced(job.transform_file) as unfinished:
            sitk.WriteTransform(converted.transform, str(unfinished))


def _reason(error: Exception) -> str:
    """One line; ITK puts what matters into its last one."""
    if isinstance(error, MemoryError):
        return "memory ran out; run again with fewer --processes."
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _delete(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _start_worker(threads: int) -> None:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    exit_with_parent()
