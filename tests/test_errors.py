"""Messages that users read."""

import pytest

from nnunet_liver_ext.errors import last_line


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Exception thrown in SimpleITK:\nitk.cxx:97:\n  the file ends too early \n",
            "the file ends too early",
        ),
        ("one line", "one line"),
        ("", "RuntimeError"),
    ],
)
def test_the_last_line_of_an_error_says_what_matters(message: str, expected: str):
    assert last_line(RuntimeError(message)) == expected
