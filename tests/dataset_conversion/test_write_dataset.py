import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext import __version__
from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset
from nnunet_liver_ext.dataset_json.manifest import Manifest, SourceFile
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.folder_lock import LOCK_FILE
from nnunet_liver_ext.pairing import decode_pair
from nnunet_liver_ext.space.common_grid import image_on_grid
from nnunet_liver_ext.space.images import (
    Grid,
    array,
    image_like,
    read_image,
    read_mask,
    write_image,
)
from nnunet_liver_ext.space.intensities import Intensities
from nnunet_liver_ext.space.mask_resampling import mask_on_grid
from nnunet_liver_ext.studies.study_layouts import read_studies
from tests.dataset_conversion.conftest import COARSE, T1_GRID, T2_GRID, ball, fingerprint
from tests.held_folders import Hold

SETTINGS = ConversionSettings(spacing=COARSE)
OPTIONS = {"dataset_id": 501, "name": "Test", "settings": SETTINGS, "folds": 2, "processes": 1}


@pytest.fixture
def studies(make_study):
    """Four studies of three patients."""
    names = [("carl", "1"), ("anna", "1"), ("anna", "2"), ("ben", "1")]
    return [make_study(*name, seed=seed) for seed, name in enumerate(names)]


def test_what_a_dataset_consists_of(raw: Path, studies):
    folder = write_dataset(studies, **OPTIONS)
    cases = ["P001_S1", "P001_S2", "P002_S1", "P003_S1"]
    assert folder == raw / "Dataset501_Test"
    assert sorted(fingerprint(folder)) == sorted(
        [f"imagesTr/{case}_{channel}.nii.gz" for case in cases for channel in ("0000", "0001")]
        + [f"labelsTr/{case}.nii.gz" for case in cases]
        + ["dataset.json", "pairs.json", "splits_final.json"]
    )
    assert json.loads((folder / "dataset.json").read_text()) == {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {
            "background": 0,
            "T1 liver only": 1,
            "T2 liver only": 2,
            "T1 liver and T2 liver": 3,
        },
        "numTraining": 4,
        "file_ending": ".nii.gz",
        "pair": {"modalities": ["T1", "T2"], "classes": ["background", "liver"]},
        "conversion": {
            "layout": "pairs",
            "modalities": ["T1", "T2"],
            "spacing": [4.0, 4.0, 6.0],
            "interpolation": "bspline",
            "preregistered": False,
            "intensities": {"kind": "nnunet"},
            "task": None,
            "labels": {"liver": [1]},
            "version": __version__,
        },
    }
    splits = json.loads((folder / "splits_final.json").read_text())
    assert len(splits) == 2
    assert all(sorted(fold["train"] + fold["val"]) == cases for fold in splits)
    assert all(("P001_S1" in fold["val"]) == ("P001_S2" in fold["val"]) for fold in splits)


def test_each_case_is_both_images_and_both_masks_on_one_grid(raw: Path, studies):
    folder = write_dataset(studies, **OPTIONS)
    case = Manifest.load(folder).cases["P003_S1"]
    carl = studies[0]
    joint = read_mask(folder / "labelsTr" / "P003_S1.nii.gz")
    assert Grid.from_image(joint).matches(case.grid)
    for channel, (modality, mask) in enumerate(
        zip(("T1", "T2"), decode_pair(array(joint)), strict=True)
    ):
        native = read_mask(carl.masks[modality])
        np.testing.assert_array_equal(mask, array(mask_on_grid(native, case.grid, 2)))
        assert mask.any()
        image = read_image(folder / "imagesTr" / f"P003_S1_{channel:04d}.nii.gz")
        expected = array(image_on_grid(read_image(carl.images[modality]), case.grid))
        np.testing.assert_array_equal(array(image), expected)
        assert array(image)[mask > 0].mean() > 420  # liver 500, elsewhere 300


def test_the_manifest_knows_sources_and_native_grids(raw: Path, studies):
    folder = write_dataset(studies, **OPTIONS)
    manifest = Manifest.load(folder)
    case = manifest.cases["P001_S2"]
    assert (case.patient, case.study, case.group, case.folder) == ("anna", "2", "P001", "Tr")
    assert case.native_grids["T1"].matches(T1_GRID)
    assert case.native_grids["T2"].matches(T2_GRID)
    assert set(case.sources) == {"T1", "T2", "T1 mask", "T2 mask"}
    path = studies[2].images["T1"]
    assert case.sources["T1"] == SourceFile.from_path(path, path.parent)
    assert case.sources["T1"].path == path.name
    assert case.sources["T1"].size == path.stat().st_size
    assert str(raw.parent) not in (folder / "pairs.json").read_text()


@pytest.mark.parametrize("root", ["source", "elsewhere"])
def test_paths_of_sources_do_not_lead_out_of_their_folder(
    raw: Path, tmp_path: Path, studies, root: str
):
    folder = write_dataset(studies, **OPTIONS, source_root=tmp_path / root)
    assert Manifest.load(folder).cases["P001_S1"].sources["T2 mask"].path == "anna_1_T2_mask.nii.gz"


def test_several_processes_give_the_same_files(raw: Path, studies):
    one = fingerprint(write_dataset(studies, **OPTIONS))
    two = fingerprint(write_dataset(studies, **OPTIONS | {"processes": 2}, overwrite=True))
    assert one == two


def test_held_out_patients_and_studies_without_masks_are_test_cases(raw: Path, studies, make_study):
    studies = [*studies, make_study("dora", masks=False), make_study("emil", seed=9)]
    folder = write_dataset(studies, **OPTIONS, hold_out=["anna"])
    cases = Manifest.load(folder).cases
    assert {name for name, case in cases.items() if case.folder == "Ts"} == {
        "P001_S1",
        "P001_S2",
        "P004_S1",
    }
    assert sorted(path.name for path in (folder / "labelsTs").iterdir()) == [
        "P001_S1.nii.gz",
        "P001_S2.nii.gz",
    ]
    assert (folder / "imagesTs" / "P004_S1_0001.nii.gz").exists()
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 3
    splits = json.loads((folder / "splits_final.json").read_text())
    assert {case for fold in splits for case in fold["train"] + fold["val"]} == {
        "P002_S1",
        "P003_S1",
        "P005_S1",
    }


def test_an_inference_set_needs_no_folds(raw: Path, make_study):
    folder = write_dataset([make_study(masks=False)], **OPTIONS)
    assert sorted(path.name for path in folder.iterdir()) == [
        "dataset.json",
        "imagesTs",
        "pairs.json",
    ]
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 0


def test_several_classes_are_remapped_by_name(raw: Path, make_study):
    studies = [make_study("anna"), make_study("ben", seed=1)]
    grids = {"T1": T1_GRID, "T2": T2_GRID}
    for study in studies:
        for modality, grid in grids.items():
            values = 6 * ball(grid, (0, 0, 0), 15).astype(np.uint8)
            values[ball(grid, (0, 0, 0), 8)] = 9
            values[0, 0, 0] = 4  # the spleen
            write_image(image_like(values, grid), study.masks[modality])
    settings = ConversionSettings(
        spacing=COARSE, labels={"liver": (6,), "tumour": (8, 9)}, ignored_labels=(4,)
    )
    folder = write_dataset(studies, **OPTIONS | {"settings": settings})
    content = json.loads((folder / "dataset.json").read_text())
    assert content["pair"]["classes"] == ["background", "liver", "tumour"]
    assert len(content["labels"]) == 9
    assert content["conversion"]["labels"] == {"liver": [6], "tumour": [8, 9]}
    first, second = decode_pair(array(read_mask(folder / "labelsTr" / "P001_S1.nii.gz")), 3)
    for mask in (first, second):
        assert set(np.unique(mask)) == {0, 1, 2}
        assert (mask == 1).sum() > (mask == 2).sum() > 0


@pytest.mark.parametrize(
    "options", [{"labels": {"liver": (1,), "tumour": (1,)}}, {"labels": {"liver": (0,)}}]
)
def test_a_mask_value_belongs_to_one_class(options):
    with pytest.raises(InputError, match="used twice"):
        ConversionSettings(**options)


def test_a_dataset_of_an_earlier_version_can_be_continued(raw: Path, studies, make_study):
    """pairs.json as it was before there were layouts, intensities and liver masks."""
    folder = write_dataset(studies, **OPTIONS)
    path = folder / "pairs.json"
    content = json.loads(path.read_text())
    for key in ("layout", "intensities", "organ", "dataset", "reading"):
        del content["settings"][key]
    path.write_text(json.dumps(content))
    write_dataset([make_study("dora", seed=9)], **OPTIONS, add=True)
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 5
    with pytest.raises(InputError, match="another intensities"):
        write_dataset(
            studies,
            **OPTIONS
            | {"settings": ConversionSettings(spacing=COARSE, intensities=Intensities("patient"))},
        )


def test_a_dataset_is_continued_with_the_same_reader_only(raw: Path, studies):
    own = OPTIONS | {
        "settings": ConversionSettings(
            spacing=COARSE, dataset="own-kind", reading={"margin": 1.5, "grid": [1.0, 2.0]}
        )
    }
    folder = write_dataset(studies, **own)
    assert {key: Manifest.load(folder).settings[key] for key in ("dataset", "reading")} == {
        "dataset": "own-kind",
        "reading": {"margin": 1.5, "grid": [1.0, 2.0]},
    }
    assert "reading" not in (folder / "dataset.json").read_text()
    write_dataset(studies, **own)
    for change, message in (
        ({"reading": {"margin": 2.0, "grid": [1.0, 2.0]}}, "another --margin;"),
        (
            {"reading": {"margin": 2.0, "grid": [2.0, 2.0]}},
            "another --(grid and --margin|margin and --grid);",
        ),
        ({"dataset": "other-kind", "reading": {}}, "another dataset;"),
        ({"dataset": None, "reading": {}}, "another dataset;"),
    ):
        for add in (False, True):
            with pytest.raises(InputError, match=message):
                write_dataset(
                    studies, **own | {"settings": replace(own["settings"], **change)}, add=add
                )
    later = replace(
        own["settings"], reading={**own["settings"].reading, "option-of-a-later-version": 1}
    )
    write_dataset(studies, **own | {"settings": later})


def test_what_an_earlier_version_did_not_note_of_the_reader_is_not_compared(raw: Path, studies):
    path = write_dataset(studies, **OPTIONS) / "pairs.json"
    content = json.loads(path.read_text())
    del content["settings"]["dataset"], content["settings"]["reading"]
    path.write_text(json.dumps(content))
    write_dataset(
        studies,
        **OPTIONS | {"settings": replace(SETTINGS, dataset="own-kind", reading={"margin": 1.5})},
    )
    assert json.loads(path.read_text()) == content


def test_a_repeated_run_changes_nothing(raw: Path, studies):
    folder = write_dataset(studies, **OPTIONS)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    write_dataset(studies, **OPTIONS)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": ConversionSettings(spacing=(5.0, 5.0, 5.0))}, "another spacing"),
        (
            {"settings": ConversionSettings(spacing=COARSE, interpolation="linear")},
            "another interpolation",
        ),
        (
            {"settings": ConversionSettings(spacing=COARSE, labels={"organ": (1,)})},
            "another classes and labels",
        ),
        ({"folds": 3}, "another folds"),
        ({"hold_out": 1}, "another hold_out"),
        ({"name": "Other"}, "has the number 501 already"),
    ],
)
def test_another_dataset_is_not_overwritten(raw: Path, studies, change: dict, message: str):
    folder = write_dataset(studies, **OPTIONS)
    before = fingerprint(folder)
    with pytest.raises(InputError, match=message):
        write_dataset(studies, **OPTIONS | change)
    assert fingerprint(folder) == before


def test_a_foreign_dataset_is_replaced_only_on_request_and_other_files_stay(raw: Path, studies):
    folder = raw / "Dataset501_Test"
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "imagesTr" / "old_0000.nii.gz").touch()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="that nnunet_liver did not write"):
        write_dataset(studies, **OPTIONS)
    write_dataset(studies, **OPTIONS, overwrite=True)
    assert not (folder / "imagesTr" / "old_0000.nii.gz").exists()
    assert (folder / "notes.txt").read_text() == "mine"


def test_new_and_corrected_studies_come_in_with_add(raw: Path, studies, make_study):
    folder = write_dataset(studies, **OPTIONS)
    before, splits = fingerprint(folder), json.loads((folder / "splits_final.json").read_text())
    more = [make_study("aaron", seed=7), make_study("anna", "3", seed=8)]
    with pytest.raises(InputError, match=r"study (aaron_2021|anna_3) is new"):
        write_dataset([*studies, *more], **OPTIONS)
    corrected = make_study("ben", "1", seed=11)
    with pytest.raises(InputError, match="study ben_1 has changed"):
        write_dataset(studies, **OPTIONS)
    assert fingerprint(folder) == before

    write_dataset([*more, corrected], **OPTIONS, add=True)
    after = fingerprint(folder)
    changed = {name for name in before if before[name] != after[name]}
    added = set(after) - set(before)
    assert added == {
        f"{kind}/{case}{channel}.nii.gz"
        for case in ("P001_S3", "P004_S1")
        for kind, channel in (("imagesTr", "_0000"), ("imagesTr", "_0001"), ("labelsTr", ""))
    }
    assert changed >= {
        "imagesTr/P002_S1_0000.nii.gz",
        "labelsTr/P002_S1.nii.gz",
        "dataset.json",
        "pairs.json",
    }
    assert not any(
        name.startswith(("imagesTr/P001", "imagesTr/P003", "labelsTr/P003")) for name in changed
    )
    for old, new in zip(
        splits, json.loads((folder / "splits_final.json").read_text()), strict=True
    ):
        assert set(old["val"]) <= set(new["val"])
        assert ("P001_S1" in new["val"]) == ("P001_S3" in new["val"])
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 6


def test_a_study_that_gets_masks_moves_to_the_training_set(raw: Path, studies, make_study):
    folder = write_dataset([*studies, make_study("dora", masks=False)], **OPTIONS)
    assert (folder / "imagesTs" / "P004_S1_0000.nii.gz").exists()
    write_dataset([make_study("dora")], **OPTIONS, add=True)
    assert not list((folder / "imagesTs").iterdir())
    assert (folder / "labelsTr" / "P004_S1.nii.gz").exists()


def test_a_patient_in_training_cannot_be_held_out_later(raw: Path, studies, make_study):
    write_dataset(studies, **OPTIONS)
    with pytest.raises(InputError, match="carl cannot leave the training set"):
        write_dataset([make_study("dora")], **OPTIONS, add=True, hold_out=["carl"])


def test_the_others_are_converted_when_one_fails_and_it_is_tried_again(raw: Path, studies):
    broken = studies[3].masks["T2"]
    content = broken.read_bytes()
    broken.write_bytes(content[:-40])
    with pytest.raises(
        SomeCasesFailed, match=r"1 of 4 cases could not be processed:\n  ben_1: .*damaged"
    ) as error:
        write_dataset(studies, **OPTIONS | {"processes": 2})
    assert [failure.case for failure in error.value.failures] == ["ben_1"]
    folder = raw / "Dataset501_Test"
    assert not [name for name in fingerprint(folder) if "P002" in name or ".unfinished" in name]
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 3
    broken.write_bytes(content)
    write_dataset(studies, **OPTIONS)
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 4


def test_two_conversions_of_one_dataset_are_not_mixed(raw: Path, studies, hold: Hold):
    """Also where the second one would replace the dataset, with other options."""
    folder = raw / "Dataset501_Test"
    other = hold(folder)
    others = replace(SETTINGS, spacing=(4.0, 4.0, 4.0))
    for options in (OPTIONS, OPTIONS | {"settings": others, "overwrite": True}):
        with pytest.raises(InputError, match=rf"process {other.pid} on .* works in this folder"):
            write_dataset(studies, **options)
        assert [path.name for path in folder.iterdir()] == [LOCK_FILE]
    other.communicate()
    write_dataset(studies, **OPTIONS)
    assert not (folder / LOCK_FILE).exists()
    before = fingerprint(folder)
    hold(folder)
    with pytest.raises(InputError, match="works in this folder"):
        write_dataset(studies, **OPTIONS | {"settings": others, "overwrite": True})
    (folder / LOCK_FILE).unlink()
    assert fingerprint(folder) == before


def test_a_dataset_with_too_few_patients_left_is_not_finished(raw: Path, studies):
    for study in studies[:3]:
        study.masks["T1"].write_bytes(b"")
    with pytest.raises(
        InputError,
        match=r"3 of 4 cases(.|\n)*Dataset501_Test has no dataset\.json yet: too few patients",
    ):
        write_dataset(studies, **OPTIONS)
    assert not (raw / "Dataset501_Test" / "dataset.json").exists()
    assert not (raw / "Dataset501_Test" / "splits_final.json").exists()


def test_after_a_run_without_success_everything_may_be_asked_anew(raw: Path, studies):
    settings = ConversionSettings(spacing=COARSE, labels={"organ": (8,)})
    with pytest.raises(InputError, match="4 of 4 cases"):
        write_dataset(studies, **OPTIONS | {"settings": settings})
    stray = raw / "Dataset501_Test" / "imagesTr" / "P009_S1_0000.nii.gz"
    stray.parent.mkdir(exist_ok=True)
    stray.touch()
    write_dataset(studies[:3], **OPTIONS)
    assert not stray.exists()
    assert set(Manifest.load(raw / "Dataset501_Test").cases) == {"P001_S1", "P001_S2", "P002_S1"}


def test_a_full_disk_leaves_nothing_of_the_case(
    raw: Path, studies, monkeypatch: pytest.MonkeyPatch
):
    write = sitk.WriteImage

    def full(image: sitk.Image, name: str, compress: bool) -> None:
        write(image, name, compress)
        if "labelsTr" in name and array(image).sum() == sums[2]:
            raise OSError(28, "No space left on device")

    folder = write_dataset(studies, **OPTIONS)
    complete = fingerprint(folder)
    sums = [array(read_mask(path)).sum() for path in sorted((folder / "labelsTr").iterdir())]
    monkeypatch.setattr(sitk, "WriteImage", full)
    with pytest.raises(SomeCasesFailed, match=r"1 of 4.*\n  ben_1: .*No space left on device"):
        write_dataset(studies, **OPTIONS, overwrite=True)
    assert sorted(fingerprint(folder)) == sorted(name for name in complete if "P002" not in name)
    monkeypatch.setattr(sitk, "WriteImage", write)
    write_dataset(studies, **OPTIONS, overwrite=True)
    assert fingerprint(folder) == complete


def test_a_file_that_itk_could_only_write_in_part_is_noticed(
    raw: Path, studies, monkeypatch: pytest.MonkeyPatch
):
    """ITK's NIfTI writer says nothing when the disk is full."""
    write = sitk.WriteImage

    def silently_cut(image: sitk.Image, name: str, compress: bool) -> None:
        write(image, name, compress)
        os.truncate(name, Path(name).stat().st_size * 9 // 10)

    monkeypatch.setattr(sitk, "WriteImage", silently_cut)
    with pytest.raises(InputError, match="could not be written completely; is the disk full"):
        write_dataset(studies, **OPTIONS)
    assert not list((raw / "Dataset501_Test").rglob("*.nii.gz"))


def test_a_manifest_that_cannot_be_written_is_one_sentence(
    raw: Path, studies, monkeypatch: pytest.MonkeyPatch
):
    def full(self: Manifest, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Manifest, "save", full)
    with pytest.raises(
        InputError, match=r"Dataset501_Test: cannot be written \(No space left on device\)"
    ):
        write_dataset(studies, **OPTIONS)


KILLED_RUN = """
import sys, time
from pathlib import Path
from nnunet_liver_ext.dataset_conversion.image_reader import PlainReader
from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset
from nnunet_liver_ext.studies.study_layouts import (read_studies)
class SlowReader(PlainReader):
    def read_image(self, path):
        time.sleep(0.1)
        return super().read_image(path)

if __name__ == "__main__":
    write_dataset(
        read_studies(Path(sys.argv[1])),
        dataset_id=501, name="Test", settings=ConversionSettings(spacing=(4.0, 4.0, 6.0)),
        folds=2, processes=2, reader=SlowReader(),
    )
"""


def test_a_killed_run_repeated_gives_the_same_dataset(raw: Path, tmp_path: Path, make_study):
    for seed, patient in enumerate("abcdefghijkl"):
        make_study(patient, patient, seed=seed)
    studies = read_studies(tmp_path / "source")
    script = tmp_path / "run.py"
    script.write_text(KILLED_RUN)
    command, folder = (
        [sys.executable, str(script), str(tmp_path / "source")],
        raw / "Dataset501_Test",
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (folder / "pairs.json").exists() or len(Manifest.load(folder).cases) < 2:
        assert process.poll() is None, "the run was over before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must end by themselves
    process.wait(timeout=30)
    time.sleep(0.5)
    converted = len(list(folder.rglob("*.nii.gz")))
    time.sleep(0.5)
    assert len(list(folder.rglob("*.nii.gz"))) == converted < 36
    assert not (folder / "dataset.json").exists()
    (folder / "imagesTr").mkdir(exist_ok=True)
    (folder / "imagesTr" / ".unfinished_x.nii.gz").write_bytes(b"half")
    write_dataset(studies, **OPTIONS)
    repeated = fingerprint(folder)
    write_dataset(studies, **OPTIONS, overwrite=True)
    assert repeated == fingerprint(folder)


def test_nnunet_raw_must_be_set(studies, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("nnUNet_raw", raising=False)
    with pytest.raises(InputError, match="nnUNet_raw is not set"):
        write_dataset(studies, **OPTIONS)


def test_impossible_requests_are_refused_before_anything_is_written(raw: Path, studies):
    with pytest.raises(InputError, match="3 patients cannot be split into 5 folds"):
        write_dataset(studies, **OPTIONS | {"folds": 5})
    with pytest.raises(InputError, match="exclude each other"):
        write_dataset(studies, **OPTIONS, add=True, overwrite=True)
    with pytest.raises(InputError, match="is no name for a dataset"):
        write_dataset(studies, **OPTIONS | {"name": "a/b"})
    assert not list(raw.iterdir())


def test_a_manifest_of_a_later_version_or_a_damaged_one_is_refused(raw: Path, studies):
    path = write_dataset(studies, **OPTIONS) / "pairs.json"
    content = path.read_text()
    path.write_text(content.replace('"format": 1', '"format": 2'))
    with pytest.raises(InputError, match="written by a later version"):
        Manifest.load(path.parent)
    path.write_text(content[:200])
    with pytest.raises(InputError, match=r"pairs\.json: is no valid JSON .*; convert again\.$"):
        Manifest.load(path.parent)
    path.unlink()
    with pytest.raises(InputError, match=r"has no pairs\.json"):
        Manifest.load(path.parent)
