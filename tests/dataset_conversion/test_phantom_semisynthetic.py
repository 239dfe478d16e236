import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.phantom import (
    jacobian_determinant,
    make_pair,
    pair_from_image,
)
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import (
    Grid,
    array,
    image_like,
    read_image,
    read_mask,
    write_image,
)

REAL_DATA = os.environ.get("NNUNET_LIVER_REAL_DATA")
REAL_IMAGES = {"mr_2mm_amos0540": 6, "mr_3mm": 5, "ct_3mm": 5}  # name: liver label


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.fixture(scope="module")
def stand_in() -> tuple[sitk.Image, sitk.Image]:
    """A synthetic T1 with the quirks of real files: RAS orientation, huge intensities, an organ
    label map."""
    pair = make_pair(2, difficulty="demo")
    image = sitk.DICOMOrient(sitk.Cast(pair.t1, sitk.sitkFloat64) * 3210.7, "RAS")
    return image, sitk.DICOMOrient(pair.t1_true_mask * 6, "RAS")


def check_pair_made_of(image: sitk.Image, mask: sitk.Image, label: int, seed: int = 3) -> None:
    before = array(image)
    pair = pair_from_image(image, mask, seed, liver_label=label)
    assert Grid.from_image(pair.t1) == Grid.from_image(image)
    np.testing.assert_array_equal(array(pair.t1), before)
    np.testing.assert_array_equal(array(pair.t1_mask) > 0, array(mask) == label)
    assert Grid.from_image(pair.t1_mask) == Grid.from_image(image)
    assert pair.t2.GetSpacing()[2] == 7.0
    assert not Grid.from_image(pair.t2).matches(Grid.from_image(image))
    assert jacobian_determinant(pair.deformation).min() > 0.2
    check_livers(pair)
    assert np.isfinite(array(pair.t2)).all()
    assert array(pair.t2).std() > 50  # of 1000: a picture, not a flat field
    assert pair.water is None


def check_livers(pair) -> None:
    inside = sitk.Resample(
        sitk.Cast(pair.t1_mask * 0 + 1, sitk.sitkFloat32),
        pair.t2,
        pair.transform(),
        sitk.sitkLinear,
    )
    warped = sitk.Resample(
        sitk.Cast(pair.t1_mask, sitk.sitkFloat32), pair.t2, pair.transform(), sitk.sitkLinear
    )
    seen, true = array(inside) > 0.99, array(pair.t2_true_mask) > 0
    assert dice((array(warped) > 0.5)[seen], true[seen]) > 0.93
    assert 0.8 < dice(array(pair.t2_mask) > 0, true) < 1


def test_a_pair_from_one_image(stand_in):
    check_pair_made_of(*stand_in, label=6)


def test_determinism(stand_in):
    first, again, other = (pair_from_image(*stand_in, seed) for seed in (4, 4, 5))
    for name in ("t2", "t2_mask", "deformation"):
        np.testing.assert_array_equal(array(getattr(first, name)), array(getattr(again, name)))
    assert first.t2.GetSize() != other.t2.GetSize() or not np.array_equal(
        array(first.t2), array(other.t2)
    )


def test_the_contrast_is_another_one_and_no_function_of_it_alone(stand_in):
    """T1's intensities, warped onto T2, do not rise and fall with T2's: their rank correlation is
    far from one."""
    from scipy.stats import spearmanr

    image, mask = stand_in
    correlations = []
    for seed in range(6):
        pair = pair_from_image(image, mask, seed)
        warped = array(sitk.Resample(image, pair.t2, pair.transform(), sitk.sitkLinear))
        body = warped > 0.15 * np.quantile(warped, 0.99)
        correlations.append(spearmanr(warped[body], array(pair.t2)[body]).statistic)
    assert max(correlations) < 0.95
    assert np.ptp(correlations) > 0.2


def test_a_mask_less_than_a_voxel_away_takes_the_image_s_geometry(stand_in):
    image, mask = stand_in
    shifted = sitk.Image(mask)
    shifted.SetOrigin([value + 0.4 for value in mask.GetOrigin()])
    assert Grid.from_image(pair_from_image(image, shifted, 0).t1_mask) == Grid.from_image(image)


def test_unfit_masks(stand_in):
    image, mask = stand_in
    with pytest.raises(InputError, match="lies on another grid"):
        pair_from_image(image, mask[1:], 0)
    far = sitk.Image(mask)
    far.SetOrigin([value + 100 for value in mask.GetOrigin()])
    with pytest.raises(InputError, match="lies on another grid"):
        pair_from_image(image, far, 0)
    with pytest.raises(InputError, match=r"holds no liver .label 5.; its labels are 0, 6"):
        pair_from_image(image, mask, 0, liver_label=5)
    with pytest.raises(InputError, match=r"slice_mm must lie in 1..20"):
        pair_from_image(image, mask, 0, slice_mm=50)


def test_a_low_stack_is_moved_less(stand_in):
    image, mask = stand_in
    low = slice(image.GetSize()[2] // 2 - 5, image.GetSize()[2] // 2 + 5)  # 60 mm
    pair = pair_from_image(image[:, :, low], mask[:, :, low], 1)
    assert abs(pair.motion.dome_mm) <= 0.15 * 60
    assert array(pair.t2_true_mask).any()


@pytest.mark.skipif(REAL_DATA is None, reason="NNUNET_LIVER_REAL_DATA names no folder")
@pytest.mark.parametrize("name", REAL_IMAGES)
def test_real_images(name: str, tmp_path: Path):
    image = read_image(Path(str(REAL_DATA)) / f"{name}.nii.gz")
    mask = read_mask(Path(str(REAL_DATA)) / f"{name}_labels.nii.gz")
    check_pair_made_of(image, mask, REAL_IMAGES[name])
    pair = pair_from_image(image, mask, 3, liver_label=REAL_IMAGES[name])
    write_image(pair.t1, tmp_path / "t1.nii.gz")
    written = read_image(tmp_path / "t1.nii.gz")
    assert Grid.from_image(written).matches(Grid.from_image(image), tolerance=0.01)
    np.testing.assert_allclose(array(written), array(image), rtol=1e-6)


def test_image_like_masks_survive_being_written(stand_in, tmp_path: Path):
    pair = pair_from_image(*stand_in, 0)
    write_image(pair.t2_mask, tmp_path / "mask.nii.gz")
    read = read_mask(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(array(read), array(pair.t2_mask))
    assert Grid.from_image(read).matches(
        Grid.from_image(image_like(array(pair.t2), Grid.from_image(pair.t2))), tolerance=0.01
    )
