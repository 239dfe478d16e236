"""What evaluating a folder of pairs costs: time per case, share of reading, peak memory, beside
nnU-Net's own and MONAI.

    python benchmarks/evaluation_speed.py [--pairs 88] [--processes 1]

Made-up livers: pairs of 256 x 256 x 60 voxels (1.5 x 1.5 x 3 mm), every fourth of 512 x 512 x 80
(0.8 x 0.8 x 2.5 mm), as NIfTI files that are measured with every overlap and surface measure. Ours
runs as `nnunet_liver evaluate` does, report and pictures aside. nnU-Net's `compute_metrics` (Dice
and IoU) reads the same files; MONAI measures HD, HD95 and ASD of a few of the same masks in memory,
ours of the same. One process each; peak memory is the resident one of the process (ru_maxrss)
beyond what it holds after the imports.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter

from nnunet_liver_ext.evaluation import surface
from nnunet_liver_ext.evaluation.files.case_files import match_references
from nnunet_liver_ext.evaluation.measuring.case_labels import labels_on_one_grid
from nnunet_liver_ext.evaluation.measuring.one_case import evaluate_case
from nnunet_liver_ext.evaluation.metrics import surface_distances
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.space.images import Grid, image_like, write_image

SMALL = Grid((256, 256, 60), (1.5, 1.5, 3.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
LARGE = Grid((512, 512, 80), (0.8, 0.8, 2.5), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
CLASSES = {"liver": (1,)}
MEASURED_BY_MONAI = 4


def liver(grid: Grid, seed: int, *, roughness: float) -> np.ndarray:
    """A lopsided, rough ellipsoid of about 1.5 litres."""
    shape, spacing = grid.size[::-1], grid.spacing_mm
    centre = [n * s / 2 for n, s in zip(shape, spacing, strict=True)]
    z, y, x = (np.arange(n) * s - c for n, s, c in zip(shape, spacing, centre, strict=True))
    z, y, x = (axis / radius for axis, radius in zip(np.ix_(z, y, x), (65, 70, 95), strict=True))
    coarse = np.random.default_rng(seed).standard_normal([n // 4 for n in shape])
    noise = gaussian_filter(coarse, 1).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    return z**2 + y**2 + x**2 + 0.5 * x * y + roughness * noise / noise.std() < 1


def write_folders(root: Path, pairs: int) -> None:
    for number in range(pairs):
        grid = LARGE if number % 4 == 3 else SMALL
        for modality, offset in (("T1", 0), ("T2", 1)):
            for side, roughness, seed in (("references", 0.05, 0), ("predictions", 0.06, 1)):
                mask = liver(grid, 1000 * number + 10 * offset + seed, roughness=roughness)
                path = root / side / f"P{number:03d}_{modality}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_image(image_like(mask.astype(np.uint8), grid), path)


def seconds(work: Callable[[Any], Any], cases: Sequence[Any]) -> float:
    start = time.perf_counter()
    for case in cases:
        work(case)
    return time.perf_counter() - start


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def nnunets_seconds(cases: Sequence[Any]) -> float:
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    reader = SimpleITKIO()
    return seconds(
        lambda case: compute_metrics(
            str(case.reference.path), str(case.prediction.path), reader, [1]
        ),
        cases,
    )


def monais_seconds(cases: Sequence[Any]) -> tuple[float, float]:
    """Seconds for HD, HD95 and ASD of masks in memory: MONAI's, and ours."""
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    theirs = ours = 0.0
    for case in cases:
        pred, references, grid = labels_on_one_grid(case)
        masks = pred == 1, next(iter(references.values())) == 1
        tensors = [torch.from_numpy(mask)[None, None] for mask in masks]
        options: dict[str, Any] = {"include_background": True, "spacing": list(grid.spacing_mm)}
        start = time.perf_counter()
        compute_hausdorff_distance(*tensors, **options)
        compute_hausdorff_distance(*tensors, percentile=95, **options)
        compute_average_surface_distance(*tensors, symmetric=True, **options)
        theirs += time.perf_counter() - start
        surface._border_distances.cache_clear()
        start = time.perf_counter()
        distances = surface_distances(*masks, grid.spacing_mm)
        distances.hausdorff_distance()
        distances.hausdorff_distance(percentile=95)
        distances.average_surface_distance()
        ours += time.perf_counter() - start
    return theirs, ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=88)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="evaluation_speed_") as folder:
        root = Path(folder)
        writer = get_context("spawn").Process(target=write_folders, args=(root, arguments.pairs))
        writer.start()  # what it takes is not counted
        writer.join()
        cases = match_references(root / "predictions", root / "references").cases
        held = peak_mb()
        jobs: dict[str, Callable[[], float]] = {
            "reading alone": lambda: seconds(labels_on_one_grid, cases),
            "ours, Dice and IoU": lambda: seconds(
                lambda case: evaluate_case(case, CLASSES, Options(only=("overlap",))), cases
            ),
            "ours, all": lambda: seconds(
                lambda case: evaluate_case(case, CLASSES, Options()), cases
            ),
        }
        rounds: list[dict[str, float]] = []
        for _ in range(arguments.repeats):
            rounds.append({name: job() for name, job in jobs.items()})
        peak = peak_mb() - held
        for one in rounds:
            one["nnU-Net, Dice and IoU"] = nnunets_seconds(cases)
        theirs, ours = monais_seconds(cases[:: max(1, len(cases) // MEASURED_BY_MONAI)])
    show(rounds, len(cases), peak, theirs / ours)


def show(
    rounds: Sequence[dict[str, float]], cases: int, peak_megabytes: float, monai_ratio: float
) -> None:
    table = Table(title=f"{cases} masks, medians of {len(rounds)} rounds, one process")
    for column in ("what", "s per case", "share spent reading", "to nnU-Net's"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name in rounds[0]:
        reading = statistics.median(one["reading alone"] / one[name] for one in rounds)
        ratio = statistics.median(one[name] / one["nnU-Net, Dice and IoU"] for one in rounds)
        time_s = statistics.median(one[name] for one in rounds) / cases
        table.add_row(name, f"{time_s:.3f}", f"{reading:.2f}", f"{ratio:.2f}")
    console = Console()
    console.print(table)
    console.print(f"Peak memory of ours beyond the imports: {peak_megabytes:.0f} MB.")
    console.print(f"HD + HD95 + ASD: MONAI takes {monai_ratio:.1f} times as long as ours.")
    console.print(f"Python {platform.python_version()}, {platform.machine()}.")


if __name__ == "__main__":
    main()
