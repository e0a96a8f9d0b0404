"""Tables of slides and patients: everything that does not fit is named."""

from pathlib import Path

import pytest

from milpath.records.patient_table import joined, read_patients, read_slides


def table(path: Path, text: str) -> Path:
    path.write_text(text.replace(" ", "\n") + "\n", encoding="utf-8")
    return path


def test_names_of_patients_stay_text(tmp_path):
    slides = read_slides(table(tmp_path / "slides.csv", "slide_id,patient_id 1,007 2,7"))
    assert slides["patient_id"].tolist() == ["007", "7"]
    assert slides["bag_id"].tolist() == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slide_id,patient_id a,P1 b,P1 a,P1", "'a' in more than one row (rows 2 and 4)"),
        ("slide_id,patient_id a,P1 b,P1 a,P2", "puts slide 'a' under the patients 'P1', 'P2' (rows 2 and 4)"),
        ("slide_id,patient_id a,P1 b,", "no patient_id in row 3"),
        ("slide_id,patient_id a,P1 ,P2", "no slide_id in row 3"),
        ("slide_id,case a,P1", "no column 'patient_id'"),
    ],
)
def test_a_table_of_slides_that_does_not_fit_is_refused_by_row(tmp_path, text, said):
    with pytest.raises(ValueError) as error:
        read_slides(table(tmp_path / "slides.csv", text))
    assert said in str(error.value)
    assert str(tmp_path / "slides.csv") in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "patient_id,label,age P1,0,50 P2,1,50 P1,1,50",
            "patient 'P1' in rows 2 and 4 with different values of label;",
        ),
        ("patient_id,label P1,0 P1,0", "patient 'P1' in rows 2 and 3 with the same values"),
    ],
)
def test_two_rows_of_a_patient_are_refused_and_their_difference_named(tmp_path, text, said):
    with pytest.raises(ValueError) as error:
        read_patients(table(tmp_path / "clinical.csv", text))
    assert said in str(error.value)


def test_patients_without_slides_and_slides_without_a_patient_are_named_or_left_out(tmp_path):
    slides = read_slides(table(tmp_path / "slides.csv", "slide_id,patient_id,label a,P1,x b,P1,x c,P3,x"))
    patients = read_patients(table(tmp_path / "clinical.csv", "patient_id,Label P1,0 P2,1"))
    names = {"slides_name": "slides.csv", "patients_name": "clinical.csv"}
    with pytest.raises(ValueError) as error:
        joined(slides, patients, "patient_id", **names)
    for said in (
        "1 of 2 patients in clinical.csv have no slide in slides.csv ('P2')",
        "1 of 3 slides in slides.csv are of patients who are not in clinical.csv (first: 'c' of 'P3')",
        "data.on_patient_mismatch=skip",
    ):
        assert said in str(error.value)
    kept = joined(slides, patients, "patient_id", **names, on_mismatch="skip")
    # A column of the patients replaces that of the slides, whatever its capitals.
    assert kept.to_dict("list") == {"bag_id": ["a", "b"], "patient_id": ["P1", "P1"], "Label": [0, 0]}


def test_tables_without_a_common_patient_are_refused_even_if_skipped(tmp_path):
    slides = read_slides(table(tmp_path / "slides.csv", "slide_id,patient_id a,1"))
    patients = read_patients(table(tmp_path / "clinical.csv", "patient_id,label 001,0"))
    with pytest.raises(ValueError, match="remove leading zeros"):
        joined(slides, patients, "patient_id", slides_name="s", patients_name="p", on_mismatch="skip")
