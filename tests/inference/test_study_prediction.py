"""One study in memory: the same masks as the command's, whatever the images come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.inference.study_prediction import load_model, predict_study
from nnunet_liver_ext.postprocessing.border_lesions import postprocess_lesions
from nnunet_liver_ext.space.images import Grid, array, image_like, read_image, read_mask
from tests.inference.test_single_images import GRID, LIVER, model, scene, tumour_model
from tests.trained_models import T1_GRID, T2_GRID, write_study

SINGLE, DUAL = "nnUNetTrainerSingleInput", "nnUNetTrainerDualInput"


def command(folders: list[Path], studies: Path, out: Path) -> None:
    models = [part for folder in folders for part in ("-m", str(folder))]
    options = ["-i", str(studies), "-o", str(out), "--fold", "0", "--device", "cpu"]
    result = CliRunner().invoke(app, ["predict", *models, *options, "--probabilities"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("trainers", [(DUAL,), (SINGLE, DUAL)])
def test_masks_are_those_of_the_command(model_folders, tmp_path: Path, trainers: tuple[str, ...]):
    paths = write_study(tmp_path / "studies", "case")
    folders = [model_folders[trainer] for trainer in trainers]
    command(folders, tmp_path / "studies", tmp_path / "out")
    models = [load_model(folder, folds=[0], device="cpu") for folder in folders]
    before = set(tmp_path.rglob("*"))
    prediction = predict_study(models, {name: str(path) for name, path in paths.items()})
    assert set(tmp_path.rglob("*")) == before
    assert list(prediction.masks) == ["T1", "T2"]
    for modality, grid in (("T1", T1_GRID), ("T2", T2_GRID)):
        written = read_mask(tmp_path / "out" / f"case_{modality}.nii.gz")
        np.testing.assert_array_equal(prediction.arrays[modality], array(written))
        assert prediction.masks[modality].GetPixelID() == sitk.sitkUInt8
        assert Grid.from_image(prediction.masks[modality]).matches(grid)
        probabilities = np.load(tmp_path / "out" / f"case_{modality}.npz")["probabilities"]
        np.testing.assert_array_equal(prediction.probabilities[modality], probabilities)


def test_images_in_memory_are_as_good_as_files(model_folders, tmp_path: Path):
    paths = write_study(tmp_path, "case")
    dual = load_model(str(model_folders[DUAL]), folds=["0"], device="cpu", mirroring=False)
    from_files = predict_study(dual, paths)
    images = {name: read_image(path) for name, path in paths.items()}
    in_memory = predict_study(dual, images)
    mixed = predict_study(dual, {"T1": images["T1"], "T2": paths["T2"]})
    for modality in ("T1", "T2"):
        for other in (in_memory, mixed):
            np.testing.assert_array_equal(other.arrays[modality], from_files.arrays[modality])


def test_the_image_of_an_ordinary_model_needs_no_name():
    image, liver, bright = scene()
    for name in ("image", "MR"):
        prediction = predict_study(model(LIVER / 2, "liver"), {name: image_like(image, GRID)})
        assert list(prediction.masks) == list(prediction.probabilities) == [name]
        np.testing.assert_array_equal(prediction.arrays[name], liver | bright)


def test_lesions_are_restricted_to_a_liver_that_is_given_or_found():
    image, liver, bright = scene()
    images = {"image": image_like(image, GRID)}
    given = predict_study(tumour_model(), images | {"liver": image_like(liver, GRID)})
    expected = postprocess_lesions(bright, liver)
    np.testing.assert_array_equal(given.arrays["image"] > 0, expected)
    assert given.organ is None
    found = predict_study(tumour_model(), images, organ_model=model(LIVER / 2, "liver"))
    assert found.organ is not None
    organ = array(found.organ) > 0
    np.testing.assert_array_equal(found.arrays["image"] > 0, postprocess_lesions(bright, organ))
    with pytest.raises(InputError, match="has no liver mask"):
        predict_study(tumour_model(), images)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("T3", r"there is no image 'T3' in a study of this model; it takes MR\."),
        ("liver", r"there is no image 'liver' in a study of this model; it takes MR\."),
    ],
)
def test_an_unknown_image_is_refused(name: str, sentence: str):
    image = image_like(scene()[0], GRID)
    with pytest.raises(InputError, match=sentence):
        predict_study(model(LIVER / 2, "liver"), {"MR": image, name: image})


def test_an_image_of_nan_is_refused():
    values = scene()[0]
    values[0, 0, :2] = np.nan
    with pytest.raises(InputError, match="the MR image: 2 voxels are NaN or infinite"):
        predict_study(model(LIVER / 2, "liver"), {"image": image_like(values, GRID)})
