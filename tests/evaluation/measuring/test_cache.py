"""What was measured is not measured again, unless something that it depends on has changed."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.evaluation import evaluate as run_module
from nnunet_liver_ext.evaluation.evaluate import evaluate
from nnunet_liver_ext.evaluation.files import find_label_maps as label_maps
from nnunet_liver_ext.evaluation.measuring.one_case import CaseResult
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.pairing import PairLabels, encode_pair
from nnunet_liver_ext.space.images import image_like
from tests.evaluation.conftest import GRID, block


class Counted:
    """What is measured, by case."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cases: list[str] = []
        for name in ("evaluate_case", "evaluate_pair"):
            monkeypatch.setattr(run_module, name, self.counting(getattr(run_module, name)))

    def counting(self, work):
        def counted(item, *args, **more):
            self.cases.append(str(item.key))
            return work(item, *args, **more)

        return counted

    def take(self) -> list[str]:
        taken, self.cases = sorted(self.cases), []
        return taken


@pytest.fixture
def two_pairs(tmp_path: Path, put) -> Path:
    for case in ("A", "B"):
        for modality in ("T1", "T2"):
            put(f"predictions/{case}_{modality}", block(2))
            put(f"references/{case}_{modality}", block())
    return tmp_path


def evaluate_root(
    root: Path, options: Options = Options(similarity="translation"), **more
) -> pd.DataFrame:
    return evaluate(
        root / "predictions",
        root / "references",
        root / "out",
        options,
        processes=1,
        overwrite=True,
        **more,
    )


def entry_of(root: Path, name: str) -> Path:
    (path,) = (root / "out" / ".cases").glob(f"{name}_*.json")
    return path


ALL = ["A T1", "A T1-T2", "A T2", "B T1", "B T1-T2", "B T2"]


def test_nothing_is_measured_twice_and_the_numbers_are_the_same(two_pairs, monkeypatch):
    counted = Counted(monkeypatch)
    first = evaluate_root(two_pairs)
    assert counted.take() == ALL
    pd.testing.assert_frame_equal(evaluate_root(two_pairs), first)
    assert counted.take() == []
    pd.testing.assert_frame_equal(evaluate_root(two_pairs, fresh=True), first)
    assert counted.take() == ALL


def test_a_changed_file_is_measured_again_and_a_touched_one_is_not(two_pairs, put, monkeypatch):
    evaluate_root(two_pairs)
    counted = Counted(monkeypatch)
    os.utime(two_pairs / "references" / "B_T1.nii.gz", ns=(1, 1))
    evaluate_root(two_pairs)
    assert counted.take() == []
    put("predictions/A_T2", block(4))
    table = evaluate_root(two_pairs)
    assert counted.take() == ["A T1-T2", "A T2"]
    dice = table[(table.metric == "dice") & (table.case == "A")].set_index("modality").value
    assert dict(dice) == {"T1": pytest.approx(6 / 8), "T2": pytest.approx(4 / 8)}


def test_changed_voxels_beside_a_header_are_measured_again(tmp_path: Path, put, monkeypatch):
    put("references/A", block())
    (tmp_path / "predictions").mkdir()
    header = tmp_path / "predictions" / "A.mhd"
    sitk.WriteImage(image_like(block(2), GRID), str(header))
    evaluate_root(tmp_path)
    counted = Counted(monkeypatch)
    evaluate_root(tmp_path)
    assert counted.take() == []
    voxels = header.with_suffix(".raw")
    voxels.write_bytes(image_bytes := bytes(reversed(voxels.read_bytes())))
    assert len(image_bytes) == block().size
    evaluate_root(tmp_path)
    assert counted.take() == ["A"]


def test_other_options_classes_and_versions_measure_again(two_pairs, monkeypatch):
    evaluate_root(two_pairs)
    counted = Counted(monkeypatch)
    evaluate_root(two_pairs, Options(tolerance_mm=1, similarity="translation"))
    assert counted.take() == ALL
    evaluate_root(
        two_pairs,
        Options(tolerance_mm=1, similarity="translation"),
        reference_classes={"liver": (1,)},
    )
    assert counted.take() == ALL
    monkeypatch.setattr("nnunet_liver_ext.evaluation.measuring.cache.__version__", "99.0")
    evaluate_root(
        two_pairs,
        Options(tolerance_mm=1, similarity="translation"),
        reference_classes={"liver": (1,)},
    )
    assert counted.take() == ALL


def test_labels_that_are_read_otherwise_are_measured_again(two_pairs, monkeypatch):
    first = evaluate_root(two_pairs, reference_classes={"liver": (1,)})
    counted = Counted(monkeypatch)
    second = evaluate_root(two_pairs, reference_classes={"liver": (5,)})
    assert counted.take() == ALL
    assert (first[first.metric == "dice"].value > 0).all()
    assert (second[second.metric == "dice"].value == 0).all()


def test_the_order_of_the_modalities_in_a_joint_map_counts(tmp_path, put, monkeypatch):
    joint = encode_pair(block(), block(4))
    put("predictions/A", joint)
    for modality, shift in (("T1", 0), ("T2", 4)):
        put(f"references/A_{modality}", block(shift))
    dice = {}
    for names in (("T1", "T2"), ("T2", "T1")):
        pair = PairLabels(names, ("background", "liver"))
        entry = {"pair": pair.to_json(), "labels": pair.dataset_labels()}
        (tmp_path / "predictions" / "dataset.json").write_text(json.dumps(entry))
        table = evaluate_root(tmp_path)
        dice[names] = dict(table[table.metric == "dice"].set_index("modality").value)
    assert dice == {("T1", "T2"): {"T1": 1, "T2": 1}, ("T2", "T1"): {"T1": 0.5, "T2": 0.5}}


def test_patients_that_become_known_are_in_the_results_without_measuring_again(
    two_pairs, monkeypatch
):
    assert set(evaluate_root(two_pairs).patient) == {"A", "B"}
    counted = Counted(monkeypatch)
    monkeypatch.setattr(label_maps, "_patients_of_dataset", lambda folder: {"A": "P", "B": "P"})
    assert set(evaluate_root(two_pairs).patient) == {"P"}
    assert counted.take() == []


def test_cases_whose_names_look_alike_on_a_disk_are_kept_apart(tmp_path, put):
    for case in ("P 1", "P-1", "p-1"):
        for side in ("predictions", "references"):
            put(f"{side}/{case}", block())
    for _ in range(2):
        assert sorted(set(evaluate_root(tmp_path).case)) == ["P 1", "P-1", "p-1"]
    assert len(list((tmp_path / "out" / ".cases").iterdir())) == 3


def test_a_file_that_changes_while_it_is_measured_is_not_kept(two_pairs, put, monkeypatch):
    real = run_module.evaluate_case

    def changing(item, *args, **more):
        result = real(item, *args, **more)
        if str(item.key) == "A T1":
            put("predictions/A_T1", block(3))
        return result

    monkeypatch.setattr(run_module, "evaluate_case", changing)
    evaluate_root(two_pairs, Options())
    monkeypatch.setattr(run_module, "evaluate_case", real)
    counted = Counted(monkeypatch)
    table = evaluate_root(two_pairs, Options())
    assert counted.take() == ["A T1"]
    assert (
        table[
            (table.case == "A") & (table.modality == "T1") & (table.metric == "dice")
        ].value.item()
        == 5 / 8
    )


def test_the_cache_has_no_names_of_files(tmp_path, put):
    put("predictions/X1_T1", block())
    put("masks/MUELLER_ANNA", block())
    put("masks/MUELLER_IMAGE", block().astype(np.float32))
    row = "X1,masks/MUELLER_IMAGE.nii.gz,masks/MUELLER_ANNA.nii.gz"
    (tmp_path / "studies.csv").write_text(f"patient,t1,t1_mask\n{row}")
    evaluate(tmp_path / "predictions", tmp_path / "studies.csv", tmp_path / "out", processes=1)
    for path in (tmp_path / "out").rglob("*.*"):
        assert path.is_dir() or "MUELLER" not in path.read_text()


def test_an_interrupted_run_goes_on(two_pairs, monkeypatch):
    real = run_module.evaluate_case

    def interrupted(item, *args, **more):
        if item.key.case == "B":
            raise KeyboardInterrupt
        return real(item, *args, **more)

    monkeypatch.setattr(run_module, "evaluate_case", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_root(two_pairs)
    assert not (two_pairs / "out" / "results.csv").exists()
    monkeypatch.setattr(run_module, "evaluate_case", real)
    counted = Counted(monkeypatch)
    evaluate_root(two_pairs)
    assert counted.take() == ["A T1-T2", "B T1", "B T1-T2", "B T2"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"settings": {}}'])
def test_a_damaged_entry_is_measured_again(two_pairs, monkeypatch, damage):
    evaluate_root(two_pairs)
    entry_of(two_pairs, "A_T1").write_text(damage)
    counted = Counted(monkeypatch)
    evaluate_root(two_pairs)
    assert counted.take() == ["A T1"]


def test_failures_are_tried_again(two_pairs, put, monkeypatch):
    (two_pairs / "predictions" / "A_T1.nii.gz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="A T1"):
        evaluate_root(two_pairs)
    put("predictions/A_T1", block(2))
    counted = Counted(monkeypatch)
    evaluate_root(two_pairs)
    assert counted.take() == ["A T1", "A T1-T2"]


def test_a_result_survives_the_file(two_pairs):
    evaluate_root(two_pairs)
    content = json.loads(entry_of(two_pairs, "A_T1").read_text())["result"]
    assert CaseResult.from_json(content).to_json() == content
