import csv
from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.dataset_conversion.phantom import make_pair, write_studies
from nnunet_liver_ext.dataset_conversion.phantom.write_pair_studies import plan_studies
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import Grid, array, read_image, read_mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    write_studies(folder, pairs=3, patients=2, seed=5)
    return folder


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_and_table(folder: Path):
    table = rows(folder / "studies.csv")
    assert list(table[0]) == ["patient", "study", "t1", "t2", "t1_mask", "t2_mask"]
    assert [(row["patient"], row["study"]) for row in table] == [
        ("phantom001", "visit1"),
        ("phantom002", "visit1"),
        ("phantom001", "visit2"),
    ]
    assert table[0]["t1_mask"] == "phantom001_visit1_T1_mask.nii.gz"
    for row in table:
        for image, mask in (("t1", "t1_mask"), ("t2", "t2_mask")):
            labels = read_mask(folder / row[mask])
            assert Grid.from_image(read_image(folder / row[image])).matches(Grid.from_image(labels))
            assert set(np.unique(array(labels))) == {0, 1}


def test_visits_share_the_patient_but_not_the_motion(folder: Path):
    plan = plan_studies(3, 5, 2)
    assert plan[0].anatomy_seed == plan[2].anatomy_seed != plan[1].anatomy_seed
    assert len({study.seed for study in plan}) == 3
    expected = make_pair(plan[2].seed, anatomy_seed=plan[2].anatomy_seed, difficulty="demo")
    np.testing.assert_array_equal(
        array(read_image(folder / "phantom001_visit2_T2.nii.gz")), array(expected.t2)
    )


def test_complete_studies_are_kept_and_missing_ones_made(folder: Path):
    kept, lost = folder / "phantom002_visit1_T1.nii.gz", folder / "phantom001_visit1_T2_mask.nii.gz"
    time, content = kept.stat().st_mtime_ns, array(read_mask(lost))
    lost.unlink()
    write_studies(folder, pairs=3, patients=2, seed=5)
    assert kept.stat().st_mtime_ns == time
    np.testing.assert_array_equal(array(read_mask(lost)), content)


def test_more_pairs_can_be_asked_for(tmp_path: Path):
    write_studies(tmp_path, pairs=1)
    time = (tmp_path / "phantom001_visit1_T1.nii.gz").stat().st_mtime_ns
    assert len(rows(write_studies(tmp_path, pairs=2))) == 2
    assert (tmp_path / "phantom001_visit1_T1.nii.gz").stat().st_mtime_ns == time


def test_other_options_are_refused(folder: Path):
    with pytest.raises(InputError, match="made with seed 5 rather than 6"):
        write_studies(folder, pairs=3, patients=2, seed=6)


def test_lesion_labels_and_other_endings(tmp_path: Path):
    table = rows(write_studies(tmp_path, pairs=2, seed=1, ending=".mha", with_lesion_labels=True))
    found = {
        int(value)
        for row in table
        for value in np.unique(array(read_mask(tmp_path / row["t1_mask"])))
    }
    assert found == {0, 1, 2}
    assert table[0]["t1"].endswith(".mha")


def test_the_paper_s_numbers_of_pairs_and_patients():
    plan = plan_studies(88, 0, 51)  # Couteaux et al. 2021
    assert len({study.patient for study in plan}) == 51
    assert len({study.name for study in plan}) == 88


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": 0}, "pairs must be at least 1"),
        ({"pairs": 2, "patients": 3}, "1 to 2 patients, not 3"),
        ({"pairs": 1, "ending": ".png"}, "unknown kind of image '.png'"),
        ({"pairs": 1, "difficulty": "hard"}, "unknown difficulty 'hard'"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, arguments: dict, message: str):
    with pytest.raises(InputError, match=message):
        write_studies(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()
