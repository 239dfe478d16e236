"""The picture of a training by modality and loss term, beside nnU-Net's own progress.png.

nnU-Net's plot knows one curve for all classes, and its logger must not get more keys (it cuts its
plot to the shortest).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2.training.logging.nnunet_logger import LocalLogger

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.trainers.phases import IN_WORDS, Phase

SHADES = ("#eef3fa", "#faf3e6", "#eef7ee")

SHARE_OF_TIME = 0.05
"""Pictures are not drawn again before they have cost less than this share of the time."""

History = dict[str, list[float]]
"""One value per epoch for each name; names are "group: curve"."""


def record(history: History, name: str, value: float, epoch: int) -> None:
    """Writes the value of an epoch; forgets what an interrupted run had written beyond it."""
    curve = history.setdefault(name, [])
    del curve[epoch:]
    curve.extend([float("nan")] * (epoch - len(curve)))
    curve.append(value)


def latest_values(history: History, epoch: int) -> str:
    """The values of an epoch in one line for the log."""
    latest = (
        f"{name} {curve[epoch]:.4f}" for name, curve in history.items() if len(curve) == epoch + 1
    )
    return "; ".join(latest)


def draw(history: Mapping[str, Sequence[float]], path: Path, phases: Sequence[Phase] = ()) -> None:
    """One panel for each group of curves, over epochs; each phase has its own background."""
    from matplotlib import style

    with style.context(
        "default"
    ):  # nnU-Net sets seaborn's large fonts for everything that is drawn after its plot
        _draw(history, path, phases if len(phases) > 1 else ())


class SparingLogger(LocalLogger):
    """nnU-Net's record of a training; it draws its picture, and ours, only as often as is cheap.

    nnU-Net draws after every epoch; where an epoch takes a second, that is most of the time.
    """

    def __init__(self, draw_ours: Callable[[Path], None]) -> None:
        """
        Args:
            draw_ours: writes our picture to the path that it is given.
        """
        super().__init__()
        self._draw_ours = draw_ours
        self._not_before_s = -math.inf
        self._has_news = False

    def plot_progress_png(self, output_folder: str) -> None:
        """Draws the pictures if it is time for it; `draw_news` draws what was left out."""
        self._has_news = True
        if time.monotonic() >= self._not_before_s:
            self.draw_news(output_folder)

    def draw_news(self, output_folder: str) -> None:
        """Draws the pictures if something has been recorded since they were drawn."""
        if not self._has_news:
            return
        begun = time.monotonic()
        super().plot_progress_png(output_folder)
        self._draw_ours(Path(output_folder) / "progress_modalities.png")
        ended = time.monotonic()
        self._not_before_s = ended + (ended - begun) * (1 / SHARE_OF_TIME - 1)
        self._has_news = False


def _draw(history: Mapping[str, Sequence[float]], path: Path, phases: Sequence[Phase]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups: dict[str, dict[str, Sequence[float]]] = {}
    for name, curve in history.items():
        group, _, label = name.partition(": ")
        groups.setdefault(group, {})[label] = curve
    figure = Figure(figsize=(9, 3.2 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (group, curves) in zip(
        figure.subplots(len(groups), squeeze=False)[:, 0], groups.items(), strict=True
    ):
        for label, curve in curves.items():
            axes.plot(
                range(len(curve)), curve, label=label, marker="." if _points(curve) < 30 else None
            )
        axes.set(ylabel=group, xlabel="epoch", ylim=None if "loss" in group else (0, 1))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
        _shade(axes, phases, max(len(curve) for curve in curves.values()))
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, dpi=110)


def _shade(axes: Any, phases: Sequence[Phase], epochs: int) -> None:
    """A background for each phase that has begun, with its name above."""
    for index, phase in enumerate(phases):
        first, last = phase.first - 0.5, min(phase.end, epochs) - 0.5
        if first < last:
            axes.axvspan(first, last, color=SHADES[index % len(SHADES)], zorder=0)
            axes.text(
                (first + last) / 2,
                1.01,
                IN_WORDS[phase.name],
                ha="center",
                fontsize="x-small",
                transform=_above(axes),
            )


def _points(curve: Sequence[float]) -> int:
    """Epochs with a value: few are shown as points, since one alone would not be seen."""
    return sum(math.isfinite(value) for value in curve)


def _above(axes: Any) -> Any:
    """Epochs along x, the panel's height along y."""
    return axes.get_xaxis_transform()
