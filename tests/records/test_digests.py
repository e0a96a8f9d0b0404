import pytest

from milpath.records import digests
from milpath.records.digests import sampled_sha256_of_file, sha256_of_file


def test_a_small_file_is_sampled_whole(tmp_path):
    path, found = tmp_path / "slide.tiff", set()
    for place in range(50):
        path.write_bytes(bytes(place) + b"x" + bytes(49 - place))
        found.add(sampled_sha256_of_file(path))
    assert len(found) == 50


@pytest.mark.parametrize("place", [0, -1])
def test_a_large_file_is_told_apart_by_length_and_by_both_ends(tmp_path, monkeypatch, place):
    monkeypatch.setattr(digests, "_WHOLE_BYTES", 1000)
    monkeypatch.setattr(digests, "_BLOCK_BYTES", 100)
    path, content = tmp_path / "slide.svs", bytearray(10_000)
    path.write_bytes(content)
    before = sampled_sha256_of_file(path)
    content[place] = 1
    path.write_bytes(content)
    assert sampled_sha256_of_file(path) != before
    path.write_bytes(bytes(10_001))
    assert sampled_sha256_of_file(path) != before
    assert sha256_of_file(path) != sampled_sha256_of_file(path)


def test_an_empty_file_has_a_hash(tmp_path):
    (tmp_path / "empty").touch()
    assert len(sampled_sha256_of_file(tmp_path / "empty")) == 64
