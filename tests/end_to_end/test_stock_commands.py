"""The whole chain as a user types it: our conversion, planning and prediction around nnU-Net's own
commands."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.space.images import Grid, read_image, read_mask
from tests.end_to_end.shell import Shell

TRAINER = "nnUNetTrainerDualInput"
FOLD = ["501", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu"]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Converted, planned and preprocessed, with the export line of `nnunet_liver env` and nothing
    else."""
    shell = Shell(tmp_path_factory.mktemp("stock"))
    studies = shell.root / "studies"
    shell.run(
        *(
            "nnunet_liver",
            "convert",
            "phantom",
            "-d",
            "501",
            "--studies",
            studies,
            "--pairs",
            "6",
            "--seed",
            "1",
        ),
        *(
            "--spacing",
            "4,4,8",
            "--difficulty",
            "demo",
            "--hold-out",
            "1",
            "--folds",
            "2",
            "--processes",
            "2",
        ),
    )
    shell.run(
        *("nnunet_liver", "plan", "-d", "501", "--tiny", "--processes", "2"),
        *(
            "--set",
            "num_epochs=3",
            "--set",
            "num_iterations_per_epoch=4",
            "--set",
            "num_val_iterations_per_epoch=1",
        ),
    )
    shell.run(
        "nnUNetv2_preprocess",
        "-d",
        "501",
        "-plans_name",
        "nnUNetPlans",
        "-c",
        "3d_fullres",
        "-np",
        "2",
    )
    line = shell.run("nnunet_liver", "env").strip()
    assert line.startswith("export nnUNet_extTrainer=")
    shell.environment["nnUNet_extTrainer"] = line.partition("=")[2]
    return shell


@pytest.fixture(scope="module")
def trained(shell: Shell) -> Path:
    """Trained by nnUNetv2_train, killed after its first epoch and continued with --c. The model
    folder."""
    folder = shell.root / "results" / "Dataset501_Phantom" / f"{TRAINER}__nnUNetPlans__3d_fullres"
    latest = folder / "fold_0" / "checkpoint_latest.pth"
    process = shell.start("nnUNetv2_train", *FOLD)
    try:
        deadline = time.monotonic() + 300
        while not latest.exists() and time.monotonic() < deadline:
            assert process.poll() is None, "the training ended by itself"
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    assert latest.exists()
    shell.run("nnUNetv2_train", *FOLD, "--c")
    return folder


def held_out(shell: Shell) -> list[str]:
    manifest = json.loads((shell.root / "raw" / "Dataset501_Phantom" / "pairs.json").read_text())
    assert manifest
    return sorted(
        path.name.removesuffix("_0000.nii.gz")
        for path in raw(shell, "imagesTs").glob("*_0000.nii.gz")
    )


def raw(shell: Shell, folder: str) -> Path:
    return shell.root / "raw" / "Dataset501_Phantom" / folder


def test_training_went_through_and_scores_each_modality(trained: Path):
    summary = json.loads((trained / "fold_0" / "validation" / "summary.json").read_text())
    assert set(summary["mean_by_modality_and_class"]) == {"T1 liver", "T2 liver"}
    log = "".join(
        path.read_text() for path in sorted((trained / "fold_0").glob("training_log_*.txt"))
    )
    assert "Epoch 0" in log
    assert "Epoch 2" in log
    assert (trained / "fold_0" / "checkpoint_final.pth").exists()


def test_stock_prediction_and_split(shell: Shell, trained: Path, tmp_path: Path):
    joint, native = tmp_path / "joint", tmp_path / "native"
    shell.run(
        *(
            "nnUNetv2_predict",
            "-i",
            raw(shell, "imagesTs"),
            "-o",
            joint,
            "-d",
            "501",
            "-c",
            "3d_fullres",
        ),
        *("-f", "0", "-tr", TRAINER, "-device", "cpu", "--disable_tta"),
    )
    cases = held_out(shell)
    assert cases
    for case in cases:
        assert set(np.unique(sitk.GetArrayFromImage(read_mask(joint / f"{case}.nii.gz")))) <= {
            0,
            1,
            2,
            3,
        }
    shell.run("nnunet_liver", "predict", "--split", joint, "-d", "501", "-o", native)
    assert sorted(path.name for path in native.glob("*.nii.gz")) == sorted(
        f"{case}_{modality}.nii.gz" for case in cases for modality in ("T1", "T2")
    )


def test_a_model_is_shared_as_a_zip_and_predicts_native_images(
    shell: Shell, trained: Path, tmp_path: Path
):
    archive, elsewhere = tmp_path / "model.zip", Shell(tmp_path / "elsewhere")
    shell.run(
        "nnUNetv2_export_model_to_zip",
        "-d",
        "501",
        "-o",
        archive,
        "-c",
        "3d_fullres",
        "-tr",
        TRAINER,
        "-f",
        "0",
    )
    elsewhere.run("nnUNetv2_install_pretrained_model_from_zip", archive)
    installed = elsewhere.root / "results" / "Dataset501_Phantom" / trained.name
    assert (installed / "fold_0" / "checkpoint_final.pth").exists()

    studies = shell.root / "studies"
    name = sorted(studies.glob("*_T1.nii.gz"))[0].name.removesuffix("_T1.nii.gz")
    t1, t2 = studies / f"{name}_T1.nii.gz", studies / f"{name}_T2.nii.gz"
    results = {}
    for kind, model in (("zip", archive), ("installed", installed)):
        out = tmp_path / kind
        options = [
            "-m",
            model,
            "--t1",
            t1,
            "--t2",
            t2,
            "--name",
            name,
            "-o",
            out,
            "--device",
            "cpu",
            "--no-mirroring",
        ]
        elsewhere.run("nnunet_liver", "predict", *options)
        for modality, image in (("T1", t1), ("T2", t2)):
            mask = read_mask(out / f"{name}_{modality}.nii.gz")
            assert Grid.from_image(mask).size == Grid.from_image(read_image(image)).size
            np.testing.assert_allclose(
                Grid.from_image(mask).corners(),
                Grid.from_image(read_image(image)).corners(),
                atol=1e-3,
            )
            results[kind, modality] = sitk.GetArrayFromImage(mask)
    for modality in ("T1", "T2"):
        np.testing.assert_array_equal(results["zip", modality], results["installed", modality])

    alone = elsewhere.run(
        "nnunet_liver", "predict", "-m", archive, "--t1", t1, "-o", tmp_path / "alone", fails=True
    )
    assert "has no T2 image" in alone

    evaluation = tmp_path / "evaluation"
    elsewhere.run(
        "nnunet_liver",
        "evaluate",
        "-p",
        tmp_path / "zip",
        "-r",
        one_study(studies, name, tmp_path),
        "-o",
        evaluation,
    )
    assert (evaluation / "report.html").exists()
    assert (evaluation / "results.csv").exists()


def one_study(studies: Path, name: str, folder: Path) -> Path:
    """A CSV with just this study of studies.csv."""
    lines = (studies / "studies.csv").read_text().splitlines()
    chosen = [line for line in lines[1:] if f"{name}_T1.nii.gz" in line]
    assert len(chosen) == 1
    cells = [
        str(studies / cell) if cell.endswith(".nii.gz") else cell for cell in chosen[0].split(",")
    ]
    path = folder / "one.csv"
    path.write_text("\n".join([lines[0], ",".join(cells)]) + "\n")
    return path
