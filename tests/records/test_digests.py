import os

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


@pytest.mark.parametrize("digest", [sha256_of_file, sampled_sha256_of_file])
def test_a_named_pipe_is_refused_at_once_and_a_link_to_a_file_is_hashed(tmp_path, digest):
    os.mkfifo(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif is a named pipe, not a regular file; take it away or give a file"):
        digest(tmp_path / "a.tif")
    (tmp_path / "pipe.tif").symlink_to(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"pipe\.tif is a named pipe"):
        digest(tmp_path / "pipe.tif")
    (tmp_path / "b.tif").write_bytes(b"content")
    (tmp_path / "link.tif").symlink_to(tmp_path / "b.tif")
    assert digest(tmp_path / "link.tif") == digest(tmp_path / "b.tif")
    with pytest.raises(FileNotFoundError):
        digest(tmp_path / "none.tif")
