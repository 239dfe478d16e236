"""Pictures of one case: three orthogonal slices with the outlines of reference (red) and prediction (green)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from nnunet_liver_ext.evaluation.cases import Comparison, same_grid
from nnunet_liver_ext.evaluation.label_maps import Classes
from nnunet_liver_ext.images import Grid, image_like, read_image, resample

REFERENCE_COLOUR, PREDICTION_COLOUR = "#ff4d4d", "#3ddc6a"
MARGIN_MM = 35.0
WIDTH_INCHES, DPI = 10.0, 110
BRIGHTEST_PERCENTILE = 99.7
PLANES = (("axial", 0), ("coronal", 1), ("sagittal", 2))


@dataclass(frozen=True)
class Scene:
    """What is drawn: label maps and image cut to the surroundings of the object, in patient axes.

    Axes are (z, y, x) = (towards the head, towards the back, towards the patient's left).
    """

    pred: np.ndarray
    ref: np.ndarray
    image: np.ndarray | None
    spacing_mm: tuple[float, float, float]
    centre: tuple[int, int, int]


def overlay_png(comparison: Comparison, classes: Classes | None) -> bytes:
    """The picture of one comparison as a PNG file: axial, coronal and sagittal slice through the reference's centre of mass.

    The reference is solid red, the prediction dashed green. Without an image the background is grey.

    Raises:
        InputError: one of the files cannot be read.
    """
    return draw(_scene(comparison, classes))


def draw(scene: Scene) -> bytes:
    """A PNG of the three slices side by side, at one scale, each voxel as wide and high as in the patient."""
    extents = np.array(scene.ref.shape) * scene.spacing_mm
    widths = [extents[2], extents[2], extents[1]]
    heights = [extents[1], extents[0], extents[0]]
    figure = Figure(figsize=(WIDTH_INCHES, WIDTH_INCHES * max(heights) / sum(widths)), dpi=DPI, facecolor="black")
    canvas = FigureCanvasAgg(figure)
    left = 0.0
    for (title, axis), width, height in zip(PLANES, widths, heights, strict=True):
        box = (left / sum(widths), (1 - height / max(heights)) / 2, width / sum(widths) * 0.995, height / max(heights))
        _draw_plane(figure.add_axes(box), scene, axis, title)
        left += width
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    content = io.BytesIO()
    picture.quantize(palette=_palette(), dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return content.getvalue()


@cache
def _palette() -> Image.Image:
    """Greys, and greys under more or less of the outlines' colours: a third of the size of a full-colour picture.

    A palette found from the picture itself may leave out thin outlines.
    """
    colours = [np.linspace(0, 255, 128)[:, None].repeat(3, axis=1)]
    under = np.linspace(0, 255, 16)[:, None]
    for colour in (REFERENCE_COLOUR, PREDICTION_COLOUR):
        colours += [under * (1 - share) + np.array(to_rgb(colour)) * 255 * share for share in (0.25, 0.5, 0.75, 1.0)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate(colours).round().astype(np.uint8).tobytes())
    return palette


def _draw_plane(axes: Axes, scene: Scene, axis: int, title: str) -> None:
    rows_mm, columns_mm = np.delete(scene.spacing_mm, axis)
    slices = {name: _slice(values, axis, scene.centre[axis]) for name, values in _layers(scene).items()}
    rows, columns = slices["ref"].shape
    extent = (0, columns * columns_mm, rows * rows_mm, 0) if axis == 0 else (0, columns * columns_mm, 0, rows * rows_mm)
    origin: Literal["upper", "lower"] = "upper" if axis == 0 else "lower"
    axes.set_axis_off()
    if scene.image is None:
        axes.imshow(np.full((1, 1), 0.3), cmap="gray", vmin=0, vmax=1, extent=extent, aspect="equal")
    else:
        low, high = np.percentile(scene.image, [0.5, BRIGHTEST_PERCENTILE])
        options: dict[str, Any] = {"vmin": low, "vmax": max(high, low + 1e-6), "interpolation": "bilinear"}
        axes.imshow(slices["image"], cmap="gray", origin=origin, extent=extent, aspect="equal", **options)
    for name, colour, style, width in (("ref", REFERENCE_COLOUR, "solid", 1.6), ("pred", PREDICTION_COLOUR, "dashed", 1.3)):
        _outline(axes, slices[name], (rows_mm, columns_mm), colours=colour, linestyles=style, linewidths=width)
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    axes.text(0.015, 0.985, title, transform=axes.transAxes, color="white", fontsize=8, va="top")


def _outline(
    axes: Axes, labels: np.ndarray, voxel_mm: tuple[float, float], *, colours: str, linestyles: str, linewidths: float
) -> None:
    padded = np.pad(labels, 1)
    y, x = ((np.arange(n) - 0.5) * size for n, size in zip(padded.shape, voxel_mm, strict=True))
    for label in np.unique(labels[labels != 0]):
        outline = (padded == label).astype(float)
        axes.contour(x, y, outline, levels=[0.5], colors=colours, linestyles=linestyles, linewidths=linewidths)


def _layers(scene: Scene) -> dict[str, np.ndarray]:
    layers = {"ref": scene.ref, "pred": scene.pred}
    return layers if scene.image is None else {**layers, "image": scene.image}


def _slice(values: np.ndarray, axis: int, index: int) -> np.ndarray:
    return np.take(values, index, axis=axis)


def _scene(comparison: Comparison, classes: Classes | None) -> Scene:
    pred, ref, _ = same_grid(comparison)
    grid = comparison.reference.read()[1]
    pred, ref = (_in_patient_axes(image_like(_classes_only(labels, classes), grid)) for labels in (pred, ref))
    image = None
    if comparison.image is not None:
        image = _in_patient_axes(_on(grid, sitk.Cast(read_image(comparison.image), sitk.sitkFloat32)))
    oriented = sitk.DICOMOrient(grid.empty_image(), "LPS")
    return _cropped(pred, ref, image, Grid.of(oriented).spacing_mm)


def _classes_only(labels: np.ndarray, classes: Classes | None) -> np.ndarray:
    """Label maps without what no class names, small enough for a picture."""
    if classes is None:
        return labels.astype(np.int32)
    known = sorted({label for values in classes.values() for label in values})
    return np.where(np.isin(labels, known), labels, 0).astype(np.int32)


def _in_patient_axes(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))


def _on(grid: Grid, image: sitk.Image) -> sitk.Image:
    return image if Grid.of(image).matches(grid) else resample(image, grid)


def _cropped(pred: np.ndarray, ref: np.ndarray, image: np.ndarray | None, spacing_mm: tuple[float, float, float]) -> Scene:
    box = _surroundings((pred != 0) | (ref != 0), spacing_mm)
    pred, ref = pred[box], ref[box]
    return Scene(pred, ref, None if image is None else image[box], spacing_mm, _centre(ref if ref.any() else pred))


def _surroundings(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> tuple[slice, ...]:
    if not mask.any():
        return (slice(None),) * 3
    box = []
    for axis, step in enumerate(spacing_mm):
        found = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        margin = round(MARGIN_MM / step)
        box.append(slice(max(0, int(found[0]) - margin), int(found[-1]) + 1 + margin))
    return tuple(box)


def _centre(mask: np.ndarray) -> tuple[int, int, int]:
    """Index of the centre of mass, of the volume if the mask is empty."""
    if not mask.any():
        return mask.shape[0] // 2, mask.shape[1] // 2, mask.shape[2] // 2
    z, y, x = (round(float(indices.mean())) for indices in np.nonzero(mask))
    return z, y, x
