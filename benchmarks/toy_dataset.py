"""The toy dataset's figures and pictures, as in docs/toy.md.

    python benchmarks/toy_dataset.py [--pairs 200] [--out docs/images]

Prints the relative similarity of the masks by `difference`, and writes toy_pairs.jpg and
toy_grey_values.jpg.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter

from nnunet_liver_ext.dataset_conversion.toy import ToyPair, make_pair, scaled_max_shift
from nnunet_liver_ext.evaluation.metrics import dice
from nnunet_liver_ext.evaluation.similarity.shift import best_shift, shift_mask

SIZES, DIFFERENCES = (64, 96, 240), (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
COLOURS = ("#0072b2", "#d55e00")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    draw_pairs([make_pair(seed) for seed in (0, 1, 3)], arguments.out / "toy_pairs.jpg")
    draw_grey_values(make_pair(0), arguments.out / "toy_grey_values.jpg")
    Console().print(similarity_table(arguments.pairs))


def similarity_table(pairs: int) -> Table:
    """D_S by difference (rows) and image size (columns): mean and standard deviation."""
    table = Table("difference", *(f"{size} x {size}" for size in SIZES))
    for difference in DIFFERENCES:
        found = [
            [similarity(make_pair(seed, size=size, difference=difference)) for seed in range(pairs)]
            for size in SIZES
        ]
        table.add_row(
            f"{difference:g}",
            *(f"{np.mean(values):.3f} ± {np.std(values):.3f}" for values in found),
        )
    return table


def similarity(pair: ToyPair) -> float:
    return dice(after_best_shift(pair), pair.mask_2)


def after_best_shift(pair: ToyPair) -> np.ndarray:
    """Mask 1, moved onto mask 2 by the shift that fits best."""
    bound = [scaled_max_shift(len(pair.mask_1))] * 2
    return shift_mask(pair.mask_1, best_shift(pair.mask_1, pair.mask_2, bound, (1, 1)))


def draw_pairs(pairs: list[ToyPair], path: Path) -> None:
    figure, axes = plt.subplots(len(pairs), 4, figsize=(10, 2.6 * len(pairs)), layout="constrained")
    for row, pair in zip(axes, pairs, strict=True):
        show(row[0], pair.image_1)
        show(row[1], pair.image_2)
        contours(row[2], pair.mask_1, pair.mask_2)
        contours(row[3], after_best_shift(pair), pair.mask_2)
        row[3].set_xlabel(
            f"Dice {dice(pair.mask_1, pair.mask_2):.2f}, after the shift {similarity(pair):.2f}"
        )
    titles = ("image 1 (angle)", "image 2 (frequency)", "masks 1 and 2", "after the best shift")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    figure.savefig(path, dpi=90, pil_kwargs={"quality": 80})
    plt.close(figure)


def draw_grey_values(pair: ToyPair, path: Path) -> None:
    """The images blurred until the patterns are gone, on the grey scale of the images: nothing is
    left."""
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained")
    for image, name, (sharp, blurred) in (
        (pair.image_1, "image 1", axes[:2]),
        (pair.image_2, "image 2", axes[2:]),
    ):
        show(sharp, image, name)
        show(blurred, gaussian_filter(image, 8), f"{name}, blurred")
    figure.savefig(path, dpi=90, pil_kwargs={"quality": 80})
    plt.close(figure)


def show(axis: Axes, image: np.ndarray, title: str = "") -> None:
    axis.imshow(image, cmap="gray", vmin=-1.3, vmax=1.3, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=10)


def contours(axis: Axes, first: np.ndarray, second: np.ndarray) -> None:
    for mask, colour in zip((first, second), COLOURS, strict=True):
        axis.contour(mask, levels=[0.5], colors=colour, linewidths=1.2)
    axis.set(
        xticks=[],
        yticks=[],
        aspect="equal",
        xlim=(-0.5, len(first) - 0.5),
        ylim=(len(first) - 0.5, -0.5),
    )


if __name__ == "__main__":
    main()
