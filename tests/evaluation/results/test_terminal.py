"""What a terminal of 80 columns shows."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.results.terminal import notes_text, pair_dice_table, pairs_table

ROW = {
    "modality": "T1-T2",
    "class": "liver",
    "pairs": 120,
    "excluded": 3,
    "prediction": 0.981,
    "reference": 0.954,
    "gain": 0.027,
    "p_value": 0.00012,
    "pair_dice_prediction": 0.751,
    "pair_dice_reference": 0.748,
    "warped_dice": 0.917,
    "registered_dice": 0.905,
}


def lines(shown: object) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    console.print(shown)
    text = console.file.getvalue()
    assert isinstance(text, str)
    return text.splitlines()


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            pairs_table([ROW], similarity="elastic"),
            ["120", "3", "0.981", "0.954", "0.027", "0.00012"],
        ),
        (pair_dice_table([ROW]), ["0.751", "0.748", "0.917", "0.905"]),
    ],
)
def test_a_row_of_pairs_fits_80_columns(table: object, expected: list[str]):
    (row,) = [line for line in lines(table) if expected[0] in line]
    assert [cell.strip() for cell in row.strip("│").split("│")][1:] == expected
    assert "…" not in "".join(lines(table))


def test_what_was_not_measured_has_no_column():
    without = {key: value for key, value in ROW.items() if key != "registered_dice"}
    assert "registered  " not in "".join(lines(pair_dice_table([without]))).lower()
    (row,) = [line for line in lines(pair_dice_table([without])) if "liver" in line]
    assert len(row.strip("│").split("│")) == 4


def test_a_note_on_many_cases_is_one_line():
    notes = [CaseFailure(f"P{number:03d}", "no image was found.") for number in range(1, 8)]
    notes.insert(3, CaseFailure("P100", "the mask is empty."))
    assert lines(notes_text(notes)) == [
        "Note:",
        "  P001, P002, P003, P004, P005 and 2 more: no image was found.",
        "  P100: the mask is empty.",
    ]
