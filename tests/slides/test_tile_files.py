import io
import os
import re
import time
import warnings
import zipfile

import pytest

from milpath.slides import tile_files
from milpath.slides.tile_files import TooLargeError, ZipFiles, open_tile_files


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tiles" / "train").mkdir(parents=True)
    (tmp_path / "tiles" / "train" / "a_0.png").write_bytes(b"first")
    (tmp_path / "tiles" / "train" / "a_1.png").write_bytes(b"second")
    (tmp_path / "tiles" / "readme.txt").write_bytes(b"text")
    return tmp_path / "tiles"


@pytest.fixture
def archive(folder, tmp_path):
    path = tmp_path / "tiles.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for source in folder.rglob("*.*"):
            file.write(source, source.relative_to(folder))
    return path


def test_folder_and_archive_hold_the_same(folder, archive):
    for path in (folder, archive):
        with open_tile_files(path) as files:
            assert sorted(files.names()) == ["readme.txt", "train/a_0.png", "train/a_1.png"]
            assert files.read("train/a_1.png", 100) == b"second"


def test_nothing_is_unpacked(archive, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with open_tile_files(archive) as files:
        files.read("train/a_0.png", 100)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_fingerprint_changes_with_the_files(folder):
    def fingerprint():
        with open_tile_files(folder) as files:
            return files.fingerprint()

    before = fingerprint()
    assert fingerprint() == before
    (folder / "train" / "a_2.png").write_bytes(b"third")
    more = fingerprint()
    assert more != before
    os.utime(folder / "train" / "a_2.png", (1, 1))
    assert fingerprint() != more


def test_a_file_that_is_too_large_is_refused(folder, archive):
    for path in (folder, archive):
        with open_tile_files(path) as files, pytest.raises(ValueError, match="larger than 3 bytes; it is not a tile"):
            files.read("train/a_0.png", 3)


@pytest.mark.parametrize("name", ["../a_0.png", "/a_0.png", "train/../../a_0.png", "C:/a_0.png"])
def test_a_path_that_leads_out_of_the_archive_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(name, b"data")
    message = f"^{re.escape(str(tmp_path / 'x.zip'))} contains the path '{re.escape(name)}', which points outside of the archive"
    with pytest.raises(ValueError, match=message), open_tile_files(tmp_path / "x.zip"):
        pass


def test_an_archive_that_lies_about_a_size_gives_no_more_than_it_announced(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a_0.png", b"\0" * 1_000_000)
    data = path.read_bytes()
    assert data.count((1_000_000).to_bytes(4, "little")) == 2  # local header and directory
    path.write_bytes(data.replace((1_000_000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    with open_tile_files(path) as files, pytest.raises(ValueError, match="is damaged"):
        files.read("a_0.png", 100)


def test_a_damaged_archive_is_named(archive):
    archive.write_bytes(archive.read_bytes()[:60])
    with (
        pytest.raises(
            ValueError, match=r"tiles.zip is not a zip archive \(File is not a zip file\); create or download it again$"
        ),
        open_tile_files(archive),
    ):
        pass


def test_a_damaged_member_is_named(archive):
    data = bytearray(archive.read_bytes())
    start = data.index(b"train/a_0.png") + len(b"train/a_0.png")
    data[start] ^= 0xFF
    archive.write_bytes(bytes(data))
    with open_tile_files(archive) as files, pytest.raises(ValueError, match=r"train/a_0.png in .*tiles.zip is damaged"):
        files.read("train/a_0.png", 100)


def test_nothing_at_the_path_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder or zip archive at"), open_tile_files(tmp_path / "nothing"):
        pass


def test_two_members_of_one_name_are_refused(tmp_path):
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a_0.png", b"first")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("a_0.png", b"second")
    with pytest.raises(ValueError, match=r"twice\.zip contains two files named 'a_0\.png'"), open_tile_files(path):
        pass


def test_a_digest_of_contents_does_not_ask_where_files_lie(folder, archive, tmp_path):
    def digest(path):
        with open_tile_files(path) as files:
            return files.content_digest()

    before = digest(folder), digest(archive)
    os.utime(folder / "train" / "a_1.png", (1, 1))
    moved = folder.rename(tmp_path / "moved"), archive.rename(tmp_path / "moved.zip")
    assert (digest(moved[0]), digest(moved[1])) == before
    (moved[0] / "train" / "a_1.png").write_bytes(b"Second")
    os.utime(moved[0] / "train" / "a_1.png", (1, 1))
    assert digest(moved[0]) != before[0]


@pytest.mark.parametrize("large", [False, True])
def test_the_list_of_files_of_an_upload_is_bounded_before_it_is_read(tmp_path, monkeypatch, large):
    if large:  # its size is in another record then
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 100)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.comment = b"a comment"
        for number in range(2000):
            file.writestr(f"{number}.png", b"")
    files = ZipFiles(tmp_path / "a.zip", "a.zip", uploaded=True)
    assert len(list(files.names())) == 2000
    files.close()
    monkeypatch.setattr(tile_files, "_LARGEST_LIST", 100_000)
    monkeypatch.setattr(zipfile, "ZipFile", None)  # not asked
    for archive in (tmp_path / "a.zip", io.BytesIO((tmp_path / "a.zip").read_bytes())):
        with pytest.raises(
            TooLargeError, match=r"^a\.zip has a list of files of 1\d\d,\d{3} bytes; the maximum is 100,000$"
        ):
            ZipFiles(archive, "a.zip", uploaded=True)


def test_two_of_many_files_with_one_name_are_found_at_once(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in [*range(60_000), 59_999]:
            file.writestr(f"{number}.png", b"")
    began = time.process_time()
    with pytest.raises(ValueError, match=r"contains two files named '59999\.png'"):
        ZipFiles(tmp_path / "a.zip")
    assert time.process_time() - began < 10
