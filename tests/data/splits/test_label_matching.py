import logging
import re
from pathlib import Path

import pandas as pd
import pytest

from milpath.data.splits.label_matching import check_on_mismatch, match_bags

TABLE = pd.DataFrame({"bag_id": ["c", "a", "b"], "label": [0, 1, 0]})


def match(found, on_mismatch="error", **options):
    return match_bags(
        TABLE, found, labels=Path("labels.csv"), data=Path("data"), what="features", on_mismatch=on_mismatch, **options
    )


def test_bags_that_match_come_sorted():
    assert match(["a", "b", "c"])["bag_id"].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("found", "options", "kind", "message"),
    [
        (["a", "b"], {}, FileNotFoundError, "1 of 3 bags in labels.csv have no features in data (first: 'c')"),
        (["a", "b", "c", "z"], {}, ValueError, "1 bags in data have no row in labels.csv (first: 'z')"),
        (
            ["a", "b", "c"],
            {"partial": ["b"], "partial_reason": "lack a tile"},
            FileNotFoundError,
            "1 bags in data lack a tile",
        ),
    ],
)
def test_what_does_not_match_is_an_error_that_names_it(found, options, kind, message):
    with pytest.raises(kind) as error:
        match(found, **options)
    assert str(error.value) == f"{message}; add what is missing, or leave these bags out with data.on_mismatch=skip"


def test_skipping_leaves_out_and_says_so(caplog):
    with caplog.at_level(logging.WARNING, logger="milpath"):
        kept = match(["a", "c", "z"], "skip", partial=["c"], partial_reason="lack a tile")
    assert kept["bag_id"].tolist() == ["a"]
    assert len(caplog.messages) == 3


def test_nothing_left_is_an_error_whatever_was_asked():
    with pytest.raises(
        ValueError, match=re.escape("none of the 3 bags in labels.csv has features in data: the table names")
    ):
        match(["z"], "skip")
    with pytest.raises(ValueError, match=r"^no bag in data is complete: 3 bags in data lack a tile$"):
        match(["a", "b", "c"], "skip", partial=["a", "b", "c"], partial_reason="lack a tile")


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match=r"^data.on_mismatch is 'ignore'; it must be one of error, skip$"):
        check_on_mismatch("ignore")


def test_a_table_without_rows_is_an_error():
    table = pd.DataFrame({"bag_id": pd.Series([], dtype=str)})
    with pytest.raises(ValueError, match=re.escape("labels.csv has a header but no rows")):
        match_bags(table, {"a"}, labels=Path("labels.csv"), data=Path("tiles"), what="tiles", on_mismatch="error")
