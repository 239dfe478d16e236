"""`nnunet_liver evaluate --mismatch`: how much a model relies on the other image of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nnunet_liver_ext.commands.option_values import parse_models

if TYPE_CHECKING:
    from nnunet_liver_ext.evaluation.options import Options


def evaluate_mismatch(
    entries: Sequence[str],
    studies: Path | None,
    out: Path,
    options: Options,
    *,
    seed: int,
    load: dict[str, Any],
    device: str,
    **more: Any,
) -> None:
    """Predicts the studies beside their own and beside another patient's auxiliary image, and shows
    the drop in Dice."""
    if studies is None:
        raise typer.BadParameter("--mismatch needs studies with masks (-i): a CSV or a folder.")
    import torch
    from rich.console import Console

    from nnunet_liver_ext.benchmark.mismatch.drop_tables import drop_table
    from nnunet_liver_ext.benchmark.mismatch.experiment import mismatch_test, refuse_existing
    from nnunet_liver_ext.benchmark.mismatch.mismatch_test import Pairing
    from nnunet_liver_ext.errors import InputError
    from nnunet_liver_ext.inference.load_model import load_model, unpacked_model
    from nnunet_liver_ext.studies.pair_studies import read_studies

    refuse_existing(out, overwrite=more["overwrite"])
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with ExitStack() as stack:
        folders = {
            name: stack.enter_context(unpacked_model(path))
            for name, path in parse_models(entries).items()
        }
        models = {
            name: load_model(folder, device=target, postprocessing=False, **load)
            for name, folder in folders.items()
        }
        images = {model.modalities for model in models.values()}
        if len(images) > 1:
            listed = " and ".join(", ".join(names) for names in sorted(images))
            raise InputError(f"the models are of different images ({listed}): test them apart.")
        modalities = images.pop()
        pairing = Pairing.of(read_studies(studies, modalities=modalities), modalities, seed=seed)
        result = mismatch_test(models, pairing, out, options, **more)
    console = Console()
    console.print(drop_table(result.summary))
    alone = [
        "each study of a folder counts as a patient of its own; if patients have several, give a"
        " CSV."
    ]
    for note in result.notes + alone * studies.is_dir():
        console.print(f"Note: {note}", style="yellow", markup=False, highlight=False)
    console.print(f"Written to {out}: mismatch.csv, mismatch.json", soft_wrap=True, highlight=False)
    result.raise_for_failures()
