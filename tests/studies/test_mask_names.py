"""The one rule for masks' names, and what becomes of files and columns that are named so."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_liver_ext.dataset_conversion.datasets.slices2d_files import find_images_and_masks
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.file_names import list_files
from nnunet_liver_ext.studies.mask_names import image_of_mask, looks_like_mask
from nnunet_liver_ext.studies.study_layouts import (
    read_image_studies,
    read_studies,
    select_studies,
)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("anna_T1_mask", "anna_T1"),
        ("anna_T1_Seg", "anna_T1"),
        ("f_mask.seg", "f"),
        ("anna_T1-segmentation.seg", "anna_T1"),
        ("anna.seg", "anna"),
        ("anna-label", "anna"),
        ("anna_labelmap", "anna"),
        ("anna_msk", "anna"),
        ("anna_masks", "anna"),
        ("p1_mask_T1", "p1_T1"),
        ("mask_t1", "t1"),
        ("seg-T2", "T2"),
        ("mask", ""),
        ("Segmentation.seg", ""),
        ("anna_T1", None),
        ("anna_unmask", None),
        ("anna_mask_T3", None),
        ("annamask", None),
        ("mask_anna", None),
    ],
)
def test_the_image_that_a_name_is_the_mask_of(name: str, image: str | None):
    assert image_of_mask(name, ("T1", "T2")) == image


def test_what_looks_like_a_mask():
    like = ("anna_mask", "annaMask", "seg_3", "T1seg", "gt-1", "label0002", "annotation", "masked")
    assert [name for name in like if not looks_like_mask(name)] == []
    images = ("anna_T1", "segelin", "gtx_1", "b_liver", "P001_S1_0000", "margt")
    assert [name for name in images if looks_like_mask(name)] == []


@pytest.mark.parametrize(
    "mask",
    ["{}_mask", "{}.seg", "{}_mask.seg", "{}-label", "{}_msk", "{}_segmentation", "{}-labels"],
)
def test_usual_names_of_masks_in_a_folder(tmp_path: Path, mask: str):
    single, pairs = tmp_path / "single", tmp_path / "pairs"
    touch(single, "f.nii.gz", f"{mask.format('f')}.nrrd", f"{mask.format('f_liver')}.nrrd")
    (study,) = read_image_studies(single, modalities=["MR"])
    assert study.masks == {
        "MR": single / f"{mask.format('f')}.nrrd",
        "liver": single / f"{mask.format('f_liver')}.nrrd",
    }
    touch(pairs, "p_T1.nii.gz", f"{mask.format('p_T1')}.nrrd")
    (study,) = read_studies(pairs)
    assert study.masks == {"T1": pairs / f"{mask.format('p_T1')}.nrrd"}


def test_a_mask_named_before_its_modality(tmp_path: Path):
    touch(tmp_path, "p1_T1.nii.gz", "p1_mask_T1.nii.gz", "p2/T2.nii.gz", "p2/seg_T2.nii.gz")
    p1, p2 = read_studies(tmp_path)
    assert p1.masks == {"T1": tmp_path / "p1_mask_T1.nii.gz"}
    assert p2.masks == {"T2": tmp_path / "p2/seg_T2.nii.gz"}
    touch(tmp_path / "mr", "a.nii.gz", "a_mask_MR.nii.gz")
    (study,) = read_image_studies(tmp_path / "mr", modalities=["MR"])
    assert study.masks == {"MR": tmp_path / "mr" / "a_mask_MR.nii.gz"}


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (("p_T1", "p_T1seg"), "p_T1seg"),
        (("p_T1", "mask_p_T1"), "mask_p_T1"),
        (("p_T1", "p_mask"), "p_mask"),
        (("p_T1", "p_T1_tumour_mask"), "p_T1_tumour_mask"),
        (("p_T1", "gt_p_T1"), "gt_p_T1"),
        (("images/p_T1", "masks/p_T1"), "masks"),
        (("p/T1", "p/masks/T1"), "masks"),
    ],
)
def test_what_looks_like_a_mask_of_a_pair_is_not_dropped(
    tmp_path: Path, names: tuple[str, ...], named: str
):
    touch(tmp_path, *(f"{name}.nii.gz" for name in names))
    with pytest.raises(InputError, match=rf"{named}\S*: looks like a mask, .* NAME\w*_mask"):
        read_studies(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("p", "p_annotated"), "p_annotated.nii.gz: looks like a mask"),
        (("p", "seg_p"), "seg_p.nii.gz: looks like a mask"),
        (("p", "Segmentation.seg"), "Segmentation.seg.nii.gz: looks like a mask"),
        (("images/p", "masks/p"), "masks: looks like a mask"),
        (("p/image", "p/livermask"), "livermask.nii.gz: looks like a mask"),
        (("q/image", "p/mask"), "mask.nii.gz: is a mask, but there is no image of p"),
    ],
)
def test_what_looks_like_a_mask_of_an_image_is_no_image(
    tmp_path: Path, names: tuple[str, ...], message: str
):
    touch(tmp_path, *(f"{name}.nii.gz" for name in names))
    with pytest.raises(InputError, match=message):
        read_image_studies(tmp_path, modalities=["MR"])


@pytest.mark.parametrize("column", ["t1_mask", "t1_seg", "T1-label", "mask_t1", "t1_msk", "seg_t1"])
def test_columns_of_masks(tmp_path: Path, column: str):
    touch(tmp_path, "a.nii.gz", "m.nii.gz")
    csv = tmp_path / "s.csv"
    csv.write_text(f"patient,t1,{column}\nanna,a.nii.gz,m.nii.gz\n")
    assert read_studies(csv)[0].masks == {"T1": tmp_path / "m.nii.gz"}


@pytest.mark.parametrize("column", ["mask", "seg", "label", "ct_mask", "image_seg", "mask_ct"])
def test_columns_of_masks_of_single_images(tmp_path: Path, column: str):
    touch(tmp_path, "a.nii.gz", "m.nii.gz", "l.nii.gz")
    csv = tmp_path / "s.csv"
    csv.write_text(f"patient,ct,{column},liver_seg\nanna,a.nii.gz,m.nii.gz,l.nii.gz\n")
    (study,) = read_image_studies(csv, modalities=["CT"])
    assert study.masks == {"CT": tmp_path / "m.nii.gz", "liver": tmp_path / "l.nii.gz"}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("patient,t1,mask", "the column 'mask' looks like one of masks; .* t1_mask or t2_mask"),
        ("patient,t1,t1_liver_mask", "'t1_liver_mask' looks like one of masks"),
        ("patient,t1,t1_maks", "'t1_maks' is probably t1_mask"),
        ("patient,t1,t1mask", "'t1mask' is probably t1_mask"),
        ("patient,t1,t2w", "'t2w' is probably t2"),
        ("patient_id,t1,study", "'patient_id' is probably patient"),
        ("pateint,t1,study", "'pateint' is probably patient"),
    ],
)
def test_columns_that_are_probably_misspelt(tmp_path: Path, header: str, message: str):
    touch(tmp_path, "a.nii.gz", "m.nii.gz")
    csv = tmp_path / "s.csv"
    csv.write_text(f"{header}\nanna,a.nii.gz,m.nii.gz\n")
    with pytest.raises(InputError, match=message):
        read_studies(csv)


def test_other_columns_do_no_harm(tmp_path: Path):
    touch(tmp_path, "a.nii.gz", "b.nii.gz")
    csv = tmp_path / "s.csv"
    remark = "x" * 300
    csv.write_text(f"patient,t1,mask_quality,dwi,t2w,t1_maks\nanna,a.nii.gz,{remark},b.nii.gz,,\n")
    (study,) = read_studies(csv)
    assert (study.images, study.masks) == ({"T1": tmp_path / "a.nii.gz"}, {})


def test_a_mask_given_as_an_image_in_a_csv(tmp_path: Path):
    touch(tmp_path, "a_T1.nii.gz", "a_T1_mask.nii.gz")
    csv = tmp_path / "s.csv"
    csv.write_text("patient,t1,t2,t1_mask\nanna,a_T1.nii.gz,a_T1_mask.nii.gz,\n")
    with pytest.raises(InputError, match=r"row 2: a_T1_mask\.nii\.gz is given as an image"):
        read_studies(csv)


def test_only_columns_of_files_are_channels_of_single_images(tmp_path: Path):
    touch(tmp_path, "a.nii.gz", "m.nii.gz", "l.nii.gz")
    csv = tmp_path / "s.csv"
    csv.write_text("patient,age,CT,seg,liver_seg\nanna,61,a.nii.gz,m.nii.gz,l.nii.gz\n")
    (study,), is_single = select_studies(list_files(csv), ("T1", "T2"))
    assert is_single
    assert study.images == {"ct": tmp_path / "a.nii.gz"}
    assert study.masks == {"ct": tmp_path / "m.nii.gz", "liver": tmp_path / "l.nii.gz"}


def test_masks_of_slices(tmp_path: Path):
    touch(tmp_path, "a_1.png", "a_1-label.png", "a_2.nii.gz", "a_2.seg.nii.gz")
    images, masks = find_images_and_masks(tmp_path)
    assert [place.path for place in masks] == [place.path for place in images] == ["a_1", "a_2"]
    touch(tmp_path, "seg_a_3.png")
    with pytest.raises(InputError, match=r"seg_a_3\.png: looks like a mask"):
        find_images_and_masks(tmp_path)
