import os
import unicodedata

import pytest

from milpath.data.sources.features.feature_folder import find_feature_files
from milpath.data.sources.loose_tiles import holds_tiles
from milpath.records.digests import size_and_time
from milpath.slides.slide_files import find_masks, find_slides, parse_shard


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_slides_are_found_below_a_folder_by_suffix_sorted_by_name(tmp_path):
    for name in ("b.tiff", "a.SVS", "deep/er/c.png", "notes.txt", ".hidden.tiff", ".cache/d.tiff", "Präparat 7.tif"):
        touch(tmp_path / name)
    files = find_slides(tmp_path)
    assert list(files.found) == ["Präparat 7", "a", "b", "c"]
    assert [path.name for path in files.ignored] == ["notes.txt"]
    assert not files.broken


def test_one_slide_can_be_given(tmp_path):
    assert find_slides(touch(tmp_path / "a.odd")).found == {"a": tmp_path / "a.odd"}
    with pytest.raises(FileNotFoundError, match="no slides at .*nowhere"):
        find_slides(tmp_path / "nowhere")


def test_a_loop_of_folders_ends(tmp_path):
    touch(tmp_path / "sub" / "a.tiff")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "sub")
    assert list(find_slides(tmp_path).found) == ["a"]


def test_folders_of_any_depth_are_searched(tmp_path):
    here = tmp_path / "slides"
    folders = [here]
    for _ in range(1100):
        here = here / "a"
        folders.append(here)
    for folder in folders:
        folder.mkdir()
    (here / "deep.tif").touch()
    try:
        assert list(find_slides(tmp_path / "slides").found) == ["deep"]
        assert not holds_tiles(tmp_path / "slides")
        assert size_and_time(tmp_path / "slides")[0] == 0
        with pytest.raises(FileNotFoundError, match="no .h5 or .pt files"):
            find_feature_files(tmp_path / "slides")
    finally:
        (here / "deep.tif").unlink()
        for folder in folders[::-1]:
            folder.rmdir()


def test_links_that_lead_nowhere_are_broken_slides(tmp_path):
    (tmp_path / "round.tiff").symlink_to(tmp_path / "round.tiff")
    (tmp_path / "gone.tiff").symlink_to(tmp_path / "nowhere.tiff")
    (tmp_path / "good.tiff").symlink_to(touch(tmp_path / "store" / "x.bin"))
    files = find_slides(tmp_path)
    assert list(files.found) == ["good"]
    assert "broken link" in files.broken["gone"]
    assert "round.tiff is a broken link" in files.broken["round"]


def test_two_files_of_one_name_are_a_broken_slide_that_names_both(tmp_path):
    touch(tmp_path / "x" / "a.tiff")
    touch(tmp_path / "y" / "a.svs")
    files = find_slides(tmp_path)
    assert not files.found
    assert "2 files have this name" in files.broken["a"]
    assert "x/a.tiff" in files.broken["a"]
    assert "y/a.svs" in files.broken["a"]


def test_two_spellings_of_one_letter_are_one_name(tmp_path):
    touch(tmp_path / unicodedata.normalize("NFD", "Präparat.tiff"))
    assert list(find_slides(tmp_path).found) == [unicodedata.normalize("NFC", "Präparat")]


def test_a_name_that_is_no_text_is_a_broken_slide(tmp_path):
    touch(tmp_path / os.fsdecode(b"\xff\xfe.tiff"))
    files = find_slides(tmp_path)
    assert not files.found
    assert next(iter(files.broken.values())) == "the name of the file is not valid UTF-8; rename it"
    assert next(iter(files.broken)).encode()


def test_the_output_among_the_slides_is_not_searched(tmp_path):
    touch(tmp_path / "a.tiff")
    touch(tmp_path / "out" / "png" / "a_0.png")
    assert list(find_slides(tmp_path, tmp_path / "out").found) == ["a"]


def test_masks_are_named_after_their_slide(tmp_path):
    touch(tmp_path / "a_mask.tiff")
    touch(tmp_path / "b.png")
    assert list(find_masks(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("text", ["3", "a/b", "5/4", "1/0", "-1/4", "1/4/2", ""])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ValueError, match="must be i/n with i from 1 to n"):
        parse_shard(text)


@pytest.mark.parametrize("first", [0, 1])
def test_shards_cover_every_slide_once_counted_from_0_or_1(first):
    shards = [parse_shard(f"{number}/4") for number in range(first, first + 4)]
    assert sorted(index for index, _ in shards) == [0, 1, 2, 3]


def test_what_is_no_regular_file_is_refused_without_being_opened(tmp_path):
    for name in ("a.tif", "b.dcm", "c.vms", "e.mrxs", "series/other.dcm", "no suffix"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.mkfifo(tmp_path / name)
    (tmp_path / "link.tif").symlink_to(tmp_path / "a.tif")
    (tmp_path / "good.tif").symlink_to(touch(tmp_path / "store" / "x.bin"))
    files = find_slides(tmp_path)
    assert list(files.found) == ["good"]
    assert sorted(files.broken) == ["a", "b", "c", "e", "link", "other"]
    assert files.broken["a"] == f"{tmp_path / 'a.tif'} is a named pipe, not a regular file; take it away or give a file"
    assert "link.tif is a named pipe, not a regular file" in files.broken["link"]
    assert list(find_slides(tmp_path / "a.tif").broken) == ["a"]
