"""How long DI2IN takes for a whole liver at 3 mm: the network alone, and from a file to a mask in a
file.

    python benchmarks/di2in_inference.py [--size 80 110 130] [--repeats 5] [--threads 2]

Yang et al. 2017 report less than a second for a case on a GPU. The volume is noise: what is in it
does not matter. Measured on the CPU in float32, and if there is CUDA also there in float32 and in
bfloat16 (autocast), each after a warm-up; the time includes the way to the device and back. Memory
is the peak of what torch holds on CUDA. From file to file: a NIfTI of the same size at 3 mm through
a loaded model, as `nnunet_liver predict` without mirroring.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from nnunet_liver_ext.networks import DI2IN

SPACING_MM = 3.0
CHANNELS, CLASSES = 1, 2


def seconds_of_each(
    network: DI2IN, volume: torch.Tensor, *, device: str, autocast: bool, repeats: int
) -> list[float]:
    """Seconds from a volume on the CPU to its mask on the CPU."""
    network = network.to(device).eval()
    times = []
    with torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
        for _ in range(1 + repeats):
            start = time.perf_counter()
            mask = (
                network(volume.to(device)).argmax(1).to(torch.uint8).cpu()
            )  # waits for the device
            times.append(time.perf_counter() - start)
            if mask.shape[1:] != volume.shape[2:]:
                raise RuntimeError(
                    f"a mask of {tuple(mask.shape[1:])} for a volume of {tuple(volume.shape[2:])}"
                )
    return times[1:]


@dataclass(frozen=True)
class Alone:
    """The network alone, on a device in a precision."""

    device: str
    precision: str
    seconds: list[float]
    memory_gb: float | None
    """Peak of what torch holds on CUDA."""


def measure_alone(size: Sequence[int], repeats: int, devices: Sequence[str]) -> Iterator[Alone]:
    """In float32, and on CUDA in bfloat16, too."""
    torch.manual_seed(0)
    network, volume = DI2IN(CHANNELS, CLASSES), torch.randn(1, CHANNELS, *size)
    for device in devices:
        for precision in ("float32", "bfloat16") if device == "cuda" else ("float32",):
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            autocast = precision == "bfloat16"
            times = seconds_of_each(
                network, volume, device=device, autocast=autocast, repeats=repeats
            )
            on_cuda = device == "cuda"
            memory_gb = torch.cuda.max_memory_allocated() / 1e9 if on_cuda else None
            yield Alone(device, precision, times, memory_gb)


def table_of(measured: Iterable[Alone], size: Sequence[int]) -> Table:
    """One row for each device and precision."""
    extent = " x ".join(f"{SPACING_MM * n:.0f}" for n in size)
    parameters = DI2IN(CHANNELS, CLASSES).num_parameters
    title = (
        f"DI2IN on {' x '.join(map(str, size))} voxels of 3 mm ({extent} mm), {parameters:,}"
        " parameters"
    )
    table = Table(title=title)
    for column in ("device", "precision", "median, s", "fastest, s", "slowest, s", "memory, GB"):
        table.add_column(column, justify="left" if column in ("device", "precision") else "right")
    for one in measured:
        spread = (statistics.median(one.seconds), min(one.seconds), max(one.seconds))
        memory = "" if one.memory_gb is None else f"{one.memory_gb:.2f}"
        table.add_row(one.device, one.precision, *(f"{value:.3f}" for value in spread), memory)
    return table


def seconds_file_to_file(size: Sequence[int], repeats: int, device: str) -> list[float]:
    """Seconds from a NIfTI file to a mask in a file, of a model that is loaded."""
    from nnunet_liver_ext.inference.load_model import load_model
    from nnunet_liver_ext.inference.predict import predict_studies
    from nnunet_liver_ext.space.images import Grid, image_like, write_image
    from nnunet_liver_ext.studies.study import Study

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "nnUNetTrainerDI2IN__nnUNetPlansDI2IN__3d_fullres", size)
        model = load_model(
            folder / "nnUNetTrainerDI2IN__nnUNetPlansDI2IN__3d_fullres",
            device=torch.device(device),
            mirroring=False,
        )
        volume = np.random.default_rng(0).normal(50, 100, size).astype(np.int16)
        grid = Grid(
            tuple(size[::-1]), (SPACING_MM,) * 3, (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1)
        )
        write_image(image_like(volume, grid), folder / "ct.nii.gz")
        times = []
        for run in range(1 + repeats):
            start = time.perf_counter()
            predict_studies(
                model,
                [Study("ct", "ct", {"CT": folder / "ct.nii.gz"}, {})],
                folder / f"masks_{run}",
            )
            times.append(time.perf_counter() - start)
        return times[1:]


def write_model(folder: Path, size: Sequence[int]) -> None:
    """A model folder as nnU-Net leaves it, with weights that nobody has trained."""
    from nnunet_liver_ext import __version__
    from nnunet_liver_ext.networks.strategies import STRATEGIES
    from nnunet_liver_ext.trainers import nnUNetTrainerDI2IN

    intensities = {"mean": 50.0, "std": 100.0, "percentile_00_5": -200.0, "percentile_99_5": 300.0}
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlansDI2IN_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 4,
        "patch_size": list(size),
        "median_image_size_in_voxels": list(size),
        "spacing": [SPACING_MM] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        **{
            f"resampling_fn_{kind}": "resample_data_or_seg_to_shape"
            for kind in ("data", "seg", "probabilities")
        },
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": {
            "network_class_name": "nnunet_liver_ext.networks.di2in.DI2IN",
            "arch_kwargs": {"strides": [[1, 1, 1], *[[2, 2, 2]] * 4]},
            "_kw_requires_import": [],
        },
        "batch_dice": False,
    }
    recipe = {"version": __version__, "recipe": nnUNetTrainerDI2IN.recipe.to_json()}
    plans = {
        "dataset_name": "Dataset001_Noise",
        "plans_name": "nnUNetPlansDI2IN",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "configurations": {"3d_fullres": configuration},
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "nnunet_liver_ext": recipe,
    }
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1},
        "file_ending": ".nii.gz",
        "conversion": {"layout": "images", "modalities": ["CT"], "spacing": "native"},
    }
    network = STRATEGIES["one_view"].build(DI2IN, CHANNELS, CLASSES)
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainerDI2IN",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
        "nnunet_liver_ext": recipe,
    }
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, nargs=3, default=(80, 110, 130), help="voxels (z y x)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--threads", type=int, default=min(2, os.cpu_count() or 1), help="of torch on the CPU"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console(width=125)
    devices = ("cpu", *(["cuda"] if torch.cuda.is_available() else []))
    alone = measure_alone(arguments.size, arguments.repeats, devices)
    console.print(table_of(alone, arguments.size))
    for place in devices:
        times = seconds_file_to_file(arguments.size, arguments.repeats, place)
        console.print(
            f"From file to file on {place}: median {statistics.median(times):.2f} s, fastest"
            f" {min(times):.2f} s."
        )
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    console.print(
        f"CPU with {arguments.threads} threads{device}, Python {platform.python_version()}, torch"
        f" {torch.__version__}; medians of {arguments.repeats} runs."
    )


if __name__ == "__main__":
    main()
