"""Native images in, native masks out."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.special import softmax

from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.inference.load_model import load_model, unpacked_model
from nnunet_liver_ext.inference.native_grids import decide_on_native_grid, prepare_study
from nnunet_liver_ext.inference.predict import predict_studies
from nnunet_liver_ext.inference.study_prediction import predict_study
from nnunet_liver_ext.space.images import (
    Grid,
    array,
    image_like,
    read_image,
    read_mask,
    write_image,
)
from nnunet_liver_ext.studies.study import Study
from nnunet_liver_ext.studies.study_layouts import read_studies
from tests.conftest import blob_pair
from tests.trained_models import T1_GRID, T2_GRID, random_probabilities, write_study

CPU = torch.device("cpu")


def load(folder: Path, **options):
    return load_model(folder, device=CPU, mirroring=False, **options)


@pytest.fixture(scope="module")
def single(model_folders):
    return load(model_folders["nnUNetTrainerSingleInput"], folds=("0",))


@pytest.fixture(scope="module")
def dual(model_folders):
    return load(model_folders["nnUNetTrainerDualInput"])


def test_each_mask_has_exactly_its_images_grid(dual, tmp_path: Path):
    paths = write_study(tmp_path / "studies", "case")
    predict_studies(dual, read_studies(tmp_path / "studies"), tmp_path / "out", probabilities=True)
    for modality, path in paths.items():
        mask, image = read_mask(tmp_path / "out" / f"case_{modality}.nii.gz"), read_image(path)
        assert mask.GetSize() == image.GetSize()
        assert mask.GetSpacing() == pytest.approx(image.GetSpacing(), abs=1e-6)
        assert mask.GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-5)
        assert mask.GetDirection() == pytest.approx(image.GetDirection(), abs=1e-6)
        probabilities = np.load(tmp_path / "out" / f"case_{modality}.npz")["probabilities"]
        assert probabilities.shape == (2, *array(image).shape)
        np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
        np.testing.assert_array_equal(probabilities.argmax(0), array(mask))
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"] == {
        "background": 0,
        "liver": 1,
    }
    assert str(tmp_path) not in (tmp_path / "out" / "prediction.json").read_text()


def test_marginals_are_those_of_nnunets_joint_logits(dual, tmp_path: Path):
    images = {name: read_image(path) for name, path in write_study(tmp_path, "case").items()}
    prepared = prepare_study(dual, images)
    prediction = predict_study(dual, images)
    preprocessor = dual.predictor.configuration_manager.preprocessor_class(verbose=False)
    data, _, properties = preprocessor.run_case_npy(
        prepared.channels,
        None,
        {"spacing": list(prepared.grid.spacing_mm)},
        dual.predictor.plans_manager,
        dual.predictor.configuration_manager,
        dual.dataset_json,
    )
    logits = (
        dual.predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data)).float().numpy()
    )
    joint = softmax(logits, axis=0)
    # nnU-Net crops what is zero in both images away, and puts background there afterwards
    t2 = np.stack([np.ones(prepared.channels.shape[1:]), np.zeros(prepared.channels.shape[1:])])
    box = tuple(slice(*bounds) for bounds in properties["bbox_used_for_cropping"])
    t2[:, *box] = np.stack([joint[0] + joint[1], joint[2] + joint[3]])
    expected = decide_on_native_grid(t2, prepared.grid, T2_GRID)
    np.testing.assert_allclose(prediction.probabilities["T2"], expected.probabilities, atol=2e-3)


def test_a_lone_image_is_segmented_as_beside_the_other(single):
    images = dict(
        zip(
            ("T1", "T2"),
            (image_like(image, T1_GRID) for image in blob_pair(3, T1_GRID.size[::-1])[0]),
            strict=True,
        )
    )
    together = predict_study(single, images)
    for modality in ("T1", "T2"):
        alone = predict_study(single, {modality: images[modality]})
        assert list(alone.masks) == [modality]
        # towards the volume's corners nnU-Net's float16 weights are so small that they round logits
        # to whole numbers
        inside = (slice(None), slice(6, -6), slice(12, -12), slice(12, -12))
        np.testing.assert_allclose(
            alone.probabilities[modality][inside],
            together.probabilities[modality][inside],
            atol=5e-3,
        )


def test_a_lone_image_keeps_its_own_grid(single, tmp_path: Path):
    image = read_image(write_study(tmp_path, "case")["T2"])
    assert Grid.from_image(predict_study(single, {"T2": image}).masks["T2"]).matches(T2_GRID)


def test_what_is_there_is_kept_and_an_interrupted_run_goes_on(single, tmp_path: Path):
    for name in ("a", "b"):
        write_study(tmp_path / "studies", name)
    studies, out = read_studies(tmp_path / "studies"), tmp_path / "out"
    predict_studies(single, studies[:1], out)
    before = (out / "a_T1.nii.gz").stat().st_mtime_ns
    (out / "a_T2.nii.gz").unlink()
    write_image(image_like(np.zeros(T1_GRID.size[::-1], np.uint8), T1_GRID), out / "b_T1.nii.gz")
    write_image(image_like(np.zeros(T2_GRID.size[::-1], np.uint8), T2_GRID), out / "b_T2.nii.gz")
    kept = (out / "b_T1.nii.gz").stat().st_mtime_ns
    predict_studies(single, studies, out)
    assert (out / "a_T2.nii.gz").exists()
    assert (out / "a_T1.nii.gz").stat().st_mtime_ns > before
    assert (out / "b_T1.nii.gz").stat().st_mtime_ns == kept
    predict_studies(single, studies, out, overwrite=True)
    assert (out / "b_T1.nii.gz").stat().st_mtime_ns > kept


def test_bad_studies_are_listed_and_the_others_predicted(dual, tmp_path: Path):
    paths = write_study(tmp_path, "good")
    damaged = tmp_path / "damaged_T1.nii.gz"
    damaged.write_bytes(paths["T1"].read_bytes()[:5000])
    far = Grid(T2_GRID.size, T2_GRID.spacing, (5000.0, 0.0, 0.0), T2_GRID.direction)
    values = np.arange(np.prod(far.size), dtype=np.float32).reshape(far.size[::-1])
    write_image(image_like(values, far), tmp_path / "far_T2.nii.gz")
    studies = [
        Study("good", "good", paths, {}),
        Study("lone", "lone", {"T1": paths["T1"]}, {}),
        Study("damaged", "damaged", {"T1": damaged, "T2": paths["T2"]}, {}),
        Study("far", "far", {"T1": paths["T1"], "T2": tmp_path / "far_T2.nii.gz"}, {}),
    ]
    with pytest.raises(SomeCasesFailed) as caught:
        predict_studies(dual, studies, tmp_path / "out")
    reasons = {failure.case: failure.reason for failure in caught.value.failures}
    assert set(reasons) == {"lone", "damaged", "far"}
    assert "has no T2 image, and nnUNetTrainerDualInput needs T1 and T2" in reasons["lone"]
    assert "damaged or incomplete" in reasons["damaged"]
    assert "do not overlap" in reasons["far"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == [
        "good_T1.nii.gz",
        "good_T2.nii.gz",
    ]


def test_a_full_disk_is_said_and_leaves_nothing_half_written(single, tmp_path: Path, monkeypatch):
    import SimpleITK as sitk

    def half_written(image, name, compress):
        Path(name).write_bytes(
            b"\x1f\x8b" + bytes(100)
        )  # what ITK leaves on a full disk, without a word

    write_study(tmp_path / "studies", "case")
    studies = read_studies(tmp_path / "studies")
    with monkeypatch.context() as patch:
        patch.setattr(sitk, "WriteImage", half_written)
        with pytest.raises(InputError, match="could not be written completely; is the disk full"):
            predict_studies(single, studies, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.nii.gz"))
    predict_studies(single, studies, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 2


def test_a_preregistered_model_registers_new_patients(model_folders, tmp_path: Path):
    model = load(model_folders["nnUNetTrainerPreregistered"])
    write_study(tmp_path / "studies", "case")
    predict_studies(model, read_studies(tmp_path / "studies"), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["case_T2.nii.gz"]
    assert Grid.from_image(read_mask(tmp_path / "out" / "case_T2.nii.gz")).matches(T2_GRID)


def test_folds_are_averaged_and_a_zip_is_a_model(model_folders, single, tmp_path: Path):
    folder = model_folders["nnUNetTrainerSingleInput"]
    both = load(folder)
    assert both.folds == ("0", "1")
    images = {name: read_image(path) for name, path in write_study(tmp_path, "case").items()}
    expected = predict_study(single, images)
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w") as content:
        for path in folder.rglob("*"):
            content.write(path, Path("Dataset501_Blobs") / folder.name / path.relative_to(folder))
    with unpacked_model(archive) as unpacked:
        from_zip = load(unpacked)
        for model in (both, from_zip):  # fold 1 is a copy of fold 0
            found = predict_study(model, images)
            np.testing.assert_array_equal(found.arrays["T1"], expected.arrays["T1"])
    assert not unpacked.exists()


def test_masks_of_two_models_are_not_mixed(single, dual, tmp_path: Path):
    write_study(tmp_path / "studies", "case")
    studies, out = read_studies(tmp_path / "studies"), tmp_path / "out"
    predict_studies(single, studies, out)
    before = (out / "prediction.json").read_text()
    with pytest.raises(InputError, match="predictions of another model"):
        predict_studies(dual, studies, out)
    assert (out / "prediction.json").read_text() == before
    predict_studies(dual, studies, out, overwrite=True)
    assert json.loads((out / "prediction.json").read_text())["trainer"] == "nnUNetTrainerDualInput"


def test_a_damaged_checkpoint_is_one_sentence(model_folders, tmp_path: Path):
    copy = tmp_path / "model"
    shutil.copytree(model_folders["nnUNetTrainerDualInput"], copy)
    checkpoint = copy / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"checkpoint_final\.pth: is no complete nnU-Net check"):
        load(copy)


def test_folders_that_are_no_model(model_folders, tmp_path: Path):
    with (
        pytest.raises(InputError, match="neither a model folder nor a zip"),
        unpacked_model(tmp_path / "nothing.zip"),
    ):
        pass
    with pytest.raises(InputError, match=r"has no plans\.json"):
        load(tmp_path)
    copy = tmp_path / "model"
    shutil.copytree(model_folders["nnUNetTrainerDualInput"], copy)
    with pytest.raises(InputError, match=r"fold_3.checkpoint_final\.pth: no such checkpoint"):
        load(copy, folds=("3",))
    (copy / "fold_0" / "checkpoint_final.pth").unlink()
    with pytest.raises(InputError, match=r"holds no fold_\*/checkpoint_final\.pth"):
        load(copy)
    shutil.copytree(model_folders["nnUNetTrainerDualInput"], copy, dirs_exist_ok=True)
    plans = json.loads((copy / "plans.json").read_text())
    plans["nnunet_liver_ext"]["version"] = "99.0.0"
    (copy / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(InputError, match=r"was written by nnunet_liver_ext 99\.0\.0"):
        load(copy)


def test_models_that_only_nnunets_predictor_takes(model_folders, tmp_path: Path):
    copy = tmp_path / "model"
    shutil.copytree(model_folders["nnUNetTrainerPreregistered"], copy)
    content, plans = (
        json.loads((copy / name).read_text()) for name in ("dataset.json", "plans.json")
    )
    regions = content | {"labels": {"background": 0, "whole": [1]}, "regions_class_order": [1]}
    (copy / "dataset.json").write_text(json.dumps(regions))
    with pytest.raises(
        InputError, match="was trained on regions instead of classes; use nnUNetv2_predict"
    ):
        load(copy)
    (copy / "dataset.json").write_text(json.dumps(content))
    turning = plans | {"image_reader_writer": "NibabelIOWithReorient"}
    (copy / "plans.json").write_text(json.dumps(turning))
    with pytest.raises(
        InputError, match="read by nnU-Net's NibabelIOWithReorient, which may turn axes; use nnU"
    ):
        load(copy)


def test_logarithms_of_native_probabilities_are_interpolated_linearly():
    from scipy.ndimage import map_coordinates

    grid = Grid((12, 11, 10), (2.0, 2.0, 3.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    native = Grid((20, 18, 20), (1.0, 1.0, 1.2), (1.0, 1.5, 2.0), grid.direction)
    probabilities = random_probabilities(grid.size[::-1], 3)
    found = decide_on_native_grid(probabilities, grid, native)
    z, y, x = np.meshgrid(*[np.arange(n) for n in native.size[::-1]], indexing="ij")
    coordinates = np.stack([(z * 1.2 + 2.0) / 3, (y + 1.5) / 2, (x + 1.0) / 2])
    logarithms = [map_coordinates(np.log(one), coordinates, order=1) for one in probabilities]
    np.testing.assert_allclose(found.probabilities, softmax(logarithms, axis=0), atol=1e-5)
    np.testing.assert_array_equal(array(found.mask), found.probabilities.argmax(0))


def test_a_sure_network_decides_between_slices_and_not_at_the_nearest():
    """Its logit falls by 12 a slice and is 0 at 0.3 of the way: so is the mask's border."""
    grid = Grid((1, 1, 4), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    fine = Grid((1, 1, 61), (1.0, 1.0, 0.1), (0.0, 0.0, 1.55), grid.direction)
    liver = 1 / (1 + np.exp(-12 * (1.3 - np.arange(4.0)))).reshape(4, 1, 1)
    mask = array(decide_on_native_grid(np.stack([1 - liver, liver]), grid, fine).mask)[:, 0, 0]
    np.testing.assert_array_equal(mask == 1, 1.55 + 0.1 * np.arange(61) < 3.9)


def test_outside_the_common_grid_there_is_background():
    grid = Grid((6, 6, 6), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    wider = Grid((12, 6, 6), (1.0, 1.0, 1.0), (-3.0, 0.0, 0.0), grid.direction)
    found = decide_on_native_grid(np.stack([np.zeros((6, 6, 6)), np.ones((6, 6, 6))]), grid, wider)
    mask = array(found.mask)
    assert mask[:, :, 3:9].all()
    assert not mask[:, :, :3].any()
    assert not mask[:, :, 9:].any()


@pytest.mark.parametrize("file_format", ["nrrd", "vtk"])
def test_masks_in_another_format(single, tmp_path: Path, file_format: str, kept_locale):
    write_study(tmp_path / "studies", "case")
    (study,) = read_studies(tmp_path / "studies")
    study = Study("case", "case", {"T1": study.images["T1"]}, {})
    predict_studies(single, [study], tmp_path / "out")
    expected = read_mask(tmp_path / "out" / "case_T1.nii.gz")
    with pytest.raises(InputError, match="with other options"):
        predict_studies(single, [study], tmp_path / "out", file_format=file_format)
    predict_studies(single, [study], tmp_path / "out", file_format=file_format, overwrite=True)
    written = sitk.ReadImage(str(tmp_path / "out" / f"case_T1.{file_format}"))
    np.testing.assert_array_equal(array(written), array(expected))
    assert Grid.from_image(written).matches(Grid.from_image(expected))
    assert not (tmp_path / "out" / "case_T1.nii.gz").exists()
    described = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert described["file_ending"] == f".{file_format}"
    with pytest.raises(InputError, match=r"--format is nii\.gz, nrrd, vtk, not"):
        predict_studies(single, [study], tmp_path / "out", file_format="stl")


def test_masks_do_not_go_where_the_images_are(single, tmp_path: Path):
    """They have the images' names: the images would be taken for masks that are done."""
    write_study(tmp_path / "studies", "case")
    before = {path.name: path.read_bytes() for path in (tmp_path / "studies").iterdir()}
    with pytest.raises(InputError, match=r"studies: holds the image case_T1\.nii\.gz"):
        predict_studies(single, read_studies(tmp_path / "studies"), tmp_path / "studies")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "studies").iterdir()}


@pytest.mark.parametrize("overwrite", [False, True])
def test_only_masks_of_an_earlier_prediction_are_replaced(single, tmp_path: Path, overwrite: bool):
    """A file of somebody else's with a mask's name and another ending stays."""
    write_study(tmp_path / "studies", "case")
    (tmp_path / "out").mkdir()
    others = [tmp_path / "out" / f"case_T1.{ending}" for ending in ("nrrd", "vtk")]
    for other in others:
        other.write_text("not ours")
    predict_studies(
        single, read_studies(tmp_path / "studies"), tmp_path / "out", overwrite=overwrite
    )
    assert (tmp_path / "out" / "case_T1.nii.gz").is_file()
    assert [other.read_text() for other in others] == ["not ours"] * 2


def test_a_vtk_file_is_not_written_of_tilted_images(single, tmp_path: Path):
    write_study(tmp_path / "studies", "case")
    with pytest.raises(SomeCasesFailed, match=r"its axes are tilted .* nii\.gz or nrrd"):
        predict_studies(
            single, read_studies(tmp_path / "studies"), tmp_path / "out", file_format="vtk"
        )
    assert not list((tmp_path / "out").glob("*.vtk"))
