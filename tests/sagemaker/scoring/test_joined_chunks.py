import json
from datetime import UTC, datetime, timedelta

import pytest

from milpath.sagemaker.processing.slide_listing import S3Slide
from milpath.sagemaker.scoring.joined_chunks import chunks_in, files_of, join_tables

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SLIDES = [S3Slide(f"{letter}.svs", 10, NOON) for letter in "abcd"]


def chunk(predicted, failures=None, files=None):
    files = files or {"predictions.csv": {"size": 5, "slide": None}}
    return json.dumps({"predicted": predicted, "failures": failures or {}, "files": files}).encode()


def found(contents, objects):
    return chunks_in(SLIDES, objects, contents.__getitem__)


def item(size, time=NOON + HOUR):
    return {"Size": size, "LastModified": time}


def test_a_chunk_counts_once_all_its_files_have_arrived():
    contents = {"1/done.json": chunk(["a"], {"b": "broken"}), "2/done.json": chunk(["c"])}
    objects = {
        "1/done.json": item(9),
        "1/predictions.csv": item(5),
        "2/done.json": item(9),
        "2/predictions.csv": item(4),
    }
    state = found(contents, objects).state
    assert [slide.name for slide in state.finished] == ["a"]
    assert [slide.name for slide in state.failed] == ["b"]
    assert [slide.name for slide in state.to_do] == ["c", "d"]
    assert found(contents, objects).reasons == {"b": "broken"}


def test_a_slide_that_was_uploaded_again_is_done_again_and_the_last_result_counts():
    files = {"predictions.csv": {"size": 5, "slide": None}, "geojson/a.geojson": {"size": 2, "slide": "a"}}
    contents = {
        "1/done.json": chunk(["a", "b"], files=files),
        "2/done.json": chunk([], {"a": "broken"}, {"x": {"size": 1, "slide": None}}),
    }
    objects = {
        "1/done.json": item(9, NOON + HOUR), "1/predictions.csv": item(5), "1/geojson/a.geojson": item(2),
        "2/done.json": item(9, NOON + 2 * HOUR), "2/x": item(1),
    }  # fmt: skip
    chunks = found(contents, objects)
    assert chunks.reasons == {"a": "broken"}
    assert chunks.keep == {"1": frozenset("b")}
    assert files_of(chunks) == {}  # the annotation of the slide that has failed since is not taken
    objects["1/done.json"] = item(9, NOON - HOUR)
    assert [slide.name for slide in found(contents, objects).state.to_do] == ["b", "c", "d"]


def test_tables_are_merged_in_the_order_of_one_run(tmp_path):
    (tmp_path / "1.csv").write_text("id,tile\na,0\na,1\nc,0\n")
    (tmp_path / "2.csv").write_text("id,tile\nb,0\nc,9\n")
    paths = [(tmp_path / "1.csv", frozenset("ac")), (tmp_path / "2.csv", frozenset("b"))]
    join_tables(paths, tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_text().split() == ["id,tile", "a,0", "a,1", "b,0", "c,0"]
    (tmp_path / "2.csv").write_text("id,weight\nb,0\n")
    with pytest.raises(ValueError, match="the tables of all.csv have the columns id, tile and id, weight"):
        join_tables(paths, tmp_path / "all.csv")
