"""Registors: their grids, bounds and conventions, and that they learn to register masks they have
not seen."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nnunet_liver_ext.deformation import blur, voxel_positions, warp
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks.linear_maps import Bounds, bound_rotation, linear_map
from nnunet_liver_ext.networks.random_deformation import random_displacement
from nnunet_liver_ext.networks.registor import (
    ElasticRegistor,
    Registor,
    block_poolings,
    build_registor,
    control_grid_pitch,
)
from nnunet_liver_ext.networks.registor_heads import centroid, cross_correlation
from nnunet_liver_ext.transform_classes import TRANSFORMS

SIZES = {2: (48, 64), 3: (8, 24, 32)}
SPACING_MM = {2: (1.5, 1.5), 3: (3.0, 1.5, 1.5)}


def build(
    transforms: str, dims: int = 2, *, channels: int = 1, seed: int = 0, **bounds: float
) -> Registor:
    torch.manual_seed(seed)
    size, spacing_mm = SIZES[dims], SPACING_MM[dims]
    return build_registor(
        transforms,
        channels=channels,
        patch_size=size,
        spacing_mm=spacing_mm,
        bounds=Bounds(**bounds),
    )


def blobs(batch: int, size: tuple[int, ...], seed: int, *, classes: int = 1) -> Tensor:
    """Unions of three balls in the middle third, (B, C, ...), 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor(size).view(1, 1, -1, *[1] * len(size))
    masks = torch.zeros(batch, classes, *size)
    for _ in range(3):
        shape = (batch, classes, len(size), *[1] * len(size))
        centre = extent * (0.5 + 0.3 * (torch.rand(shape, generator=generator) - 0.5))
        radius = extent * (0.1 + 0.1 * torch.rand(shape, generator=generator))
        distance = ((voxel_positions(size, masks)[None] - centre) / radius).square().sum(2)
        masks = torch.maximum(masks, (distance < 1).float())
    return masks


def moved_by(masks: Tensor, *voxels: float) -> Tensor:
    """The content of the masks that many voxels further along each axis."""
    shift = torch.tensor(voxels).view(1, -1, *[1] * len(voxels))
    return warp(masks, -shift.expand(len(masks), -1, *masks.shape[2:]))


def dice(prediction: Tensor, reference: Tensor) -> float:
    a, b = (prediction > 0.5).flatten(1), (reference > 0.5).flatten(1)
    return (2 * (a & b).sum(1) / (a.sum(1) + b.sum(1))).mean().item()


def train(
    registor: Registor, transforms: str, size: tuple[int, ...], *, steps: int, batch: int
) -> list[float]:
    """L_g of every step, on blobs moved by random transforms of the class."""
    optimizer = torch.optim.Adam(registor.parameters(), lr=1e-3)
    losses = []
    for step in range(steps):
        first = blobs(batch, size, seed=1000 + step)
        spacing_mm = [1.0] * len(size)
        pitch = control_grid_pitch(size, spacing_mm)
        displacement = random_displacement(
            transforms, size=size, spacing_mm=spacing_mm, batch=batch, pitch=pitch
        )
        second = warp(first, displacement)
        loss = (blur(warp(first, registor(first, second))) - blur(second)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# --- what all have in common ---


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("transforms", TRANSFORMS)
def test_displacement_is_small_at_first_in_float32_and_of_the_masks_size(transforms, dims):
    registor = build(transforms, dims, channels=2)
    for size in (SIZES[dims], tuple(n + 5 for n in SIZES[dims]), (5, 21, 17)[:dims]):
        displacement = registor(blobs(2, size, 0, classes=2), blobs(2, size, 1, classes=2))
        assert displacement.shape == (2, dims, *size)
        assert displacement.dtype == torch.float32
        assert displacement.abs().max() < 0.1


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("transforms", TRANSFORMS)
def test_gradient_reaches_every_parameter_and_both_masks(transforms, dims):
    registor = build(transforms, dims)
    first = blobs(2, SIZES[dims], 0).requires_grad_()
    second = blobs(2, SIZES[dims], 1).requires_grad_()
    (warp(first.detach(), registor(first, second)) - second.detach()).square().mean().backward()
    for name, tensor in [*registor.named_parameters(), ("first", first), ("second", second)]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().max() > 0, name


@pytest.mark.parametrize("masks", [torch.zeros, torch.ones])
@pytest.mark.parametrize("transforms", TRANSFORMS)
def test_empty_and_full_masks_give_finite_displacements_and_gradients(transforms, masks):
    registor = build(transforms)
    full = masks(1, 1, *SIZES[2])
    for first, second in [
        (full, full),
        (full, torch.zeros_like(full)),
        (torch.zeros_like(full), full),
    ]:
        displacement = registor(first, second)
        displacement.square().sum().backward()
        assert displacement.abs().max() < 0.1
    assert all(p.grad is None or p.grad.isfinite().all() for p in registor.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("transforms", TRANSFORMS)
def test_autocast_and_half_precision_masks(transforms, dtype):
    registor = build(transforms, 3)
    first, second = blobs(1, SIZES[3], 0), blobs(1, SIZES[3], 1)
    with torch.autocast("cpu", dtype=dtype):
        displacement = registor(first.to(dtype), second.to(dtype))
    assert displacement.dtype == torch.float32
    torch.testing.assert_close(displacement, registor(first, second), atol=1e-3, rtol=0.05)


@pytest.mark.parametrize("transforms", TRANSFORMS)
def test_result_does_not_depend_on_the_other_cases_of_the_batch(transforms):
    registor = build(transforms)
    first, second = blobs(3, SIZES[2], 0), blobs(3, SIZES[2], 1)
    torch.testing.assert_close(
        registor(first, second)[1:2], registor(first[1:2], second[1:2]), atol=1e-5, rtol=1e-3
    )


@pytest.mark.parametrize("transforms", TRANSFORMS)
def test_too_small_patch_is_refused(transforms):
    with pytest.raises(
        InputError, match="at least 4 voxels along each axis, but the patch is 3 x 64 x 64"
    ):
        build_registor(transforms, channels=1, patch_size=(3, 64, 64), spacing_mm=(3, 1, 1))


def test_unknown_transforms_are_refused():
    with pytest.raises(
        InputError, match="'projective', but there are only translation, rigid, affine, elastic"
    ):
        build("projective")


@pytest.mark.parametrize("transforms", TRANSFORMS)
def test_description_names_the_class_and_its_extent(transforms):
    description = build(transforms, 3).describe()
    assert description.startswith(transforms)
    assert {"elastic": "4 x 8 x 16 voxels (12 x 12 x 24 mm)"}.get(
        transforms, "2.667 x 8 x 10.67 voxels"
    ) in description


# --- elastic ---


@pytest.mark.parametrize(
    ("patch_size", "spacing_mm", "pitch"),
    [
        (
            (32, 128, 128),
            (3, 1.5, 1.5),
            (16, 16, 16),
        ),  # the paper's data: section 3.2.2, "a factor 16"
        ((48, 192, 192), (3, 1.5, 1.5), (16, 16, 16)),
        ((16, 128, 128), (3, 1.5, 1.5), (8, 16, 16)),  # two vectors along the thin axis
        ((31, 33, 64), (1, 1, 1), (8, 16, 16)),
        ((4, 64, 64), (3, 1, 1), (2, 16, 16)),
        ((64, 256, 256), (8, 1, 1), (4, 16, 16)),  # 4 x 8 mm = 32 mm
        ((64, 256, 256), (40, 1, 1), (1, 16, 16)),
        ((240, 240), (1, 1), (16, 16)),
        ((96, 20), (0.7, 0.7), (16, 8)),
    ],
)
def test_control_grid_pitch(patch_size, spacing_mm, pitch):
    assert control_grid_pitch(patch_size, spacing_mm) == pitch


def test_axes_that_are_pooled_less_are_pooled_last():
    assert block_poolings((4, 16, 1)) == [(1, 2, 1), (1, 2, 1), (2, 2, 1), (2, 2, 1)]


def test_elastic_registor_is_the_papers_network():
    registor = build("elastic", 3)
    assert isinstance(registor, ElasticRegistor)
    convolutions = [m for m in registor.modules() if isinstance(m, torch.nn.Conv3d)]
    assert [c.out_channels for c in convolutions] == [16, 16, 32, 32, 64, 64, 128, 128, 3]
    assert [c.kernel_size for c in convolutions] == [(3, 3, 3)] * 8 + [(1, 1, 1)]


def test_elastic_vectors_are_local():
    """A change in one corner of a large image leaves the other corner's displacement as it was."""
    registor = build("elastic")
    first, second = blobs(1, (320, 320), 0), blobs(1, (320, 320), 1)
    changed = second.clone()
    changed[..., :10, :10] = 1
    before, after = registor(first, second), registor(first, changed)
    torch.testing.assert_close(before[..., 200:, 200:], after[..., 200:, 200:])
    assert (before != after)[..., :40, :40].any()


def test_elastic_registor_learns():
    torch.manual_seed(0)
    registor = build_registor("elastic", channels=1, patch_size=(32, 32), spacing_mm=(1, 1))
    losses = train(registor, "elastic", (32, 32), steps=60, batch=8)
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


# --- translation ---


@pytest.mark.parametrize("size", [(12, 15), (6, 8, 10)])
def test_cross_correlation_is_the_sum_over_voxels(size):
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand((2, 3, *size), generator=generator) for _ in range(2))
    reach = [4, 5, 6][: len(size)]
    found = cross_correlation(first, second, reach=reach)
    assert found.shape[1:] == tuple(2 * n + 1 for n in reach)
    norms = (first.flatten(1).norm(dim=1) * second.flatten(1).norm(dim=1)).tolist()
    for shift in [(0, 0, 0), (4, 5, 6), (-4, 2, -1), (1, -5, 3)]:
        d = shift[: len(size)]
        displacement = (
            torch.tensor(d, dtype=torch.float32).view(1, -1, *[1] * len(size)).expand(2, -1, *size)
        )
        expected = (warp(first, displacement) * second).flatten(1).sum(1) / torch.tensor(norms)
        torch.testing.assert_close(
            found[(slice(None), *[r + n for r, n in zip(reach, d, strict=True)])], expected
        )


def test_correlation_beyond_the_size_of_the_masks_is_zero():
    found = cross_correlation(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), reach=[6, 1])
    torch.testing.assert_close(found[0, 6 + torch.tensor([-4, 4, 5, 6]), 1], torch.zeros(4))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (7.0, -12.0), (-3.5, 2.25)])
def test_sharp_correlation_finds_the_shift_with_its_sign(shift):
    """What `first` moved by k shows at p + k, `second` shows at p: u = k."""
    registor = build("translation")
    registor.shift.sharpness.data.fill_(0.5)
    second = blobs(2, SIZES[2], 3)
    displacement = registor(moved_by(second, *shift), second)
    expected = torch.tensor(shift).view(1, 2, 1, 1).expand_as(displacement)
    torch.testing.assert_close(displacement, expected, atol=0.5, rtol=0)


def test_translation_stays_within_its_bounds():
    registor = build("translation", max_shift_voxels=6)
    registor.shift.sharpness.data.fill_(1.0)
    second = blobs(2, SIZES[2], 3)
    assert registor(moved_by(second, 12.0, -15.0), second).abs().max() <= 6


def test_translation_registor_registers_masks_it_has_not_seen():
    size = (64, 64)
    torch.manual_seed(1)
    registor = build_registor("translation", channels=1, patch_size=size, spacing_mm=(1, 1))
    train(registor, "translation", size, steps=40, batch=8)
    first = blobs(16, size, seed=1)
    second = warp(first, random_displacement("translation", size=size, spacing_mm=(1, 1), batch=16))
    with torch.no_grad():
        registered = dice(warp(first, registor(first, second)), second)
    assert dice(first, second) < 0.6
    assert registered > 0.9


# --- rigid and affine ---


def test_rotation_in_millimetres_on_anisotropic_voxels():
    """A quarter turn takes 1 voxel of 3 mm to 2 voxels of 1.5 mm."""
    matrix = linear_map(torch.tensor([[math.pi / 2]]), None, spacing_mm=(3.0, 1.5))[0]
    torch.testing.assert_close(
        matrix.abs() @ torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), atol=1e-6, rtol=0
    )
    assert torch.linalg.det(matrix).item() == pytest.approx(1)


def test_linear_map_is_rotation_after_stretch():
    generator = torch.Generator().manual_seed(0)
    rotation, stretch = (torch.randn((4, n), generator=generator) * 0.3 for n in (3, 6))
    turned = linear_map(rotation, None, spacing_mm=(1, 1, 1))
    torch.testing.assert_close(turned @ turned.mT, torch.eye(3).expand(4, 3, 3), atol=1e-5, rtol=0)
    symmetric = turned.mT @ linear_map(rotation, stretch, spacing_mm=(1, 1, 1))
    torch.testing.assert_close(symmetric, symmetric.mT, atol=1e-5, rtol=0)
    angle = ((turned.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).acos()
    torch.testing.assert_close(angle, rotation.norm(dim=1), atol=1e-3, rtol=0)


def test_rotation_never_exceeds_its_bound():
    raw = torch.tensor([[0.0, 0, 0], [1e-3, 0, 0], [100, -100, 50]])
    angle = torch.rad2deg(bound_rotation(raw, 30).norm(dim=1))
    torch.testing.assert_close(angle, torch.tensor([0, 0.03, 30]), atol=1e-4, rtol=0)


def test_centroid():
    masks = torch.zeros(2, 2, 5, 9)
    masks[0, 0, 1, 2] = masks[0, 1, 3, 8] = 1
    torch.testing.assert_close(
        centroid(masks), torch.tensor([[2.0, 5.0], [2.0, 4.0]]), atol=5e-3, rtol=0
    )


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("transforms", ["rigid", "affine"])
def test_rigid_and_affine_stay_within_their_bounds(transforms, dims):
    registor = build(transforms, dims, max_rotation_deg=20, max_log_stretch=0.1)
    registor.look.layers[-1].weight.data.mul_(1e5)
    matrix_mm = (
        registor.matrix(blobs(3, SIZES[dims], 0), blobs(3, SIZES[dims], 1)).detach().double()
    )
    spacing = torch.tensor(SPACING_MM[dims], dtype=torch.float64)
    left, singular, right = torch.linalg.svd(matrix_mm * spacing[:, None] / spacing)
    angle = torch.rad2deg(
        (((left @ right).diagonal(dim1=1, dim2=2).sum(1) - (dims - 2)) / 2).acos()
    )
    assert angle.max().item() == pytest.approx(20, abs=0.1)
    stretch = 0 if transforms == "rigid" else dims * 0.1
    assert singular.log().abs().max() <= stretch + 1e-5


@pytest.mark.parametrize("transforms", ["rigid", "affine"])
def test_rigid_and_affine_registors_learn(transforms):
    torch.manual_seed(0)
    registor = build_registor(transforms, channels=1, patch_size=(32, 32), spacing_mm=(1, 1))
    losses = train(registor, transforms, (32, 32), steps=25, batch=8)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


# --- random deformations ---


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("transforms", TRANSFORMS)
def test_random_displacements_are_reproducible_fresh_and_do_not_fold(transforms, dims):
    size, spacing_mm = SIZES[dims], SPACING_MM[dims]
    pitch = control_grid_pitch(size, spacing_mm)

    def draw(generator: torch.Generator | None = None) -> Tensor:
        return random_displacement(
            transforms, size=size, spacing_mm=spacing_mm, batch=12, pitch=pitch, generator=generator
        )

    torch.manual_seed(5)
    first, second = draw(), draw()
    torch.manual_seed(5)
    assert torch.equal(draw(), first)
    assert torch.equal(draw(torch.Generator().manual_seed(5)), first)
    assert not torch.equal(first, second)
    assert first.shape == (12, dims, *size)
    assert jacobian_determinant(first).min() > 0


def jacobian_determinant(displacement: Tensor) -> Tensor:
    """det(I + ∇u) from differences of neighbours, (B, ...)."""
    dims = displacement.shape[1]
    columns = []
    for axis in range(dims):
        ahead = displacement.diff(dim=axis + 2)
        for other in range(dims):
            if other != axis:
                ahead = ahead.narrow(other + 2, 0, displacement.shape[other + 2] - 1)
        columns.append(ahead)
    gradient = torch.stack(columns, -1).movedim(1, -2)
    return torch.linalg.det(gradient + torch.eye(dims))


def test_random_elastic_magnitude_is_in_millimetres():
    torch.manual_seed(0)
    size, spacing_mm = (128, 128), (2.0, 4.0)
    small = {"size": size, "spacing_mm": spacing_mm, "pitch": (16, 16), "batch": 200}
    shift = random_displacement("elastic", **small, bend_mm=0, shift_mm=6)
    assert torch.equal(shift, shift[..., :1, :1].expand_as(shift))
    torch.testing.assert_close(shift[..., 0, 0].std(0), torch.tensor([3.0, 1.5]), rtol=0.2, atol=0)
    bend = random_displacement("elastic", **small, bend_mm=4, shift_mm=0)
    torch.testing.assert_close(
        bend[..., 56, 56].std(0), torch.tensor([2.0, 1.0]), rtol=0.25, atol=0
    )


def test_random_elastic_shift_leaves_thin_patches_something():
    shift = random_displacement(
        "elastic",
        size=(8, 64, 64),
        spacing_mm=(3, 1, 1),
        pitch=(4, 16, 16),
        batch=500,
        bend_mm=0,
        shift_mm=100,
    )
    torch.testing.assert_close(
        shift[..., 0, 0, 0].std(0), torch.tensor([0.8, 6.4, 6.4]), rtol=0.15, atol=0
    )
    assert (shift.abs().amax((0, 2, 3, 4)) <= torch.tensor([2.0, 16.0, 16.0])).all()


def test_random_translation_is_uniform_within_its_bounds():
    torch.manual_seed(0)
    bounds = Bounds(max_shift_voxels=10)
    shift = random_displacement(
        "translation", size=(96, 12), spacing_mm=(1, 1), batch=500, bounds=bounds
    )
    largest = shift.abs().amax((0, 2, 3))
    assert (largest <= torch.tensor([10.0, 4.0])).all()
    assert (largest > torch.tensor([9.5, 3.8])).all()
    assert shift[..., 0, 0].mean(0).abs().max() < 1


@pytest.mark.parametrize("transforms", ["translation", "rigid", "affine"])
def test_the_shift_that_is_left_is_within_the_bounds(transforms: str):
    """A mask's centroid moves from `centre` to centre - d, and the registor has to answer with what
    is then left of the shift onto the other mask."""
    torch.manual_seed(0)
    bounds, batch = Bounds(max_shift_voxels=8, max_rotation_deg=40), 400
    before = 16 * (2 * torch.rand(batch, 2) - 1)
    centre = torch.full((batch, 2), 23.5)
    displacement = random_displacement(
        transforms,
        size=(48, 48),
        spacing_mm=(1, 1),
        batch=batch,
        bounds=bounds,
        centre=centre,
        shift_before=before,
    )
    grid = torch.stack(torch.meshgrid(*[torch.arange(48.0)] * 2, indexing="ij"))
    distance = (grid + displacement - centre[:, :, None, None]).square().sum(1).flatten(1)
    moved_to = grid.flatten(1)[:, distance.argmin(1)].T  # where the mask's centre is now
    drawn = centre - moved_to
    assert (drawn.abs() <= 8 + 1).all()  # to whole voxels
    assert ((before - drawn).abs() <= 8 + 1).all()
    assert (before - drawn).abs().max() > 7
    if transforms == "translation":
        assert torch.equal(displacement, displacement[..., :1, :1].expand_as(displacement))
        left = before - displacement[..., 0, 0]
        assert left.abs().max() <= 8 + 1e-4


def test_a_shift_beyond_reach_is_brought_as_near_as_may_be():
    before = torch.tensor([[30.0, -30.0]])
    shift = random_displacement(
        "translation",
        size=(48, 48),
        spacing_mm=(1, 1),
        batch=1,
        bounds=Bounds(max_shift_voxels=8),
        shift_before=before,
    )
    assert shift[0, :, 0, 0].tolist() == [8.0, -8.0]


def test_random_rotation_turns_about_the_given_centre():
    bounds = Bounds(max_shift_voxels=0, max_rotation_deg=25)
    centre = torch.tensor([[5.0, 9.0], [1.0, 2.0]])
    displacement = random_displacement(
        "rigid", size=(20, 20), spacing_mm=(1, 1), batch=2, bounds=bounds, centre=centre
    )
    assert displacement[0, :, 5, 9].abs().max() == 0
    assert displacement[1, :, 1, 2].abs().max() == 0
    assert displacement.abs().max() > 0


def test_random_elastic_displacement_needs_a_pitch():
    with pytest.raises(InputError, match="pitch"):
        random_displacement("elastic", size=(8, 8), spacing_mm=(1, 1), batch=1)


def test_unknown_random_transforms_are_refused():
    with pytest.raises(InputError, match="'projective'"):
        random_displacement("projective", size=(8, 8), spacing_mm=(1, 1), batch=1)
