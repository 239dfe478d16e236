"""Body wall, chest, spine, back muscles and great vessels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_liver_ext.dataset_conversion.phantom.canvas import Canvas, ellipsoid, tube
from nnunet_liver_ext.dataset_conversion.phantom.tissues import Tissue

CAVITY_RADII_MM = (132.0, 87.0)
CAVITY_CENTRE_Y_MM = -5.0
ROUNDNESS = 2.3  # exponent of the outline: 2 an ellipse, more a rounded rectangle
WALL_MM = 11.0
SKIN_MM = 2.0
SPINE_Y_MM = 36.0
RIB_DISTANCE_MM = 29.0
VERTEBRA_DISTANCE_MM = 33.0


@dataclass(frozen=True)
class Body:
    """What organs have to respect, as arrays over the canvas (float32, mm)."""

    wall_depth: np.ndarray
    """Distance to the inside of the abdominal wall, positive inside, along rays from the body's
    axis."""
    diaphragm: np.ndarray
    """Height z of the diaphragm above each point."""


def paint_body(canvas: Canvas, rng: np.random.Generator, *, fat_mm: float) -> Body:
    """Paints everything but the abdominal organs.

    `fat_mm` is the thickness of the fat below the skin at the sides.
    """
    body = _paint_wall(canvas, fat_mm)
    _paint_ribs(canvas, body, rng)
    _paint_chest(canvas, body, rng)
    _paint_back(canvas, rng)
    return body


def _paint_wall(canvas: Canvas, fat_mm: float) -> Body:
    x, y = canvas.x, canvas.y - np.float32(CAVITY_CENTRE_Y_MM)
    outline = (np.abs(x) / np.float32(CAVITY_RADII_MM[0])) ** np.float32(ROUNDNESS)
    outline += (np.abs(y) / np.float32(CAVITY_RADII_MM[1])) ** np.float32(ROUNDNESS)
    outline **= np.float32(1 / ROUNDNESS)  # 1 on the inside of the wall
    radius = np.hypot(x, y)
    depth = radius / np.maximum(outline, np.float32(1e-3)) - radius
    fat = np.float32(fat_mm) * (
        1 + np.float32(0.4) * y / np.maximum(radius, np.float32(1))
    )  # thicker on the back
    fat *= 1 - canvas.z / 600  # and towards the pelvis
    canvas.tissue[depth > -WALL_MM - fat - SKIN_MM] = Tissue.SKIN
    canvas.tissue[depth > -WALL_MM - fat] = Tissue.SUBCUTANEOUS_FAT
    canvas.tissue[depth > -WALL_MM] = Tissue.MUSCLE
    canvas.tissue[depth > 0] = Tissue.VISCERAL_FAT
    return Body(depth, _diaphragm(canvas, outline))


def _diaphragm(canvas: Canvas, outline: np.ndarray) -> np.ndarray:
    """The height of the diaphragm.

    It has two domes, the left one lower, and a saddle under the heart, and falls to the wall,
    farther behind than in front.
    """
    x, y = canvas.x, canvas.y
    height = -80 * np.clip(outline, 0, 1) ** 5
    height -= 12 * np.exp(-((x / 32) ** 2)) + 16 / (1 + np.exp(-x / 18))
    height -= 0.16 * np.clip(y, 0, None)
    return height.astype(np.float32)


def _paint_ribs(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    """Ribs run around the wall, lower in front; below the costal margin there are none in front."""
    x, y, z = canvas.x, canvas.y, canvas.z
    along = z - 0.55 * y + rng.uniform(0, RIB_DISTANCE_MM)
    offset = along - RIB_DISTANCE_MM * np.rint(along / RIB_DISTANCE_MM)
    distance = np.hypot((body.wall_depth + WALL_MM / 2) / 0.75, offset / 1.3)
    chest = (z > -120 - 0.85 * y) & (np.abs(x) > 28)
    canvas.tissue[(distance < 5.5) & chest] = Tissue.CORTICAL_BONE
    canvas.tissue[(distance < 3.9) & chest] = Tissue.MARROW


def _paint_chest(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    above = canvas.z - body.diaphragm
    inside = body.wall_depth > 0
    canvas.tissue[inside & (above > 0)] = Tissue.LUNG
    vessels = (
        np.hypot(canvas.random_field(26.0, rng), canvas.random_field(26.0, rng)) < 0.11
    )  # where two fields vanish, there are lines
    canvas.tissue[inside & (above > 4) & vessels & (body.wall_depth > 5)] = Tissue.HEART_BLOOD
    canvas.tissue[inside & (above > -3) & (above <= 0.5)] = Tissue.MUSCLE
    centre = np.array([30.0, -38.0, 28.0]) + rng.normal(0, 3, 3)
    box = canvas.box_around(centre, 62)
    depth = ellipsoid(canvas, box, centre, (56, 42, 46))
    over_diaphragm = inside[box] & (above[box] > 0.5)
    for tissue, minimum in (
        (Tissue.VISCERAL_FAT, 0),
        (Tissue.MYOCARDIUM, 5),
        (Tissue.HEART_BLOOD, 14),
    ):
        canvas.paint(tissue, box, over_diaphragm & (depth > minimum))
    septum = np.abs(canvas.x[box] - centre[0] + 0.7 * (canvas.y[box] - centre[1])) < 5
    canvas.paint(Tissue.MYOCARDIUM, box, over_diaphragm & (depth > 14) & septum)


def _paint_back(canvas: Canvas, rng: np.random.Generator) -> None:
    low, high = canvas.axes[2][0], canvas.axes[2][-1]
    box = canvas.box((-95, 0, low), (95, 120, high))
    x, y, z = canvas.coordinates(box)
    inside = np.isin(canvas.tissue[box], (Tissue.VISCERAL_FAT, Tissue.LUNG, Tissue.MUSCLE))
    canvas.paint(Tissue.BACK_MUSCLE, box, inside & (y > 50 + 0.0055 * x**2))
    for side in (-1, 1):
        canvas.paint(Tissue.VISCERAL_FAT, box, _ring(x, y, (side * 33, 73), (29, 19)))
        canvas.paint(Tissue.BACK_MUSCLE, box, _disc(x, y, (side * 33, 73), (27, 17)))
        width = np.clip(
            8 + (-80 - z) * 0.11, 4, 21
        )  # the psoas grows downwards, above it is the crus
        canvas.paint(
            Tissue.BACK_MUSCLE,
            box,
            np.hypot(x - side * (19 + width * 0.75), y - 36 - 0.1 * width) < width,
        )
    _paint_spine(canvas, box, rng.uniform(0, VERTEBRA_DISTANCE_MM))
    _paint_great_vessels(canvas, low, high)


def _disc(
    x: np.ndarray, y: np.ndarray, centre: tuple[float, float], radii: tuple[float, float]
) -> np.ndarray:
    return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 < 1


def _ring(
    x: np.ndarray, y: np.ndarray, centre: tuple[float, float], radii: tuple[float, float]
) -> np.ndarray:
    inner = (radii[0] - 2, radii[1] - 2)
    return _disc(x, y, centre, radii) & ~_disc(x, y, centre, inner)


def _paint_spine(canvas: Canvas, box: tuple[slice, slice, slice], phase: float) -> None:
    x, y, z = canvas.coordinates(box)
    height = (z + phase) / VERTEBRA_DISTANCE_MM
    gap = (
        np.abs(height - np.rint(height)) * VERTEBRA_DISTANCE_MM
    )  # distance to the middle of the nearest disc
    waist = 1.5 * np.clip((gap - 5) / 11, 0, 1)
    r = np.hypot(x / 22, (y - SPINE_Y_MM) / 17) * 19 + waist
    canvas.paint(Tissue.CORTICAL_BONE, box, r < 19)
    canvas.paint(Tissue.MARROW, box, (r < 17.8) & (gap > 5))
    canvas.paint(Tissue.DISC, box, (r < 18.5) & (gap < 4))
    arch = (np.abs(np.hypot(x, y - 63) - 12) < 3.5) | (
        (np.abs(x) < 3.5) & (y > 72) & (y < 92) & (gap > 7)
    )
    process = (
        (np.abs(y - 60 - 0.1 * np.abs(x)) < 3.5)
        & (np.abs(x) > 12)
        & (np.abs(x) < 34)
        & (np.abs(gap - 13) < 5)
    )
    canvas.paint(Tissue.CORTICAL_BONE, box, (arch | process) & (gap > 3))
    canvas.paint(Tissue.MARROW, box, (np.abs(x) < 2) & (y > 74) & (y < 90) & (gap > 8.5))
    canal = np.hypot(x / 1.15, y - 62)
    canvas.paint(Tissue.VISCERAL_FAT, box, canal < 10)
    canvas.paint(Tissue.SPINAL_FLUID, box, canal < 8.5)
    canvas.paint(Tissue.SPINAL_CORD, box, (canal < 4.6) & (z > -130))


def _paint_great_vessels(canvas: Canvas, low: float, high: float) -> None:
    aorta = [(12, 20, high), (10, 17, -40), (6, 10, -110), (5, 11, low)]
    box, depth = tube(canvas, aorta, [12, 11, 10, 9])
    canvas.paint(Tissue.VISCERAL_FAT, box, depth > -2)
    canvas.paint(Tissue.AORTA, box, depth > 0)
    box, depth = tube(canvas, vena_cava_path(low), [11, 11, 11, 10])
    canvas.paint(Tissue.VENA_CAVA, box, depth > 0)


def vena_cava_path(low: float) -> list[tuple[float, float, float]]:
    """Points (x, y, z) in mm along the inferior vena cava, from the heart down to z = `low`."""
    return [(-14, -2, 14), (-20, 12, -30), (-21, 13, -110), (-17, 13, low)]
