"""The abdominal organs around the liver: stomach, bowel, pancreas, spleen, kidneys."""

from __future__ import annotations

import numpy as np

from nnunet_liver_ext.dataset_conversion.phantom.body import Body
from nnunet_liver_ext.dataset_conversion.phantom.canvas import (
    Box,
    Canvas,
    ellipsoid,
    rotation,
    tube,
)
from nnunet_liver_ext.dataset_conversion.phantom.tissues import Tissue


def paint_organs(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    """Paints bowel, pancreas, stomach, kidneys and spleen around the liver."""
    _paint_small_bowel(canvas, body, rng)
    _paint_colon(canvas, body, rng)
    _paint_pancreas(canvas, body, rng)
    _paint_stomach(canvas, body, rng)
    _paint_kidney(canvas, body, rng, side=-1)
    _paint_kidney(canvas, body, rng, side=1)
    _paint_spleen(canvas, body, rng)


def _room(canvas: Canvas, body: Body, box: Box, margin_mm: float = 2.0) -> np.ndarray:
    """True within the cavity, `margin_mm` from wall and diaphragm, without bone and muscle."""
    below = body.diaphragm[box] - canvas.z[box]
    free = np.isin(
        canvas.tissue[box],
        (Tissue.MUSCLE, Tissue.BACK_MUSCLE, Tissue.MARROW, Tissue.CORTICAL_BONE, Tissue.AORTA),
        invert=True,
    )
    return (body.wall_depth[box] > margin_mm) & (below > 3 + margin_mm) & free


def _paint_small_bowel(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    """Paints loops of bowel with fat between them and wall around their content.

    The loops are lobes of a random field of both signs.
    """
    box = canvas.box((-115, -95, canvas.axes[2][0]), (115, 32, -60))
    field = canvas.random_field(17.0, rng)[box]
    x, y, z = canvas.coordinates(box)
    low_enough = z < -96 - 0.35 * (y + 30) + 0.25 * np.abs(x - 30)
    in_room = _room(canvas, body, box, 4.0) & low_enough & (y < 26)
    lobe = np.abs(field)
    canvas.paint(Tissue.BOWEL_WALL, box, in_room & (lobe > 0.16))
    canvas.paint(Tissue.BOWEL_CONTENT, box, in_room & (lobe > 0.45))


def _paint_colon(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    low = canvas.axes[2][0]
    path = np.array(
        [
            *(
                (-100, 22, low),
                (-102, 20, -188),
                (-88, -20, -170),
                (-45, -62, -158),
                (5, -70, -160),
                (60, -58, -142),
            ),
            *((98, -12, -112), (108, 28, -132), (110, 38, -165), (108, 36, low)),
        ],
        float,
    )
    path[2:7] += rng.normal(0, 5, (5, 3))
    radii = rng.uniform(15, 20, len(path))
    box, depth = tube(canvas, path, list(radii))
    x, y, z = canvas.coordinates(box)
    depth = depth - 2.5 - 2.5 * np.cos((x + 1.3 * z + 0.6 * y) / 4.5)  # haustra
    room = _room(canvas, body, box, 3.0)
    canvas.paint(Tissue.VISCERAL_FAT, box, room & (depth > -3))
    canvas.paint(Tissue.BOWEL_WALL, box, room & (depth > 0))
    canvas.paint(Tissue.BOWEL_CONTENT, box, room & (depth > 2.5))
    gas_level = -66 + 6 * rng.standard_normal()
    canvas.paint(Tissue.GAS, box, room & (depth > 2.5) & (y < gas_level))


def _paint_pancreas(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    path = np.array(
        [
            (-22, -12, -122),
            (-16, -18, -104),
            (4, -22, -96),
            (32, -6, -90),
            (62, 14, -80),
            (80, 26, -72),
        ],
        float,
    )
    path += rng.normal(0, 2, 3)
    box, depth = tube(canvas, path, [13, 12, 8.5, 9, 9, 7])
    depth = depth + 1.5 * canvas.random_field(9.0, rng)[box]
    canvas.paint(Tissue.PANCREAS, box, _room(canvas, body, box) & (depth > 0))


def _paint_stomach(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    path = np.array(
        [
            (44, 22, -40),
            (56, 2, -58),
            (64, -34, -86),
            (46, -52, -112),
            (12, -50, -120),
            (-14, -36, -108),
        ],
        float,
    )
    path[1:5] += rng.normal(0, 4, (4, 3))
    radii = np.array([24, 29, 27, 22, 17, 11]) * rng.uniform(0.8, 1.15)
    box, depth = tube(canvas, path, list(radii))
    room = _room(canvas, body, box)
    depth = np.minimum(depth, (body.wall_depth[box] - 2))
    canvas.paint(Tissue.VISCERAL_FAT, box, room & (depth > -2.5))
    canvas.paint(Tissue.STOMACH_WALL, box, room & (depth > 0))
    canvas.paint(Tissue.STOMACH_CONTENT, box, room & (depth > 4))
    gas_level = -42 + 10 * rng.standard_normal()  # lying on the back, gas collects in front
    canvas.paint(Tissue.GAS, box, room & (depth > 4) & (canvas.y[box] < gas_level))


def kidney_centre(side: int) -> np.ndarray:
    """Centre (x, y, z) in mm of the right kidney (side −1) or of the left one (1)."""
    return np.array([-70.0, 38.0, -146.0]) if side < 0 else np.array([70.0, 38.0, -132.0])


def _paint_kidney(canvas: Canvas, body: Body, rng: np.random.Generator, *, side: int) -> None:
    centre = kidney_centre(side) + rng.normal(0, 3, 3)
    size = rng.uniform(0.92, 1.08)
    axes = rotation((8, side * 12, side * 35 + rng.normal(0, 5)))
    box = canvas.box_around(centre, 75)
    room = _room(canvas, body, box, 3.0)
    depth = ellipsoid(canvas, box, centre, np.array([24.0, 29.0, 54.0]) * size, axes.T)
    hilum = centre + np.array([-side * 17.0, -10.0, 0.0])
    sinus = ellipsoid(canvas, box, hilum, (15, 12, 20), axes.T)
    canvas.paint(Tissue.VISCERAL_FAT, box, room & (depth > -8))
    canvas.paint(Tissue.KIDNEY_CORTEX, box, room & (depth > 0))
    pyramids = np.cos(canvas.z[box] / 3.2 + rng.uniform(0, 6)) + np.cos(
        (canvas.y[box] + canvas.x[box]) / 4.5
    )
    canvas.paint(Tissue.KIDNEY_MEDULLA, box, room & (depth > 6.5) & (pyramids > -0.1))
    canvas.paint(Tissue.VISCERAL_FAT, box, room & (sinus > 0) & (depth > -8))
    path = [hilum, hilum + np.array([-side * 15, -8, 4]), (side * 8, 10, centre[2] + 12)]
    box, vein = tube(canvas, path, [4, 5, 5])
    canvas.paint(Tissue.VENA_CAVA, box, _room(canvas, body, box) & (vein > 0))


def _paint_spleen(canvas: Canvas, body: Body, rng: np.random.Generator) -> None:
    """A shell against the ribs: an ellipsoid, hollowed where the stomach and the kidney lie."""
    centre = np.array([92.0, 34.0, -70.0]) + rng.normal(0, 4, 3)
    radii = np.array([42.0, 50.0, 58.0]) * rng.uniform(0.92, 1.15)
    box = canvas.box_around(centre, 85)
    depth = ellipsoid(canvas, box, centre, radii, rotation((0, 10, -25)).T)
    hollow = ellipsoid(canvas, box, centre + np.array([-50, -22, -6]), (36, 36, 50))
    kidney = ellipsoid(canvas, box, kidney_centre(1) + np.array([2, -4, 0]), (32, 34, 58))
    depth = np.minimum(depth, -np.maximum(hollow, kidney))
    canvas.paint(Tissue.SPLEEN, box, _room(canvas, body, box, 2.0) & (depth > 0))
