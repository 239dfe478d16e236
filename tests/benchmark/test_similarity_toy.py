from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from rich.console import Console

from nnunet_liver_ext.benchmark.similarity_toy.figure import summarise, to_markdown, write_results
from nnunet_liver_ext.benchmark.similarity_toy.scores import read_test_pairs, score_pair
from nnunet_liver_ext.benchmark.similarity_toy.sweep import (
    DATASET,
    PAPER,
    QUICK,
    TRAINER,
    ToyScale,
    ToySettings,
    change_scale,
    lambda_p_values,
    run_similarity_toy,
)
from nnunet_liver_ext.errors import InputError

TINY = ToyScale(
    size=64,
    pairs=12,
    test_pairs=3,
    lambda_p=(0.0, 0.75),
    batch_size=2,
    warmup_epochs=1,
    companion_epochs=1,
    joint_epochs=1,
    iterations=2,
    tiny=True,
)


def square(top: int, left: int, side: int = 10) -> np.ndarray:
    mask = np.zeros((40, 40), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_scores_of_known_masks():
    reference = (square(5, 5), square(9, 8) & ~square(9, 8, side=5))
    predicted = (square(5, 5), square(9, 8))
    scores = score_pair(reference, predicted, np.array([-4.0, -3.0 + 1.0]), max_shift=8)
    assert scores["dice_t1"] == 1
    assert scores["dice_t2"] == pytest.approx(2 * 75 / (100 + 75))
    assert scores["similarity"] == 1
    assert scores["similarity_reference"] == pytest.approx(2 * 75 / (100 + 75))
    assert scores["gain"] == pytest.approx(1 - 2 * 75 / (100 + 75))
    assert scores["registor_error_px"] == pytest.approx(1)


def test_an_empty_prediction_has_no_gain():
    scores = score_pair(
        (square(5, 5), square(9, 8)), (square(5, 5), square(0, 0, side=0)), np.zeros(2), max_shift=8
    )
    assert np.isnan(scores["gain"])
    assert scores["dice_t2"] == 0


def table(gains: dict[float, list[float]], dice_t2: float = 0.9) -> pd.DataFrame:
    """Two pairs for each of two seeds and each λr."""
    rows = []
    for lambda_r, values in gains.items():
        for index, gain in enumerate(values):
            metrics = {"gain": gain, "dice_t1": 0.95, "dice_t2": dice_t2, "similarity": 0.9 + gain}
            metrics |= {"similarity_reference": 0.9, "registor_error_px": 1.0}
            case = {"seed": 1 + index // 2, "lambda_r": lambda_r, "case": f"P{index % 2}"}
            rows += [
                {**case, "metric": metric, "value": value} for metric, value in metrics.items()
            ]
    return pd.DataFrame(rows)


def test_the_summary_has_a_row_for_each_weight():
    summary = summarise(table({1.0: [0.0, -0.02, 0.02, 0.04], 0.2: [0.1, 0.3, np.nan, 0.2]}))
    assert list(summary["lambda_r"]) == [1.0, 0.2]
    assert summary["gain"].tolist() == pytest.approx([0.01, 0.2])
    assert summary["gain_median"].tolist() == pytest.approx([0.01, 0.2])
    assert summary["gain_positive"].tolist() == pytest.approx([0.5, 1.0])
    assert summary["gain_by_seed"].tolist() == ["-0.010 +0.030", "+0.200 +0.200"]
    assert summary["excluded"].tolist() == [0, 1]
    assert summary["accurate"].tolist() == [True, True]
    assert not summarise(table({1.0: [0.0] * 4}, dice_t2=0.79))["accurate"].any()
    text = to_markdown(summary)
    assert "| 0.200 | +0.2000 | +0.200 +0.200 | +0.2000 | 100% |" in text
    assert "1 pairs are excluded" in text


def test_results_are_a_table_a_text_and_a_picture(tmp_path: Path):
    write_results(table({1.0: [0.0, -0.02, 0.02, 0.04], 0.2: [0.1, 0.3, np.nan, 0.2]}), tmp_path)
    assert len(pd.read_csv(tmp_path / "results.csv")) == 8 * 6
    assert (tmp_path / "results.md").read_text().count("\n") >= 4
    picture = imread(tmp_path / "figure.png")
    assert picture.shape[0] > 500
    assert picture[..., :3].std() > 0.05


def test_scales():
    assert len(PAPER.lambda_p) == 30
    assert (PAPER.lambda_p[0], PAPER.lambda_p[-1], PAPER.size) == (0, 1, 240)
    assert {0.0, 1.0} < set(QUICK.lambda_p)
    assert lambda_p_values(3) == (0, 0.5, 1)
    assert change_scale(QUICK, size=96, pairs=None) == ToyScale(**{**vars(QUICK), "size": 96})


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory):
    """The smallest sweep through the stock commands, and where it is."""
    out = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("raw", "preprocessed", "results"):
            patch.setenv(f"nnUNet_{kind}", "")  # the sweep sets its own; put back afterwards
        return run_similarity_toy(
            ToySettings(out, TINY, device="cpu", jobs=2), Console(file=io.StringIO())
        ), out


def test_one_plans_file_holds_the_whole_sweep(swept):
    _, out = swept
    plans = json.loads(next((out / "nnUNet_preprocessed").glob("*/nnUNetPlans.json")).read_text())
    models = plans["configurations"]
    assert set(models) == {
        "2d",
        "pretraining_seed1",
        "lambda_p_0.000_seed1",
        "lambda_p_0.750_seed1",
    }
    recipe = models["lambda_p_0.750_seed1"]["recipe"]
    assert (recipe["lambda_p"], recipe["lambda_r"]) == (0.75, 0.25)
    assert recipe["warmup_epochs"] == recipe["companion_epochs"] == 0
    assert recipe["segmentor_checkpoint"] == recipe["companion_checkpoint"]
    assert "momentum" not in models["2d"]["recipe"]  # Adam's own first beta
    assert "pretraining_seed1/fold_{fold}/" in recipe["segmentor_checkpoint"]


def test_every_model_starts_from_the_shared_networks(swept):
    _, out = swept
    for name in ("lambda_p_0.000_seed1", "lambda_p_0.750_seed1"):
        log = (out / "logs" / f"{name}.txt").read_text()
        assert "Started from the segmentor in" in log
        assert "Started from the companion network in" in log
        assert "was trained on fold" not in log
        assert "The registor on held-out annotations" in log


def test_the_table_has_every_pair_and_model(swept):
    scores, out = swept
    cases = {pair.case for pair in read_test_pairs(out / "nnUNet_raw", DATASET)}
    assert len(cases) == 3
    assert set(scores["case"]) == cases
    assert set(scores["lambda_r"]) == {1.0, 0.25}
    assert len(scores) == 3 * 2 * 6
    assert (out / "figure.png").exists()


def test_a_second_run_trains_nothing_and_other_settings_are_refused(swept, monkeypatch):
    scores, out = swept
    for kind in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{kind}", "")
    models = sorted((out / "nnUNet_results").rglob(f"{TRAINER}*/fold_0/checkpoint_final.pth"))
    before = [path.stat().st_mtime_ns for path in models]
    assert len(before) == 3
    again = run_similarity_toy(
        ToySettings(out, TINY, device="cpu", jobs=1), Console(file=io.StringIO())
    )
    assert [path.stat().st_mtime_ns for path in models] == before
    pd.testing.assert_frame_equal(scores, again)
    with pytest.raises(InputError, match="was begun with other settings"):
        run_similarity_toy(ToySettings(out, QUICK, device="cpu"), Console(file=io.StringIO()))
