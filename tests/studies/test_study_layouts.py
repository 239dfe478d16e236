"""Whether the studies of a folder or CSV are pairs or single images."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_liver_ext.studies.file_names import list_files
from nnunet_liver_ext.studies.study_layouts import select_studies

MODALITIES = ("T1", "T2")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("names", "is_single"),
    [
        (("A", "A_mask"), True),
        (("A_T1", "A_T1_mask"), False),
        (("A_t1", "A_T1_seg"), False),
        (("anna/T2", "anna/T2_label"), False),
        (("anna/image", "anna/mask", "predicted/anna_T1"), True),
    ],
)
def test_folders(tmp_path: Path, names: tuple[str, ...], is_single: bool):
    touch(tmp_path, *(f"{name}.nii.gz" for name in names))
    touch(tmp_path / "predicted", "prediction.json")
    assert select_studies(list_files(tmp_path), MODALITIES)[1] == is_single


def test_a_note_beside_an_image_is_no_image(tmp_path: Path):
    touch(tmp_path, "anna/image.nii.gz", "anna/remarks_T1.txt")
    assert select_studies(list_files(tmp_path), MODALITIES)[1]


def test_a_column_without_a_name_is_no_channel(tmp_path: Path):
    touch(tmp_path, "a.nii.gz", "m.nii.gz")
    (tmp_path / "s.csv").write_text("patient,CT,mask,\nanna,a.nii.gz,m.nii.gz,\n")
    (study,), is_single = select_studies(list_files(tmp_path / "s.csv"), MODALITIES)
    assert is_single
    assert list(study.images) == ["ct"]


def test_a_csv_that_begins_with_a_byte_order_mark(tmp_path: Path):
    touch(tmp_path, "a.nii.gz", "m.nii.gz")
    (tmp_path / "s.csv").write_text("patient,CT,mask\nanna,a.nii.gz,m.nii.gz\n", "utf-8-sig")
    (study,), _ = select_studies(list_files(tmp_path / "s.csv"), MODALITIES)
    assert study.patient == "anna"
