import re

import pytest

from milpath.records.id_matching import match_ids, why_unlike

FOUND = ["S1", "S2.2024", "Prä", "007"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("S1", "S1"), ("S1.svs", "S1"), ("S1.SVS", "S1"), ("a/b/S1.ndpi", "S1"), (r"C:\scans\S1.mrxs", "S1"),
        ("S1.ome.tif", "S1"), ("S1.svs.h5", "S1"), ("s1", "S1"), ("s1.tiff", "S1"), ("S2.2024", "S2.2024"),
        ("S2.2024.svs", "S2.2024"), ("Pra\u0308", "Prä"), ("007.pt", "007"), ("S1.vsi", "S1"), ("S1.webp", "S1"),
        ("S2", None), ("S1.tumour", None), ("7", None), ("S3", None), (".svs", None),
    ],
)  # fmt: skip
def test_names_match_without_folder_suffix_form_or_capitals(name, expected):
    assert match_ids([name], FOUND) == ({name: expected} if expected else {})


def test_data_with_a_suffix_match_a_table_without():
    assert match_ids(["S1", "S2"], ["S1.svs", "S2.svs"]) == {"S1": "S1.svs", "S2": "S2.svs"}


def test_a_whole_name_comes_first_and_an_ambiguous_one_is_not_matched():
    assert match_ids(["s1", "S1"], ["S1", "s1"]) == {"s1": "s1", "S1": "S1"}
    assert match_ids(["S1.svs"], ["S1.tif", "S1.ndpi"]) == {}


@pytest.mark.parametrize("ids", [["S1", "S1.svs"], ["S1.svs", "S1"], ["S1.svs", "S1.ndpi"], ["a/S1.svs", "b/S1.svs"]])
def test_two_rows_for_one_slide_are_refused_by_name(ids):
    with pytest.raises(ValueError, match=re.escape("are the same slide 'S1'; keep one row per slide")):
        match_ids(ids, FOUND)


@pytest.mark.parametrize(
    ("ids", "found", "message"),
    [
        (["7"], ["007"], "'7' may be '007': spreadsheet programs remove leading zeros"),
        (["7.0"], ["7"], "'7.0' may be '7': spreadsheet programs add decimals"),
        (["S1.tumour"], ["S1"], "'S1.tumour' may be 'S1', which has another ending: write both names alike"),
        (["T-1"], ["T-1.d0c", "T-2.9e"], "'T-1' may be 'T-1.d0c', which has another ending"),
        (["T-1"], ["T-1.a", "T-1.b"], "several names of the data begin with it"),
        (["S1"], ["S10"], ""),
        (["x"], ["y"], ""),
    ],
)
def test_names_that_do_not_match_are_explained(ids, found, message):
    reason = why_unlike(ids, found)
    assert reason.startswith(message) or message in reason
    assert bool(reason) == bool(message)
