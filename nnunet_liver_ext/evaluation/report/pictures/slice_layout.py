"""Where the slices of a picture stand: three orthogonal planes, below them axial slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_liver_ext.evaluation.report.pictures.cropped_case import CroppedCase, box_with_margin

PLANES = ("axial", "coronal", "sagittal")
MONTAGE_MARGIN_MM = 12.0
GAP = 2  # pixels between two slices


@dataclass(frozen=True)
class PictureSize:
    """How large pictures are, and how much they are compressed."""

    width: int
    """Pixels."""
    montage: tuple[int, int]
    """Rows and columns."""
    quality: int
    """How well WebP keeps the image, 0 to 100."""


@dataclass(frozen=True)
class PlacedSlice:
    """One slice of a case: which part of it, and where in the picture, in pixels."""

    axis: int
    """0 axial, 1 coronal, 2 sagittal."""
    index: int
    rows: slice
    columns: slice
    left: float
    top: float
    pixels_per_mm: float
    title: str

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """The slice of a volume (Z, Y, X): rows downwards, head or front on top."""
        values = np.take(volume, self.index, axis=self.axis)[self.rows, self.columns]
        return values if self.axis == 0 else values[::-1]

    def pixel_box(self, spacing_mm: tuple[float, float, float]) -> tuple[int, int, int, int]:
        """Left, top, width and height in whole pixels."""
        rows_mm, columns_mm = np.delete(spacing_mm, self.axis)
        width = (self.columns.stop - self.columns.start) * columns_mm * self.pixels_per_mm
        height = (self.rows.stop - self.rows.start) * rows_mm * self.pixels_per_mm
        return round(self.left), round(self.top), max(1, round(width)), max(1, round(height))


@dataclass(frozen=True)
class SliceLayout:
    """All slices of a picture."""

    slices: list[PlacedSlice]
    width: int
    height: int


def lay_out_slices(case: CroppedCase, size: PictureSize) -> SliceLayout:
    """The three planes through the centre, then evenly spaced axial slices from head to feet.

    A case with fewer axial slices than the montage has places shows each of them once.
    """
    planes, height = _planes(case, size.width)
    montage, bottom = _montage(case, size, height + GAP)
    return SliceLayout(planes + montage, size.width, round(bottom))


def _planes(case: CroppedCase, width: int) -> tuple[list[PlacedSlice], float]:
    z_mm, y_mm, x_mm = (n * step for n, step in zip(case.ref.shape, case.spacing_mm, strict=True))
    widths_mm, heights_mm = (x_mm, x_mm, y_mm), (y_mm, z_mm, z_mm)
    scale = (width - 2 * GAP) / sum(widths_mm)
    height = max(heights_mm) * scale
    slices, left = [], 0.0
    for axis, title in enumerate(PLANES):
        rows, columns = (slice(0, n) for n in np.delete(case.ref.shape, axis))
        top = (height - heights_mm[axis] * scale) / 2
        slices.append(PlacedSlice(axis, case.centre[axis], rows, columns, left, top, scale, title))
        left += widths_mm[axis] * scale + GAP
    return slices, height


def _montage(case: CroppedCase, size: PictureSize, top: float) -> tuple[list[PlacedSlice], float]:
    z, y, x = (
        _whole_slice(part, n) for part, n in zip(_montage_box(case), case.ref.shape, strict=True)
    )
    rows, columns = size.montage
    width = (size.width - (columns - 1) * GAP) / columns
    scale = width / ((x.stop - x.start) * case.spacing_mm[2])
    height = (y.stop - y.start) * case.spacing_mm[1] * scale
    indices = _spread_evenly(z, rows * columns)
    slices = []
    for number, index in enumerate(indices):
        row, column = divmod(number, columns)
        title = _distance_text((index - case.centre[0]) * case.spacing_mm[0])
        slices.append(
            PlacedSlice(
                0, index, y, x, column * (width + GAP), top + row * (height + GAP), scale, title
            )
        )
    return slices, top + -(-len(indices) // columns) * (height + GAP) - GAP


def _montage_box(case: CroppedCase) -> tuple[slice, ...]:
    everything = case.everything
    z = box_with_margin(everything, case.spacing_mm, 0)[0]
    return (z, *box_with_margin(everything, case.spacing_mm, MONTAGE_MARGIN_MM)[1:])


def _spread_evenly(part: slice, number: int) -> list[int]:
    """Indices from the last to the first, in the middles of equal shares; each once."""
    middles = part.start + (np.arange(number) + 0.5) * (part.stop - part.start) / number
    return sorted(set(middles.astype(int).tolist()), reverse=True)


def _whole_slice(part: slice, n: int) -> slice:
    return slice(*part.indices(n)[:2])


def _distance_text(mm: float) -> str:
    return f"{mm:+.0f} mm".replace("-", "−") if round(mm) else "0 mm"
