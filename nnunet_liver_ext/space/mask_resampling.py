"""Label maps on another grid, by the shape of each class.

Interpolating a class's 0 and 1 and deciding at one half takes the nearest voxel wherever a surface
is nearly parallel to the slices: the mask moves by up to half a slice against its image. But the
outlines in the slices above and below tell where between two slices the surface lies. This is
shape-based interpolation (Raya and Udupa 1990, doi:10.1109/42.52980), here along all three axes, so
that it holds for grids that are turned against each other, too.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from nnunet_liver_ext.space.images import Grid, array, image_like, resample

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
Box = tuple[slice, ...]
SpacingMm = tuple[float, float, float]

FAR_MM = 1e6
"""Beyond any distance in an image."""
SAME_VOXELS = 0.01
"""In voxels: grids that are less apart have the same voxels."""
LEAST_SHARE = 0.02
"""No surface lies nearer to a voxel's centre than this share of the way to its neighbour's."""
MOST_SHIFT = 0.5
"""In voxels (their shortest edge): a surface is not moved by more to keep the volume."""


def mask_on_grid(mask: sitk.Image, grid: Grid, num_classes: int) -> sitk.Image:
    """The label map on another grid, 0 outside of its own.

    Where the voxels of the other grid are voxels of its own, they keep their labels.

    Args:
        mask: labels 0..num_classes − 1.
        grid: where to put it.
        num_classes: K, background included; at most 256.

    Returns:
        uint8 labels.
    """
    own = Grid.from_image(mask)
    if _has_voxels_of(grid, own):
        return resample(
            sitk.Cast(mask, sitk.sitkUInt8), grid, interpolator=sitk.sitkNearestNeighbor
        )
    labels = array(mask)
    winner = np.zeros(grid.size[::-1], np.uint8)
    depth_mm = np.full(winner.shape, -FAR_MM, np.float32)
    boxes = ndimage.find_objects(labels, num_classes - 1)
    present = [(label, box) for label, box in enumerate(boxes, 1) if box is not None]
    for label, box in present:
        where, values = _depth_on_grid(labels == label, box, own, grid)
        deeper = values > depth_mm[where]
        winner[where][deeper] = label
        depth_mm[where][deeper] = values[deeper]
    inside = depth_mm > 0
    if len(present) > 1:  # no gap between classes that touch
        whole = labels > 0
        where, values = _depth_on_grid(whole, ndimage.find_objects(whole, 1)[0], own, grid)
        inside[where] |= values > 0
    winner[~inside] = 0
    return image_like(winner, grid)


def signed_depth(region: BoolArray, spacing_mm: SpacingMm) -> FloatArray:
    """Depth of voxels' centres below the surface of a region in mm, negative outside (z, y, x).

    Along the axis on which the surface is nearest; half a voxel's diagonal where no neighbour is on
    the other side. What is beyond the array is unknown: there is no surface at its border.

    Args:
        region: (z, y, x).
        spacing_mm: (z, y, x).
    """
    nearest_mm = np.full(region.shape, np.inf, np.float32)
    for axis in range(3):
        in_plane_mm = _distance_in_planes(region, spacing_mm, axis)
        edge_mm = max(mm for other, mm in enumerate(spacing_mm) if other != axis)
        for inner, outer in _neighbours(axis):
            front = region[inner] & ~region[outer]
            if front.any():
                share = _surface_between(
                    front, in_plane_mm[inner], in_plane_mm[outer], axis, edge_mm
                )
                for side, part in ((inner, share), (outer, 1 - share)):
                    view = nearest_mm[side]
                    view[front] = np.minimum(view[front], part * spacing_mm[axis])
    nearest_mm[np.isinf(nearest_mm)] = np.linalg.norm(spacing_mm) / 2
    return np.where(region, nearest_mm, -nearest_mm)


def _depth_on_grid(region: BoolArray, box: Box, own: Grid, grid: Grid) -> tuple[Box, FloatArray]:
    """Depth of a region on another grid in mm, so that its volume is kept if it lies within.

    Args:
        region: on the grid `own`.
        box: what holds it.
        own: its grid.
        grid: the other.

    Returns:
        The box of `grid` that holds the region, maybe empty, and the depth there.
    """
    near = tuple(
        slice(max(0, part.start - 1), min(size, part.stop + 1))
        for part, size in zip(box, region.shape, strict=True)
    )
    where = _box_around(own.part(near), grid)
    if any(part.start == part.stop for part in where):
        return where, np.zeros([part.stop - part.start for part in where], np.float32)
    depth = image_like(signed_depth(region[near], own.spacing_mm), own.part(near))
    depth_mm = array(resample(depth, grid.part(where), outside=-FAR_MM))
    corners = grid.index_of(own.part(box).corners(beyond=0.5))
    cut = (corners < -0.5 - SAME_VOXELS) | (corners > np.array(grid.size) - 0.5 + SAME_VOXELS)
    voxels = round(np.count_nonzero(region[near]) * np.prod(own.spacing) / np.prod(grid.spacing))
    if not cut.any() and 0 < voxels < depth_mm.size:
        surface = np.partition(depth_mm, -voxels - 1, axis=None)[-voxels - 1]
        most = MOST_SHIFT * min(own.spacing)
        depth_mm -= np.clip(surface, -most, most)
    return where, depth_mm


def _distance_in_planes(region: BoolArray, spacing_mm: SpacingMm, axis: int) -> FloatArray:
    """From voxels' centres to the nearest outline in the same plane across an axis, in mm.

    About FAR_MM or more in planes without an outline.
    """
    in_plane_mm = [FAR_MM if other == axis else mm for other, mm in enumerate(spacing_mm)]
    distance_mm = np.full(region.shape, FAR_MM, np.float32)
    if region.all() or not region.any():
        return distance_mm
    for side in (region, ~region):
        image = sitk.GetImageFromArray(side.astype(np.uint8))
        image.SetSpacing(in_plane_mm[::-1])
        to_side = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
        distance_mm[~side] = sitk.GetArrayViewFromImage(to_side)[~side]
    return distance_mm - min(in_plane_mm) / 2  # an outline lies between voxels' centres


def _neighbours(axis: int) -> list[tuple[Box, Box]]:
    """The voxels that have a next one along the axis, and the next ones; and in reverse."""
    first, second = (
        tuple(part if other == axis else slice(None) for other in range(3))
        for part in (slice(None, -1), slice(1, None))
    )
    return [(first, second), (second, first)]


def _surface_between(
    front: BoolArray, inner_mm: FloatArray, outer_mm: FloatArray, axis: int, edge_mm: float
) -> FloatArray:
    """Where the surface lies between neighbours, from 0 (the inner one) to 1, for each of `front`.

    Each connected piece of the front is a terrace between two slices. Along one edge the surface
    leaves it through the inner slice, along another through the outer one; between them it rises in
    proportion to the distances. A terrace with one of these edges only is a dome. In the mean the
    surface of a terrace is half-way, so that the volume is what counting voxels gives.

    Args:
        front: inner voxels whose neighbour along the axis is outside.
        inner_mm: distance of the inner voxel to its slice's outline.
        outer_mm: distance of its neighbour to that slice's outline.
        axis: across the slices.
        edge_mm: an outline that is nearer than this is a piece's edge.
    """
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[tuple(1 if other == axis else slice(None) for other in range(3))] = True
    pieces, count = ndimage.label(front, in_plane)
    piece, every = pieces[front], np.arange(1, count + 1)
    inner_mm, outer_mm = inner_mm[front], outer_mm[front]
    has_inner_edge, has_outer_edge = (
        ndimage.minimum(mm, piece, every)[piece - 1] <= edge_mm for mm in (inner_mm, outer_mm)
    )
    inner_dome, outer_dome = (
        1 - (1 - mm / ndimage.maximum(mm, piece, every)[piece - 1]) ** 2
        for mm in (inner_mm, outer_mm)
    )
    share = np.select(
        [has_inner_edge & has_outer_edge, has_inner_edge, has_outer_edge],
        [inner_mm / (inner_mm + outer_mm), inner_dome, 1 - outer_dome],
        0.5,
    ).clip(LEAST_SHARE, 1 - LEAST_SHARE)
    mean = ndimage.mean(share, piece, every)[piece - 1]
    share = share * (1 - mean) / (share * (1 - mean) + (1 - share) * mean)
    return share.clip(LEAST_SHARE, 1 - LEAST_SHARE)


def _box_around(inner: Grid, grid: Grid) -> Box:
    """The voxels of a grid, as slices (z, y, x), among which all of another grid lie."""
    index = grid.index_of(inner.corners(beyond=0.5))[:, ::-1]
    low, high = np.floor(index.min(0)), np.ceil(index.max(0)) + 1
    return tuple(
        slice(int(np.clip(start, 0, size)), int(np.clip(stop, 0, size)))
        for start, stop, size in zip(low, high, grid.size[::-1], strict=True)
    )


def _has_voxels_of(grid: Grid, own: Grid) -> bool:
    """Whether every voxel of a grid is one that `own` has, or would have if it went on."""
    steps = np.linalg.solve(own.steps_mm, grid.steps_mm)
    start = own.index_of(np.array([grid.origin]))[0]
    drift = np.abs(steps - np.rint(steps)) @ (np.array(grid.size) - 1)
    return bool((np.abs(start - np.rint(start)) + drift).max() <= SAME_VOXELS)
