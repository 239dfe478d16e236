"""The deformation between both scans: breathing, a shift of the patient, an elastic part.

It maps points of T2 to points of T1: p1 = p2 + u(p2), in scanner coordinates (LPS, mm). That is the
direction that SimpleITK's resampling wants to bring T1 onto T2's grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.phantom.canvas import rotation
from nnunet_liver_ext.dataset_conversion.phantom.randomness import smooth_field
from nnunet_liver_ext.space.images import Grid

NODE_MM = 6.0
DECAY_BELOW_MM = 270.0  # the dome moves fully, what lies this far below it not at all
DECAY_ABOVE_MM = 160.0
FORWARD = 0.22  # how far the belly moves forward per mm that the dome moves down
SPINE_HOLDS = 0.9
ELASTIC_SCALE_MM = 45.0
MAX_ELASTIC_STEEPNESS = 0.25  # of the elastic part's steepest gradient; keeps the whole invertible


@dataclass(frozen=True)
class Landmarks:
    """The liver's dome and the trunk (an upright elliptic cylinder) in T1, in mm (LPS)."""

    dome_z: float
    centre: tuple[float, float]
    radii: tuple[float, float]
    """Half the trunk's width and depth."""


@dataclass(frozen=True)
class Motion:
    """How far things move from T1 to T2, in mm and degrees."""

    dome_mm: float
    """How much higher (towards the head) the dome is in T2."""
    shift_mm: tuple[float, float, float]
    turn_degrees: tuple[float, float, float]
    elastic_mm: float
    """Standard deviation of each component of the random part."""


def sample_motion(
    rng: np.random.Generator, *, dome_mm: tuple[float, float], elastic_mm: float, shift_mm: float
) -> Motion:
    """Draws a motion: amplitude from `dome_mm` with either sign, shift and turn by spread."""
    size = rng.uniform(*dome_mm) * (1 if rng.random() < 0.5 else -1)
    shift, turn = rng.normal(0, shift_mm, 3), np.clip(rng.normal(0, 1.0, 3), -2.5, 2.5)
    return Motion(size, tuple(shift), tuple(turn), elastic_mm)


def displacement_field(
    grid: Grid, landmarks: Landmarks, motion: Motion, rng: np.random.Generator
) -> sitk.Image:
    """u on nodes 6 mm apart that cover `grid` with a margin: p1 = p2 + u(p2).

    It is an image of vectors (float64, mm).
    """
    nodes = _node_grid(grid)
    z, y, x = np.meshgrid(
        *(
            o + NODE_MM * np.arange(n)
            for o, n in zip(nodes.origin[::-1], nodes.size[::-1], strict=True)
        ),
        indexing="ij",
    )
    breathing = _breathing_weight(x, y, z, landmarks)
    front = np.clip((landmarks.centre[1] - y) / landmarks.radii[1], 0, 1)
    forward = FORWARD * front * _vertical_weight(z, landmarks.dome_z)
    field = np.stack([np.zeros_like(z), -motion.dome_mm * forward, -motion.dome_mm * breathing], -1)
    field += _rigid_displacement(
        np.stack([x, y, z], -1), (*landmarks.centre, landmarks.dome_z - 80), motion
    )
    field += _elastic_displacement(nodes, motion.elastic_mm, rng)
    image = sitk.GetImageFromArray(field, isVector=True)
    image.CopyInformation(nodes.empty_image())
    return image


def to_transform(field: sitk.Image) -> sitk.Transform:
    """The field as a SimpleITK transform of points of T2 to points of T1, zero outside of it."""
    return sitk.DisplacementFieldTransform(sitk.Image(field))


def jacobian_determinant(field: sitk.Image) -> np.ndarray:
    """det(1 + ∇u) at the field's nodes, (z, y, x); positive where the map can be inverted."""
    return sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))


def _node_grid(grid: Grid, margin_mm: float = 30.0) -> Grid:
    low, high = grid.corners().min(0) - margin_mm, grid.corners().max(0) + margin_mm
    size = tuple(int(n) for n in np.ceil((high - low) / NODE_MM) + 1)
    return Grid(size, (NODE_MM,) * 3, tuple(float(v) for v in low), (1, 0, 0, 0, 1, 0, 0, 0, 1))  # type: ignore[arg-type]


def _vertical_weight(z: np.ndarray, dome_z: float) -> np.ndarray:
    """1 at the dome, falling smoothly to 0 towards the pelvis and, faster, towards the neck."""
    below = np.clip((dome_z - z) / DECAY_BELOW_MM, 0, 1)
    above = np.clip((z - dome_z) / DECAY_ABOVE_MM, 0, 1)
    return np.where(z < dome_z, np.cos(np.pi / 2 * below) ** 2, np.cos(np.pi / 2 * above) ** 2)


def _breathing_weight(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, landmarks: Landmarks
) -> np.ndarray:
    """The vertical weight, fading towards the body wall and around the spine."""
    u, v = (
        (x - landmarks.centre[0]) / landmarks.radii[0],
        (y - landmarks.centre[1]) / landmarks.radii[1],
    )
    within = np.clip(1 - (u**2 + v**2) ** 2, 0, 1)
    spine = 1 - SPINE_HOLDS * np.exp(-((u / 0.22) ** 2) - ((v - 0.5) / 0.32) ** 2)
    return _vertical_weight(z, landmarks.dome_z) * within * spine


def _rigid_displacement(
    points: np.ndarray, centre: tuple[float, float, float], motion: Motion
) -> np.ndarray:
    offset = points - np.array(centre)
    return offset @ (rotation(motion.turn_degrees) - np.eye(3)).T + np.array(motion.shift_mm)


def _elastic_displacement(nodes: Grid, sigma_mm: float, rng: np.random.Generator) -> np.ndarray:
    shape = nodes.size[::-1]
    field = np.stack(
        [sigma_mm * smooth_field(shape, nodes.spacing_mm, ELASTIC_SCALE_MM, rng) for _ in range(3)],
        -1,
    )
    steepest = max(float(np.abs(np.gradient(field, NODE_MM, axis=axis)).max()) for axis in range(3))
    return field.astype(float) * min(1.0, MAX_ELASTIC_STEEPNESS / max(steepest, 1e-9))
