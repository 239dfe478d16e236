"""The picture of one case: grey slices as WebP, and on them the outlines of reference and
prediction as SVG paths.

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
from PIL import Image, ImageDraw

from nnunet_liver_ext.evaluation.files.case_files import CaseFiles
from nnunet_liver_ext.evaluation.files.described_labels import Classes
from nnunet_liver_ext.evaluation.report.pictures.cropped_case import Scene, read_scene
from nnunet_liver_ext.evaluation.report.pictures.outlines import UNITS, as_path, outlines
from nnunet_liver_ext.evaluation.report.pictures.slice_layout import (
    Layout,
    PictureSize,
    View,
    lay_out,
)

DARKEST_PERCENTILE, BRIGHTEST_PERCENTILE = 0.5, 99.7
WITHOUT_IMAGE = 64  # grey
LARGE = PictureSize(width=576, montage=(3, 4), quality=30)
SMALL = PictureSize(width=420, montage=(2, 4), quality=30)
ALONE = PictureSize(width=1100, montage=(3, 4), quality=100)
ALONE_COLOURS = ("#ff4d4d", "#3ddc6a")  # of the reference and the prediction, as in style.css
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
    """Paths in 1/`UNITS` pixel: all classes of the reference (the first rater's), of the
    prediction, of further raters."""
    pred: str
    other_refs: str
    mixed_up: str
    """Where both have a class, but not the same."""
    words: list[tuple[int, int, str, str]]
    """(x, y, text, CSS class) in 1/`UNITS` pixel: names of the slices, sides of the patient, length
    of the bar."""
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
    return draw(read_scene(case, classes), classes, size)


def draw(scene: Scene, classes: Classes | None, size: PictureSize = LARGE) -> Picture:
    """The picture of a scene; black beside the slices, grey in them if there is no image."""
    layout = lay_out(scene, size)
    ref, pred, other_refs, mixed_up = (
        as_path(_lines(masks, layout.views, scene.spacing_mm)) for masks in _masks(scene, classes)
    )
    return Picture(
        layout.width,
        layout.height,
        base64.b64encode(_webp(_canvas(scene, layout), size.quality)).decode(),
        scene.image is not None,
        ref,
        pred,
        other_refs,
        mixed_up,
        words=_words(layout.views, scene.spacing_mm),
        scale_bar=_scale_bar(layout.views[0], scene.spacing_mm),
    )


def overlay_png(case: CaseFiles, classes: Classes | None) -> bytes:
    """The picture as a PNG file with its outlines, reference red and prediction green, for use
    outside of the page.

    Args and errors as `draw_picture`.
    """
    scene = read_scene(case, classes)
    layout = lay_out(scene, ALONE)
    picture = Image.fromarray(_canvas(scene, layout)).convert("RGB")
    drawing = ImageDraw.Draw(picture)
    for masks, colour in zip(_masks(scene, classes), ALONE_COLOURS, strict=False):
        for points in _lines(masks, layout.views, scene.spacing_mm):
            drawing.line([tuple(point) for point in points.tolist()], fill=colour, width=2)
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return content.getvalue()


def _masks(scene: Scene, classes: Classes | None) -> list[list[np.ndarray]]:
    """Masks of reference, prediction, further raters, and where the classes differ."""
    labels = (
        sorted(set(np.unique(scene.ref)) | set(np.unique(scene.pred)) - {0})
        if classes is None
        else []
    )
    groups = (
        list(classes.values())
        if classes is not None
        else [(int(label),) for label in labels if label]
    )
    both = (scene.pred != 0) & (scene.ref != 0) & (scene.pred != scene.ref)
    return [
        [np.isin(scene.ref, group) for group in groups],
        [np.isin(scene.pred, group) for group in groups],
        [np.isin(other, group) for other in scene.other_refs for group in groups],
        [both],
    ]


def _lines(
    masks: Iterable[np.ndarray], views: Iterable[View], spacing_mm: tuple[float, float, float]
) -> Iterator[np.ndarray]:
    for view in views:
        left, top, width, height = view.box(spacing_mm)
        for mask in masks:
            cut = view.cut(mask)
            yield from outlines(cut, left, top, (height / cut.shape[0], width / cut.shape[1]))


def _words(
    views: Iterable[View], spacing_mm: tuple[float, float, float]
) -> list[tuple[int, int, str, str]]:
    words = []
    for number, view in enumerate(views):
        left, top, width, height = view.box(spacing_mm)
        words.append((left + 4, top + 12, view.title, ""))
        if number < len(SIDES):
            words.append((left + 4, top + round(height / 2) + 4, SIDES[number], "side"))
        if number == 0:
            words.append((left + width - 6, top + 20, f"{SCALE_BAR_MM / 10:g} cm", "end"))
    return [(x * UNITS, y * UNITS, text, css) for x, y, text, css in words]


def _scale_bar(view: View, spacing_mm: tuple[float, float, float]) -> str:
    left, top, width, _ = view.box(spacing_mm)
    length = round(SCALE_BAR_MM * view.pixels_per_mm * UNITS)
    return f"M{(left + width - 6) * UNITS - length} {(top + 8) * UNITS}h{length}"


def _canvas(scene: Scene, layout: Layout) -> np.ndarray:
    canvas = Image.new("L", (layout.width, layout.height))
    low, high = (
        (0.0, 1.0)
        if scene.image is None
        else np.percentile(scene.image, [DARKEST_PERCENTILE, BRIGHTEST_PERCENTILE])
    )
    for view in layout.views:
        left, top, columns, rows = view.box(scene.spacing_mm)
        tile = Image.new("L", (columns, rows), WITHOUT_IMAGE)
        if scene.image is not None:
            values = (view.cut(scene.image) - low) / max(high - low, 1e-6) * 255
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
