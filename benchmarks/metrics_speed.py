"""How fast HD + HD95 + ASD are, side by side with MONAI, and how far the numbers are apart.

    python benchmarks/metrics_speed.py [--repeats 5] [--threads 2]

Two made-up livers of 256 x 256 x 60 voxels of 1.5 x 1.5 x 3 mm: a similar second annotation, and
one moved by 60 mm. The times are medians; nothing is kept between repetitions. The reference is
scipy's distance transform of the whole volume.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from nnunet_liver_ext.evaluation import surface
from nnunet_liver_ext.evaluation.metrics import (
    average_surface_distance,
    hausdorff_distance,
    surface_distances,
)

SHAPE, SPACING_MM = (60, 256, 256), (3.0, 1.5, 1.5)
Measures = tuple[float, float, float]


def liver(shift_mm: tuple[float, float, float], *, roughness: float, seed: int) -> np.ndarray:
    """A lopsided, rough ellipsoid of about 2 to 3 litres."""
    centre = (84 + shift_mm[0], 177 + shift_mm[1], 157 + shift_mm[2])
    z, y, x = (np.arange(n) * s - c for n, s, c in zip(SHAPE, SPACING_MM, centre, strict=True))
    z, y, x = (axis / radius for axis, radius in zip(np.ix_(z, y, x), (75, 80, 110), strict=True))
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), (2, 4, 4))
    return z**2 + y**2 + x**2 + 0.5 * x * y + 0.4 * x * z + roughness * noise / noise.std() < 1


def ours(pred: np.ndarray, ref: np.ndarray) -> Measures:
    """All three from one computation, as `nnunet_liver evaluate` does it."""
    surface._border_distances.cache_clear()
    distances = surface_distances(pred, ref, SPACING_MM)
    return (
        distances.hausdorff_distance(),
        distances.hausdorff_distance(percentile=95),
        distances.average_surface_distance(),
    )


def ours_three_calls(pred: np.ndarray, ref: np.ndarray) -> Measures:
    surface._border_distances.cache_clear()
    return (
        hausdorff_distance(pred, ref, SPACING_MM),
        hausdorff_distance(pred, ref, SPACING_MM, 95),
        average_surface_distance(pred, ref, SPACING_MM),
    )


def monai_three_calls(pred: np.ndarray, ref: np.ndarray) -> Measures:
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    masks = [torch.from_numpy(mask)[None, None] for mask in (pred, ref)]
    options = {"include_background": True, "spacing": list(SPACING_MM)}
    return (
        float(compute_hausdorff_distance(*masks, **options)),
        float(compute_hausdorff_distance(*masks, percentile=95, **options)),
        float(compute_average_surface_distance(*masks, symmetric=True, **options)),
    )


def scipy_full_volume(pred: np.ndarray, ref: np.ndarray) -> Measures:
    borders = [mask & ~binary_erosion(mask) for mask in (pred, ref)]
    directed = [
        distance_transform_edt(~other, sampling=SPACING_MM)[own]
        for own, other in (borders, borders[::-1])
    ]
    hd95 = max(np.percentile(distances, 95) for distances in directed)
    return float(max(map(np.max, directed))), float(hd95), float(np.concatenate(directed).mean())


def median_seconds(
    function: Callable[[np.ndarray, np.ndarray], Measures], masks: list[np.ndarray], repeats: int
) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(*masks)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of torch")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    import monai
    import scipy
    import torch

    torch.set_num_threads(arguments.threads)
    ref = liver((0, 0, 0), roughness=0.04, seed=1)
    situations = {
        "similar": liver((0, 0, 0), roughness=0.05, seed=2),
        "moved 60 mm in z": liver((60, 0, 0), roughness=0.04, seed=3),
        "moved 60 mm in y": liver((0, 60, 0), roughness=0.04, seed=3),
        "moved 60 mm in x": liver((0, 0, 60), roughness=0.04, seed=3),
    }
    table = Table(title="HD + HD95 + ASD, seconds (median) and largest difference in mm")
    for column in (
        "masks",
        "ours",
        "three calls",
        "MONAI",
        "ratio",
        "ratio, three calls",
        "to scipy",
        "to MONAI",
    ):
        table.add_column(column, justify="left" if column == "masks" else "right")
    for name, pred in situations.items():
        masks = [pred, ref]
        found, monai_values, exact = (
            ours(*masks),
            monai_three_calls(*masks),
            scipy_full_volume(*masks),
        )
        seconds, three, slow = (
            median_seconds(function, masks, arguments.repeats)
            for function in (ours, ours_three_calls, monai_three_calls)
        )
        table.add_row(
            name,
            f"{seconds:.4f}",
            f"{three:.4f}",
            f"{slow:.3f}",
            f"{slow / seconds:.1f}",
            f"{slow / three:.1f}",
            *(f"{np.abs(np.subtract(found, other)).max():.1e}" for other in (exact, monai_values)),
        )
    console = Console(width=110)
    console.print(table)
    console.print(
        f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__},"
        f" MONAI {monai.__version__}, torch {torch.__version__}, {arguments.threads} threads; the"
        f" median of {arguments.repeats} runs."
    )


if __name__ == "__main__":
    main()
