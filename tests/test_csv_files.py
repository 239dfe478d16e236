from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_liver_ext.csv_files import read_csv
from nnunet_liver_ext.dataset_conversion.csv_columns import read_csv_columns
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.comparison.results_folders import read_patients, read_table
from nnunet_liver_ext.evaluation.results.results_table import read_results
from nnunet_liver_ext.studies.file_names import StudyTable


def write(folder: Path, content: str, encoding: str = "utf-8") -> Path:
    path = folder / "s.csv"
    path.write_text(content, encoding=encoding)
    return path


def test_cells_are_text_by_the_number_of_their_row(tmp_path: Path):
    path = write(
        tmp_path,
        '\nPatient, weight ,\n"Müller, Anna", 007 ,\n\n ,,\nNA,"1,5",x\n',
        "utf-8-sig",
    )
    table = read_csv(path)
    assert table.columns == ["Patient", "weight", ""]
    assert table.rows == {3: ["Müller, Anna", "007", ""], 6: ["NA", "1,5", "x"]}


def test_an_empty_file_has_no_columns(tmp_path: Path):
    assert read_csv(write(tmp_path, "\n")).columns == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n\n1,2,3\n", r"s\.csv, row 4: has 3 fields, the header has 2; put quotes"),
        ("a,b\n1,2,\n", r"row 2: has 3 fields, the header has 2"),
        ("a,b\n1\n", r"row 2: has 1 fields, the header has 2"),
        ("a,b,A \n1,2,3\n", r"s\.csv: 2 columns are named 'a'; names must differ"),
        ("a;b\n1;2\n", r"s\.csv: its header has ';' between the columns; save it with commas"),
        ('a,b\n1,"2\n', r"s\.csv: is no readable CSV \(unexpected end of data\)"),
    ],
)
def test_what_cannot_be_read_column_by_column_is_refused(
    tmp_path: Path, content: str, message: str
):
    with pytest.raises(InputError, match=message):
        read_csv(write(tmp_path, content))


def test_short_rows_where_they_are_allowed_end_with_empty_cells(tmp_path: Path):
    path = write(tmp_path, "a,b,c\n1\n")
    assert read_csv(path, short_rows=True).rows == {2: ["1", "", ""]}
    with pytest.raises(InputError, match="row 2: has 4 fields, the header has 3"):
        read_csv(write(tmp_path, "a,b,c\n1,2,3,4\n"), short_rows=True)


RESULTS = "case,patient,modality,class,metric,value,unit"


@pytest.mark.parametrize(
    ("reader", "header", "row"),
    [
        (StudyTable.read, "patient,study,t1,t2", "Müller, Anna,2021,a.nii.gz,b.nii.gz"),
        (StudyTable.read, "patient,weight,t1,t2", "anna,61,5,a.nii.gz,b.nii.gz"),
        (lambda path: read_csv_columns(path, ("name", "patient")), "name,patient", "x,y,z"),
        (read_patients, "case,patient", "P001,Müller, Anna"),
        (read_table, RESULTS, "P001,P001,T1,liver,dice,0,9,1"),
        (read_results, RESULTS, "P001,P001,T1,liver,dice,0,9,1"),
    ],
)
def test_no_reader_of_a_users_csv_reads_a_row_one_column_off(
    tmp_path: Path, reader, header: str, row: str
):
    fields, columns = row.count(",") + 1, header.count(",") + 1
    path = write(tmp_path, f"{header}\n{row}\n")
    with pytest.raises(InputError, match=f"row 2: has {fields} fields, the header has {columns};"):
        reader(path)
    path = write(tmp_path, f"{header},{header.split(',')[1].upper()}\n")
    with pytest.raises(InputError, match="2 columns are named"):
        reader(path)
