"""Codecs within a TIFF: each piece states its size, which is checked before a decoder allocates memory."""

import struct

import imagecodecs
import numpy as np
import pytest
import tifffile

from milpath.slides.readers.image_header import jpeg_2000_size, jpeg_xl_size, webp_size
from milpath.slides.readers.open_slide import open_slide
from tests.pyramids import tissue

CODECS = {
    "png": imagecodecs.png_encode,
    "webp": imagecodecs.webp_encode,
    "jpegxl": imagecodecs.jpegxl_encode,
    "jpegxr": imagecodecs.jpegxr_encode,
    "jpeg2000": imagecodecs.jpeg2k_encode,
}


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_is_read_and_a_piece_larger_than_its_place_never_reaches_the_decoder(tmp_path, codec):
    words = {"tile": (64, 64), "compression": codec, "photometric": "rgb", "metadata": None}
    pixels = np.asarray(tissue(128, 128))
    tifffile.imwrite(tmp_path / "good.tiff", pixels, **words)
    with open_slide(tmp_path / "good.tiff") as slide:
        assert abs(slide.read_region(0, 0, 0, 128, 128).astype(int) - pixels).mean() < 16
    for number, size in enumerate([(64, 72), (120, 64)]):
        giant = bytes(CODECS[codec](np.full((*size, 3), 200, np.uint8)))
        path = tmp_path / f"giant{number}.tiff"
        tifffile.imwrite(path, iter([giant] * 4), shape=(128, 128, 3), dtype=np.uint8, **words)
        with (
            open_slide(path) as slide,
            pytest.raises(ValueError, match=r"contains a|header is damaged, or not that of"),
        ):
            slide.read_region(0, 0, 0, 128, 128)


def test_a_compression_whose_memory_cannot_be_bounded_is_refused_with_its_name(tmp_path):
    path = tmp_path / "lerc.tiff"
    tifffile.imwrite(path, np.asarray(tissue(128, 128)), tile=(64, 64), compression="lerc", photometric="rgb")
    with open_slide(path) as slide, pytest.raises(ValueError, match="its compression LERC is not read; convert it"):
        slide.read_region(0, 0, 0, 128, 128)


def test_the_size_in_a_container_is_that_of_its_image_and_not_of_a_decoy():
    decoy = bytes.fromhex("ff4fff51 0029 0000 00000010 00000010")
    box = struct.pack(">I4s", 8 + len(decoy), b"free") + decoy
    stream = bytes.fromhex("ff4fff51 0029 0000 0000ffff 0000fffe")
    assert jpeg_2000_size(box + struct.pack(">I4s", 0, b"jp2c") + stream) == (65535, 65534)
    jpeg_xl = bytes(imagecodecs.jpegxl_encode(np.zeros((30, 77, 3), np.uint8), usecontainer=True))
    assert jpeg_xl_size(jpeg_xl) == (77, 30)
    for size in ((8, 8), (9, 8), (40, 30), (32, 64), (1100, 3)):
        stream = bytes(imagecodecs.jpegxl_encode(np.zeros((size[1], size[0], 3), np.uint8), effort=1))
        assert jpeg_xl_size(stream) == size
    for lossless in (True, False):
        assert webp_size(bytes(imagecodecs.webp_encode(np.zeros((30, 77, 3), np.uint8), lossless=lossless))) == (77, 30)
    # With transparency the size is in another header.
    assert webp_size(bytes(imagecodecs.webp_encode(np.zeros((30, 77, 4), np.uint8), lossless=False))) == (77, 30)
