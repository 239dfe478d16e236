"""The liver with its vessels, lesions and the gallbladder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_liver_ext.dataset_conversion.phantom.body import Body, vena_cava_path
from nnunet_liver_ext.dataset_conversion.phantom.canvas import Box, Canvas, ellipsoid, tube
from nnunet_liver_ext.dataset_conversion.phantom.organs import kidney_centre
from nnunet_liver_ext.dataset_conversion.phantom.tissues import Tissue
from nnunet_liver_ext.space.components import largest_component

ROUNDING_MM = 5.0  # of the edges where two of the liver's surfaces meet
VENOUS_CONFLUENCE = np.array([-19.0, 9.0, -26.0])


@dataclass(frozen=True)
class Liver:
    """The liver with vessels and lesions (bool), and its lesions (0 or their number 1, ...)."""

    mask: np.ndarray
    lesions: np.ndarray


@dataclass(frozen=True)
class LiverShape:
    """What differs between patients, in mm.

    The right lobe ends below at `tip_z`, the left lobe at the left at `left_x`.
    """

    tip_z: float
    left_x: float
    thickness: float


def paint_liver(
    canvas: Canvas, body: Body, rng: np.random.Generator, shape: LiverShape, lesions: int
) -> Liver:
    """Paints the liver with its vessels, its gallbladder and `lesions` lesions."""
    box = canvas.box((-140, -105, shape.tip_z - 15), (shape.left_x + 10, 95, 5))
    depth = _liver_depth(canvas, body, box, shape)
    mask = np.zeros(canvas.shape, bool)
    mask[box] = largest_component(depth > 0, neighbours=6)
    canvas.paint(Tissue.LIVER, canvas.whole, mask)
    for path, radii in _vessels(rng):
        near, inside = tube(canvas, path, radii)
        canvas.paint(Tissue.LIVER_VESSEL, near, (inside > 0) & mask[near])
    labels = np.zeros(canvas.shape, np.uint8)
    _paint_lesions(canvas, rng, box, depth, mask, labels, lesions)
    _paint_gallbladder(canvas, rng, mask)
    mask[box] = largest_component(mask[box], neighbours=6)
    return Liver(mask, np.where(mask, labels, 0))


def _liver_depth(canvas: Canvas, body: Body, box: Box, shape: LiverShape) -> np.ndarray:
    """Distance to the nearest of the surfaces that bound the liver, in mm, with rounded edges."""
    x, y, z = canvas.coordinates(box)
    across = np.clip((x + 125) / (shape.left_x + 125), 0, 1.2)
    underside = shape.tip_z + (-30 - shape.tip_z) * across**0.75
    underside += 0.22 * (y + 10) - shape.thickness * np.exp(-(((x + 20) / 45) ** 2))
    left = 1 / (1 + np.exp(-(x + 4) / 10))
    behind = 74 - left * (92 + 0.22 * np.clip(x, 0, None))
    surfaces = [
        0.75 * (body.diaphragm[box] - 3.5 - z),
        body.wall_depth[box] - 2.0,
        0.8 * (z - underside),
        0.8 * (behind - y),
        0.6 * (shape.left_x - x),
        -5 - ellipsoid(canvas, box, kidney_centre(-1), (27, 32, 57)),
        -1 - ellipsoid(canvas, box, (0, 36, -80), (30, 30, 200)),  # spine and crura
        _fissure(x, y, z),
    ]
    near, cava = tube(canvas, vena_cava_path(shape.tip_z - 30), [12, 12, 12, 12])
    outside_cava = np.full(canvas.shape, 1e3, np.float32)
    outside_cava[near] = -cava
    surfaces.append(outside_cava[box])
    return _rounded_minimum(surfaces)


def _fissure(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The cleft of the ligament between left and right lobe, open below and in front."""
    return (
        np.hypot(
            (x - 6 - 0.2 * (y + 40)) * 1.2,
            0.35 * np.clip(z + 78, 0, None) + 0.5 * np.clip(y + 45, 0, None),
        )
        - 3.5
    )


def _rounded_minimum(surfaces: list[np.ndarray]) -> np.ndarray:
    """min(a, b, ...) with corners rounded: -k·log Σ exp(-a/k)."""
    total = sum(
        np.exp(np.clip(-surface / np.float32(ROUNDING_MM), -20, 20)) for surface in surfaces
    )
    return (-ROUNDING_MM * np.log(total)).astype(np.float32)


Vessel = tuple[list[np.ndarray], list[float]]


def _vessels(rng: np.random.Generator) -> list[Vessel]:
    """Portal vein with its branches, and three hepatic veins that meet below the diaphragm."""
    trunk = [np.array(p, float) for p in ((8, 2, -112), (-14, -4, -98), (-34, -4, -84))]
    vessels: list[Vessel] = [(trunk, [6.5, 6.5, 6.5])]
    hilum = trunk[-1]
    for target, radius in (
        ((-72, 12, -70), 5.6),
        ((-66, -20, -92), 5.2),
        ((-80, 20, -110), 5.2),
        ((14, -42, -62), 4.8),
    ):
        vessels += _branches(rng, hilum, np.array(target, float), radius, 5)
    for target, radius in (((-70, 26, -52), 5.8), ((-48, -34, -54), 5.4), ((26, -30, -44), 4.8)):
        vessels += _branches(rng, VENOUS_CONFLUENCE, np.array(target, float), radius, 5)
    return vessels


def _branches(
    rng: np.random.Generator, start: np.ndarray, end: np.ndarray, radius: float, generations: int
) -> list[Vessel]:
    """A slightly bent vessel that forks at its end into two thinner and shorter ones, and so on."""
    length = float(np.linalg.norm(end - start))
    middle = (start + end) / 2 + rng.normal(0, 0.08 * length, 3)
    vessels: list[Vessel] = [([start, middle, end], [radius, 0.92 * radius, 0.85 * radius])]
    if generations == 1:
        return vessels
    sideways = rng.standard_normal(3) * np.array([1, 1, 0.8])
    along = (end - start) / length
    sideways -= along * (sideways @ along)
    sideways /= np.linalg.norm(sideways)
    for sign in (-1, 1):
        direction = along + sign * rng.uniform(0.5, 0.8) * sideways
        reach = rng.uniform(0.55, 0.8) * min(length, 42.0)
        tip = end + direction / np.linalg.norm(direction) * reach
        vessels += _branches(rng, end, tip, 0.75 * radius, generations - 1)
    return vessels


def _paint_lesions(
    canvas: Canvas,
    rng: np.random.Generator,
    box: Box,
    depth: np.ndarray,
    mask: np.ndarray,
    labels: np.ndarray,
    number: int,
) -> None:
    """Bumpy spheres of 4-18 mm radius, anywhere in the liver, not into one another."""
    bumps = canvas.random_field(12.0, rng)
    for index in range(1, number + 1):
        radius = 4 + 14 * rng.random() ** 2
        free = np.flatnonzero((depth > 0.6 * radius) & mask[box] & (labels[box] == 0))
        if len(free) == 0:
            radius, free = 4.0, np.flatnonzero(mask[box] & (labels[box] == 0))
        place = np.unravel_index(free[rng.integers(len(free))], depth.shape)
        centre = [float(values[place]) for values in canvas.coordinates(box)]
        near = canvas.box_around(centre, 1.6 * radius)
        inside = (
            ellipsoid(canvas, near, centre, radius * rng.uniform(0.8, 1.2, 3))
            + 0.12 * radius * bumps[near]
        )
        inside = (inside > 0) & mask[near] & (labels[near] == 0)
        canvas.paint(Tissue.LESION, near, inside)
        labels[near][inside] = index


def _paint_gallbladder(canvas: Canvas, rng: np.random.Generator, mask: np.ndarray) -> None:
    """Hangs below the liver, half sunk into its underside; what it takes is no liver any more."""
    neck = np.array([-36.0, -18.0, -96.0])
    fundus = neck + np.array([-14, -44, -34]) + rng.normal(0, 4, 3)
    box, depth = tube(canvas, [neck, (neck + fundus) / 2, fundus], [4, 10, 13])
    mask[box] &= depth < -1
    canvas.paint(Tissue.STOMACH_WALL, box, depth > -1)
    canvas.paint(Tissue.GALLBLADDER, box, depth > 1.0)
