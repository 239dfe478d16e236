"""Displacement fields against SciPy, SimpleITK and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage
from torch import Tensor

from nnunet_liver_ext.deformation import (
    affine_displacement,
    blur,
    control_grid_size,
    upsample_control_grid,
    voxel_positions,
    warp,
)

SIZES = [(13, 17), (7, 9, 11)]


def random_field(
    size: tuple[int, ...], *, voxels: float = 2.5, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Two images with two channels, and a displacement of up to some voxels for each; double
    precision."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((2, 2, *size), generator=generator, dtype=torch.float64)
    displacement = voxels * torch.randn(
        (2, len(size), *size), generator=generator, dtype=torch.float64
    )
    return images, displacement


@pytest.mark.parametrize("size", SIZES)
def test_warp_is_linear_interpolation_with_zero_outside(size):
    images, displacement = random_field(size)
    warped = warp(images, displacement)
    for case in range(2):
        positions = np.indices(size) + displacement[case].numpy()
        for channel in range(2):
            expected = ndimage.map_coordinates(
                images[case, channel].numpy(), positions, order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(warped[case, channel].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_warp_is_simpleitks_displacement_field(size):
    spacing_mm = np.array([3.0, 1.5, 0.8][-len(size) :])
    images, displacement = random_field(size, voxels=1.0, seed=1)
    image = sitk.GetImageFromArray(images[0, 0].numpy())
    image.SetSpacing(spacing_mm[::-1].tolist())
    field_mm = np.moveaxis(
        displacement[0].numpy() * spacing_mm.reshape(-1, *[1] * len(size)), 0, -1
    )[..., ::-1]
    field = sitk.GetImageFromArray(field_mm.astype(np.float64), isVector=True)
    field.CopyInformation(image)
    resampled = sitk.Resample(
        image, image, sitk.DisplacementFieldTransform(field), sitk.sitkLinear, 0.0
    )

    positions = np.indices(size) + displacement[0].numpy()
    last = np.array(size).reshape(-1, *[1] * len(size)) - 1
    inside = ((positions >= 0) & (positions <= last)).all(
        0
    )  # ITK is zero beyond half a voxel from the last centre
    assert inside.mean() > 0.4
    np.testing.assert_allclose(
        warp(images, displacement)[0, 0].numpy()[inside],
        sitk.GetArrayFromImage(resampled)[inside],
        atol=1e-6,
    )


def test_warp_pulls_back():
    image = torch.zeros(1, 1, 5, 7)
    image[..., 3, 2] = 1
    displacement = torch.zeros(1, 2, 5, 7)
    displacement[:, 0], displacement[:, 1] = 1, -3
    assert (warp(image, displacement) > 0.99).nonzero().tolist() == [
        [0, 0, 2, 5]
    ]  # 3 = 2 + 1 and 2 = 5 - 3


def test_warp_gives_the_grid_of_the_displacement():
    image = torch.arange(5.0).expand(1, 1, 4, 5)
    assert warp(image, torch.zeros(1, 2, 2, 3)).squeeze().tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_warp_of_half_precision_has_exact_positions(dtype):
    """Whole shifts of a long volume move voxels to voxels; half-precision positions would mix
    neighbours."""
    line = (torch.arange(700) % 2).to(dtype).expand(1, 1, 4, 700)
    displacement = torch.zeros(1, 2, 4, 700, dtype=dtype)
    displacement[:, 1] = 3
    warped = warp(line, displacement)
    assert warped.dtype == dtype
    torch.testing.assert_close(warped[..., :697], line[..., 3:], atol=1e-2, rtol=0)


def test_warp_under_autocast_has_exact_positions():
    image = torch.rand((1, 1, 4, 600), generator=torch.Generator().manual_seed(0))
    displacement = torch.full((1, 2, 4, 600), 0.25)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        warped = warp(image, displacement)
    torch.testing.assert_close(warped, warp(image, displacement))


def test_warp_has_the_derivatives_of_its_image_and_displacement():
    images, displacement = random_field((4, 5), voxels=0.7, seed=2)
    images.requires_grad_(), displacement.requires_grad_()
    assert torch.autograd.gradcheck(warp, (images, displacement))


@pytest.mark.parametrize(("size", "pitch"), [((32, 24), (8, 4)), ((8, 16, 12), (2, 8, 4))])
def test_constant_control_grid_is_a_constant_displacement(size, pitch):
    control = torch.tensor([1.5, -2.0, 3.0][: len(size)]).view(1, -1, *[1] * len(size))
    fine = upsample_control_grid(
        control.expand(1, len(size), *control_grid_size(size, pitch)), pitch, size
    )
    torch.testing.assert_close(fine, control.expand(1, len(size), *size))


@pytest.mark.parametrize(("size", "pitch"), [((32, 24), (8, 4)), ((8, 16, 12), (2, 8, 4))])
def test_control_vectors_stand_in_the_middle_of_their_blocks(size, pitch):
    """A ramp given at voxels pitch · (i + ½) − ½ is that ramp between the outermost vectors, and
    constant beyond."""
    grid = voxel_positions(control_grid_size(size, pitch), torch.zeros(1))
    steps = torch.tensor(pitch).view(1, -1, *[1] * len(size))
    fine = upsample_control_grid(steps * (grid + 0.5) - 0.5, pitch, size)
    lowest = (steps - 1) / 2
    highest = torch.tensor(size).view_as(steps) - 1 - lowest
    torch.testing.assert_close(
        fine, voxel_positions(size, fine).clamp(min=lowest).clamp(max=highest)
    )


def test_control_grid_covers_sizes_that_are_no_multiple_of_its_pitch():
    assert control_grid_size((17, 16, 15), (16, 16, 16)) == [2, 1, 1]
    assert upsample_control_grid(torch.ones(1, 2, 2, 1), (16, 8), (17, 5)).shape == (1, 2, 17, 5)


def test_affine_displacement_of_a_quarter_turn():
    matrix = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]])
    displacement = affine_displacement(
        matrix, torch.tensor([[0.5, 0.0]]), torch.tensor([[2.0, 3.0]]), (6, 7)
    )
    y, x = voxel_positions((6, 7), displacement)[0]
    expected = torch.stack([(x - 3) + 2 + 0.5 - y, -(y - 2) + 3 - x])
    torch.testing.assert_close(displacement[0], expected)


def test_affine_displacement_is_the_formula_in_3d():
    generator = torch.Generator().manual_seed(3)
    matrix, translation, centre = (
        torch.randn(shape, generator=generator) for shape in [(2, 3, 3), (2, 3), (2, 3)]
    )
    displacement = affine_displacement(matrix, translation, centre, (3, 4, 5))
    for case in range(2):
        p = torch.tensor([2.0, 1.0, 4.0])
        expected = matrix[case] @ (p - centre[case]) + centre[case] + translation[case] - p
        torch.testing.assert_close(displacement[case, :, 2, 1, 4], expected)


def test_identity_displaces_nothing_far_from_the_centre_even_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        displacement = affine_displacement(
            torch.eye(2)[None], torch.zeros(1, 2), torch.tensor([[3.3, 4.7]]), (9, 500)
        )
    assert displacement.dtype == torch.float32
    assert displacement.abs().max() == 0


def test_rotation_keeps_distances_under_autocast():
    angle = math.radians(10)
    matrix = torch.tensor(
        [[[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]]
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        displacement = affine_displacement(matrix, torch.zeros(1, 2), torch.zeros(1, 2), (300, 300))
    moved = displacement[0, :, 299, 299] + 299
    assert moved.norm().item() == pytest.approx(299 * math.sqrt(2), abs=0.01)


@pytest.mark.parametrize("size", [*SIZES, (1, 6)])
def test_blur_is_scipys(size):
    images, _ = random_field(size, seed=4)
    expected = images.numpy()
    for axis in range(2, images.ndim):
        expected = ndimage.convolve1d(expected, [0.25, 0.5, 0.25], axis=axis, mode="nearest")
    np.testing.assert_allclose(blur(images).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_blur_of_half_precision(dtype):
    images, _ = random_field((7, 9, 11))
    blurred = blur(images.to(dtype))
    assert blurred.dtype == dtype
    torch.testing.assert_close(blurred.double(), blur(images), atol=0.02, rtol=0)
