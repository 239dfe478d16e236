"""The deformation of T1 onto T2: millimetres and directions, the moved mask, and the files that
prediction writes."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.deformation import warp
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.inference.load_model import load_model
from nnunet_liver_ext.inference.native_grids import (
    decide_on_native_grid,
    prepare_study,
    probabilities_on_common_grid,
)
from nnunet_liver_ext.inference.pair_deformation import (
    displacement_image,
    find_deformation,
    move_mask,
    network_grid,
    resample_field,
    vectors_in_mm,
)
from nnunet_liver_ext.inference.predict import predict_studies
from nnunet_liver_ext.inference.registors import load_registor
from nnunet_liver_ext.networks.registor import ElasticRegistor, Registor
from nnunet_liver_ext.space.images import Grid, array, read_image, read_mask
from nnunet_liver_ext.studies.study_layouts import read_studies
from tests.trained_models import (
    OBLIQUE,
    T1_GRID,
    T2_GRID,
    add_conversion,
    random_probabilities,
    write_study,
)
from tests.training import make_trainer, run_epochs

CPU = torch.device("cpu")
AS_THE_COMMAND = {"device": CPU, "mirroring": False, "tile_step": 1.0}
TURNED = (0, -1, 0, 1, 0, 0, 0, 0, 1)
"""A step along x goes along the patient's y, a step along y against the patient's x."""
GRID = Grid((7, 6, 5), (1.5, 2.0, 4.0), (10.0, -20.0, 30.0), TURNED)
IDENTITY = (1, 0, 0, 0, 1, 0, 0, 0, 1)
SHIFT = (1.0, 2.0, -3.0)
"""Voxels along the network's axes."""


class Shift(Registor):
    """Moves everything by the same number of voxels, and remembers the size of what it saw."""

    def __init__(self, *voxels: float) -> None:
        super().__init__()
        self.voxels, self.seen = voxels, ()

    def displacement(self, first: Tensor, second: Tensor) -> Tensor:
        self.seen = tuple(first.shape)
        return (
            first.new_tensor(self.voxels)
            .view(1, -1, *[1] * len(self.voxels))
            .expand(len(first), -1, *first.shape[2:])
        )

    def describe(self) -> str:
        return "shift"


def model_with(
    *registors: Registor, spacing: tuple[float, ...], forward: tuple[int, ...] = (0, 1, 2)
):
    """What the deformation asks of a model."""
    plans = SimpleNamespace(
        transpose_forward=list(forward), transpose_backward=np.argsort(forward).tolist()
    )
    predictor = SimpleNamespace(
        plans_manager=plans, configuration_manager=SimpleNamespace(spacing=spacing), device=CPU
    )
    return SimpleNamespace(predictor=predictor, modalities=("T1", "T2"), registors=registors)


def vectors(image: sitk.Image) -> np.ndarray:
    return array(image).reshape(-1, 3)


def to_transform(field: sitk.Image) -> sitk.Transform:
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


# ------------------------------------------------------------------ millimetres


def test_voxels_become_millimetres_of_physical_space():
    displacement_zyx = np.broadcast_to(
        np.array([1.0, 2.0, 3.0])[:, None, None, None], (3, *GRID.size[::-1])
    )
    image = vectors_in_mm(displacement_zyx, GRID)
    assert Grid.from_image(image) == GRID
    np.testing.assert_array_equal(
        vectors(image), np.tile([-2 * 2.0, 3 * 1.5, 1 * 4.0], (7 * 6 * 5, 1))
    )


def test_the_transform_maps_a_point_of_image_2_to_that_of_image_1():
    field = vectors_in_mm(
        np.broadcast_to(np.array([1.0, 2.0, 3.0])[:, None, None, None], (3, *GRID.size[::-1])), GRID
    )
    point = field.TransformIndexToPhysicalPoint((2, 1, 3))
    moved = to_transform(field).TransformPoint(point)
    assert GRID.empty_image().TransformPhysicalPointToIndex(moved) == (5, 3, 4)


@pytest.mark.parametrize("forward", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_the_axes_that_nnunet_transposes_are_put_back(forward):
    spacing = tuple(GRID.spacing_mm[axis] for axis in forward)
    registor = Shift(*SHIFT)
    probabilities = random_probabilities(GRID.size[::-1], 2)
    image = displacement_image(
        model_with(registor, spacing=spacing, forward=forward), probabilities, probabilities, GRID
    )
    z, y, x = (SHIFT[forward.index(axis)] for axis in range(3))
    assert registor.seen == (1, 1, *(GRID.size[::-1][axis] for axis in forward))
    assert Grid.from_image(image) == GRID
    np.testing.assert_allclose(
        vectors(image), np.tile([-2.0 * y, 1.5 * x, 4.0 * z], (7 * 6 * 5, 1)), atol=1e-6
    )


def test_another_spacing_of_the_network_is_respected():
    registor, probabilities = Shift(*SHIFT), random_probabilities(GRID.size[::-1], 2)
    image = displacement_image(
        model_with(registor, spacing=(2.0, 4.0, 3.0)), probabilities, probabilities, GRID
    )
    assert registor.seen == (1, 1, 10, 3, 4)
    np.testing.assert_allclose(
        vectors(image), np.tile([-4.0 * 2, 3.0 * -3, 2.0 * 1], (10 * 3 * 4, 1)), atol=1e-6
    )


def test_the_networks_grid_has_the_same_centre_and_covers_the_other():
    found = network_grid(GRID, (3.0, 2.0, 1.4))
    assert (found.size, found.spacing) == ((8, 6, 7), (1.4, 2.0, 3.0))
    np.testing.assert_allclose(found.corners().mean(0), GRID.corners().mean(0), atol=1e-9)
    assert network_grid(GRID, tuple(1.0001 * step for step in GRID.spacing_mm)) is GRID


def test_a_2d_network_sees_slices_and_moves_nothing_across_them():
    registor, probabilities = Shift(1.0, -2.0), random_probabilities(GRID.size[::-1], 2)
    image = displacement_image(
        model_with(registor, spacing=(2.0, 1.5)), probabilities, probabilities, GRID
    )
    assert registor.seen == (5, 1, 6, 7)
    np.testing.assert_allclose(
        vectors(image), np.tile([-2.0 * 1, 1.5 * -2, 0], (7 * 6 * 5, 1)), atol=1e-6
    )


def test_displacements_of_several_folds_are_averaged():
    probabilities = random_probabilities(GRID.size[::-1], 2)
    model = model_with(Shift(1, 2, 3), Shift(3, 0, -3), spacing=GRID.spacing_mm)
    image = displacement_image(model, probabilities, probabilities, GRID)
    np.testing.assert_allclose(
        vectors(image), np.tile([-2.0 * 1, 0, 4.0 * 2], (7 * 6 * 5, 1)), atol=1e-6
    )


def test_on_the_native_grid_vectors_are_interpolated_and_go_on_beyond_the_last():
    ramp = np.zeros((3, *GRID.size[::-1]))
    ramp[2] = np.arange(7)  # voxels along x, that is 1.5 mm along the patient's y for each
    native = Grid((9, 1, 1), (0.75, 2.0, 4.0), GRID.origin, TURNED)
    found = vectors(resample_field(vectors_in_mm(ramp, GRID), native))
    np.testing.assert_allclose(found[:, 1], 0.75 * np.arange(9), atol=1e-5)
    wider = Grid((3, 1, 1), (9.0, 2.0, 4.0), GRID.origin, TURNED)
    np.testing.assert_allclose(
        vectors(resample_field(vectors_in_mm(ramp, GRID), wider))[:, 1], [0, 9, 9], atol=1e-5
    )


# ------------------------------------------------------------------ the moved mask


def elastic_registor(spacing: tuple[float, ...], size: tuple[int, ...]) -> ElasticRegistor:
    """An untrained registor with large vectors."""
    torch.manual_seed(0)
    registor = ElasticRegistor(2, patch_size=size, spacing_mm=spacing).eval()
    with torch.no_grad():
        registor.vectors.weight.mul_(400)
        registor.vectors.bias.copy_(torch.tensor([0.4, -1.3, 1.7]))
    return registor


def test_simpleitk_moves_the_mask_as_the_registors_own_warp_does():
    grid = Grid((20, 18, 16), (1.5, 1.6, 3.0), (4.0, 5.0, 6.0), OBLIQUE)
    forward, size = (1, 0, 2), grid.size[::-1]
    registor = elastic_registor(
        tuple(grid.spacing_mm[axis] for axis in forward), tuple(size[axis] for axis in forward)
    )
    first, second = random_probabilities(size, 3), random_probabilities(size, 3)[:, ::-1]
    model = model_with(
        registor, spacing=tuple(grid.spacing_mm[axis] for axis in forward), forward=forward
    )
    found = find_deformation(model, {"T1": first, "T2": second}, grid, {"T2": grid})

    seen = [torch.from_numpy(one[1:].transpose(0, 2, 1, 3).copy())[None] for one in (first, second)]
    with torch.no_grad():
        displacement = registor(*seen)
        warped = warp(seen[0], displacement)[0].numpy().transpose(0, 2, 1, 3)
    assert displacement.abs().max() > 2
    expected = np.concatenate([1 - warped.sum(0, keepdims=True), warped])
    best = np.sort(expected, 0)
    ones = warp(torch.ones_like(seen[0][:, :1]), displacement)[0, 0].numpy().transpose(1, 0, 2)
    clear = (best[-1] - best[-2] > 1e-4) & (
        ones > 1 - 1e-5
    )  # beyond the border the two fade out differently
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(array(found.mask)[clear], expected.argmax(0)[clear])


def test_the_class_is_decided_between_interpolated_probabilities():
    grid = Grid((4, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
    probabilities = np.zeros((3, 1, 1, 4), np.float32)
    probabilities[:, 0, 0] = np.array([[1, 0, 0], [0.1, 0.9, 0], [0.3, 0.2, 0.5], [0, 0, 1]]).T
    displacement = np.zeros((3, 1, 1, 4))
    displacement[2] = (
        0.4  # between voxels 1 and 2 class 1 keeps 0.62, between 2 and 3 class 2 has 0.7
    )
    moved = move_mask(probabilities, grid, vectors_in_mm(displacement, grid))
    np.testing.assert_array_equal(array(moved)[0, 0], [0, 1, 2, 2])
    displacement[2] = 2
    moved = move_mask(probabilities, grid, vectors_in_mm(displacement, grid))
    np.testing.assert_array_equal(array(moved)[0, 0], [2, 2, 0, 0])


def test_the_moved_mask_is_the_native_probabilities_of_image_1_moved_by_the_field():
    common = Grid((44, 46, 22), (1.5, 1.5, 3.0), (-4.0, -6.0, 0.0), IDENTITY)
    registor = Shift(1.0, 2.5, -4.0)
    native = {"T1": T1_GRID, "T2": T2_GRID}
    z, y, x = np.meshgrid(*[np.arange(n) for n in common.size[::-1]], indexing="ij")
    liver = 1 / (1 + np.exp(np.sqrt(4 * (z - 11) ** 2 + (y - 22) ** 2 + (x - 20) ** 2) - 13))
    probabilities = np.stack([1 - liver, liver])
    model = model_with(registor, spacing=common.spacing_mm)
    found = find_deformation(model, {"T1": probabilities, "T2": probabilities}, common, native)
    again = move_mask(
        decide_on_native_grid(probabilities, common, T1_GRID).probabilities, T1_GRID, found.field
    )
    mask = array(found.mask)
    assert mask.sum() > 1000
    assert (array(again) != mask).sum() < 0.02 * mask.sum()  # interpolated once more


# ------------------------------------------------------------------ models and files


def train(root: Path, results: Path, name: str, **numbers) -> Path:
    quick = {
        "num_epochs": 2,
        "num_iterations_per_epoch": 1,
        "warmup_epochs": 1,
        "companion_epochs": 0,
        **numbers,
    }
    trainer = make_trainer(root, results, name, **quick)
    run_epochs(trainer, quick["num_epochs"], end=True)
    folder = Path(trainer.output_folder_base)
    add_conversion(folder)
    return folder


def set_shift(checkpoint: Path, voxels: tuple[float, float, float]) -> None:
    """Gives the registor weights with which it moves everything by so many voxels."""
    content = torch.load(checkpoint, weights_only=False)
    state = content["nnunet_liver_ext"]["objective"]
    state["companion.vectors.weight"].zero_()
    state["companion.vectors.bias"].copy_(torch.tensor(voxels))
    torch.save(content, checkpoint)


@pytest.fixture(scope="module")
def cooperating(nnunet_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two folds whose registors move by (1, 2, 4) and (1, 0, -2) voxels, (z, y, x)."""
    folder = train(nnunet_root, tmp_path_factory.mktemp("similarity"), "nnUNetTrainerSimilarity")
    shutil.copytree(folder / "fold_0", folder / "fold_1")
    set_shift(folder / "fold_0" / "checkpoint_final.pth", (1, 2, 4))
    set_shift(folder / "fold_1" / "checkpoint_final.pth", (1, 0, -2))
    return folder


def predict_deformation(model: Path, studies: Path, out: Path, *options: str):
    arguments = [
        "predict",
        "-m",
        str(model),
        "-i",
        str(studies),
        "-o",
        str(out),
        "--deformation",
        "--device",
        "cpu",
    ]
    return CliRunner().invoke(
        app, [*arguments, "--no-mirroring", "--tile-step", "1", *options], env={"COLUMNS": "200"}
    )


def test_the_command_writes_the_deformation_and_the_moved_mask(cooperating, tmp_path: Path):
    paths = write_study(tmp_path / "studies", "case")
    result = predict_deformation(cooperating, tmp_path / "studies", tmp_path / "out")
    assert result.exit_code == 0, result.output
    files = {path.name for path in (tmp_path / "out").glob("*.nii.gz")}
    assert files == {f"case_{what}.nii.gz" for what in ("T1", "T2", "T1_on_T2", "deformation")}

    field = sitk.ReadImage(str(tmp_path / "out" / "case_deformation.nii.gz"))
    assert field.GetPixelID() == sitk.sitkVectorFloat32
    assert Grid.from_image(field).matches(T2_GRID, 1e-4)
    common = np.array(
        Grid.from_image(sitk.DICOMOrient(read_image(paths["T1"]), "LPS")).direction
    ).reshape(3, 3)
    expected_mm = common @ (
        np.array([1, 1, 1]) * [1.5, 1.5, 3.0]
    )  # mean of the folds, on the common grid
    np.testing.assert_allclose(
        vectors(field), np.tile(expected_mm, (len(vectors(field)), 1)), atol=1e-4
    )

    mask = read_mask(tmp_path / "out" / "case_T1_on_T2.nii.gz")
    assert Grid.from_image(mask).matches(T2_GRID, 1e-4)
    model = load_model(cooperating, **AS_THE_COMMAND)
    prepared = prepare_study(model, {name: read_image(path) for name, path in paths.items()})
    probabilities = probabilities_on_common_grid(model, prepared)["T1"]
    np.testing.assert_array_equal(
        array(mask), array(move_mask(probabilities, prepared.grid, field))
    )


def test_deformations_are_done_anew_only_when_missing_or_asked_for(cooperating, tmp_path: Path):
    write_study(tmp_path / "studies", "case")
    studies, out = read_studies(tmp_path / "studies"), tmp_path / "out"
    deformation, moved = out / "case_deformation.nii.gz", out / "case_T1_on_T2.nii.gz"
    predict_studies(load_model(cooperating, **AS_THE_COMMAND), studies, out)
    assert not deformation.exists()
    assert predict_deformation(cooperating, tmp_path / "studies", out).exit_code == 0
    first = deformation.stat().st_mtime_ns
    assert predict_deformation(cooperating, tmp_path / "studies", out).exit_code == 0
    assert deformation.stat().st_mtime_ns == first
    moved.unlink()
    assert predict_deformation(cooperating, tmp_path / "studies", out).exit_code == 0
    assert moved.exists()
    second = deformation.stat().st_mtime_ns
    assert predict_deformation(cooperating, tmp_path / "studies", out, "--overwrite").exit_code == 0
    assert deformation.stat().st_mtime_ns > second > first


def test_the_registor_is_built_from_what_was_saved_with_the_model(
    nnunet_root: Path, tmp_path: Path
):
    name = "nnUNetTrainerSimilarityTranslation"
    folder = train(nnunet_root, tmp_path, name, num_epochs=1, warmup_epochs=0, max_shift_voxels=3.5)
    registor = load_registor(folder, "0", "checkpoint_final.pth", CPU)
    assert registor.max_shift_voxels == (3.5, 3.5, 3.5)
    saved = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)[
        "nnunet_liver_ext"
    ]["objective"]
    for key, value in registor.state_dict().items():
        torch.testing.assert_close(value, saved[f"companion.{key}"], rtol=0, atol=0)


def test_a_model_without_a_registor_is_one_sentence(model_folders, tmp_path: Path):
    write_study(tmp_path / "studies", "case")
    result = predict_deformation(
        model_folders["nnUNetTrainerDualInput"], tmp_path / "studies", tmp_path / "out"
    )
    assert isinstance(result.exception, InputError)
    assert "a model of nnUNetTrainerDualInput has no registor, so it knows no deformation" in str(
        result.exception
    )
    assert not (tmp_path / "out").exists()


def test_a_lone_image_has_no_deformation(cooperating, tmp_path: Path):
    write_study(tmp_path / "studies", "case")["T2"].unlink()
    result = predict_deformation(cooperating, tmp_path / "studies", tmp_path / "out")
    assert isinstance(result.exception, SomeCasesFailed)
    assert "has no T2 image, and nnUNetTrainerSimilarity needs T1 and T2" in str(result.exception)


def test_joint_maps_have_no_deformation(tmp_path: Path):
    result = CliRunner().invoke(
        app, ["predict", "--split", str(tmp_path), "-o", str(tmp_path / "out"), "--deformation"]
    )
    assert result.exit_code == 2
    assert "nor --deformation" in " ".join(result.output.replace("│", " ").split())
