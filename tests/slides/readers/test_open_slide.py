import hashlib
import io
import json
import os
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from milpath.slides.cut_slide import cut_slide
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.readers.openslide_slide import OpenSlideSlide
from milpath.slides.slide_view import view_slide
from milpath.slides.tiling_options import TileOptions
from tests.pyramids import level2, tissue, write_pyramid


def whole(path, level=-1):
    with open_slide(path) as slide:
        level %= len(slide.level_sizes)
        return slide.read(level, 0, 0, *slide.level_sizes[level])


@pytest.mark.parametrize("name", ["0018ae58b01bdadc8e347995b69f99aa", "002a4db09dad406c85505a00fb6f6144"])
def test_the_last_level_of_a_real_pyramid_gives_the_published_tiles(shared_data, tmp_path, name):
    panda = shared_data / "panda_pixels"
    golden = json.loads((panda / "golden_tiling.json").read_text())[name]
    path = write_pyramid(tmp_path / f"{name}.tiff", level2(panda, name), factors=(2, 1), tile=512)
    bag = cut_slide(path)
    assert [hashlib.sha256(tile.tobytes()).hexdigest() for tile in bag.pixels] == golden["tile_sha256"]
    assert bag.places.number.tolist() == golden["selected_index"]
    assert (bag.level, bag.downsample) == (1, 2.0)
    assert bag.microns_per_pixel == pytest.approx(1.0)


def test_an_svs_is_read_as_openslide_reads_it(scan):
    with open_slide(scan) as slide, OpenSlideSlide(scan) as reference:
        assert slide.level_sizes == reference.level_sizes == ((2220, 2967),)
        assert slide.microns_per_pixel == reference.microns_per_pixel == 0.499
        region = (0, 333, 501, 700, 600)
        np.testing.assert_array_equal(slide.read_region(*region), reference.read_region(*region))


def test_of_a_pyramid_only_the_level_asked_for_is_read(tmp_path):
    """The others may be damaged: nobody notices, and nobody waits for them."""
    path = write_pyramid(tmp_path / "a.tiff", tissue(200, 160), compression="jpeg", compressionargs={"level": 95})
    expected = [whole(path, level) for level in range(3)]
    with tifffile.TiffFile(path) as file:
        pieces = [piece for page in file.pages[:2] for piece in zip(page.dataoffsets, page.databytecounts, strict=True)]
    with path.open("r+b") as file:
        for offset, count in pieces:
            file.seek(offset)
            file.write(bytes(count))
    np.testing.assert_array_equal(whole(path), expected[2])
    with pytest.raises(ValueError, match=r"a\.tiff cannot be read at level 0"):
        whole(path, 0)


def test_a_region_is_what_the_whole_level_has_there(tmp_path):
    picture = tissue(300, 200)
    path = write_pyramid(tmp_path / "a.tiff", picture, factors=(1,))
    with open_slide(path) as slide:
        for x, y, width, height in ((0, 0, 200, 300), (63, 1, 2, 130), (199, 299, 1, 1), (64, 64, 64, 64)):
            np.testing.assert_array_equal(
                slide.read_region(0, x, y, width, height), picture[y : y + height, x : x + width]
            )


GREY = np.tile(np.arange(256, dtype=np.uint8), (128, 1))
RGB = tissue(128, 256)
ALPHA = np.dstack([RGB, GREY])


@pytest.mark.parametrize(
    ("pixels", "words", "expected"),
    [
        (RGB, {"tile": None}, RGB),
        (RGB, {"compression": "lzw", "predictor": True}, RGB),
        (RGB, {"compression": None, "bigtiff": True}, RGB),
        (RGB, {"byteorder": ">"}, RGB),
        (GREY, {"photometric": "minisblack"}, np.dstack([GREY] * 3)),
        (GREY, {"photometric": "miniswhite"}, np.dstack([255 - GREY] * 3)),
        (RGB.astype(np.uint16) * 257, {}, RGB),
        ((GREY.astype(np.uint16) * 257), {"photometric": "minisblack", "tile": None}, np.dstack([GREY] * 3)),
        (ALPHA, {"extrasamples": ["unassalpha"]}, None),
        (np.moveaxis(RGB, 2, 0), {"planarconfig": "separate"}, RGB),
    ],
    ids=["strips", "lzw", "plain big", "motorola", "grey", "white is zero", "16 bit", "16 bit grey", "alpha", "planes"],
)
def test_every_kind_of_pixels_becomes_rgb_on_white(tmp_path, pixels, words, expected):
    path = tmp_path / "a.tiff"
    words = {"tile": (64, 64), "compression": "zlib", "photometric": "rgb"} | words
    with tifffile.TiffWriter(
        path, bigtiff=words.pop("bigtiff", False), byteorder=words.pop("byteorder", "<")
    ) as writer:
        writer.write(pixels, metadata=None, **{key: value for key, value in words.items() if value is not None})
    if expected is None:
        part = GREY[:, :, None] / 255
        np.testing.assert_allclose(whole(path), RGB * part + 255 * (1 - part), atol=0.51)
    else:
        np.testing.assert_array_equal(whole(path), expected)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16", "CMYK"])
def test_plain_pictures_of_every_mode_become_rgb(tmp_path, mode):
    picture = Image.fromarray(GREY.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(ALPHA).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture.save(path)
    pixels = whole(path)
    assert (pixels.shape, pixels.dtype) == ((128, 256, 3), np.uint8)
    if mode == "RGBA":
        assert (pixels[:, 0] == 255).all()
        np.testing.assert_array_equal(pixels[:, 255], RGB[:, 255])
    if mode == "I;16":
        np.testing.assert_array_equal(pixels, np.dstack([GREY] * 3))


def test_the_content_says_what_a_file_is_not_its_name(tmp_path):
    write_pyramid(tmp_path / "a.tiff", RGB, factors=(1,)).rename(tmp_path / "tiff.png")
    Image.fromarray(RGB).save(tmp_path / "png.tiff", "PNG")
    Image.fromarray(RGB).save(tmp_path / "png.svs", "PNG")
    for name in ("tiff.png", "png.tiff", "png.svs"):
        np.testing.assert_array_equal(whole(tmp_path / name), RGB)


def test_label_and_thumbnail_pages_are_no_levels(tmp_path):
    path = tmp_path / "a.svs"
    with tifffile.TiffWriter(path) as writer:
        writer.write(RGB.repeat(4, 0).repeat(4, 1), tile=(64, 64), photometric="rgb", metadata=None)
        writer.write(RGB, rowsperstrip=64, photometric="rgb", metadata=None)  # thumbnail: of the same shape
        writer.write(RGB.repeat(2, 0).repeat(2, 1), tile=(64, 64), photometric="rgb", metadata=None)
        writer.write(RGB[:100, :100], tile=(64, 64), photometric="rgb", metadata=None)  # label: of another shape
    with open_slide(path) as slide:
        assert slide.level_sizes == ((1024, 512), (512, 256))


def test_levels_in_a_side_chain_are_found(tmp_path):
    path = tmp_path / "a.ome.tiff"
    with tifffile.TiffWriter(path) as writer:
        writer.write(RGB.repeat(4, 0).repeat(4, 1), tile=(64, 64), photometric="rgb", subifds=2, metadata=None)
        for factor in (2, 1):
            writer.write(RGB.repeat(factor, 0).repeat(factor, 1), tile=(64, 64), photometric="rgb", metadata=None)
    with open_slide(path) as slide:
        assert slide.level_sizes == ((1024, 512), (512, 256), (256, 128))
    np.testing.assert_array_equal(whole(path), RGB)


def test_pieces_that_were_left_out_are_white(tmp_path):
    path = write_pyramid(tmp_path / "a.tiff", RGB, factors=(1,), compression=None)
    erase_piece(path, 1, offset=0, count=0)
    expected = RGB.copy()
    expected[:64, 64:128] = 255
    np.testing.assert_array_equal(whole(path), expected)


def erase_piece(path, index, **values):
    """Change where a piece is said to lie."""
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for name, value in values.items():
            tag = file.pages[0].tags[{"offset": "TileOffsets", "count": "TileByteCounts"}[name]]
            length = tag.valuebytecount // tag.count
            start = tag.valueoffset + index * length
            data[start : start + length] = value.to_bytes(length, "little")
    path.write_bytes(data)


def test_a_piece_with_bytes_but_without_a_place_is_damage(tmp_path):
    path = write_pyramid(tmp_path / "a.tiff", RGB, factors=(1,), compression=None)
    erase_piece(path, 1, offset=0)
    refuse(path, "segments without a place")


def refuse(path, match):
    with pytest.raises(ValueError, match=match) as caught:
        cut_slide(path, TileOptions(tile_size=64, num_tiles=4))
    assert path.name in str(caught.value)


def test_what_is_no_slide_is_refused_by_name(tmp_path):
    (tmp_path / "empty.tiff").touch()
    (tmp_path / "text.tiff").write_text("not a picture at all")
    (tmp_path / "half.png").write_bytes(png(RGB)[:500])
    (tmp_path / "short.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "odd.mrxs").write_bytes(b"[GENERAL]\n")
    (tmp_path / "header.tiff").write_bytes(b"II*\0" + struct.pack("<I", 8))
    refuse(tmp_path / "empty.tiff", "empty")
    refuse(tmp_path / "text.tiff", "not a slide or image that can be read")
    refuse(tmp_path / "half.png", "damaged")
    refuse(tmp_path / "short.jpg", "damaged|not an image")
    refuse(tmp_path / "odd.mrxs", "OpenSlide")
    refuse(tmp_path / "header.tiff", "damaged")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.tiff does not exist"):
        open_slide(tmp_path / "nowhere.tiff")


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("kept", [0.999, 0.7, 0.3, 0.01])
def test_a_tiff_that_was_cut_off_is_refused(scan, tmp_path, kept):
    data = scan.read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(data[: int(len(data) * kept)])
    refuse(path, "cut off|damaged|cannot be read")


def test_a_piece_that_announces_a_giant_takes_no_memory(tmp_path):
    path = write_pyramid(tmp_path / "a.tiff", RGB, factors=(1,), compression="jpeg")
    data = bytearray(path.read_bytes())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", 65_000, 65_000)
    path.write_bytes(data)
    refuse(path, "contains a JPEG of 65000 x 65000 px")


def test_a_picture_that_may_be_a_bomb_is_refused(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", RGB.shape[0] * RGB.shape[1] - 1)
    refuse(tmp_path / "large.png", "too large for a plain image")


def test_pixels_that_are_no_picture_are_refused(tmp_path):
    for name, pixels in {"float": RGB.astype(np.float32), "32 bit": RGB.astype(np.uint32)}.items():
        path = tmp_path / f"{name}.tiff"
        tifffile.imwrite(path, pixels, photometric="rgb", metadata=None)
        refuse(path, "expected unsigned 8 or 16 bits")
    path = tmp_path / "cmyk.tiff"
    tifffile.imwrite(path, ALPHA, photometric="separated", metadata=None)
    refuse(path, "convert it to RGB")


def test_a_level_that_is_not_there_is_named_with_those_that_are(tmp_path):
    path = write_pyramid(tmp_path / "a.tiff", RGB, factors=(2, 1))
    with pytest.raises(
        ValueError, match=r"a\.tiff has no level 2; it has 512 x 256, 256 x 128 px: set a level from 0 to 1"
    ):
        cut_slide(path, TileOptions(level=2))
    assert cut_slide(path, TileOptions(level=-2, tile_size=64)).level == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}, 0.5),
        ({"resolution": (25_400, 25_400), "resolutionunit": "INCH"}, 1.0),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (20_000, 20_000), "resolutionunit": "NONE"}, None),
        ({"description": "Aperio Image Library|AppMag = 20|MPP = 0.2461"}, 0.2461),
        ({"description": "Aperio Image Library|MPP = 0.4.1"}, None),
        ({}, None),
    ],
)
def test_the_resolution_is_found_or_not_known(tmp_path, words, expected):
    tifffile.imwrite(tmp_path / "a.tiff", RGB, photometric="rgb", metadata=None, **words)
    with open_slide(tmp_path / "a.tiff") as slide:
        assert slide.microns_per_pixel == (None if expected is None else pytest.approx(expected))


def test_missing_resolution_names_the_option_to_set(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    options = TileOptions(microns_per_pixel=2.0)
    with open_slide(tmp_path / "a.png") as slide, pytest.raises(ValueError, match="set slide_microns_per_pixel=NUMBER"):
        view_slide(slide, options)
    with open_slide(tmp_path / "a.png") as slide:
        view = view_slide(slide, TileOptions(microns_per_pixel=2.0, slide_microns_per_pixel=0.5))
        assert (view.size, view.downsample, view.microns_per_pixel) == ((64, 32), 4.0, 2.0)


def test_a_named_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif is a named pipe, not a regular file; take it away or give a file"):
        open_slide(tmp_path / "a.tif")
