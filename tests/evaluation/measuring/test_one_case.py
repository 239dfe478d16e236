"""Which files belong together, and what comes out of one pair of them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.errors import CaseFailure, InputError
from nnunet_liver_ext.evaluation.files.case_files import match_references
from nnunet_liver_ext.evaluation.files.find_label_maps import ImageKey
from nnunet_liver_ext.evaluation.measuring.one_case import (
    NO_LABEL_IN_BOTH,
    CaseResult,
    add_missing_classes,
    evaluate_case,
)
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.pairing import PairLabels, encode_pair
from tests.evaluation.conftest import BLOCK_ML, GRID, OTHER_GRID, T2_GRID, block

PAIR = PairLabels(("T1", "T2"), ("background", "liver"))


def describe(folder: Path, pair: PairLabels | None = PAIR, **labels) -> None:
    entry = (
        {"pair": pair.to_json(), "labels": pair.dataset_labels()} if pair else {"labels": labels}
    )
    (folder / "dataset.json").write_text(json.dumps(entry))


def only_result(tmp_path: Path, references: str = "references") -> CaseResult | CaseFailure:
    found = match_references(tmp_path / "predictions", tmp_path / references)
    (case,) = found.cases
    return evaluate_case(case, found.classes, Options())


def test_native_masks_are_found_by_case_and_modality(tmp_path, put):
    for side in ("predictions", "references"):
        put(f"{side}/P001_T1", block())
        put(f"{side}/P001_T2", block(grid=T2_GRID), T2_GRID)
        put(f"{side}/left_lobe_T2", block(), ending=".nrrd" if side == "references" else ".mha")
    found = match_references(tmp_path / "predictions", tmp_path / "references")
    assert [case.key for case in found.cases] == [
        ("P001", "T1"),
        ("P001", "T2"),
        ("left_lobe", "T2"),
    ]
    assert not found.missing
    assert not found.notes


def test_every_number_of_a_shifted_block(tmp_path, put):
    put("predictions/P001_T1", block(shift=2))
    put("references/P001_T1", block())
    values = only_result(tmp_path).values["1"]
    assert values["dice"] == pytest.approx(6 / 8)
    assert values["hd"] == values["hd95"] == pytest.approx(3.0)
    assert values["volume_prediction"] == values["volume_reference"] == pytest.approx(BLOCK_ML)
    assert values["volume_difference"] == 0
    assert 0 < values["asd"] < 3
    assert 0 < values["surface_dice"] < 1


def test_a_tolerance_below_a_voxel_is_noted(tmp_path, put):
    for side in ("predictions", "references"):
        put(f"{side}/P001_T1", block())
    found = match_references(tmp_path / "predictions", tmp_path / "references")
    (case,) = found.cases
    (note,) = evaluate_case(case, found.classes, Options(tolerance_mm=0.01)).notes
    assert note.startswith("the tolerance of 0.01 mm is below the smallest distance of voxels")
    assert only_result(tmp_path).notes == []


def test_volume_difference_is_prediction_minus_reference(tmp_path, put):
    larger = block()
    larger[6, 3:11, 4:12] = 1  # a fifth slice
    put("predictions/P001_T1", larger)
    put("references/P001_T1", block())
    values = only_result(tmp_path).values["1"]
    assert values["volume_difference"] == pytest.approx(BLOCK_ML / 4)


def test_joint_maps_are_taken_apart(tmp_path, put):
    put("predictions/P001", encode_pair(block(shift=1), block(shift=4)))
    put("references/P001", encode_pair(block(), block()))
    describe(tmp_path / "predictions")
    found = match_references(tmp_path / "predictions", tmp_path / "references")
    values = {
        case.key.modality: evaluate_case(case, found.classes, Options()).values["liver"]
        for case in found.cases
    }
    assert values["T1"]["dice"] == pytest.approx(7 / 8)
    assert values["T2"]["dice"] == pytest.approx(4 / 8)


def test_joint_predictions_and_native_references_on_the_same_grid(tmp_path, put):
    put("predictions/P001", encode_pair(block(shift=1), block()))
    describe(tmp_path / "predictions")
    put("references/P001_T1", block())
    result = only_result(tmp_path)
    assert result.key == ("P001", "T1")
    assert result.values["liver"]["dice"] == pytest.approx(7 / 8)


def test_the_dataset_json_above_labels_and_validation_counts(tmp_path, put):
    put("model/fold_0/validation/P001", encode_pair(block(), block()))
    put("Dataset501_Liver/labelsTr/P001", encode_pair(block(), block()))
    describe(tmp_path / "Dataset501_Liver")
    describe(tmp_path / "model")
    found = match_references(
        tmp_path / "model/fold_0/validation", tmp_path / "Dataset501_Liver/labelsTr"
    )
    assert [str(case.key) for case in found.cases] == ["P001 T1", "P001 T2"]
    assert found.classes == {"liver": (1,)}


def test_plain_maps_with_class_names_and_a_region(tmp_path, put):
    reference = block()
    reference[3, 5, 5:9] = 2
    for side in ("predictions", "references"):
        put(f"{side}/P001", reference)
    describe(tmp_path / "references", None, background=0, liver=[1, 2], tumour=2)
    result = only_result(tmp_path)
    assert result.key == ImageKey("P001", "image")
    assert result.values["liver"]["volume_reference"] == pytest.approx(BLOCK_ML)
    assert result.values["tumour"]["volume_reference"] == pytest.approx(4 * 6.75e-3)


def test_plain_maps_without_names_have_a_row_for_each_label(tmp_path, put):
    reference = block()
    reference[3, 5, 5:9] = 2
    put("predictions/P001", block())
    put("references/P001", reference)
    values = only_result(tmp_path).values
    assert list(values) == ["1", "2"]
    assert values["2"]["dice"] == 0
    assert values["2"]["hd"] == math.inf


def test_a_label_that_only_other_cases_have_is_empty_on_both_sides():
    def result(case, *names):
        return CaseResult(ImageKey(case, "T1"), {name: {"dice": 0.5} for name in names})

    filled = add_missing_classes([result("A", "1", "10", "2"), result("B", "1"), result("C")])
    assert [list(r.values) for r in filled] == [["1", "2", "10"]] * 3
    assert filled[1].values["1"] == {"dice": 0.5}
    assert (filled[1].values["2"]["dice"], filled[1].values["2"]["hd"]) == (1, 0)
    assert list(add_missing_classes([result("C")])[0].values) == ["1"]


def test_empty_masks_have_the_defined_values(tmp_path, put):
    put("predictions/P001_T1", block() * 0)
    put("references/P001_T1", block())
    values = only_result(tmp_path).values["1"]
    assert (values["dice"], values["surface_dice"], values["hd"], values["asd"]) == (
        0,
        0,
        math.inf,
        math.inf,
    )


def test_missing_and_extra_files_are_named(tmp_path, put):
    for case in ("P001", "P002"):
        put(f"predictions/{case}_T1", block())
    for case in ("P001", "P003"):
        put(f"references/{case}_T1", block())
    found = match_references(tmp_path / "predictions", tmp_path / "references")
    assert [case.key.case for case in found.cases] == ["P001"]
    assert found.missing == [CaseFailure("P003 T1", "the reference has no prediction.")]
    assert found.notes == [
        CaseFailure("P002 T1", "P002_T1.nii.gz has no reference and was not evaluated.")
    ]


def test_what_predict_writes_beside_masks_is_none_of_a_case(tmp_path, put):
    for side in ("predictions", "references"):
        put(f"{side}/P001_T1", block())
        put(f"{side}/P001_T2", block())
    put("predictions/P001_T1_on_T2", block())
    put("predictions/P001_deformation", block())
    put("predictions/P002_T1_on_T2", block())  # of no masks that are there
    found = match_references(tmp_path / "predictions", tmp_path / "references")
    assert [case.key for case in found.cases] == [("P001", "T1"), ("P001", "T2")]
    assert [failure.case for failure in found.notes] == ["P002_T1_on T2"]


def test_different_grids_and_shapes_are_named(tmp_path, put):
    put("references/P001_T1", block())
    put("predictions/P001_T1", block(grid=OTHER_GRID), OTHER_GRID)
    failure = only_result(tmp_path)
    assert failure.case == "P001 T1"
    assert "different grids (24x20x16 voxels of 1.5, 1.5, 3 mm at -40" in failure.reason
    put("predictions/P001_T1", block(grid=T2_GRID), T2_GRID)
    assert "18x15x8 voxels" in only_result(tmp_path).reason


def test_joint_maps_on_the_converted_grid_are_told_to_be_split(tmp_path, put):
    put("predictions/P001", encode_pair(block(), block()))
    describe(tmp_path / "predictions")
    put("references/P001_T1", block(grid=T2_GRID), T2_GRID)
    assert "nnunet_liver predict --split" in only_result(tmp_path).reason


def test_a_damaged_file_is_named_without_its_folder(tmp_path, put):
    put("references/P001_T1", block())
    path = put("predictions/P001_T1", block())
    path.write_bytes(path.read_bytes()[:60])
    failure = only_result(tmp_path)
    assert failure.reason.startswith("P001_T1.nii.gz: cannot be read")
    assert str(tmp_path) not in failure.reason


def test_labels_that_do_not_fit_are_named(tmp_path, put):
    put("references/P001_T1", block())
    put("predictions/P001_T1", block(label=6))
    found = only_result(tmp_path)
    assert found.notes == [NO_LABEL_IN_BOTH]
    assert {name: values["dice"] for name, values in found.values.items()} == {"1": 0, "6": 0}
    describe(tmp_path / "references", None, background=0, liver=1)
    assert (
        "P001_T1.nii.gz: holds labels [6] that dataset.json does not name"
        in only_result(tmp_path).reason
    )


def test_a_code_that_is_none_is_named(tmp_path, put):
    put("references/P001", encode_pair(block(), block()))
    put("predictions/P001", block(label=7))
    describe(tmp_path / "references")
    found = match_references(tmp_path / "predictions", tmp_path / "references")
    failure = evaluate_case(found.cases[0], found.classes, Options())
    assert (
        "P001.nii.gz: is no joint label map: labels must lie in 0..3, found 0..7" in failure.reason
    )


def test_what_cannot_be_paired_up_at_all_is_refused(tmp_path, put):
    put("predictions/A_T1", block())
    put("references/B_T1", block())
    with pytest.raises(
        InputError,
        match=r"no prediction belongs to a reference: predictions has A T1, references has B T1",
    ):
        match_references(tmp_path / "predictions", tmp_path / "references")
    with pytest.raises(InputError, match="no such folder of predictions"):
        match_references(tmp_path / "nothing", tmp_path / "references")
    with pytest.raises(InputError, match="no such folder or CSV of references"):
        match_references(tmp_path / "predictions", tmp_path / "nothing")
    put("references/B_T1", block(), ending=".nrrd")
    with pytest.raises(InputError, match=r"B_T1.nii.gz and B_T1.nrrd are both B T1"):
        match_references(tmp_path / "predictions", tmp_path / "references")


def test_an_empty_folder_is_refused_with_a_hint(tmp_path, put):
    put("references/P001", block())
    put("predictions/labelsTs/P001", block())
    with pytest.raises(InputError, match=r"holds no label maps; did you mean .*labelsTs\?"):
        match_references(tmp_path / "predictions", tmp_path / "references")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"dataset\.json: is no valid JSON"),
        (
            '{"labels": {"background": 0, "liver": 1, "ignore": 2}}',
            "an ignore label cannot be evaluated",
        ),
        (
            (
                '{"labels": {"a": 0}, "pair": {"modalities": ["T1", "T2"], "classes":'
                ' ["background", "liver"]}}'
            ),
            "4 pair codes",
        ),
    ],
)
def test_a_bad_dataset_json_is_refused(tmp_path, put, content, message):
    put("references/P001", block())
    path = put("predictions/P001", block())
    (path.parent / "dataset.json").write_text(content)
    with pytest.raises(InputError, match=message):
        match_references(tmp_path / "predictions", tmp_path / "references")


def test_contradicting_dataset_jsons_are_refused(tmp_path, put):
    for side, label in (("predictions", 1), ("references", 2)):
        put(f"{side}/P001", block())
        describe(tmp_path / side, None, background=0, liver=label)
    with pytest.raises(InputError, match="differ in `labels`"):
        match_references(tmp_path / "predictions", tmp_path / "references")


@pytest.mark.parametrize("layout", ["csv", "folder", "sub-folders"])
def test_studies_are_references(tmp_path, put, layout):
    put("predictions/P001_T1", block(shift=1))
    put("predictions/P001_T2", block(grid=T2_GRID), T2_GRID)
    between = "references/P001/" if layout == "sub-folders" else "references/P001_"
    image = np.arange(np.prod(GRID.size), dtype=np.float32)
    put(f"{between}T1", image.reshape(GRID.size[::-1]))
    put(f"{between}T2", image[: np.prod(T2_GRID.size)].reshape(T2_GRID.size[::-1]), T2_GRID)
    put(f"{between}T1_mask", block())
    put(f"{between}T2_mask", block(grid=T2_GRID), T2_GRID)
    references = tmp_path / "references"
    if layout == "csv":
        rows = ["patient,study,t1,t2,t1_mask,t2_mask", "P001,P001," + ",".join(
            f"references/P001_{name}.nii.gz" for name in ("T1", "T2", "T1_mask", "T2_mask")
        )]  # fmt: skip
        references = tmp_path / "studies.csv"
        references.write_text("\n".join(rows) + "\n")
    found = match_references(tmp_path / "predictions", references)
    assert [str(case.key) for case in found.cases] == ["P001 T1", "P001 T2"]
    assert all(case.image is not None for case in found.cases)
    dice = [evaluate_case(case, None, Options()).values["1"]["dice"] for case in found.cases]
    assert dice == pytest.approx([7 / 8, 1])


def test_references_numbered_otherwise_are_named(tmp_path, put):
    put("predictions/P001_T1", block(shift=1))
    organs = 6 * block()
    organs[0, 0, 0] = 3  # another organ
    put("references/P001_T1", organs)
    found = match_references(tmp_path / "predictions", tmp_path / "references", {"liver": (6,)})
    (case,) = found.cases
    result = evaluate_case(case, found.classes, Options())
    assert result.values["liver"]["dice"] == pytest.approx(7 / 8)
    assert result.values["liver"]["volume_reference"] == pytest.approx(BLOCK_ML)
    describe(tmp_path / "predictions", pair=None, background=0, spleen=1)
    with pytest.raises(
        InputError, match="--label names the classes liver, the predictions have spleen"
    ):
        match_references(tmp_path / "predictions", tmp_path / "references", {"liver": (6,)})


@pytest.mark.parametrize("suffix", ["mask", "seg", "label"])
def test_masks_of_studies_are_told_by_every_suffix(tmp_path, put, suffix):
    put("predictions/P001_T1", block(shift=1))
    put("studies/P001_T1", 100 * block())
    put(f"studies/P001_T1_{suffix}", block())
    assert only_result(tmp_path, "studies").values["1"]["dice"] == pytest.approx(7 / 8)
