import json
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import typer
from rich.text import Text
from typer.testing import CliRunner

from nnunet_liver_ext import cli
from nnunet_liver_ext.commands.convert import app
from nnunet_liver_ext.dataset_conversion.datasets import ENTRIES
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.space.images import array, image_like, read_image, write_image
from tests.dataset_conversion.conftest import T1_GRID, ball
from tests.dataset_conversion.datasets.test_chaos_mr import write_examination
from tests.dataset_conversion.datasets.test_cirrmri600 import add


def convert(*arguments: str) -> str:
    result = CliRunner().invoke(
        cli.app, ["convert", *arguments], catch_exceptions=False, env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_pairs_with_every_option(raw: Path, tmp_path: Path, make_study):
    for seed, patient in enumerate(["anna", "ben", "carl", "dora"]):
        make_study(patient, seed=seed)
    csv = tmp_path / "studies.csv"
    rows = [
        ",".join(
            [
                patient,
                "2021",
                *(
                    f"source/{patient}_2021_{part}.nii.gz"
                    for part in ("T1", "T2", "T1_mask", "T2_mask")
                ),
            ]
        )
        for patient in ("anna", "ben", "carl", "dora")
    ]
    csv.write_text("\n".join(["patient,study,t1,t2,t1_mask,t2_mask", *rows]))
    output = convert(
        *(
            "pairs",
            str(csv),
            "-d",
            "7",
            "--name",
            "Mine",
            "--spacing",
            "5,5,6",
            "--interpolation",
            "linear",
        ),
        *(
            "--hold-out-patient",
            "ben",
            "--folds",
            "3",
            "--repeats",
            "2",
            "--seed",
            "4",
            "--processes",
            "1",
        ),
        *("--label", "organ=1+2", "--ignore-label", "9", "--allow-empty"),
    )
    folder = raw / "Dataset007_Mine"
    assert str(folder) in output.replace("\n", "")
    assert "nnunet_liver plan -d 7" in output
    content = json.loads((folder / "dataset.json").read_text())
    assert content["conversion"]["spacing"] == [5.0, 5.0, 6.0]
    assert content["conversion"]["interpolation"] == "linear"
    assert content["conversion"]["labels"] == {"organ": [1, 2]}
    assert len(json.loads((folder / "splits_final.json").read_text())) == 6
    manifest = Manifest.load(folder)
    assert manifest.held_out == ["ben"]
    assert manifest.cases["P001_S1"].sources["T1"].path == "source/anna_2021_T1.nii.gz"
    convert(
        *("pairs", str(csv), "-d", "7", "--name", "Mine", "--spacing", "4,4,6", "--folds", "3"),
        *("--processes", "1", "--hold-out", "0.25", "--overwrite"),
    )
    assert len(Manifest.load(folder).held_out) == 1


def test_native_t1_spacing(raw: Path, tmp_path: Path, make_study):
    make_study("anna")
    make_study("ben", seed=1)
    convert(
        "pairs",
        str(tmp_path / "source"),
        "-d",
        "501",
        "--spacing",
        "native-t1",
        "--folds",
        "2",
        "--processes",
        "1",
    )
    image = read_image(raw / "Dataset501_Liver" / "imagesTr" / "P001_S1_0000.nii.gz")
    assert image.GetSpacing() == pytest.approx(T1_GRID.spacing)


def test_failures_are_listed_with_exit_code_one(
    raw: Path,
    tmp_path: Path,
    make_study,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    for seed, patient in enumerate(["anna", "ben", "carl"]):
        study = make_study(patient, seed=seed)
    write_image(image_like(ball(T1_GRID, (0, 0, 0)), T1_GRID), study.masks["T2"])
    arguments = [
        "pairs",
        str(tmp_path / "source"),
        "-d",
        "501",
        "--spacing",
        "4,4,6",
        "--folds",
        "2",
        "--processes",
        "1",
    ]
    monkeypatch.setattr(sys, "argv", ["nnunet_liver", "convert", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    message = str(ended.value)
    assert message.startswith("nnunet_liver: 1 of 3 cases could not be processed:\n  carl_2021: ")
    assert "is not on the grid of its image" in message
    assert json.loads((raw / "Dataset501_Liver" / "dataset.json").read_text())["numTraining"] == 2


def test_public_datasets(raw: Path, tmp_path: Path):
    for number in (1, 2):
        write_examination(tmp_path / "CHAOS" / "MR" / str(number))
    common = ["--spacing", "4,4,6", "--folds", "2", "--processes", "1"]
    convert("chaos-mr", str(tmp_path / "CHAOS"), "-d", "510", "--organ", "spleen", *common)
    content = json.loads((raw / "Dataset510_ChaosMR" / "dataset.json").read_text())
    assert content["pair"]["classes"] == ["background", "spleen"]
    for modality, pids in (("T1", "123"), ("T2", "12")):
        for pid in pids:
            add(tmp_path / "Cirr", modality, "train", pid)
    output = convert("cirrmri600", str(tmp_path / "Cirr"), "-d", "511", *common)
    assert (
        "1 studies have only one of T1 and T2: 3. dataset.json lists those to train on." in output
    )
    content = json.loads((raw / "Dataset511_CirrMRI600" / "dataset.json").read_text())
    assert (content["numTraining"], set(content["incomplete"])) == (3, {"P003_S1"})
    assert "only one" not in convert(
        "cirrmri600", str(tmp_path / "Cirr"), "-d", "511", "--paired-only", "--overwrite", *common
    )
    assert (
        json.loads((raw / "Dataset511_CirrMRI600" / "dataset.json").read_text())["numTraining"] == 2
    )


def test_images_with_a_liver_mask(raw: Path, tmp_path: Path):
    folder = tmp_path / "ct"
    mask = ball(T1_GRID, (0, 0, 0))
    for name in ("a", "b"):
        write_image(
            image_like((mask * 60 + np.arange(20) - 20).astype(np.int16), T1_GRID),
            folder / f"{name}.nii.gz",
        )
        labels = mask + 1 * ball(T1_GRID, (0, 0, 0), 6)
        write_image(image_like(labels.astype(np.uint8), T1_GRID), folder / f"{name}_mask.nii.gz")
    common = [
        "images",
        str(folder),
        "--modality",
        "CT",
        "--folds",
        "2",
        "--processes",
        "1",
        "--label",
        "tumour=2",
    ]
    convert(
        *common,
        "-d",
        "7",
        "--organ-values",
        "1+2",
        "--intensities",
        "organ",
        "--clip-percentiles",
        "5,95",
    )
    content = json.loads((raw / "Dataset007_Liver" / "dataset.json").read_text())
    assert content["organ_mask"] == {"name": "liver", "channel": 1}
    assert content["conversion"]["intensities"] == {"kind": "organ", "percentiles": [5.0, 95.0]}
    for name in ("a", "b"):
        write_image(image_like(mask, T1_GRID), folder / f"{name}_liver_mask.nii.gz")
    convert(*common, "-d", "8", "--ignore-label", "1")
    content = json.loads((raw / "Dataset008_Liver" / "dataset.json").read_text())
    assert content["channel_names"] == {"0": "CT", "1": "noNorm"}
    assert content["labels"] == {"background": 0, "tumour": 1}


def test_incomplete_pairs_are_counted(raw: Path, tmp_path: Path, make_study):
    for seed, patient in enumerate(["anna", "ben", "carl"]):
        study = make_study(patient, seed=seed)
    study.masks["T1"].unlink()
    arguments = [
        "pairs",
        str(tmp_path / "source"),
        "-d",
        "501",
        "--spacing",
        "4,4,6",
        "--folds",
        "2",
        "--processes",
        "1",
    ]
    output = convert(*arguments)
    assert (
        "1 studies have both images, but one mask only: carl_2021. dataset.json lists those to"
        " train on." in output
    )
    assert "incomplete" in json.loads((raw / "Dataset501_Liver" / "dataset.json").read_text())
    with pytest.raises(
        SomeCasesFailed, match="carl_2021: has no T1 mask; a complete pair needs T1 and T2"
    ):
        convert(*arguments, "--overwrite", "--only-complete")


def test_a_dataset_without_any_mask_is_an_inference_set(
    raw: Path, tmp_path: Path, make_study, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    arguments = ["pairs", str(tmp_path / "source"), "-d", "501", "--spacing", "4,4,6"]
    arguments += ["--folds", "2", "--processes", "1"]
    make_study("anna", masks=False)
    output = convert(*arguments)
    assert "No study has a mask: it is an inference set (imagesTs)" in output
    assert "nnunet_liver plan" not in output
    planned = CliRunner().invoke(cli.app, ["plan", "-d", "501"])
    assert isinstance(planned.exception, InputError)
    assert "Dataset501_Liver: is an inference set" in str(planned.exception)
    make_study("ben", seed=1)
    make_study("carl", seed=2)
    output = convert(*arguments, "--add")
    assert "1 studies have no mask: anna_2021. They are in imagesTs." in output
    assert "inference set" not in output
    assert "Next: nnunet_liver plan -d 501" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["pairs", "x", "-d", "5", "--interpolation", "nearest"],
            "--interpolation is bspline or linear",
        ),
        (
            ["pairs", "x", "-d", "5", "--clip-percentiles", "1,99"],
            "--clip-percentiles goes with --intensities",
        ),
        (
            ["pairs", "x", "-d", "5", "--intensities", "patient", "--clip-percentiles", "1"],
            "write two numbers",
        ),
        (
            ["images", "x", "-d", "5", "--modality", "CT", "--organ-values", "liver"],
            "write values joined by",
        ),
        (["images", "x", "-d", "5"], "Missing option '--modality'"),
        (
            ["phantom", "-d", "5", "--studies", "x", "--layout", "volumes"],
            "--layout is pairs or images",
        ),
        (["amos", "x", "-d", "5", "--modality", "pet"], "pet is none of"),
        (["pairs", "x", "-d", "5", "--hold-out", "2", "--hold-out-patient", "anna"], "not both"),
    ],
)
def test_wrong_options_are_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
):
    (tmp_path / "x").mkdir()
    for name in ("a.nii.gz", "a_T1.nii.gz"):
        (tmp_path / "x" / name).touch()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["convert", *arguments], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert message in result.output


def test_tumours_of_the_phantom(raw: Path, tmp_path: Path):
    convert(
        *(
            "phantom",
            "-d",
            "598",
            "--studies",
            str(tmp_path / "phantoms"),
            "--pairs",
            "2",
            "--difficulty",
            "demo",
        ),
        *(
            "--layout",
            "images",
            "--modality",
            "CT",
            "--lesions",
            "--folds",
            "2",
            "--processes",
            "1",
        ),
    )
    folder = raw / "Dataset598_Phantom"
    content = json.loads((folder / "dataset.json").read_text())
    assert content["channel_names"] == {"0": "CT", "1": "noNorm"}
    assert (content["labels"], content["conversion"]["task"]) == (
        {"background": 0, "tumour": 1},
        "tumour",
    )
    tumour = array(read_image(folder / "labelsTr" / "P001_S1.nii.gz")) > 0
    liver = array(read_image(folder / "imagesTr" / "P001_S1_0001.nii.gz")) > 0
    assert 0 < tumour.sum() < 0.5 * liver.sum()
    assert not (tumour & ~liver).any()


def test_phantom(raw: Path, tmp_path: Path):
    convert(
        *(
            "phantom",
            "-d",
            "599",
            "--studies",
            str(tmp_path / "phantoms"),
            "--pairs",
            "2",
            "--difficulty",
            "demo",
        ),
        *("--spacing", "8,8,10", "--folds", "2", "--processes", "1"),
    )
    assert json.loads((raw / "Dataset599_Phantom" / "dataset.json").read_text())["numTraining"] == 2


def test_a_wrong_spacing_is_one_sentence(raw: Path, tmp_path: Path, make_study):
    make_study()
    with pytest.raises(ValueError, match="spacing must be native-t1 or three numbers"):
        convert("pairs", str(tmp_path / "source"), "-d", "501", "--spacing", "1.5,1.5")


@pytest.mark.parametrize("command", ["pairs", "phantom", "chaos-mr", "cirrmri600"])
def test_every_converter_has_help(command: str):
    assert "--preregister" in convert(command, "--help")


@pytest.mark.parametrize("command", ["pairs", "images", "phantom", "toy", *ENTRIES])
def test_help_has_no_brackets_that_rich_takes_for_markup(command: str):
    group = typer.main.get_command(app)
    shown = (
        group.get_command(click.Context(group), command)
        .make_context(command, ["--help"], resilient_parsing=True)
        .command
    )
    texts = [shown.help or "", *(getattr(option, "help", None) or "" for option in shown.params)]
    assert any(texts)
    for text in texts:
        assert Text.from_markup(text).plain == text.replace("\\[", "[")
