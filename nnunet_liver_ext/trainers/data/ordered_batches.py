"""Batches as a pure function of (seed, stream, index), and foreground sampling by marginal class.

nnU-Net's workers draw from random states that nobody can restore, and hand over batches in whatever
order they finish. Here batch `index` of a stream (training or validation, of one rank) is generated
under random states that are seeded from (seed, stream, index) alone, and the parent hands batches
out by index: the same training whatever the number of workers, and the same after an interruption.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset

from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.trainers.data.crops import crop_batch, draw_size
from nnunet_liver_ext.workers import exit_with_parent

NO_LIMIT = 2**62
ENDING_S = 10.0
"""How long a worker that is done waits until the parent has stopped receiving."""
BEFORE_SHARED_MEMORY = 100
"""multiprocessing stops serving a process's tensors at its exit, with priority 0 and below."""


@contextmanager
def temporary_seed(*key: int) -> Iterator[None]:
    """Python's, numpy's and torch's (CPU) global random states, seeded meanwhile from `key`."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    torch.default_generator.manual_seed(
        _seed_python_and_numpy(*key)
    )  # torch.manual_seed would reach the GPUs too
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def seed_everything(*key: int) -> None:
    """Seeds Python's, numpy's and torch's global random states (of GPUs too) from `key`."""
    torch.manual_seed(_seed_python_and_numpy(*key))


def _seed_python_and_numpy(*key: int) -> int:
    """Seeds both and returns the seed for torch."""
    words = np.random.SeedSequence(key[0], spawn_key=key[1:]).generate_state(
        3
    )  # keys of other lengths are other streams
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    return int(words[2])


class SeededDataLoader(nnUNetDataLoader):
    """nnU-Net's loader; worker w of n generates batches start + w, start + w + n, ..."""

    seed = 0
    stream = 0
    start = 0
    num_workers = 1
    handed_out: Any = None
    """Shared with the parent: the index of the batch that it waits for. No worker runs further
    ahead than `window`."""
    window = 0
    crops: Sequence[tuple[int, ...]] = ()
    """Sizes of which each batch gets one; none: the whole patch."""
    crop_scales: Any = None
    """Resolutions of the targets of deep supervision."""
    _generated = 0

    def generate_train_batch(self) -> dict[str, Any]:
        index = self.next_index()
        with temporary_seed(self.seed, self.stream, index):
            batch = super().generate_train_batch()
            if self.crops:
                batch = crop_batch(batch, draw_size(self.crops), self.crop_scales)
        return {**batch, "index": index}

    def get_indices(self) -> list[str]:
        """The cases of a batch; a dataset that chooses by class draws them itself."""
        draw = getattr(self._data, "draw", None)
        return super().get_indices() if draw is None else draw(self.batch_size)

    def next_index(self) -> int:
        """The index of this worker's next batch, as soon as it may make it."""
        index = self.start + self.thread_id + self._generated * self.num_workers
        self._generated += 1
        while self.handed_out is not None and index >= self.handed_out.value + self.window:
            time.sleep(0.002)
        return index

    def set_thread_id(self, thread_id: int) -> None:
        """Called once at a worker's start, so this is also where it begins to watch its parent."""
        super().set_thread_id(thread_id)
        exit_with_parent()
        if self.handed_out is not None:
            Finalize(None, self._wait_until_received, exitpriority=BEFORE_SHARED_MEMORY)

    def _wait_until_received(self) -> None:
        """A worker's tensors are fetched from it: it ends only after the parent stopped receiving.

        Otherwise a batch that is under way at the end would be an error in the receiving thread.
        """
        deadline = time.monotonic() + ENDING_S
        while self.handed_out.value < NO_LIMIT and time.monotonic() < deadline:
            time.sleep(0.002)


class OrderedAugmenter(NonDetMultiThreadedAugmenter):
    """nnU-Net's worker pool, handing out batches by index; 0 workers: made in this process."""

    def __init__(self, loader: SeededDataLoader, num_workers: int, *, pin_memory: bool) -> None:
        loader.num_workers = max(1, num_workers)
        super().__init__(
            loader,
            None,
            num_workers,
            num_cached=max(6, num_workers // 2),
            pin_memory=pin_memory,
            wait_time=0.002,
        )
        self._next_index = loader.start
        self._early: dict[int, dict[str, Any]] = {}
        if num_workers > 0:
            loader.handed_out = multiprocessing.Value("q", loader.start, lock=False)
            loader.window = self.num_cached + num_workers
            # fork now, as nnU-Net does, not in mid-training beside the threads of CUDA and
            # torch.compile
            self._start()

    def __next__(self) -> dict[str, Any]:
        while self._next_index not in self._early:
            batch = next(self.generator) if self.num_processes == 0 else super().__next__()
            self._early[batch["index"]] = batch
        self._next_index += 1
        if self.generator.handed_out is not None:
            self.generator.handed_out.value = self._next_index
        return self._early.pop(self._next_index - 1)

    def _finish(self, timeout: float = 10, force: bool = False) -> None:
        """Ends the receiving thread, then the workers, whose tensors it may have been fetching."""
        if getattr(self, "_processes", None) and self.generator.handed_out is not None:
            self.pause_event.set()
            self.abort_event.set()
            self.results_loop_thread.join(timeout)
            self.generator.handed_out.value = NO_LIMIT  # also for those who wait for their turn
        super()._finish(timeout, force)


class MarginalForegroundSampling:
    """A preprocessed dataset of pairs whose foreground voxels are offered by marginal class.

    nnU-Net stores up to some thousand voxel locations of each label and centres a patch on one of
    them. The labels of a pair are codes, and codes 1 and 2 are only the rims where the two masks
    disagree. Here a foreground class of one image is drawn first (T1 liver = codes 1 and 3), then
    one of its codes by its number of voxels; only that code's locations are offered to nnU-Net's
    sampler.
    """

    def __init__(self, dataset: nnUNetBaseDataset, pair: PairLabels) -> None:
        self.dataset = dataset
        self.pair = pair
        self.identifiers = dataset.identifiers
        self._voxels: dict[str, np.ndarray] = {}

    def load_case(self, identifier: str) -> tuple[Any, Any, Any, dict[str, Any]]:
        data, seg, previous, properties = self.dataset.load_case(identifier)
        if identifier not in self._voxels:
            self._voxels[identifier] = count_codes(seg[:], self.pair)
        code = draw_code(self._voxels[identifier], self.pair)
        locations = {} if code is None else {code: properties["class_locations"][code]}
        return data, seg, previous, {**properties, "class_locations": locations}


def count_codes(seg: np.ndarray, pair: PairLabels) -> np.ndarray:
    """Voxels of each pair code, (K²,); nnU-Net's −1 (outside the image) is not counted."""
    return np.bincount(seg[seg >= 0].ravel().astype(np.int64), minlength=pair.num_classes**2)


def draw_code(voxels: np.ndarray, pair: PairLabels) -> int | None:
    """Draws a foreground class of one image uniformly, then one of its codes by its voxels.

    Args:
        voxels: number of voxels of each code, (K²,).
        pair: what the codes mean.

    Returns:
        None without foreground.
    """
    present = [codes for codes in pair.regions().values() if voxels[list(codes)].sum() > 0]
    if not present:
        return None
    codes = np.array(present[np.random.randint(len(present))])
    return int(np.random.choice(codes, p=voxels[codes] / voxels[codes].sum()))


def make_reproducible(transforms: Any) -> None:
    """Switches off GaussianBlur's benchmark, which picks an algorithm by how fast it just was."""
    if hasattr(transforms, "benchmark"):
        transforms.benchmark = False
    for child in (*getattr(transforms, "transforms", ()), getattr(transforms, "transform", None)):
        if child is not None:
            make_reproducible(child)
