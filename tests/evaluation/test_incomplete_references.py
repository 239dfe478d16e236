"""In a joint label map a mask that does not exist looks like an empty one; dataset.json tells them
apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.evaluation.evaluate import evaluate
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.pairing import PairLabels, encode_pair
from tests.evaluation.conftest import block

PAIR = PairLabels(("T1", "T2"), ("background", "liver"))


@pytest.mark.parametrize("folder", ["labelsTr", "gt_segmentations"])
def test_a_missing_mask_is_not_measured_and_named(folder: str, tmp_path: Path, put):
    nothing = np.zeros_like(block())
    for case, second in (("P001_S1", block()), ("P002_S1", nothing), ("P003_S1", nothing)):
        put(f"{folder}/{case}", encode_pair(block(), second))
        put(f"predictions/{case}", encode_pair(block(), block()))
    content = {"labels": PAIR.dataset_labels(), "pair": PAIR.to_json(), "file_ending": ".nii.gz"}
    (tmp_path / "predictions" / "dataset.json").write_text(json.dumps(content))
    content["incomplete"] = {"P002_S1": {"images": ["T1", "T2"], "masks": ["T1"]}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    table = evaluate(
        tmp_path / "predictions",
        tmp_path / folder,
        tmp_path / "out",
        Options(similarity="translation"),
        processes=1,
    )
    dice = table[table.metric == "dice"].set_index(["case", "modality"]).value
    assert dict(dice) == {
        ("P001_S1", "T1"): 1,
        ("P001_S1", "T2"): 1,
        ("P002_S1", "T1"): 1,
        ("P003_S1", "T1"): 1,
        ("P003_S1", "T2"): 0,
    }
    assert "P002_S1 T2" in (tmp_path / "out" / "results.json").read_text()
    pairs = table[table.metric == "relative_similarity_reference"]
    assert "P002_S1" not in set(pairs.case)
