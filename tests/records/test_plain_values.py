import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milpath.records.plain_values import MAX_FILE, MAX_TEXT, brief, parse_json, read_json, read_mapping, require_plain

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
keys = st.text(min_size=1).filter(lambda key: not key.startswith("_"))
plain = st.recursive(scalars | st.text(), lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=8)


@given(plain)
def test_plain_values_come_back_as_they_are(content):
    assert require_plain([content], "data") == [content]


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:HOME}",
        "${oc.decode:x}",
        "${now:%Y}",
        "${trial_folder:a}",
        "???",
        "${data.path}",
        "\\${x}",
        "os.system",
    ],
)
def test_an_interpolation_is_text_as_a_value_and_as_a_key(text):
    assert require_plain({"a": [text], text: 1}, "data") == {"a": [text], text: 1}


@pytest.mark.parametrize("key", ["_target_", "_args_", "_partial_", "_recursive_", "_convert_", "_", "__class__", "_x"])
@pytest.mark.parametrize("place", [lambda x: x, lambda x: {"a": x}, lambda x: {"a": [1, [x]]}, lambda x: ([x],)])
def test_a_key_that_begins_with_an_underscore_is_refused_at_every_depth(key, place):
    with pytest.raises(ValueError, match="data.* has the key .*begin with an underscore"):
        require_plain(place({key: "os.system"}), "data")


def test_an_allowed_key_is_allowed_at_the_top_only():
    content = {"_target_": "milpath.data.SyntheticBags", "a": {"b": 1}}
    assert require_plain(content, "data", allowed=("_target_",)) == content
    with pytest.raises(ValueError, match="a in data has the key '_target_'"):
        require_plain({"a": {"_target_": "x"}}, "data", allowed=("_target_",))


class Text(str):
    pass


@pytest.mark.parametrize(
    "value", [float("nan"), float("-inf"), 1 << 64, b"bytes", {1, 2}, object(), Text("a"), print, "x" * (MAX_TEXT + 1)]
)
def test_what_is_not_plain_is_refused_with_its_place(value):
    with pytest.raises(ValueError, match=r"a\[1\].b in data"):
        require_plain({"a": [0, {"b": value}]}, "data")


@pytest.mark.parametrize("key", [1, None, ("a",), "", b"a", "k" * 2000])
def test_a_key_that_is_not_a_short_text_is_refused(key):
    with pytest.raises(ValueError, match="has the key .*; expected a short string"):
        require_plain({key: 1}, "data")


def test_content_without_an_end_is_refused_and_ends():
    loop: list = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested more than 16 levels deep"):
        require_plain(loop, "data")
    shared: list = [0] * 10
    for _ in range(14):
        shared = [shared] * 10
    with pytest.raises(ValueError, match="more than 1,000,000 values"):
        require_plain(shared, "data")


def test_a_representation_is_short_and_on_one_line():
    loop: list = []
    for _ in range(10_000):
        loop = [loop]
    for value in (loop, "x" * 10**6, {"a\n": "\x1b[2J"}):
        assert len(brief(value)) < 200
        assert "\n" not in brief(value)
        assert "\x1b" not in brief(value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": NaN}', '{"a": {"_target_": "os.system"}}'])
def test_json_that_is_damaged_too_deep_or_not_plain_is_one_line(text):
    with pytest.raises(ValueError, match=r"store\.json") as caught:
        parse_json(text, "store.json")
    assert "\n" not in str(caught.value)


def test_plain_json_is_read():
    assert parse_json(json.dumps({"a": [1, "b", None]}), "file") == {"a": [1, "b", None]}


def test_a_file_that_is_no_text_no_file_or_too_large_is_one_line_with_its_name(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_bytes(b"\xff{}")
    with pytest.raises(ValueError, match=r"metrics\.json is not JSON, or is damaged \('utf-8' codec can't decode"):
        read_json(path)
    with path.open("wb") as file:
        file.truncate(MAX_FILE + 1)
    with pytest.raises(ValueError, match=r"metrics\.json has 67 MB; it may have 67 MB"):
        read_json(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"metrics\.json is a named pipe"):
        read_json(path)


def test_a_file_that_must_hold_a_mapping_is_one(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"a\.json must be a mapping, not \[1\]$"):
        read_mapping(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"_b": 1}')
    assert read_mapping(tmp_path / "a.json", only_shown=True) == {"_b": 1}
