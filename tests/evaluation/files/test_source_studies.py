"""Studies as references: pairs, and single images with one mask, from a CSV or a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.evaluate import evaluate
from nnunet_liver_ext.evaluation.files.find_label_maps import (
    NO_MODALITY,
    ImageKey,
    find_images,
    find_references,
)
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.studies.file_names import list_files
from nnunet_liver_ext.studies.study_layouts import select_studies
from tests.evaluation.conftest import block

MODALITIES = ("T1", "T2")


@pytest.fixture
def single(tmp_path: Path, put) -> Path:
    for name in ("water", "fat", "labels", "liver"):
        put(f"files/{name}", block())
    table = tmp_path / "files" / "studies.csv"
    table.write_text(
        "Patient,water,fat,mask,liver_mask\nanna,water.nii.gz,fat.nii.gz,labels.nii.gz,liver.nii.gz\n"
    )
    return table


def test_a_csv_with_one_mask_is_of_single_images(single: Path):
    (study,), is_single = select_studies(list_files(single), MODALITIES)
    assert is_single
    assert list(study.images) == ["water", "fat"]
    references = find_references(single, None)
    assert references.maps[ImageKey("anna", NO_MODALITY)].path.name == "labels.nii.gz"
    assert len(references.maps) == 1  # the liver mask beside it is none
    assert find_images(single, MODALITIES) == {
        ImageKey("anna", NO_MODALITY): single.parent / "water.nii.gz"
    }


def test_a_csv_of_pairs(tmp_path: Path, put):
    for name in ("a", "b"):
        put(f"files/{name}", block())
    table = tmp_path / "files" / "studies.csv"
    table.write_text("study,t1,t2,t2_mask\nanna,a.nii.gz,b.nii.gz,a.nii.gz\n")
    (study,), is_single = select_studies(list_files(table), MODALITIES)
    assert not is_single
    assert list(study.masks) == ["T2"]
    assert list(find_references(table, None).maps) == [ImageKey("anna", "T2")]


def test_predictions_of_an_ordinary_model_against_its_studies(tmp_path: Path, single: Path, put):
    put("masks/anna", block(1))
    table = evaluate(tmp_path / "masks", single, tmp_path / "out", Options(), processes=1)
    (dice,) = table[table.metric == "dice"].value
    assert dice == pytest.approx(7 / 8)


def test_a_folder_of_masks_alone_is_named_as_its_images(tmp_path: Path, put):
    for name in ("P001_T1_mask", "P001_mask_T2", "P002.seg"):
        put(f"references/{name}", block())
    maps = find_references(tmp_path / "references", None).maps
    assert {str(key): label_map.path.name for key, label_map in maps.items()} == {
        "P001 T1": "P001_T1_mask.nii.gz",
        "P001 T2": "P001_mask_T2.nii.gz",
        "P002": "P002.seg.nii.gz",
    }
    put("references/P003", block())
    with pytest.raises(InputError, match=r"P002\.seg\.nii\.gz: looks like a mask"):
        find_references(tmp_path / "references", None)
