import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from milpath.slides.readers.image_header import png_header
from milpath.slides.tile_files import TooLargeError, ZipFiles
from milpath.slides.uploaded_tiles import read_tiles, require_plain, upload_names


def png(width=8, height=4):
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def archive(files, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as written:
        for name, data in files.items():
            written.writestr(name, data)
    return ZipFiles(file, "the zip")


def test_a_header_tells_the_size_before_anything_is_decoded():
    assert png_header(png()[:26])[:2] == (8, 4)
    assert png_header(png()[:25]) is None
    assert png_header(b"\xff\xd8\xff" + bytes(30)) is None


def test_names_are_ordered_by_number_and_litter_of_macos_is_left_out():
    names = ["a_10.png", *(f"a_{number}.png" for number in range(10)), "__MACOSX/._a_0.png", "folder/.DS_Store"]
    assert upload_names(names, "the zip", 11) == [f"a_{number}.png" for number in range(11)]


def test_more_tiles_than_are_read_are_too_much():
    with pytest.raises(TooLargeError, match="^the zip contains 3 tiles; the maximum is 2$"):
        upload_names(["a_0.png", "a_1.png", "a_2.png"], "the zip", 2)


def test_a_single_tile_is_refused_only_where_it_is_asked_for():
    assert upload_names(["a_0.png"], "the zip", 2) == ["a_0.png"]
    with pytest.raises(
        ValueError, match="^the zip contains only one tile, but attention compares tiles with each other"
    ):
        upload_names(["a_0.png"], "the zip", 2, min_tiles=2)


def test_bytes_of_one_tile_and_of_all_are_bounded():
    files = archive({f"a_{number}.png": png() for number in range(4)})
    size = len(png())
    everything = list(read_tiles(files.names(), files.read, max_file_bytes=size, max_bytes=4 * size))
    assert [(tile.name, tile.width, tile.height) for tile in everything] == [(f"a_{n}.png", 8, 4) for n in range(4)]
    with pytest.raises(TooLargeError, match=f"^a_0.png in the zip is larger than {size - 1} bytes"):
        list(read_tiles(files.names(), files.read, max_file_bytes=size - 1, max_bytes=4 * size))
    taken = []
    with pytest.raises(TooLargeError, match=f"^the tiles unpack to more than {3 * size} bytes; give fewer tiles$"):
        taken.extend(read_tiles(files.names(), files.read, max_file_bytes=size, max_bytes=3 * size))


def test_a_zip_that_lies_about_a_size_is_never_inflated_further():
    data = bytearray()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("a_0.png", png() + bytes(1_000_000))
    data = file.getvalue()
    real = (len(png()) + 1_000_000).to_bytes(4, "little")
    assert data.count(real) == 2
    files = ZipFiles(io.BytesIO(data.replace(real, (100).to_bytes(4, "little"))), "the zip")
    with pytest.raises(ValueError, match="^a_0.png in the zip is damaged"):
        files.read("a_0.png", 1000)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_stored_and_deflated_files_are_uploads(method):
    files = archive({"a_0.png": png()}, method)
    with pytest.raises(ValueError, match="^a_0.png in the zip is encrypted or compressed in an unusual way"):
        require_plain(files, files.names())
    for known in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        require_plain(archive({"a_0.png": png()}, known), ["a_0.png"])
