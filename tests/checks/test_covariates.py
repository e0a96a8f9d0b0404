import numpy as np
import pandas as pd
import pytest

from milpath.checks.covariates import column_covariates, name_covariates, values_of


def test_words_and_numbers_of_names_built_alike_are_covariates():
    names = ["ytma10_010704_benign1_ccd.tif", "ytma23_022103_malignant2_ccd.tif", "ytma55_030603_benign3_ccd.tif"]
    found = name_covariates(names)
    assert found["word 2 of the name"].tolist() == ["benign", "malignant", "benign"]
    assert found["number 1 of the name"].tolist() == [10, 23, 55]
    assert found["number 3 of the name"].tolist() == [1, 2, 3]
    assert "word 1 of the name" not in found  # ytma everywhere
    assert found["alphabetic order of the names"].tolist() == [0, 1, 2]


def test_names_that_are_hashes_have_a_first_letter_and_a_last_number():
    rng = np.random.default_rng(0)
    names = ["".join(rng.choice(list("0123456789abcdef"), 32)) for _ in range(200)]
    assert set(name_covariates(names)) == {
        "first letter of the name", "last number of the name", "alphabetic order of the names",
    }  # fmt: skip


def test_only_technical_columns_are_taken_unless_others_are_asked_for():
    table = pd.DataFrame(
        {
            "bag_id": ["a", "b", "c"],
            "label": [0, 1, 0],
            "data_provider": ["k", "r", "k"],
            "Scan Date": ["2020-01-02", "2021-03-04", ""],
            "microns_per_pixel": [0.25, np.nan, 0.5],
            "gleason_score": ["3+3", "4+4", "0+0"],
            "age": [61, 72, 55],
            "block_height": [1, 1, 1],
        }
    )
    found, others = column_covariates(table, {"bag_id", "label"})
    assert set(found) == {"data_provider", "Scan Date", "microns_per_pixel"}
    assert others == ["gleason_score", "age"]
    assert np.diff(found["Scan Date"])[0] == 427
    assert np.isnan(found["Scan Date"][2])
    found, others = column_covariates(table, {"bag_id", "label"}, ["AGE"])
    assert found["age"].tolist() == [61, 72, 55]
    assert others == ["gleason_score"]
    with pytest.raises(ValueError, match="columns"):
        column_covariates(table, {"bag_id", "label"}, ["smoker"])


def test_a_column_of_many_texts_cannot_be_asked_for():
    table = pd.DataFrame({"bag_id": range(30), "remark": [f"text {number}" for number in range(30)]})
    with pytest.raises(ValueError, match="'remark' has 30 different texts"):
        column_covariates(table, {"bag_id"}, ["remark"])


def test_cells_become_numbers_days_or_texts():
    assert values_of(pd.Series([True, False])).tolist() == ["True", "False"]
    assert values_of(pd.Series(["x", None])).tolist() == ["x", ""]
    assert values_of(pd.Series(["monday", "tuesday"]), is_date=True).tolist() == ["monday", "tuesday"]
