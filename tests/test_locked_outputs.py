"""Everything that writes a folder for minutes refuses a folder in which another process works."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnunet_liver_ext.benchmark.mismatch.mismatch_test import mismatch_test
from nnunet_liver_ext.benchmark.workspace import Workspace
from nnunet_liver_ext.dataset_conversion.phantom.write_pair_studies import write_studies
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.crossval.cross_validation import evaluate_crossvals
from nnunet_liver_ext.evaluation.evaluate import run_evaluation
from nnunet_liver_ext.folder_lock import LOCK_FILE
from nnunet_liver_ext.inference.predict import predict_studies
from nnunet_liver_ext.inference.split_joint_maps import split_folder
from nnunet_liver_ext.postprocessing.border_lesions_folder import postprocess_folder
from tests.held_folders import Hold


@pytest.mark.parametrize(
    ("write", "argument"),
    [
        (predict_studies, "out"),
        (split_folder, "out"),
        (run_evaluation, "out"),
        (evaluate_crossvals, "out"),
        (mismatch_test, "out"),
        (postprocess_folder, "out"),
        (write_studies, "folder"),
        (Workspace, "folder"),
    ],
)
def test_who_works_there_is_named_before_anything_else(
    write: Callable[..., Any], argument: str, tmp_path: Path, hold: Hold
):
    other = hold(tmp_path)
    others = {
        name: None
        for name, parameter in inspect.signature(write).parameters.items()
        if name != argument and parameter.default is inspect.Parameter.empty
    }
    others.pop("settings", None) if write is not Workspace else None
    with pytest.raises(InputError, match=rf"process {other.pid} on .* works in this folder"):
        write(**others, **{argument: tmp_path})
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]
