"""The mismatch test from loaded models to files: the predictions of `mismatch` measured, and what
they drop by."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_liver_ext.atomic_write import refuse_existing
from nnunet_liver_ext.benchmark.mismatch.drop_tables import Mismatch, drops, write_json
from nnunet_liver_ext.benchmark.mismatch.predict_both import (
    KINDS,
    PLACEMENTS,
    PREDICTIONS,
    Pairing,
    predict_both,
)
from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.evaluate import run_evaluation
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.results.results_table import write_csv
from nnunet_liver_ext.evaluation.results.write_results import Evaluation
from nnunet_liver_ext.evaluation.statistics.paired_comparison import compare_paired
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.studies.study import Study

WRITTEN = ("mismatch.csv", "mismatch.json")


def mismatch_test(
    models: Mapping[str, Model],
    pairing: Pairing,
    out: Path,
    options: Options = Options(),
    *,
    overwrite: bool = False,
    **settings: Any,
) -> Mismatch:
    """Predicts and measures every study with its own and with another patient's auxiliary image,
    with each model.

    Writes OUT/mismatch.csv and mismatch.json, and for each model OUT/MODEL/matched and
    OUT/MODEL/mismatched with predictions, results and report. An interrupted run continues.

    Args:
        models: loaded models by the name that their results get, all with the same images.
        pairing: who takes whose images.
        out: folder, made if it does not exist.
        options: what is measured and how; the similarity of a pair's masks is not, as each was
            predicted on its own.
        overwrite: replace what is there.
        settings: as `run_evaluation` takes them: processes, formats, fresh, reference_classes
            (of the studies' masks).

    Raises:
        InputError: there are results already, or as `mismatch.predict_both`.
    """
    refuse_existing(out, WRITTEN, overwrite=overwrite)
    results = [
        _of_model(name, model, pairing, out / name, options, settings, overwrite=overwrite)
        for name, model in models.items()
    ]
    result = Mismatch(
        pd.concat([own.table for own in results], ignore_index=True),
        pd.concat([own.summary for own in results], ignore_index=True),
        [failure for own in results for failure in own.failures],
        _notes(pairing),
        sum(own.total for own in results),
    )
    described = {name: model.describe() for name, model in models.items()}
    write_json(result, described, pairing, out / "mismatch.json", options)
    write_csv(result.table, out / "mismatch.csv")  # last: where it is, all else is
    return result


def _of_model(
    name: str,
    model: Model,
    pairing: Pairing,
    folder: Path,
    options: Options,
    settings: Mapping[str, Any],
    *,
    overwrite: bool,
) -> Mismatch:
    failed = predict_both(model, pairing, folder, overwrite=overwrite)
    failures = [CaseFailure(f"{name}: {failure.case}", failure.reason) for failure in failed]
    done = [
        study for study in pairing.studies if study.name not in {failure.case for failure in failed}
    ]
    tables = []
    for kind in KINDS:
        evaluation = _measured(done, model, folder / kind, options, settings)
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
        [own.assign(model=kind) for kind, own in zip(KINDS, tables, strict=True)], ignore_index=True
    )
    summary = compare_paired(both, "mismatched").assign(model=name)
    return Mismatch(table, summary, failures, [], len(pairing.studies))


def _measured(
    studies: Sequence[Study],
    model: Model,
    folder: Path,
    options: Options,
    settings: Mapping[str, Any],
) -> Evaluation:
    """The predictions of one kind against the studies' masks of the images that the model
    segments."""
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


def _notes(pairing: Pairing) -> list[str]:
    some = ", ".join(pairing.left_out[:3]) + (" ..." if len(pairing.left_out) > 3 else "")
    number = len(pairing.left_out)
    return (
        [f"{number} studies without both images or a mask were left out ({some})."]
        if number
        else []
    )
