from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.trainers.data.ordered_batches import (
    MarginalForegroundSampling,
    OrderedAugmenter,
    SeededDataLoader,
    count_codes,
    draw_code,
    temporary_seed,
)
from tests.training import make_trainer, quietly

ONE_ORGAN = PairLabels(("T1", "T2"), ("background", "liver"))
TWO_ORGANS = PairLabels(("T1", "T2"), ("background", "liver", "spleen"))
DRAWS = 20_000
Batch = dict[str, Any]


@pytest.fixture
def generate(nnunet_root: Path, tmp_path: Path, monkeypatch):
    """generate(count, workers=, epoch=, ...) -> the first training and validation batches of an
    epoch."""

    def run(
        count: int, *, workers: int, epoch: int = 0, rank: int = 0, **numbers: Any
    ) -> tuple[list[Batch], list[Batch]]:
        monkeypatch.setenv("nnUNet_n_proc_DA", str(workers))
        trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerSingleInput", **numbers)
        quietly(trainer.initialize)
        trainer.current_epoch, trainer.local_rank = epoch, rank
        loaders = quietly(trainer.get_dataloaders)
        try:
            training, validation = ([next(loader) for _ in range(count)] for loader in loaders)
        finally:
            for loader in loaders:
                loader._finish()
        return training, validation

    return run


def assert_same(found: Batch, expected: Batch) -> None:
    assert found["index"] == expected["index"]
    assert list(found["keys"]) == list(expected["keys"])
    assert torch.equal(found["data"], expected["data"])
    assert all(torch.equal(a, b) for a, b in zip(found["target"], expected["target"], strict=True))


def test_batches_do_not_depend_on_the_number_of_workers(generate):
    alone = generate(5, workers=0)
    for workers in (1, 2):
        for found, expected in zip(generate(5, workers=workers), alone, strict=True):
            assert [batch["index"] for batch in found] == list(range(5))
            for a, b in zip(found, expected, strict=True):
                assert_same(a, b)
    training, _ = alone
    assert not torch.equal(training[0]["data"], training[1]["data"])


def test_a_later_epoch_goes_on_where_the_earlier_ones_ended(generate):
    training, validation = generate(5, workers=0)
    later, later_validation = generate(
        2, workers=2, epoch=1
    )  # 3 training iterations and 1 of validation per epoch
    for found, expected in zip(later, training[3:], strict=True):
        assert_same(found, expected)
    for found, expected in zip(later_validation, validation[1:3], strict=True):
        assert_same(found, expected)


def test_seeds_streams_and_ranks_differ(generate):
    def fingerprint(batches: list[Batch]) -> str:
        return str(
            [(list(batch["keys"]), float(batch["data"].double().sum())) for batch in batches]
        )

    training, validation = generate(2, workers=0)
    of_rank_1, validation_of_rank_1 = generate(2, workers=0, rank=1)
    of_seed_8, validation_of_seed_8 = generate(2, workers=0, seed=8)
    found = [training, validation, of_rank_1, validation_of_rank_1, of_seed_8, validation_of_seed_8]
    assert len({fingerprint(batches) for batches in found}) == 6


def states() -> tuple:
    numpy_state = np.random.get_state()
    return (
        random.getstate(),
        numpy_state[1].tobytes(),
        numpy_state[2:],
        torch.get_rng_state().numpy().tobytes(),
    )


def test_making_batches_in_this_process_leaves_its_random_states_alone(
    nnunet_root: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerDualInput")
    quietly(trainer.initialize)
    training, validation = quietly(trainer.get_dataloaders)
    before = states()
    first = next(training)["data"], next(validation)["data"]
    assert states() == before
    torch.rand(3)
    np.random.rand(3)
    second = next(training)["data"], next(validation)["data"]
    assert not torch.equal(first[0], second[0])


def test_random_states_are_restored_after_an_error():
    before = states()
    with pytest.raises(ZeroDivisionError), temporary_seed(1, 2, 3):
        assert states() != before
        raise ZeroDivisionError
    assert states() == before


def test_a_key_gives_the_same_numbers_and_another_key_others():
    def draw(*key: int) -> tuple[float, float, float]:
        with temporary_seed(*key):
            return random.random(), float(np.random.rand()), float(torch.rand(1))

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({draw(1, 2, 3), draw(1, 2, 4), draw(1, 3, 3), draw(2, 2, 3), draw(3, 2, 1)}) == 5


def frequencies(voxels: list[int], pair: PairLabels) -> np.ndarray:
    with temporary_seed(0):
        drawn = [draw_code(np.array(voxels), pair) for _ in range(DRAWS)]
    return np.bincount(drawn, minlength=len(voxels)) / DRAWS


def assert_probabilities(found: np.ndarray, expected: list[float]) -> None:
    sigma = np.sqrt(np.array(expected) * (1 - np.array(expected)) / DRAWS)
    assert (np.abs(found - expected) <= 4 * sigma).all(), f"{found} {expected}"


def test_a_code_is_drawn_by_marginal_class_and_then_by_its_voxels():
    """T1 liver is codes 1 and 3, T2 liver 2 and 3; each is drawn half of the time."""
    voxels = [10**6, 1000, 3000, 96000]
    t1, t2 = 1000 / 97000, 3000 / 99000
    expected = [0, t1 / 2, t2 / 2, ((1 - t1) + (1 - t2)) / 2]
    assert_probabilities(frequencies(voxels, ONE_ORGAN), expected)
    assert expected[1] < 0.006  # by code, each of the rims would have a third


def test_a_code_of_two_organs():
    """A small spleen in T1 only is a third of the draws: liver in T1, spleen in T1 and liver in T2
    are there."""
    voxels = [
        10**6,
        200,
        100,
        300,
        9500,
        0,
        0,
        0,
        0,
    ]  # background, livers' rims, T1 spleen, both livers
    expected = [
        0,
        200 / 9700 / 3,
        1 / 3,
        300 / 9800 / 3,
        (9500 / 9700 + 9500 / 9800) / 3,
        0,
        0,
        0,
        0,
    ]
    assert_probabilities(frequencies(voxels, TWO_ORGANS), expected)


def test_a_case_with_foreground_in_one_image_only():
    assert frequencies([100, 0, 7, 0], ONE_ORGAN).tolist() == [0, 0, 1, 0]


def test_a_case_without_foreground():
    assert draw_code(np.array([100, 0, 0, 0]), ONE_ORGAN) is None


def test_voxels_outside_the_image_are_not_counted():
    seg = np.array([[-1, -1, 0, 3], [1, 3, 3, 2]], np.int8)
    assert count_codes(seg, ONE_ORGAN).tolist() == [1, 1, 1, 3]
    assert count_codes(seg, TWO_ORGANS).tolist() == [1, 1, 1, 3, 0, 0, 0, 0, 0]


class StubDataset:
    """A dataset of one case whose every code has one location."""

    identifiers = ("case",)

    def __init__(self, seg: np.ndarray) -> None:
        self.seg = seg

    def load_case(self, identifier: str) -> tuple:
        locations = {code: np.argwhere(self.seg == code)[:1] for code in (1, 2, 3)}
        return (
            np.zeros(self.seg.shape, np.float32),
            self.seg,
            None,
            {"class_locations": locations, "spacing": (1, 1, 1)},
        )


def test_only_the_drawn_codes_locations_are_offered():
    seg = np.zeros((1, 4, 4, 4), np.int8)
    seg[0, :2], seg[0, 2, 0, 0] = 3, 1
    dataset = MarginalForegroundSampling(StubDataset(seg), ONE_ORGAN)
    with temporary_seed(0):
        offered = [dataset.load_case("case")[3] for _ in range(200)]
    assert {tuple(properties["class_locations"]) for properties in offered} == {(1,), (3,)}
    assert all(properties["spacing"] == (1, 1, 1) for properties in offered)
    assert offered[0]["class_locations"][3].tolist() == [[0, 0, 0, 0]]
    empty = MarginalForegroundSampling(StubDataset(np.zeros((1, 4, 4, 4), np.int8)), ONE_ORGAN)
    assert empty.load_case("case")[3]["class_locations"] == {}


def patches(seg: np.ndarray, oversample: float, count: int = 20) -> torch.Tensor:
    """Targets (2 count, 1, 8, 8, 8) of one case, without augmentation."""
    labels = SimpleNamespace(has_ignore_label=False, all_labels=[0, 1, 2, 3])
    dataset = MarginalForegroundSampling(StubDataset(seg), ONE_ORGAN)
    loader = SeededDataLoader(dataset, 2, (8, 8, 8), (8, 8, 8), labels, oversample)
    return torch.cat([next(loader)["target"] for _ in range(count)])


def test_oversampled_patches_are_centred_on_both_organs_alike():
    seg = np.zeros((1, 40, 40, 40), np.int8)
    seg[0, 4:8, 4:8, 4:8], seg[0, 30:35, 30:35, 30:35] = 1, 2
    targets = patches(seg, 1.0).flatten(1)
    in_t1, in_t2 = (targets == 1).any(1), (targets == 2).any(1)
    assert (in_t1 ^ in_t2).all()
    assert 8 <= int(in_t1.sum()) <= 32
    assert not (patches(seg, 0.0).flatten(1) > 0).any(1).all()


def test_a_case_without_foreground_gives_random_patches():
    assert patches(np.zeros((1, 40, 40, 40), np.int8), 1.0).shape == (40, 1, 8, 8, 8)


def benchmarks(thing: Any, seen: set[int]) -> list[Any]:
    """Every object with a `benchmark` switch that can be reached from `thing`."""
    if id(thing) in seen or isinstance(thing, np.ndarray | torch.Tensor | str | bytes | type):
        return []
    seen.add(id(thing))
    children = (
        list(thing.values())
        if isinstance(thing, dict)
        else list(thing)
        if isinstance(thing, list | tuple)
        else []
    )
    children += list(getattr(thing, "__dict__", {}).values())
    return [thing] * hasattr(thing, "benchmark") + [
        found for child in children for found in benchmarks(child, seen)
    ]


def test_no_transform_measures_how_fast_it_is(nnunet_root: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerSingleInput")
    quietly(trainer.initialize)
    for loader in quietly(trainer.get_dataloaders):
        found = benchmarks(loader.generator.transforms, set())
        assert [type(transform).__name__ for transform in found] == ["GaussianBlurTransform"] * (
            loader.generator.stream == 0
        )
        assert not any(transform.benchmark for transform in found)


ORPHANS = """
import sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from tests.training import make_trainer, quietly
trainer = make_trainer(Path({root!r}), Path({results!r}), "nnUNetTrainerSingleInput")
quietly(trainer.initialize)
training, validation = quietly(trainer.get_dataloaders)
next(training)
loaders = (training, validation)
print(*[process.pid for loader in loaders for process in loader._processes], flush=True)
while True:
    next(validation)
"""


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_workers_end_when_their_parent_is_killed(nnunet_root: Path, tmp_path: Path):
    repository = Path(__file__).parents[3]
    code = ORPHANS.format(repository=str(repository), root=str(nnunet_root), results=str(tmp_path))
    environment = {**os.environ, "nnUNet_n_proc_DA": "2"}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 3
        assert all(alive(pid) for pid in workers)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if alive(pid)]


class UnevenLoader(SeededDataLoader):
    """Batches of nothing; worker 0 takes its time."""

    def __init__(self) -> None:
        self.thread_id, self.infinite = 0, True

    def __next__(self) -> Batch:
        index = self.next_index()
        if self.thread_id == 0:
            time.sleep(0.02)
        return {"index": index}


def test_fast_workers_wait_for_the_slow_one():
    loader = UnevenLoader()
    augmenter = OrderedAugmenter(loader, 3, pin_memory=False)
    try:
        most = 0
        for index in range(120):
            assert next(augmenter)["index"] == index
            most = max(most, len(augmenter._early))
        assert 0 < most <= loader.window
    finally:
        begun = time.monotonic()
        augmenter._finish()
    assert (
        time.monotonic() - begun < 5
    )  # waiting workers end when they are told, not when they are killed


def receive_slowly() -> None:
    time.sleep(0.3)


class SlowToReceive:
    """Keeps the receiving thread busy before it fetches the tensor that follows it in a batch."""

    def __reduce__(self) -> tuple:
        return receive_slowly, ()


class SlowlyReceivedLoader(SeededDataLoader):
    def __init__(self) -> None:
        self.thread_id, self.infinite = 0, True

    def __next__(self) -> Batch:
        return {"slow": SlowToReceive(), "data": torch.zeros(1000), "index": self.next_index()}


def test_a_batch_that_is_under_way_at_the_end_arrives(monkeypatch):
    """Its tensor lives in the worker, which must not end before the tensor has been fetched."""
    errors: list[Any] = []
    monkeypatch.setattr("threading.excepthook", errors.append)
    augmenter = OrderedAugmenter(SlowlyReceivedLoader(), 1, pin_memory=False)
    next(augmenter)
    thread = augmenter.results_loop_thread
    begun = time.monotonic()
    augmenter._finish()
    assert not thread.is_alive()
    assert not errors
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("keys", [((5, 0), (5, 0, 0)), ((5, 1, 3), (5, 1, 3, 0)), ((5,), (5, 0))])
def test_keys_of_different_lengths_are_different_streams(keys):
    drawn = []
    for key in keys:
        with temporary_seed(*key):
            drawn.append((random.random(), np.random.rand(), float(torch.rand(1))))
    assert all(a != b for a, b in zip(*drawn, strict=True))
