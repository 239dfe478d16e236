import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.dataset_conversion.phantom import (
    PhantomImage,
    make_image,
    make_pair,
    write_image_studies,
)
from nnunet_liver_ext.dataset_conversion.phantom.tissues import Tissue
from nnunet_liver_ext.dataset_conversion.phantom.tomography import HOUNSFIELD
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import Grid, array, read_image, read_mask


def test_the_mr_image_is_the_t1_of_the_pair():
    made, pair = (
        make_image(3, difficulty="demo", lesions=2),
        make_pair(3, difficulty="demo", lesions=2),
    )
    np.testing.assert_array_equal(array(made.image), array(pair.t1))
    np.testing.assert_array_equal(array(made.mask), array(pair.t1_mask))
    np.testing.assert_array_equal(array(made.lesions), array(pair.t1_lesions))


@cache
def tomogram() -> PhantomImage:
    return make_image(1, modality="CT", difficulty="demo", lesions=3)


def test_ct_shows_hounsfield_units():
    made = tomogram()
    values, liver, lesions = array(made.image), array(made.true_mask) > 0, array(made.lesions) > 0
    assert values.dtype == np.int16
    assert np.median(values[liver & ~lesions]) == pytest.approx(HOUNSFIELD[Tissue.LIVER], abs=20)
    assert np.median(values[lesions]) == pytest.approx(HOUNSFIELD[Tissue.LESION], abs=25)
    assert np.median(values[lesions]) < np.median(values[liver & ~lesions]) - 15
    assert np.median(values[:, 0, 0]) == pytest.approx(-1000, abs=15)  # a corner: air
    assert values.max() > 300  # bone
    assert (
        Grid.from_image(made.mask) == Grid.from_image(made.image) == Grid.from_image(made.lesions)
    )
    assert (
        0.9
        < 2 * (liver & (array(made.mask) > 0)).sum() / (liver.sum() + array(made.mask).sum())
        < 1
    )


def test_the_same_image_for_the_same_seed_and_another_at_the_patient_s_next_visit():
    again = make_image(1, modality="CT", difficulty="demo", lesions=3)
    np.testing.assert_array_equal(array(again.image), array(tomogram().image))
    later = make_image(2, modality="CT", difficulty="demo", lesions=3, anatomy_seed=1)
    assert not np.array_equal(array(later.image), array(again.image))
    assert int(array(later.true_mask).sum()) == pytest.approx(
        int(array(again.true_mask).sum()), rel=0.02
    )


def test_files_and_table(tmp_path: Path):
    table = write_image_studies(tmp_path, images=2, modality="CT", lesions=True, seed=3)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["patient", "study", "ct", "mask"]
    for row in rows:
        mask = read_mask(tmp_path / row["mask"])
        assert Grid.from_image(mask).matches(Grid.from_image(read_image(tmp_path / row["ct"])))
        assert set(np.unique(array(mask))) == {0, 1, 2}
    kept = tmp_path / rows[0]["ct"]
    time = kept.stat().st_mtime_ns
    (tmp_path / rows[1]["mask"]).unlink()
    write_image_studies(tmp_path, images=2, modality="CT", lesions=True, seed=3)
    assert kept.stat().st_mtime_ns == time
    assert (tmp_path / rows[1]["mask"]).exists()
    with pytest.raises(InputError, match="made with modality CT rather than MR"):
        write_image_studies(tmp_path, images=2, lesions=True, seed=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modality": "PET"}, "is MR or CT, not 'PET'"),
        ({"modality": "CT", "difficulty": "hard"}, "unknown difficulty 'hard'"),
        ({"modality": "CT", "lesions": 21}, "0 to 20 lesions, not 21"),
        ({"modality": "CT", "anatomy_seed": -1}, "anatomy_seed must not be negative"),
    ],
)
def test_arguments_out_of_range(arguments: dict, message: str):
    with pytest.raises(InputError, match=message):
        make_image(0, **arguments)
