"""The picture of one case: grey slices as WebP, and on them the masks' outlines as SVG paths.

The page draws the paths as lines (reference red, prediction green and dashed) or fills them: purple
where both are, red where only the reference is (under-segmentation), blue where only the prediction
is (over-segmentation), as the Antaros liver U-Net report does (figures 7 and 12).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nnunet_liver_ext.evaluation.files.case_files import CaseFiles
from nnunet_liver_ext.evaluation.files.described_labels import Classes
from nnunet_liver_ext.evaluation.report.pictures.cropped_case import CroppedCase, read_cropped_case
from nnunet_liver_ext.evaluation.report.pictures.outlines import UNITS, svg_path, trace_outlines
from nnunet_liver_ext.evaluation.report.pictures.slice_layout import (
    PictureSize,
    PlacedSlice,
    SliceLayout,
    lay_out_slices,
)

DARKEST_PERCENTILE, BRIGHTEST_PERCENTILE = 0.5, 99.7
WITHOUT_IMAGE = 64  # grey
LARGE = PictureSize(width=576, montage=(3, 4), quality=30)
SMALL = PictureSize(width=420, montage=(2, 4), quality=30)
SCALE_BAR_MM = 50
SIDES = ("R", "R", "A")  # on the left of the axial, coronal and sagittal slice


@dataclass(frozen=True)
class Picture:
    """One picture, in the words of HTML."""

    width: int
    height: int
    image: str
    """WebP in base64."""
    has_image: bool
    ref: str
    """Path in 1/`UNITS` pixel, as all paths: every class of the (first rater's) reference."""
    pred: str
    """Path of every class of the prediction."""
    other_refs: str
    """Path of every class of further raters."""
    mixed_up: str
    """Path of where both have a class, but not the same."""
    words: list[tuple[int, int, str, str]]
    """(x in 1/`UNITS` pixel, y, text, CSS class): names of the slices, sides of the patient."""
    scale_bar: str
    """A path of `SCALE_BAR_MM`."""

    @property
    def view_box(self) -> str:
        return f"0 0 {self.width * UNITS} {self.height * UNITS}"


def draw_picture(case: CaseFiles, classes: Classes | None, size: PictureSize = LARGE) -> Picture:
    """The picture of one case.

    Args:
        case: which files.
        classes: labels of each class by name, or None to show every label.
        size: of the picture.

    Raises:
        InputError: one of the files cannot be read.
    """
    return draw_cropped_case(read_cropped_case(case, classes), classes, size)


def draw_cropped_case(
    case: CroppedCase, classes: Classes | None, size: PictureSize = LARGE
) -> Picture:
    """The picture of a case in memory; black beside the slices, grey in them without an image."""
    layout = lay_out_slices(case, size)
    ref, pred, other_refs, mixed_up = (
        svg_path(_lines(masks, layout.slices, case.spacing_mm)) for masks in _masks(case, classes)
    )
    return Picture(
        layout.width,
        layout.height,
        base64.b64encode(_webp(_canvas(case, layout), size.quality)).decode(),
        case.image is not None,
        ref,
        pred,
        other_refs,
        mixed_up,
        words=_words(layout.slices, case.spacing_mm),
        scale_bar=_scale_bar(layout.slices[0], case.spacing_mm),
    )


def _masks(case: CroppedCase, classes: Classes | None) -> list[list[np.ndarray]]:
    """Masks of reference, prediction, further raters, and where the classes differ."""
    labels = (
        sorted(set(np.unique(case.ref)) | set(np.unique(case.pred)) - {0})
        if classes is None
        else []
    )
    groups = (
        list(classes.values())
        if classes is not None
        else [(int(label),) for label in labels if label]
    )
    both = (case.pred != 0) & (case.ref != 0) & (case.pred != case.ref)
    return [
        [np.isin(case.ref, group) for group in groups],
        [np.isin(case.pred, group) for group in groups],
        [np.isin(other, group) for other in case.other_refs for group in groups],
        [both],
    ]


def _lines(
    masks: Iterable[np.ndarray],
    slices: Iterable[PlacedSlice],
    spacing_mm: tuple[float, float, float],
) -> Iterator[np.ndarray]:
    for placed in slices:
        left, top, width, height = placed.pixel_box(spacing_mm)
        for mask in masks:
            cut = placed.cut(mask)
            yield from trace_outlines(cut, left, top, (height / cut.shape[0], width / cut.shape[1]))


def _words(
    slices: Iterable[PlacedSlice], spacing_mm: tuple[float, float, float]
) -> list[tuple[int, int, str, str]]:
    words = []
    for number, placed in enumerate(slices):
        left, top, width, height = placed.pixel_box(spacing_mm)
        words.append((left + 4, top + 12, placed.title, ""))
        if number < len(SIDES):
            words.append((left + 4, top + round(height / 2) + 4, SIDES[number], "side"))
        if number == 0:
            words.append((left + width - 6, top + 20, f"{SCALE_BAR_MM / 10:g} cm", "end"))
    return [(x * UNITS, y * UNITS, text, css) for x, y, text, css in words]


def _scale_bar(placed: PlacedSlice, spacing_mm: tuple[float, float, float]) -> str:
    left, top, width, _ = placed.pixel_box(spacing_mm)
    length = round(SCALE_BAR_MM * placed.pixels_per_mm * UNITS)
    return f"M{(left + width - 6) * UNITS - length} {(top + 8) * UNITS}h{length}"


def _canvas(case: CroppedCase, layout: SliceLayout) -> np.ndarray:
    canvas = Image.new("L", (layout.width, layout.height))
    low, high = (
        (0.0, 1.0)
        if case.image is None
        else np.percentile(case.image, [DARKEST_PERCENTILE, BRIGHTEST_PERCENTILE])
    )
    for placed in layout.slices:
        left, top, columns, rows = placed.pixel_box(case.spacing_mm)
        tile = Image.new("L", (columns, rows), WITHOUT_IMAGE)
        if case.image is not None:
            values = (placed.cut(case.image) - low) / max(high - low, 1e-6) * 255
            resized = Image.fromarray(values.astype(np.float32)).resize(
                (columns, rows), Image.Resampling.BICUBIC
            )
            tile = Image.fromarray(np.clip(np.asarray(resized), 0, 255).astype(np.uint8))
        canvas.paste(tile, (left, top))
    return np.asarray(canvas)


def _webp(grey: np.ndarray, quality: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(grey).save(content, "WEBP", quality=quality, method=6)
    return content.getvalue()
