"""How much a model relies on the auxiliary image: the drop in Dice when that is another patient's.

Couteaux et al. 2021, "Comparing deep learning strategies", section 4, table 3.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_liver_ext.atomic_write import refuse_existing
from nnunet_liver_ext.benchmark.mismatch.drop_tables import MismatchResult, drops, write_json
from nnunet_liver_ext.benchmark.mismatch.partners import Partners
from nnunet_liver_ext.benchmark.mismatch.predict_both import (
    KINDS,
    PLACEMENTS,
    PREDICTIONS,
    predict_both,
)
from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.evaluate import run_evaluation
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.results.results_table import write_csv
from nnunet_liver_ext.evaluation.results.write_results import Evaluation
from nnunet_liver_ext.evaluation.statistics.paired_comparison import compare_paired
from nnunet_liver_ext.folder_lock import locks_folder
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.studies.study import Study

WRITTEN = ("mismatch.csv", "mismatch.json")


@locks_folder("out")
def mismatch_test(
    models: Mapping[str, Model],
    partners: Partners,
    out: Path,
    options: Options = Options(),
    *,
    overwrite: bool = False,
    **settings: Any,
) -> MismatchResult:
    """Predicts and measures every study beside its own and beside another patient's other image.

    Writes OUT/mismatch.csv and mismatch.json, and for each model OUT/MODEL/matched and
    OUT/MODEL/mismatched with predictions, results and report. An interrupted run continues.

    Args:
        models: loaded models by the name that their results get, all with the same images.
        partners: who takes whose images.
        out: folder, made if it does not exist.
        options: what is measured and how; the similarity of a pair's masks is not, as each was
            predicted on its own.
        overwrite: replace what is there.
        settings: as `run_evaluation` takes them: processes, formats, fresh, reference_classes
            (of the studies' masks).

    Raises:
        InputError: there are results already, or as `predict_both.predict_both`.
    """
    refuse_existing(out, WRITTEN, overwrite=overwrite)
    results = [
        _test_model(name, model, partners, out / name, options, settings, overwrite=overwrite)
        for name, model in models.items()
    ]
    all_models = MismatchResult(
        pd.concat([result.table for result in results], ignore_index=True),
        pd.concat([result.summary for result in results], ignore_index=True),
        [failure for result in results for failure in result.failures],
        _notes(partners),
        sum(result.total for result in results),
    )
    described = {name: model.describe() for name, model in models.items()}
    write_json(all_models, described, partners, out / "mismatch.json", options)
    write_csv(all_models.table, out / "mismatch.csv")  # last: where it is, all else is
    return all_models


def _test_model(
    name: str,
    model: Model,
    partners: Partners,
    folder: Path,
    options: Options,
    settings: Mapping[str, Any],
    *,
    overwrite: bool,
) -> MismatchResult:
    failed = predict_both(model, partners, folder, overwrite=overwrite)
    failures = [CaseFailure(f"{name}: {failure.case}", failure.reason) for failure in failed]
    done = [
        study
        for study in partners.studies
        if study.name not in {failure.case for failure in failed}
    ]
    tables = []
    for kind in KINDS:
        evaluation = _measure(done, model, folder / kind, options, settings)
        failures += [
            CaseFailure(f"{name}, {kind}: {failure.case}", failure.reason)
            for failure in evaluation.failures
        ]
        tables.append(evaluation.table)
    table = drops(*tables)
    placements = read_json(folder / PLACEMENTS)
    rows = [
        placements[case][modality]
        for case, modality in zip(table["case"], table["modality"], strict=True)
    ]
    table = pd.concat([table, pd.DataFrame(rows, index=table.index)], axis=1)
    table.insert(0, "model", name)
    both = pd.concat(
        [measured.assign(model=kind) for kind, measured in zip(KINDS, tables, strict=True)],
        ignore_index=True,
    )
    summary = compare_paired(both, "mismatched", empty=options.empty).assign(model=name)
    return MismatchResult(table, summary, failures, [], len(partners.studies))


def _measure(
    studies: Sequence[Study],
    model: Model,
    folder: Path,
    options: Options,
    settings: Mapping[str, Any],
) -> Evaluation:
    """One kind of predictions against the studies' masks of the images that the model segments."""
    rows = [
        {"patient": study.patient, "study": study.study}
        | {name.lower(): str(image.resolve()) for name, image in study.images.items()}
        | {
            f"{name.lower()}_mask": str(study.masks[name].resolve())
            for name in model.segmented
            if name in study.masks
        }
        for study in studies
    ]
    with tempfile.TemporaryDirectory() as temporary:
        csv = Path(temporary) / "studies.csv"
        pd.DataFrame(rows).to_csv(csv, index=False)
        return run_evaluation(
            folder / PREDICTIONS, csv, folder, options, overwrite=True, **settings
        )


def _notes(partners: Partners) -> list[str]:
    some = ", ".join(partners.left_out[:3]) + (" ..." if len(partners.left_out) > 3 else "")
    number = len(partners.left_out)
    return (
        [f"{number} studies without both images or a mask were left out ({some})."]
        if number
        else []
    )
