"""Files of an archive of somebody else: read or refused in one line, in bounded memory."""

import gzip
import tarfile
import tracemalloc
from io import BytesIO

import pytest

from milpath.sagemaker.registry.registered_files import find_files


def write_archive(path, *members):
    """Write an archive of names, contents and types."""
    with tarfile.open(path, "w:gz") as file:
        for name, content, kind in members:
            entry = tarfile.TarInfo(name)
            entry.size, entry.type, entry.linkname = len(content), kind, "/etc/passwd"
            file.addfile(entry, BytesIO(content))
    return str(path)


def test_json_nested_without_end_is_refused_by_its_name(tmp_path):
    found = find_files(
        write_archive(tmp_path / "a.tar.gz", ("card.json", b"[" * 200_000, tarfile.REGTYPE)), ["card.json"], None
    )
    with pytest.raises(ValueError, match=r"a\.tar\.gz: card\.json is not JSON \(nested too deeply\)"):
        found.values("card.json")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_no_files(tmp_path, kind):
    assert find_files(write_archive(tmp_path / "a.tar.gz", ("card.json", b"", kind)), ["card.json"], None).content == {}


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_name_of_gigabytes_takes_no_memory(tmp_path, kind):
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = kind, 64 << 20
    with gzip.open(tmp_path / "a.tar.gz", "wb", 1) as file:
        file.write(entry.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(
        ValueError, match=r"a\.tar\.gz is not a whole \.tar\.gz \(it states a name of 67,\d\d\d,\d\d\d bytes\)"
    ):
        find_files(str(tmp_path / "a.tar.gz"), ["card.json"], None)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_any_number_of_other_files_takes_no_memory(tmp_path):
    others = [("x", b"", tarfile.REGTYPE)] * 20_000
    path = write_archive(tmp_path / "a.tar.gz", *others, ("./card.json", b"{}", tarfile.REGTYPE))
    tracemalloc.start()
    assert find_files(path, ["card.json"], None).values("card.json") == {}
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
