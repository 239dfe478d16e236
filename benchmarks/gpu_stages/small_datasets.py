"""Three small preprocessed datasets of phantom pairs, on which every trainer can train.

pairs: T1, T2 and both livers. one-mask: the same images, the liver of T2. tumours: T1, its liver as
a loader-only channel, its lesions. They are made without processes of nnU-Net's, which would take
longer to start than to work.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import made_up_datasets
import numpy as np
from made_up_datasets import pairs_content, write_dataset

from gpu_stages.stage import Setting

SPACING_MM = (6.0, 3.75, 3.75)  # (z, y, x), the phantom's own
PATCH_SIZE = (16, 32, 32)
WIDER = 4
"""How many times the features of tiny plans, on a GPU."""
CASES = 6
TINY_CASES = 2
PAIRS, ONE_MASK, TUMOURS = "Dataset601_Pairs", "Dataset602_OneMask", "Dataset603_Tumours"
Case = tuple[np.ndarray, np.ndarray]
"""Channels (C, z, y, x) and labels (z, y, x)."""


def use_datasets(setting: Setting) -> Path:
    """nnU-Net's three folders with the datasets, which are made if need be.

    This process and its children use them from now on.
    """
    root = setting.folder / "nnunet"
    os.environ |= {
        f"nnUNet_{kind}": str(root / kind) for kind in ("raw", "preprocessed", "results")
    }
    if not (root / "complete").exists():
        shutil.rmtree(root, ignore_errors=True)  # of a stage that was cut off
        _make_datasets(setting)
        (root / "complete").touch()
    return root


def _make_datasets(setting: Setting) -> None:
    from nnunet_liver_ext.pairing import encode_pair
    from nnunet_liver_ext.workers import choose_processes, run_in_processes

    seeds = range(1, 1 + (TINY_CASES if setting.tiny else CASES))
    processes = 1 if setting.tiny else choose_processes(len(seeds), len(seeds))
    made = dict(run_in_processes(phantom_case, list(seeds), processes))
    phantoms = {f"P{seeds[index]:03d}_S1": made[index] for index in sorted(made)}
    contents: dict[str, dict[str, Any]] = {
        PAIRS: pairs_content(),
        ONE_MASK: made_up_datasets.ONE_MASK,
        TUMOURS: {
            "channel_names": {"0": "MR", "1": "noNorm"},
            "labels": {"background": 0, "tumour": 1},
            "organ_mask": {"name": "liver", "channel": 1},
        },
    }
    cases: dict[str, dict[str, Case]] = {name: {} for name in contents}
    for case, (images, livers, lesions) in phantoms.items():
        cases[PAIRS][case] = images, encode_pair(livers[0], livers[1])
        cases[ONE_MASK][case] = images, livers[1]
        cases[TUMOURS][case] = np.stack([images[0], livers[0].astype(images.dtype)]), lesions
    for name, content in contents.items():
        _make_dataset(setting, name, content, cases[name])


def phantom_case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """T1 and T2 (2, z, y, x) on their common grid, both livers, and T1's lesions (z, y, x)."""
    from nnunet_liver_ext.dataset_conversion.phantom import make_pair
    from nnunet_liver_ext.space.common_grid import common_grid, image_on_grid
    from nnunet_liver_ext.space.images import array
    from nnunet_liver_ext.space.mask_resampling import mask_on_grid

    pair = make_pair(seed, difficulty="demo", lesions=3)
    grid = common_grid([pair.t1, pair.t2], SPACING_MM[::-1])
    images = [array(image_on_grid(image, grid)) for image in (pair.t1, pair.t2)]
    masks = [
        array(mask_on_grid(mask > 0, grid, 2))
        for mask in (pair.t1_true_mask, pair.t2_true_mask, pair.t1_lesions)
    ]
    return np.stack(images), np.stack(masks[:2]), masks[2]


def _make_dataset(
    setting: Setting, name: str, content: Mapping[str, Any], cases: Mapping[str, Case]
) -> None:
    """dataset.json, fingerprint, split, tiny plans and the preprocessed cases; no images."""
    from nnunet_liver_ext.console import quiet
    from nnunet_liver_ext.planning.plan_dataset import plan_dataset

    root, names = setting.folder / "nnunet", list(cases)
    sizes = [labels.shape for _, labels in cases.values()]
    dataset_json = write_dataset(root, name, content, sizes, SPACING_MM, names)
    split = json.dumps([{"train": names[:-1], "val": names[-1:]}])
    (root / "raw" / name / "splits_final.json").write_text(split)
    preprocessed = root / "preprocessed" / name
    with quiet():
        numbers = {"patch_size": list(PATCH_SIZE)}
        path = plan_dataset(name, tiny=True, numbers=numbers, spacing_mm=SPACING_MM)
        plans = json.loads(path.read_text())
        arguments = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
        if not setting.tiny:
            arguments["features_per_stage"] = [WIDER * n for n in arguments["features_per_stage"]]
        path.write_text(json.dumps(plans))
        (preprocessed / "dataset.json").write_text(json.dumps(dataset_json))
        _preprocess(plans, dataset_json, cases, preprocessed)


def _preprocess(
    plans: dict[str, Any], dataset_json: dict[str, Any], cases: Mapping[str, Case], folder: Path
) -> None:
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import (
        comp_blosc2_params,
        nnUNetDatasetBlosc2,
    )
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    target = folder / configuration.data_identifier
    target.mkdir()
    for case, (images, labels) in cases.items():
        data, segmentation, properties = DefaultPreprocessor(verbose=False).run_case_npy(
            images,
            labels[None].astype(np.int16),
            {"spacing": list(SPACING_MM)},
            manager,
            configuration,
            dataset_json,
        )
        blocks, chunks = comp_blosc2_params(data.shape, tuple(configuration.patch_size), 4)
        nnUNetDatasetBlosc2.save_case(
            data.astype(np.float32),
            segmentation.astype(np.int16),
            properties,
            str(target / case),
            chunks=chunks,
            blocks=blocks,
        )
