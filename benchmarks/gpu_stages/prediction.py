"""How many pairs a minute `nnunet_liver predict` segments, beside nnUNetv2_predict.

nnU-Net gets images that are converted already and gives joint label maps; ours reads the native
images, puts them on their common grid, and gives a mask on each image's own grid. Both have
nnU-Net's plans for pairs, the same weights (which nobody has trained), and mirroring. The rate is
that after the first pair, so that loading and starting processes do not count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import step_time

from gpu_stages.small_datasets import PAIRS, use_datasets
from gpu_stages.small_datasets import SPACING_MM as TINY_SPACING_MM
from gpu_stages.small_trainings import quietly
from gpu_stages.stage import OK, VERDICT, Row, Setting

STUDIES, TINY_STUDIES = 6, 2
PHANTOMS = 2
"""So many are made; studies repeat them."""
GPU_MEMORY_GB = 8.0
TRAINER = "nnUNetTrainerSingleInput"
PROCESSES = 3
"""For reading and for writing, nnUNetv2_predict's defaults."""


@dataclass(frozen=True)
class Inputs:
    """The same studies for both."""

    model: Path
    native: list[dict[str, Path]]
    """T1 and T2 of each."""
    converted: list[list[str]]
    """Both channels of each, on the common grid."""


def measure(setting: Setting) -> Iterator[Row]:
    """A row for each of the two."""
    folder = setting.folder / "prediction"
    with quietly():
        inputs = _make_inputs(setting, folder)
    nnunet_rate = None
    ways: dict[str, Callable[..., None]] = {
        "nnUNetv2_predict": predict_with_nnunet,
        "nnunet_liver predict": predict_with_ours,
    }
    for name, predict in ways.items():
        out = folder / name.replace(" ", "_")
        out.mkdir()
        with quietly():
            predict(inputs, out, setting)
        rate, masks = rate_of(out)
        nnunet_rate = nnunet_rate or rate
        expected = len(inputs.native) * (2 if predict is predict_with_ours else 1)
        yield {
            "with": name,
            "pairs": len(inputs.native),
            "pairs per minute": rate,
            "to nnU-Net": rate / nnunet_rate,
            VERDICT: OK if masks == expected else f"{masks} masks instead of {expected}",
        }


def rate_of(out: Path) -> tuple[float, int]:
    """Studies per minute after the first one, by when their last masks were written; masks."""
    written: dict[str, float] = {}
    masks = sorted(out.glob("*.nii.gz"))
    for mask in masks:
        study = mask.name.removesuffix(".nii.gz").split("_T")[0]
        written[study] = max(written.get(study, 0.0), mask.stat().st_mtime)
    seconds = max(written.values()) - min(written.values())
    return 60.0 * (len(written) - 1) / max(seconds, 1e-9), len(masks)


def predict_with_ours(inputs: Inputs, out: Path, setting: Setting) -> None:
    """Native images in, native masks out."""
    from nnunet_liver_ext.inference.load_model import load_model
    from nnunet_liver_ext.inference.predict import predict_studies
    from nnunet_liver_ext.studies.study import Study

    model = load_model(inputs.model, device=setting.device, mirroring=not setting.tiny)
    studies = [
        Study(f"study{number}", "1", images, {}) for number, images in enumerate(inputs.native)
    ]
    predict_studies(model, studies, out)


def predict_with_nnunet(inputs: Inputs, out: Path, setting: Setting) -> None:
    """Converted images in, joint label maps out, by what nnUNetv2_predict calls."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_mirroring=not setting.tiny,
        device=torch.device(setting.device),
        perform_everything_on_device=setting.device == "cuda",
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(str(inputs.model), (0,), "checkpoint_final.pth")
    masks = [str(out / f"study{number}") for number in range(len(inputs.converted))]
    if setting.tiny:  # its processes take longer to start than these images
        predictor.predict_from_files_sequential(inputs.converted, masks)
    else:
        predictor.predict_from_files(
            inputs.converted,
            masks,
            num_processes_preprocessing=PROCESSES,
            num_processes_segmentation_export=PROCESSES,
        )


def _make_inputs(setting: Setting, folder: Path) -> Inputs:
    from nnunet_liver_ext.environment import enable_trainers
    from nnunet_liver_ext.workers import run_in_processes

    enable_trainers()
    plans, dataset_json, spacing_mm = _plans(setting, folder)
    model = folder / f"{TRAINER}__nnUNetPlans__3d_fullres"
    _write_model(model, plans, dataset_json, spacing_mm)
    phantoms, studies = (1, TINY_STUDIES) if setting.tiny else (PHANTOMS, STUDIES)
    work = partial(_write_phantom, folder, spacing_mm, "demo" if setting.tiny else "study")
    made = dict(run_in_processes(work, list(range(phantoms)), phantoms))
    files = [made[number % phantoms] for number in range(studies)]
    return Inputs(model, [native for native, _ in files], [converted for _, converted in files])


def _plans(
    setting: Setting, folder: Path
) -> tuple[dict[str, Any], dict[str, Any], tuple[float, float, float]]:
    """Plans, dataset.json, and the spacing (z, y, x) that images are converted to."""
    if setting.tiny:
        dataset = use_datasets(setting) / "preprocessed" / PAIRS
        plans, content = (
            json.loads((dataset / name).read_text())
            for name in ("nnUNetPlans.json", "dataset.json")
        )
        return plans, content, TINY_SPACING_MM
    import os

    root = folder / "plans"
    root.mkdir(parents=True)
    os.environ |= {
        f"nnUNet_{kind}": str(root / kind) for kind in ("raw", "preprocessed", "results")
    }
    step_time.write_plans(root, step_time.IMAGE_SIZE["cuda"], GPU_MEMORY_GB)
    plans, content = (
        json.loads((root / name).read_text()) for name in ("plans.json", "pairs.json")
    )
    return plans, content, step_time.SPACING_MM


def _write_model(
    folder: Path,
    plans: dict[str, Any],
    dataset_json: Mapping[str, Any],
    spacing_mm: Sequence[float],
) -> None:
    """A model folder as nnU-Net leaves it, with weights that nobody has trained."""
    import torch
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_liver_ext import __version__, trainers
    from nnunet_liver_ext.trainers.recipe import PLANS_KEY

    trainer = getattr(trainers, TRAINER)
    extra = {"version": __version__, "recipe": trainer.recipe.to_json()}
    properties = {channel: {} for channel in dataset_json["channel_names"]}
    plans = {**plans, PLANS_KEY: extra, "foreground_intensity_properties_per_channel": properties}
    conversion = {"spacing": list(spacing_mm[::-1]), "interpolation": "bspline"}
    manager = PlansManager(plans)
    torch.manual_seed(0)
    network = trainer.build_network_architecture(
        manager, manager.get_configuration("3d_fullres"), 2, len(dataset_json["labels"]), False
    )
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": TRAINER,
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 1, 2),
        PLANS_KEY: extra,
    }
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    content = {**dataset_json, "conversion": conversion}
    (folder / "dataset.json").write_text(json.dumps(content))
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


def _write_phantom(
    folder: Path, spacing_mm: Sequence[float], difficulty: Any, number: int
) -> tuple[dict[str, Path], list[str]]:
    """T1 and T2 as they are, and both on their common grid as nnU-Net's channels."""
    from nnunet_liver_ext.dataset_conversion.phantom import make_pair
    from nnunet_liver_ext.space.common_grid import common_grid, image_on_grid
    from nnunet_liver_ext.space.images import write_image

    pair = make_pair(1 + number, difficulty=difficulty)
    images = {"T1": pair.t1, "T2": pair.t2}
    native = {name: folder / f"phantom{number}_{name}.nii.gz" for name in images}
    grid = common_grid(list(images.values()), tuple(spacing_mm[::-1]))
    converted = []
    for channel, (name, image) in enumerate(images.items()):
        write_image(image, native[name])
        path = folder / f"phantom{number}_{channel:04d}.nii.gz"
        write_image(image_on_grid(image, grid), path)
        converted.append(str(path))
    return native, converted
