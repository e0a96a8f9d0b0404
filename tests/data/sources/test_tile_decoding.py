import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from milpath.data.sources.tile_decoding import decode_tile, largest_file


def encode(pixels, file_format="PNG", mode=None):
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, file_format)
    return buffer.getvalue()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def test_pixels_are_exact(pixels):
    np.testing.assert_array_equal(decode_tile(encode(pixels), 16, "a_0.png"), pixels)


def test_other_kinds_of_image_become_rgb(pixels):
    assert decode_tile(encode(pixels, mode="RGBA"), 16, "t").shape == (16, 16, 3)
    assert decode_tile(encode(pixels, mode="L"), 16, "t").shape == (16, 16, 3)
    assert decode_tile(encode(pixels, mode="P"), 16, "t").shape == (16, 16, 3)
    assert decode_tile(encode(pixels, "JPEG"), 16, "t").shape == (16, 16, 3)


def test_transparent_pixels_are_white_and_sixteen_bits_are_scaled_as_in_slides(pixels):
    clear = np.dstack([pixels, np.full((16, 16), 255, np.uint8)])
    clear[0, :, 3] = 0
    found = decode_tile(encode(clear), 16, "t")
    assert (found[0] == 255).all()
    np.testing.assert_array_equal(found[1:], pixels[1:])
    file = io.BytesIO()  # one colour is transparent
    Image.fromarray(pixels).save(file, "PNG", transparency=tuple(pixels[3, 4].tolist()))
    found = decode_tile(file.getvalue(), 16, "t")
    assert found.shape == (16, 16, 3)
    assert found[3, 4].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(found[4:], pixels[4:])
    deep = decode_tile(encode(pixels[:, :, 0].astype(np.uint16) * 257), 16, "t")
    np.testing.assert_array_equal(deep, np.repeat(pixels[:, :, :1], 3, axis=2))
    with pytest.raises(ValueError, match="^t has pixels of 32 bits; save tiles with 8 bits per channel$"):
        decode_tile(encode(pixels[:, :, 0].astype(np.float32), "TIFF"), 16, "t")


@pytest.mark.parametrize("keep", [20, 33, 60, 200, -20])
def test_a_truncated_file_is_named(pixels, keep):
    with pytest.raises(ValueError, match=r"^train/a_0.png is (a damaged|not an image)") as error:
        decode_tile(encode(pixels)[:keep], 16, "train/a_0.png")
    assert str(error.value).endswith("copy or download it again")


def test_a_file_that_is_no_image_is_named():
    with pytest.raises(ValueError, match=r"^train/a_0.png is not an image; copy or download it again$"):
        decode_tile(b"<html>404 not found</html>", 16, "train/a_0.png")
    with pytest.raises(ValueError, match=r"^train/a_0.png is not an image"):
        decode_tile(b"", 16, "train/a_0.png")


def test_a_wrong_size_is_named(pixels):
    message = r"^a_0.png is 16 x 16 pixels, expected 128 x 128; set data.tile_size to the size of your tiles$"
    for file_format in ("PNG", "JPEG"):
        with pytest.raises(ValueError, match=message):
            decode_tile(encode(pixels, file_format), 128, "a_0.png")


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 10**6)) + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match="60000 x 60000 pixels, expected 16 x 16"):
        decode_tile(bomb, 16, "a_0.png")


def test_real_tiles_are_within_the_bound_on_files(shared_data):
    sizes = [path.stat().st_size for path in (shared_data / "panda_pixels" / "train").glob("*.png")]
    assert max(sizes) < largest_file(128) / 2
