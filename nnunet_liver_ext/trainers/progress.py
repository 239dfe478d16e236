"""The picture of a training by modality and loss term, beside nnU-Net's own progress.png.

nnU-Net's plot knows one curve for all classes, and its logger must not get more keys (it cuts its plot to the shortest).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_liver_ext.images import replaced

History = dict[str, list[float]]
"""One value per epoch for each name; names are "group: curve"."""


def record(history: History, name: str, value: float, epoch: int) -> None:
    """Writes the value of an epoch; forgets what a run that was interrupted later had written beyond it."""
    curve = history.setdefault(name, [])
    del curve[epoch:]
    curve.extend([float("nan")] * (epoch - len(curve)))
    curve.append(value)


def draw(history: Mapping[str, Sequence[float]], path: Path) -> None:
    """One panel for each group of curves, over epochs."""
    from matplotlib import style

    with style.context("default"):  # nnU-Net sets seaborn's large fonts for everything that is drawn after its plot
        _draw(history, path)


def _draw(history: Mapping[str, Sequence[float]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups: dict[str, dict[str, Sequence[float]]] = {}
    for name, curve in history.items():
        group, _, label = name.partition(": ")
        groups.setdefault(group, {})[label] = curve
    figure = Figure(figsize=(9, 3.2 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (group, curves) in zip(figure.subplots(len(groups), squeeze=False)[:, 0], groups.items(), strict=True):
        for label, curve in curves.items():
            axes.plot(range(len(curve)), curve, label=label, marker="." if len(curve) < 30 else None)
        axes.set(ylabel=group, xlabel="epoch", ylim=(0, 1) if group == "pseudo Dice" else None)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    with replaced(path) as unfinished:
        figure.savefig(unfinished, dpi=110)
