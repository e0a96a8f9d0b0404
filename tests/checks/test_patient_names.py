import numpy as np
import pandas as pd
import pytest

from milpath.checks.findings import CheckedSlides
from milpath.checks.patient_names import (
    patient_column,
    patients_in_two_splits,
    patients_of_names,
    patients_with_two_names,
    slides_under_two_names,
)


def slides(groups=None, splits=None, names=None):
    count = len(groups or names)
    table = pd.DataFrame({"bag_id": names or [f"s{number}" for number in range(count)]})
    split = np.array(splits or [""] * count, dtype=str)
    return CheckedSlides(table, None, (), split, None if groups is None else np.array(groups, dtype=str), "patient")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("P007", "P7"),
        ("p12", "P12"),
        (" P12", "P12"),
        ("P-12", "P12"),
        ("\uff2112", "A12"),
        ("case 3", "Case_03"),
        ("07", "7"),
    ],
)
def test_one_patient_written_in_two_ways_is_found(first, second):
    (found,) = patients_with_two_names([first, second, "Q99"], "patient")
    assert found.level == "look"
    assert repr(first) in found.examples[0]
    assert repr(second) in found.examples[0]
    assert "1 group of values of patient differ only by" in found.sentence


@pytest.mark.parametrize(("short", "long"), [("12", "P12"), ("TH12", "TH12b"), ("12", "12-old"), ("7-3", "ID 7-3")])
def test_a_prefix_or_suffix_is_found(short, long):
    (found,) = patients_with_two_names([short, long, "X500"], "patient")
    assert found.level == "look"
    assert "differ only by letters before or after" in found.sentence
    assert repr(short) in found.examples[0]


@pytest.mark.parametrize(
    "pair", [("P12", "P13"), ("1.10", "11.0"), ("A12", "B12"), ("12", "12-2"), ("P1", "P10"), ("alpha", "alphab")]
)
def test_different_patients_are_not_confused(pair):
    (found,) = patients_with_two_names([*pair], "patient")
    assert found.level == "ok"
    assert found.sentence == "no two of 2 values of patient differ only by how they are written"


def test_a_scheme_of_suffixes_is_a_note():
    names = [f"P{number}{suffix}" for number in range(20) for suffix in ("", "a")]
    (found,) = patients_with_two_names(names, "patient")
    assert found.level == "note"
    assert "so many that this may be how they are named" in found.sentence


def test_hashes_as_names_raise_no_alarm():
    rng = np.random.default_rng(0)
    names = ["".join(rng.choice(list("0123456789abcdef"), 32)) for _ in range(3000)]
    assert [found.level for found in patients_with_two_names(names, "patient")] == ["ok"]


def test_patients_on_two_sides_are_a_leak_with_their_counts():
    found = patients_in_two_splits(
        slides(["a", "a", "a", "b", "c", "c"], ["train", "train", "test", "test", "train", ""])
    )
    assert found.level == "leak"
    assert found.sentence.startswith("1 of 3 values of patient are in more than one split, with 3 slides")
    assert found.examples == ("a: test 1, train 2",)
    clean = patients_in_two_splits(slides(["a", "a", "b"], ["train", "train", "test"]))
    assert (clean.level, clean.sentence) == ("ok", "none of 2 values of patient is in two splits")


def test_without_patients_or_split_it_is_not_checked():
    assert patients_in_two_splits(slides(names=["s1", "s2"], splits=["train", "test"])).level == "unchecked"
    assert patients_in_two_splits(slides(["a", "b"])).level == "unchecked"


def test_slides_written_in_two_ways_are_found():
    assert slides_under_two_names(slides(names=["S1", "s_01", "S2"])).examples == ("'S1' = 's_01'",)
    assert slides_under_two_names(slides(names=["S1", "S2"])).level == "ok"


def test_the_column_of_the_patient_is_known_by_its_usual_names():
    assert patient_column(pd.DataFrame({"bag_id": range(4), "Case ID": [1, 2, 3, 3]})) == "Case ID"
    assert patient_column(pd.DataFrame({"bag_id": range(4), "site": range(4)})) is None
    # Cases and controls are no patients.
    assert patient_column(pd.DataFrame({"bag_id": range(4), "case": [0, 1, 1, 0]})) is None


def test_patients_of_tcga_are_in_the_names_of_slides():
    assert patients_of_names(["TCGA-AA-3488-01Z-00-DX1.abc", "tcga-bb-1111-01A"]) == ["TCGA-AA-3488", "TCGA-BB-1111"]
    assert patients_of_names(["TCGA-AA-3488-01Z", "S2"]) is None
    assert patients_of_names([]) is None
