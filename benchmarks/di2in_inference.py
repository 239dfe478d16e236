"""How long DI2IN takes for a whole liver at 3 mm, the network alone.

    python benchmarks/di2in_inference.py [--size 80 110 130] [--repeats 5] [--threads 2]

Yang et al. 2017 report less than a second for a case on a GPU. The volume is noise: what is in it does not matter. Measured
on the CPU in float32, and if there is CUDA also there in float32 and in bfloat16 (autocast), each after a warm-up; the time
includes the way of the volume to the device and that of the mask back. Memory is the peak of what torch holds on CUDA.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table

from nnunet_liver_ext.networks import DI2IN

SPACING_MM = 3.0
CHANNELS, CLASSES = 1, 2


def seconds_of_each(network: DI2IN, volume: torch.Tensor, *, device: str, autocast: bool, repeats: int) -> list[float]:
    """Seconds from a volume on the CPU to its mask on the CPU."""
    network = network.to(device).eval()
    times = []
    with torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
        for _ in range(1 + repeats):
            start = time.perf_counter()
            mask = network(volume.to(device)).argmax(1).to(torch.uint8).cpu()  # waits for the device
            times.append(time.perf_counter() - start)
            if mask.shape[1:] != volume.shape[2:]:
                raise RuntimeError(f"a mask of {tuple(mask.shape[1:])} for a volume of {tuple(volume.shape[2:])}")
    return times[1:]


def measure(size: Sequence[int], repeats: int) -> Table:
    """One row for each device and precision."""
    torch.manual_seed(0)
    network, volume = DI2IN(CHANNELS, CLASSES), torch.randn(1, CHANNELS, *size)
    extent = " x ".join(f"{SPACING_MM * n:.0f}" for n in size)
    title = f"DI2IN on {' x '.join(map(str, size))} voxels of 3 mm ({extent} mm), {network.num_parameters:,} parameters"
    table = Table(title=title)
    for column in ("device", "precision", "median, s", "fastest, s", "slowest, s", "memory, GB"):
        table.add_column(column, justify="left" if column in ("device", "precision") else "right")
    ways = [("cpu", False), *([("cuda", False), ("cuda", True)] if torch.cuda.is_available() else [])]
    for device, autocast in ways:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times = seconds_of_each(network, volume, device=device, autocast=autocast, repeats=repeats)
        memory = f"{torch.cuda.max_memory_allocated() / 1e9:.2f}" if device == "cuda" else ""
        numbers = [f"{value:.3f}" for value in (statistics.median(times), min(times), max(times))]
        table.add_row(device, "bfloat16" if autocast else "float32", *numbers, memory)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, nargs=3, default=(80, 110, 130), help="voxels (z y x)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of torch on the CPU")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console(width=125)
    console.print(measure(arguments.size, arguments.repeats))
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    console.print(
        f"CPU with {arguments.threads} threads{device}, Python {platform.python_version()}, torch {torch.__version__}; "
        f"medians of {arguments.repeats} runs."
    )


if __name__ == "__main__":
    main()
