"""Tumour or liver first, then a case that has it, then a voxel of it."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.data.class_sampling import (
    MOST_VOXELS,
    ORGAN,
    ClassFirstSampling,
    Wish,
    choose_voxels,
)
from nnunet_liver_ext.trainers.data.ordered_batches import SeededDataLoader, temporary_seed
from nnunet_liver_ext.trainers.data.organ_channel import OrganChannel
from tests.trainers.stored_cases import IMAGE_CHANNELS, SHAPE, case_arrays, load_dataset, store_case

DRAWS = 10_000
CASES: dict[str, tuple[int, ...]] = {"a": (1,), "b": (), "c": (1,), "d": ()}
LABELS = SimpleNamespace(has_ignore_label=False, all_labels=[0, 1, 2])


class Loader(SeededDataLoader):
    """Asks the dataset for its cases."""

    def get_indices(self) -> Any:
        return (
            self._data.draw(self.batch_size)
            if hasattr(self._data, "draw")
            else super().get_indices()
        )


@pytest.fixture(params=["b2nd", "npz"])
def ending(request) -> str:
    return request.param


@pytest.fixture
def dataset(ending: str, tmp_path: Path) -> OrganChannel:
    return stored(tmp_path, CASES, ending)


def stored(
    folder: Path,
    cases: dict[str, tuple[int, ...]],
    ending: str = "b2nd",
    *,
    without_liver: tuple[str, ...] = (),
) -> OrganChannel:
    for seed, (name, labels) in enumerate(cases.items()):
        store_case(folder, name, seed, labels, ending=ending, liver=name not in without_liver)
    return OrganChannel(load_dataset(folder, ending), IMAGE_CHANNELS)


def draws(sampler: ClassFirstSampling, count: int = DRAWS, seed: int = 0) -> list[Wish]:
    with temporary_seed(seed):
        return sampler.draw(count)


def test_nine_in_ten_are_tumour_and_only_cases_that_have_one(dataset):
    counts = Counter((wish.wanted, str(wish)) for wish in draws(ClassFirstSampling(dataset)))
    assert sum(
        count for (wanted, _), count in counts.items() if wanted == 1
    ) / DRAWS == pytest.approx(0.9, abs=0.01)
    assert set(counts) == {(1, "a"), (1, "c"), *((ORGAN, case) for case in "abcd")}
    for case in "ac":
        assert counts[(1, case)] / DRAWS == pytest.approx(
            0.45, abs=4 * (0.45 * 0.55 / DRAWS) ** 0.5
        )
    for case in "abcd":
        assert counts[(ORGAN, case)] / DRAWS == pytest.approx(
            0.025, abs=4 * (0.025 * 0.975 / DRAWS) ** 0.5
        )


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_can_be_another(dataset, share):
    found = sum(wish.wanted == 1 for wish in draws(ClassFirstSampling(dataset, share))) / DRAWS
    assert found == pytest.approx(share, abs=4 * (share * (1 - share) / DRAWS) ** 0.5)


def test_of_several_lesion_classes_each_is_as_likely(tmp_path: Path):
    sampler = ClassFirstSampling(stored(tmp_path, {"a": (1, 2), "b": (1,), "c": (1,)}), 1.0)
    counts = Counter((wish.wanted, str(wish)) for wish in draws(sampler))
    assert counts[(2, "a")] / DRAWS == pytest.approx(0.5, abs=0.02)
    for case in "abc":
        assert counts[(1, case)] / DRAWS == pytest.approx(1 / 6, abs=0.02)


def test_drawing_depends_on_the_seed_and_not_on_what_was_drawn_before(dataset):
    sampler = ClassFirstSampling(dataset)
    fresh = [(str(wish), wish.wanted) for wish in draws(ClassFirstSampling(dataset), 50, seed=4)]
    for _ in range(2):
        assert [(str(wish), wish.wanted) for wish in draws(sampler, 50, seed=4)] == fresh
    assert [(str(wish), wish.wanted) for wish in draws(sampler, 50, seed=5)] != fresh
    before = np.random.get_state()[1].tobytes()
    sampler._organ_voxels.clear()
    sampler.load_case(Wish("b", ORGAN))
    assert np.random.get_state()[1].tobytes() == before


def test_every_voxel_offered_is_of_the_class(dataset):
    sampler = ClassFirstSampling(dataset)
    for seed, (case, labels) in enumerate(CASES.items()):
        image, seg = case_arrays(seed, labels)
        for wanted, truth in ((ORGAN, image[-1] > 0.5), (1, seg[0] == 1)):
            if not truth.any():
                continue
            data, _, mask, properties = sampler.load_case(Wish(case, wanted))
            assert list(properties["class_locations"]) == [wanted]
            voxels = np.asarray(properties["class_locations"][wanted])
            assert voxels.shape == (truth.sum(), 4)
            assert (voxels[:, 0] == 0).all()
            assert truth[tuple(voxels[:, 1:].T)].all()
            assert len(np.unique(voxels, axis=0)) == len(voxels)
            assert data.shape[0] == IMAGE_CHANNELS
            np.testing.assert_array_equal(mask[:], image[-1] > 0.5)
    assert set(sampler.load_case("a")[3]["class_locations"]) == {1, 2}  # no wish, no change


def test_through_nnunets_loader_the_central_voxel_is_what_was_wished_for(dataset):
    """Away from the low borders nnU-Net centres exactly; at them the voxel is in the patch all the
    same."""
    patch = (4, 6, 6)
    loader = Loader(
        ClassFirstSampling(dataset), 8, patch, patch, LABELS, oversample_foreground_percent=1.0
    )
    seen = Counter()
    for _ in range(40):
        batch = next(loader)
        for key, target in zip(batch["keys"], batch["target"], strict=True):
            centre = target[:, 2, 3, 3]
            assert (centre[0] if key.wanted == 1 else centre[1]) == 1
            seen[key.wanted] += 1
    assert 0.8 < seen[1] / 320 < 0.97
    assert seen[ORGAN] > 10


def test_batches_are_the_same_with_workers_pickled_or_not(dataset):
    loaders = [
        Loader(ClassFirstSampling(dataset), 2, (4, 6, 6), (4, 6, 6), LABELS, 1.0) for _ in range(2)
    ]
    skipped = next(loaders[1])  # as another worker would make it
    loaders[1]._generated = 0
    first, again = next(loaders[0]), next(loaders[1])
    for batch in (skipped, again):
        assert torch.equal(batch["data"], first["data"])
        assert batch["keys"] == first["keys"]
    keys = pickle.loads(pickle.dumps(first["keys"]))
    assert [(type(key), str(key), key.wanted) for key in keys] == [
        (Wish, str(k), k.wanted) for k in first["keys"]
    ]


def test_which_cases_have_a_tumour_is_known_without_their_images(dataset, monkeypatch):
    monkeypatch.setattr(dataset, "load_case", lambda identifier: pytest.fail("an image was opened"))
    sampler = ClassFirstSampling(dataset)
    assert sampler.cases_with == {1: ["a", "c"]}
    assert {str(wish) for wish in draws(ClassFirstSampling(dataset, 1.0), 100)} == {"a", "c"}


def test_the_key_of_anything_annotated_is_no_class(dataset, monkeypatch):
    stored_properties = dataset.properties
    everything = {(-1, 0, 1): [[0, 1, 1, 1]]}
    monkeypatch.setattr(
        dataset,
        "properties",
        lambda name: {"class_locations": stored_properties(name)["class_locations"] | everything},
    )
    assert ClassFirstSampling(dataset).cases_with == {1: ["a", "c"]}


def test_a_fold_without_a_tumour_is_refused(tmp_path: Path):
    dataset = stored(tmp_path, {"a": (), "b": ()})
    with pytest.raises(
        InputError, match="none of the 2 cases of this fold has a voxel of a foreground class"
    ):
        ClassFirstSampling(dataset)
    assert {wish.wanted for wish in draws(ClassFirstSampling(dataset, 0.0), 50)} == {ORGAN}


def test_empty_livers_are_not_drawn(tmp_path: Path):
    dataset = stored(tmp_path, {"a": (1,), "b": (), "c": ()}, without_liver=("b",))
    assert {str(wish) for wish in draws(ClassFirstSampling(dataset, 0.0), 100)} == {"a", "c"}
    empty = stored(tmp_path / "empty", {"a": (1,), "b": ()}, without_liver=("a", "b"))
    with pytest.raises(InputError, match="the liver masks of all 2 cases of this fold are empty"):
        draws(ClassFirstSampling(empty, 0.0), 1)


def test_of_a_large_liver_ten_thousand_voxels_are_kept():
    mask = np.ones((30, 40, 50), np.int8)
    mask[:, :, 25:] = 0
    found = choose_voxels(mask)
    assert found.shape == (MOST_VOXELS, 4)
    assert mask[tuple(found[:, 1:].T)].all()
    assert len(np.unique(found, axis=0)) == MOST_VOXELS
    with temporary_seed(0):
        np.testing.assert_array_equal(found, choose_voxels(mask))
    np.testing.assert_allclose(found[:, 1:].mean(0), [14.5, 19.5, 12], atol=0.5)
    assert choose_voxels(np.zeros(SHAPE, np.int8)).shape == (0, 4)
