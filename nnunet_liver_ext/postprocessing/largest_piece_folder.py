"""Applies the rules of `largest_piece` to a folder of masks, plain or joint label maps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nnunet_liver_ext.atomic_write import atomic_write, refuse_existing
from nnunet_liver_ext.console import progress_bar
from nnunet_liver_ext.errors import CaseFailure, InputError, SomeCasesFailed
from nnunet_liver_ext.evaluation.files.described_labels import describe_labels
from nnunet_liver_ext.evaluation.files.find_label_maps import (
    NO_MODALITY,
    ImageKey,
    find_predictions,
)
from nnunet_liver_ext.folder_lock import locked_folder
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.pairing import PairLabels, decode_pair, encode_pair
from nnunet_liver_ext.postprocessing.largest_piece import Rules, keep_largest
from nnunet_liver_ext.space.images import Grid, array, image_like, read_mask, write_image

DESCRIPTIONS = ("dataset.json", "prediction.json")


def apply_to_folder(
    predictions: Path,
    out: Path,
    rules: Rules,
    *,
    rules_file: Path,
    overwrite: bool = False,
    in_place: bool = False,
) -> int:
    """Writes the label maps of a folder again, with only the largest piece where a rule says so.

    Args:
        predictions: folder of NAME_T1 and NAME_T2, of joint label maps with their dataset.json, or
            of plain label maps of a pre-registered model.
        out: folder for the same file names; dataset.json and prediction.json are taken along.
        rules: what to apply.
        rules_file: where they are from, for messages.
        overwrite: replace label maps that are there.
        in_place: `out` may be `predictions`.

    Returns:
        How many label maps have changed.

    Raises:
        InputError: `out` is `predictions` unasked or holds label maps, or the rules are for other
            images or classes.
        SomeCasesFailed: at the end, listing label maps that are damaged; all others are written.
    """
    here = out.resolve() == predictions.resolve()
    if here and not in_place:
        raise InputError(
            f"{out}: is the folder of the predictions itself; choose another one, or change them"
            " --in-place."
        )
    pair = describe_labels(predictions).pair
    files: dict[Path, list[ImageKey]] = {}
    for key, label_map in find_predictions(predictions, pair).maps.items():
        files.setdefault(label_map.path, []).append(key)
    _check(rules, files, predictions, rules_file)
    refuse_existing(out, [file.name for file in files], overwrite=overwrite or here)
    changed, failures = 0, []
    with locked_folder(out), progress_bar() as bar:
        for file, keys in bar.track(files.items(), description="postprocessing"):
            try:
                changed += _apply(file, [key.modality for key in keys], out, rules, pair)
            except (InputError, OSError, MemoryError) as error:
                failures.append(CaseFailure(str(keys[0]), str(error) or type(error).__name__))
        _take_along(predictions, out, rules)
    if failures:
        raise SomeCasesFailed(failures, len(files))
    return changed


def _check(
    rules: Rules, files: Mapping[Path, list[ImageKey]], predictions: Path, rules_file: Path
) -> None:
    named = {key.modality for keys in files.values() for key in keys} - {NO_MODALITY}
    if unknown := sorted(named - set(rules.modalities)):
        raise InputError(
            f"{rules_file}: has no rules for {unknown[0]}, only for"
            f" {', '.join(rules.modalities) or 'nothing'}."
        )
    if len(rules.modalities) != 1 and any(
        key.modality == NO_MODALITY for keys in files.values() for key in keys
    ):
        raise InputError(
            f"{predictions}: its label maps name no image (CASE_T1) and no dataset.json says that"
            f" they are joint; the rules are for {' and '.join(rules.modalities)}."
        )
    classes = describe_labels(predictions).classes
    if classes is not None:
        by_label = {labels[0]: name for name, labels in classes.items()}
        rules.check(
            ["background", *(by_label.get(label, "") for label in range(1, max(by_label) + 1))],
            rules_file,
        )


def _apply(
    file: Path, modalities: list[str], out: Path, rules: Rules, pair: PairLabels | None
) -> bool:
    image = read_mask(file)
    before = array(image)
    if len(modalities) == 2 and pair is not None:
        masks = zip(decode_pair(before, pair.num_classes), pair.modalities, strict=True)
        first, second = (keep_largest(mask, rules.kept(name)) for mask, name in masks)
        after = encode_pair(first, second, pair.num_classes)
    else:
        modality = rules.modalities[0] if modalities == [NO_MODALITY] else modalities[0]
        after = keep_largest(before, rules.kept(modality))
    write_image(image_like(after.astype(before.dtype), Grid.from_image(image)), out / file.name)
    return not np.array_equal(before, after)


def _take_along(predictions: Path, out: Path, rules: Rules) -> None:
    """dataset.json as it is; prediction.json says what was applied."""
    for name in DESCRIPTIONS:
        source = predictions / name
        if not source.is_file():
            continue
        with atomic_write(out / name) as unfinished:
            if name == "prediction.json":
                content = read_json(source) | {"postprocessing": rules.names()}
                unfinished.write_text(json.dumps(content, indent=2), encoding="utf-8")
            else:
                shutil.copyfile(source, unfinished)
