import math

import pytest

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.options import Options


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tolerance_mm": -1}, "the tolerance must be a number of mm, 0 or more, not -1"),
        ({"tolerance_mm": math.nan}, "the tolerance must be a number of mm, 0 or more, not nan"),
        (
            {"fat_margin_mm": math.inf},
            "the margin of the fat fraction must be a number of mm, 0 or more, not inf",
        ),
        ({"convention": "medpy"}, "convention must be one of standard, chaos, not 'medpy'"),
        (
            {"similarity": "bent"},
            "similarity must be one of translation, rigid, affine, elastic, not 'bent'",
        ),
        (
            {"only": ("surface", "beauty")},
            "what is measured must be among overlap, surface, volume, .* not 'beauty'",
        ),
        (
            {"min_lesion_dice": 1.0},
            "the lowest Dice of a lesion that is found must lie in 0..1, not 1.0",
        ),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        Options(**values)


def test_lengths_below_a_voxel_are_noted():
    options = Options(tolerance_mm=1.0, fat_margin_mm=1.4)
    spacing_mm = (3.0, 1.5, 1.5)
    tolerance, margin = options.notes_below_a_voxel(spacing_mm, fat=True)
    assert tolerance == (
        "the tolerance of 1 mm is below the smallest distance of voxels (1.5 mm): the surface Dice"
        " counts border voxels that coincide."
    )
    assert margin == (
        "the margin of 1.4 mm is below the smallest distance of voxels (1.5 mm): the fat fraction"
        " leaves nothing out."
    )
    assert options.notes_below_a_voxel(spacing_mm, fat=False) == [tolerance]
    without_surface = Options(tolerance_mm=1.0, only=("overlap",))
    assert without_surface.notes_below_a_voxel(spacing_mm, fat=False) == []
    for enough in (Options(tolerance_mm=1.5, fat_margin_mm=1.5), Options(tolerance_mm=0)):
        assert enough.notes_below_a_voxel(spacing_mm, fat=True) == []
