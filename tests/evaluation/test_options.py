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
