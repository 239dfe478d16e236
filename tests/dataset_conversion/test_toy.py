"""Toy pairs: what is known of their masks, what their images show and hide, and the dataset that is
made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import fft, ndimage
from typer.testing import CliRunner

from nnunet_liver_ext import cli
from nnunet_liver_ext.dataset_conversion.toy import make_pair, scaled_max_shift, write_toy_dataset
from nnunet_liver_ext.dataset_conversion.toy import toy_dataset as dataset
from nnunet_liver_ext.dataset_conversion.toy.patterns import (
    BACKGROUND_STRETCH,
    FOREGROUND_STRETCH,
    period_px,
)
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.pairing import PairLabels, decode_pair
from nnunet_liver_ext.space.images import array, read_image, read_mask
from tests.dataset_conversion.conftest import fingerprint

ARRAYS = ("image_1", "image_2", "mask_1", "mask_2", "visible_mask_2")


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return (
        2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))
    )


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    """The Dice at the best of all shifts; right because the masks keep their distance from the
    edges."""
    spectra = [fft.rfft2(mask.astype(float)) for mask in (first, second)]
    overlap = fft.irfft2(np.conj(spectra[0]) * spectra[1], first.shape).max()
    return 2 * round(overlap) / (np.count_nonzero(first) + np.count_nonzero(second))


def moved(mask: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """moved[y + dy, x + dx] = mask[y, x], for masks that stay inside."""
    return np.roll(mask, shift, (0, 1))


# ---------------------------------------------------------------------- masks


def test_a_seed_gives_the_same_pair_and_another_seed_another():
    first, again, other = make_pair(3, size=64), make_pair(3, size=64), make_pair(4, size=64)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))
    assert first.shift == again.shift != other.shift


def test_the_global_random_state_is_left_alone():
    state = np.random.get_state()[1].copy()
    make_pair(0, size=64)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("size", [64, 101, 240])
def test_sizes_types_and_places(size: int):
    largest = scaled_max_shift(size)
    for seed in range(10):
        pair = make_pair(seed, size=size, difference=0.2)
        for image in (pair.image_1, pair.image_2):
            assert (image.shape, image.dtype) == ((size, size), np.float32)
            assert np.isfinite(image).all()
        for mask in (pair.mask_1, pair.mask_2):
            assert (mask.shape, mask.dtype) == ((size, size), bool)
            assert not mask[[0, -1]].any()
            assert not mask[:, [0, -1]].any()
        assert 0.07 < pair.mask_1.mean() < 0.25
        assert max(map(abs, pair.shift)) <= largest


def test_the_largest_shift_is_the_papers_and_smaller_in_small_images():
    assert [scaled_max_shift(size) for size in (480, 240, 120, 60)] == [32, 32, 16, 8]
    shifts = np.array([make_pair(seed, size=64, max_shift=3).shift for seed in range(60)])
    assert set(shifts.ravel().tolist()) == set(range(-3, 4))
    assert make_pair(0, size=64, max_shift=0).shift == (0, 0)
    assert (
        max(abs(n) for seed in range(20) for n in make_pair(seed, size=64, max_shift=16).shift) > 10
    )


def test_without_difference_the_masks_are_equal_up_to_the_shift():
    for seed in range(10):
        pair = make_pair(seed, size=80, difference=0)
        np.testing.assert_array_equal(moved(pair.mask_1, pair.shift), pair.mask_2)
        assert similarity(pair.mask_1, pair.mask_2) == 1


def test_difference_is_about_one_minus_dice_and_lowers_the_similarity():
    levels = (0.02, 0.05, 0.1, 0.2)
    pairs = [[make_pair(seed, size=96, difference=level) for seed in range(25)] for level in levels]
    aligned = [
        np.mean([dice(moved(pair.mask_1, pair.shift), pair.mask_2) for pair in own])
        for own in pairs
    ]
    found = [np.mean([similarity(pair.mask_1, pair.mask_2) for pair in own]) for own in pairs]
    assert aligned == pytest.approx([1 - level for level in levels], abs=0.03)
    assert sorted(found, reverse=True) == found
    assert found == pytest.approx([1 - level for level in levels], abs=0.03)
    assert all(a <= b for a, b in zip(aligned, found, strict=True))


def test_other_options_change_nothing_but_what_they_say():
    plain = make_pair(5, size=64)
    unlike = make_pair(5, size=64, difference=0.2)
    np.testing.assert_array_equal(unlike.image_1, plain.image_1)
    np.testing.assert_array_equal(unlike.mask_1, plain.mask_1)
    assert unlike.shift == plain.shift
    clean = make_pair(5, size=64, noise=0)
    np.testing.assert_array_equal(clean.mask_2, plain.mask_2)
    assert np.std(plain.image_1 - clean.image_1) == pytest.approx(0.2, rel=0.05)


def test_annotation_noise_is_in_the_annotation_only():
    plain, noisy = make_pair(7, size=96), make_pair(7, size=96, annotation_noise=0.1)
    np.testing.assert_array_equal(plain.mask_2, plain.visible_mask_2)
    np.testing.assert_array_equal(noisy.visible_mask_2, plain.mask_2)
    for name in ("image_1", "image_2", "mask_1"):
        np.testing.assert_array_equal(getattr(noisy, name), getattr(plain, name))
    assert dice(noisy.mask_2, noisy.visible_mask_2) == pytest.approx(0.9, abs=0.05)


# ---------------------------------------------------------------------- images


def rank_share(values: np.ndarray, mask: np.ndarray) -> float:
    """How often a foreground pixel is brighter than a background pixel (area under the ROC
    curve)."""
    ranks = values.ravel().argsort().argsort() + 1.0
    inside = np.count_nonzero(mask)
    return float(
        (ranks[mask.ravel()].sum() - inside * (inside + 1) / 2) / (inside * (mask.size - inside))
    )


def gradient_energies(
    image: np.ndarray, period: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Local energy of the derivative along y, along x, and of the image itself."""
    smooth = ndimage.gaussian_filter(image, period / 8)
    along_y, along_x = np.gradient(smooth)
    energies = [ndimage.gaussian_filter(part**2, period / 2) for part in (along_y, along_x, smooth)]
    return energies[0], energies[1], energies[2]


@pytest.mark.parametrize("number", [1, 2])
def test_no_grey_value_tells_the_blob(number: int):
    means, deviations, ranks = [], [], []
    for seed in range(30):
        pair = make_pair(seed, size=96)
        image, mask = (
            (pair.image_1, pair.mask_1) if number == 1 else (pair.image_2, pair.visible_mask_2)
        )
        means.append(image[mask].mean() - image[~mask].mean())
        deviations.append(image[mask].std() - image[~mask].std())
        ranks.append(rank_share(image, mask))
    assert np.abs(means).max() < 0.08  # the amplitude is 1
    assert abs(np.mean(means)) < 0.01
    assert np.abs(deviations).max() < 0.05
    assert abs(np.mean(deviations)) < 0.01
    assert np.abs(np.array(ranks) - 0.5).max() < 0.03


def test_the_angle_tells_the_blob_in_image_1():
    for seed in range(10):
        pair = make_pair(seed, size=96)
        along_y, along_x, _ = gradient_energies(pair.image_1, period_px(96))
        assert dice(along_y > along_x, pair.mask_1) > 0.93


def test_the_frequency_tells_the_blob_in_image_2():
    period = period_px(240)
    threshold = (2 * np.pi / period) ** 2 / (BACKGROUND_STRETCH * FOREGROUND_STRETCH)
    for seed in range(6):
        pair = make_pair(seed)
        along_y, along_x, itself = gradient_energies(pair.image_2, period)
        assert dice((along_y + along_x) / itself > threshold, pair.mask_2) > 0.9


def test_image_2_shows_what_is_visible_and_not_its_annotation():
    pair = make_pair(1, annotation_noise=0.2)
    along_y, along_x, itself = gradient_energies(pair.image_2, period_px(240))
    threshold = (2 * np.pi / period_px(240)) ** 2 / (BACKGROUND_STRETCH * FOREGROUND_STRETCH)
    found = (along_y + along_x) / itself > threshold
    assert dice(found, pair.visible_mask_2) > 0.9 > dice(found, pair.mask_2)


# ---------------------------------------------------------------------- dataset

SMALL = {"pairs": 4, "test_pairs": 2, "size": 64, "folds": 2}


def test_the_dataset(raw: Path):
    folder = write_toy_dataset(601, **SMALL, seed=3)
    assert folder == raw / "Dataset601_Toy"
    content = json.loads((folder / "dataset.json").read_text())
    pair = PairLabels.from_dataset_json(content)
    assert pair == PairLabels(("angle", "frequency"), ("background", "blob"))
    assert content["channel_names"] == {"0": "angle", "1": "frequency"}
    assert content["numTraining"] == 4
    assert content["toy"]["max_shift"] == scaled_max_shift(64)
    assert content["toy"]["seed"] == 3
    manifest = Manifest.load(folder)
    assert [case.folder for _, case in sorted(manifest.cases.items())] == ["Tr"] * 4 + ["Ts"] * 2
    splits = json.loads((folder / "splits_final.json").read_text())
    assert sorted(case for fold in splits for case in fold["val"]) == [
        f"P{n:03d}_S1" for n in range(1, 5)
    ]
    for part, names in (("Tr", range(1, 5)), ("Ts", range(5, 7))):
        cases = [f"P{n:03d}_S1" for n in names]
        assert sorted(path.name for path in (folder / f"labels{part}").iterdir()) == [
            f"{case}.nii.gz" for case in cases
        ]
        images = sorted(path.name for path in (folder / f"images{part}").iterdir())
        assert images == [f"{case}_{channel:04d}.nii.gz" for case in cases for channel in range(2)]


def test_the_dataset_holds_the_pairs_themselves(raw: Path):
    folder = write_toy_dataset(601, **SMALL, seed=3, difference=0.05)
    for case, part, kind, index in (("P002_S1", "Tr", "pair", 1), ("P006_S1", "Ts", "test", 1)):
        expected = make_pair(dataset.pair_seed(3, kind, index), size=64, difference=0.05)
        for channel, values in enumerate((expected.image_1, expected.image_2)):
            image = read_image(folder / f"images{part}" / f"{case}_{channel:04d}.nii.gz")
            assert image.GetSize() == (64, 64, 1)
            assert image.GetSpacing() == (1, 1, 999)
            np.testing.assert_allclose(array(image)[0], values, atol=1e-5)
        masks = decode_pair(array(read_mask(folder / f"labels{part}" / f"{case}.nii.gz"))[0])
        np.testing.assert_array_equal(masks[0] > 0, expected.mask_1)
        np.testing.assert_array_equal(masks[1] > 0, expected.mask_2)


def test_test_pairs_and_first_pairs_are_the_same_in_a_larger_dataset(raw: Path):
    small = write_toy_dataset(601, **SMALL)
    large = write_toy_dataset(602, **{**SMALL, "pairs": 6})
    for part, old, new in (("Tr", "P001_S1", "P001_S1"), ("Ts", "P005_S1", "P007_S1")):
        images = [
            array(read_image(folder / f"images{part}" / f"{case}_0000.nii.gz"))
            for folder, case in ((small, old), (large, new))
        ]
        np.testing.assert_array_equal(*images)


def test_a_repeated_call_changes_nothing_and_an_interrupted_one_goes_on(raw: Path):
    folder = write_toy_dataset(601, **SMALL)
    before = fingerprint(folder)
    write_toy_dataset(601, **SMALL)
    assert fingerprint(folder) == before
    manifest = Manifest.load(folder)  # as a run leaves it that was killed in its last case
    del manifest.cases["P006_S1"]
    manifest.save(folder)
    (folder / "dataset.json").unlink()
    (folder / "labelsTs" / "P006_S1.nii.gz").unlink()
    (folder / "imagesTs" / ".unfinished_1.nii.gz").write_bytes(b"half")
    write_toy_dataset(601, **SMALL)
    assert fingerprint(folder) == before


def test_the_number_of_processes_changes_nothing(raw: Path):
    one = write_toy_dataset(601, **SMALL)
    two = write_toy_dataset(602, **SMALL, processes=2)
    assert fingerprint(one) == fingerprint(two)


def test_a_dataset_that_is_there(raw: Path):
    folder = write_toy_dataset(601, **SMALL)
    before = fingerprint(folder)
    with pytest.raises(
        InputError, match=r"was made with difference 0\.1 rather than 0\.2; use the same"
    ):
        write_toy_dataset(601, **SMALL, difference=0.2)
    with pytest.raises(InputError, match="was made with seed 0 rather than 1"):
        write_toy_dataset(601, **{**SMALL, "pairs": 6}, seed=1, add=True)
    with pytest.raises(
        InputError, match="pair0005 is new since this dataset was converted; take it in with --add"
    ):
        write_toy_dataset(601, **{**SMALL, "pairs": 6})
    with pytest.raises(InputError, match="holds studies that are not asked for"):
        write_toy_dataset(601, **{**SMALL, "pairs": 3})
    with pytest.raises(InputError, match="has the number 601 already"):
        write_toy_dataset(601, **SMALL, name="Other")
    assert fingerprint(folder) == before
    write_toy_dataset(601, **{**SMALL, "pairs": 6, "test_pairs": 3}, add=True)
    after = fingerprint(folder)
    assert {name: after[name] for name in before if name.startswith(("images", "labels"))} == {
        name: content for name, content in before.items() if name.startswith(("images", "labels"))
    }
    assert len(Manifest.load(folder).cases) == 9
    write_toy_dataset(601, **SMALL, difference=0.2, overwrite=True)
    assert len(Manifest.load(folder).cases) == 6


def test_a_dataset_that_is_no_toy(raw: Path):
    folder = raw / "Dataset601_Toy"
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="holds a dataset that nnunet_liver did not write"):
        write_toy_dataset(601, **SMALL)
    (folder / "dataset.json").write_text("{")
    with pytest.raises(InputError, match=r"dataset\.json: is no valid JSON"):
        write_toy_dataset(601, **SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 63}, "at least 64 pixels along each axis, found a size of 63"),
        ({"size": 64, "max_shift": 17}, "images of 64 pixels is 0 to 16, found 17"),
        ({"max_shift": -1}, "is 0 to 60, found -1"),
        ({"difference": -0.1}, "the difference of toy masks is 0 to 0.3, found -0.1"),
        ({"difference": 0.31}, "the difference of toy masks is 0 to 0.3, found 0.31"),
        ({"difference": float("nan")}, "the difference of toy masks is 0 to 0.3, found nan"),
        ({"annotation_noise": 1}, "the annotation noise of toy masks is 0 to 0.3, found 1"),
        ({"noise": -1}, "noise of toy images is 0 or more"),
        ({"noise": float("inf")}, "noise of toy images is 0 or more"),
        ({"seed": -1}, "not negative, found"),
    ],
)
def test_numbers_out_of_range(options: dict[str, float], message: str, raw: Path):
    with pytest.raises(InputError, match=message):
        make_pair(**{"seed": 0, **options})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        write_toy_dataset(601, pairs=5, **options)  # type: ignore[arg-type]
    assert not list(raw.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": 1}, "at least 2 pairs to train and validate on, found 1"),
        ({"pairs": 4}, "4 patients cannot be split into 5 folds"),
        ({"pairs": 5, "test_pairs": -1}, "not negative, found -1 and 0"),
        ({"pairs": 5, "name": "a b"}, "'a b' is no name for a dataset"),
    ],
)
def test_datasets_that_are_impossible(options: dict, message: str, raw: Path):
    with pytest.raises(InputError, match=message):
        write_toy_dataset(601, size=64, **options)
    assert not list(raw.iterdir())


def test_the_command(raw: Path):
    arguments = [
        "-d",
        "601",
        "--name",
        "Mine",
        "--pairs",
        "3",
        "--test-pairs",
        "1",
        "--size",
        "64",
        "--max-shift",
        "5",
    ]
    arguments += [
        "--difference",
        "0.05",
        "--annotation-noise",
        "0.02",
        "--noise",
        "0",
        "--seed",
        "2",
        "--folds",
        "3",
    ]
    environment = {"COLUMNS": "200"}
    result = CliRunner().invoke(
        cli.app,
        ["convert", "toy", *arguments, "--processes", "1"],
        catch_exceptions=False,
        env=environment,
    )
    assert result.exit_code == 0, result.output
    folder = raw / "Dataset601_Mine"
    assert "4 pairs" in result.output
    assert str(folder) in result.output.replace("\n", "")
    assert "Next: nnunet_liver plan -d 601" in result.output
    content = json.loads((folder / "dataset.json").read_text())
    found = content["toy"]
    numbers = {
        "size": 64,
        "max_shift": 5,
        "difference": 0.05,
        "annotation_noise": 0.02,
        "noise": 0.0,
        "seed": 2,
    }
    assert found == {"version": dataset.APPEARANCE_VERSION, **numbers}
    assert len(json.loads((folder / "splits_final.json").read_text())) == 3


def test_nnunet_reads_single_slices(raw: Path):
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    folder = write_toy_dataset(601, **SMALL)
    files = [str(folder / "imagesTr" / f"P001_S1_{channel:04d}.nii.gz") for channel in range(2)]
    values, properties = SimpleITKIO().read_images(files)
    assert values.shape == (2, 1, 64, 64)
    assert properties["spacing"] == [999, 1, 1]
