"""Zeiss CZI: read as the slide, equal to libCZI where it is installed, or refused by name."""

import random
import struct
from collections import Counter

import numpy as np
import pytest

from milpath.slides.cut_slide import cut_slide
from milpath.slides.readers.czi.czi_slide import CziSlide
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_files import find_slides
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_bags import build_slide_store
from tests.czi_files import JPEG, JPEG_XR, RAW, ZSTD, ZSTD_WITH_HEADER, mosaic, piece, write_czi, write_pieces
from tests.pyramids import tissue, write_pyramid
from tests.slides.test_damaged_slides import damage

PICTURE = np.asarray(tissue(100, 150)).repeat(4, 0).repeat(4, 1)  # as `write_pyramid` draws it: 600 x 400 px
OPTIONS = TileOptions(tile_size=32, num_tiles=6, level=0)


def same(slide, picture, level=0):
    """Compare a level of a slide with a picture, and regions across its pieces."""
    height, width = picture.shape[:2]
    np.testing.assert_array_equal(slide.read_region(level, 0, 0, width, height), picture)
    np.testing.assert_array_equal(slide.read_region(level, 60, 31, 9, 66), picture[31:97, 60:69])
    np.testing.assert_array_equal(slide.read_region(level, width - 1, height - 1, 1, 1), picture[-1:, -1:])


@pytest.mark.parametrize("codec", [RAW, JPEG_XR, ZSTD, ZSTD_WITH_HEADER])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("samples", [3, 1])
def test_every_codec_gives_the_picture_at_every_level(tmp_path, codec, depth, samples):
    picture = PICTURE[:, :, :samples].astype(f"uint{depth}") * (1 if depth == 8 else 257)
    with open_slide(write_czi(tmp_path / "a.czi", picture, codec=codec, corner=(-30, 1000))) as slide:
        assert slide.level_sizes == ((600, 400), (300, 200), (150, 100))
        assert slide.microns_per_pixel == 0.5
        assert slide.highest_sample == 0
        for level, factor in enumerate((1, 2, 4)):
            same(slide, PICTURE[::factor, ::factor, :samples].repeat(3 // samples, 2), level)
        assert slide.highest_sample == (0 if depth == 8 else picture.max())


def test_tiles_and_their_coordinates_are_those_of_the_same_picture_as_a_tiff(tmp_path):
    path = write_czi(tmp_path / "slides/umlaut ä [1].czi", PICTURE)
    expected = cut_slide(write_pyramid(tmp_path / "other/a.tif", tissue(100, 150)), OPTIONS)
    bag = cut_slide(path, OPTIONS)
    np.testing.assert_array_equal(bag.pixels, expected.pixels)
    np.testing.assert_array_equal(bag.places.x, expected.places.x)
    assert list(find_slides(path.parent).found) == ["umlaut ä [1]"]
    assert build_slide_store(path.parent, tmp_path / "store", OPTIONS, num_workers=1).has_store


def test_what_libczi_writes_is_read_and_what_is_read_is_what_libczi_reads(tmp_path):
    libczi = pytest.importorskip("pylibCZIrw.czi")
    path = tmp_path / "libczi.czi"
    with libczi.create_czi(str(path), compression_options="zstd1:ExplicitLevel=3") as file:
        for scene, (x, part) in enumerate(((-7, PICTURE[:, :250]), (300, PICTURE[:, 250:]))):
            file.write(np.ascontiguousarray(part[:, :, ::-1]), location=(x, 11), scene=scene, plane={"C": 0})
        file.write_metadata("name", scale_x=0.25e-6, scale_y=0.25e-6)
    with open_slide(path) as slide:
        assert slide.level_sizes == ((657, 400),)
        assert slide.microns_per_pixel == 0.25
        np.testing.assert_array_equal(slide.read(0, 0, 0, 250, 400), PICTURE[:, :250])
        np.testing.assert_array_equal(slide.read(0, 307, 0, 350, 400), PICTURE[:, 250:])
        assert (slide.read(0, 250, 0, 57, 400) == 255).all()  # between the scenes
    for codec in (RAW, JPEG_XR, ZSTD, ZSTD_WITH_HEADER):
        path = write_czi(tmp_path / f"{codec}.czi", PICTURE, codec=codec, corner=(-30, 1000))
        with libczi.open_czi(str(path)) as file, open_slide(path) as slide:
            assert tuple(file.total_bounding_rectangle) == (-30, 1000, 600, 400)
            found = file.read(plane={"C": 0, "T": 0, "Z": 0})
            np.testing.assert_array_equal(slide.read(0, 0, 0, 600, 400), found[:, :, ::-1])


def test_the_piece_with_the_higher_index_is_on_top_and_gaps_are_white(tmp_path):
    dark, light = np.full((40, 40, 3), 30, np.uint8), np.full((40, 40, 3), 200, np.uint8)
    pieces = [piece(light, 20, 0, 40, 40, M=1), piece(dark, 0, 0, 40, 40, M=0), piece(dark, 100, 60, 40, 40, M=2)]
    with open_slide(write_pieces(tmp_path / "a.czi", pieces)) as slide:
        assert slide.level_sizes == ((140, 100),)
        pixels = slide.read(0, 0, 0, 140, 100)
    assert [pixels[10, x, 0] for x in (5, 25, 59, 60, 99)] == [30, 200, 200, 255, 255]
    assert pixels[80, 120, 0] == 30


@pytest.mark.parametrize("base", [2, 3])
def test_sides_that_do_not_divide_and_both_ways_to_reduce_are_read(tmp_path, base):
    picture = PICTURE[:389, :583]
    factors = [base**power for power in range(3)]
    with open_slide(write_czi(tmp_path / "a.czi", picture, factors, side=70)) as slide:
        assert slide.level_sizes == tuple((-(-583 // factor), -(-389 // factor)) for factor in factors)
        for level, factor in enumerate(factors):
            np.testing.assert_array_equal(
                slide.read(level, 0, 0, *slide.level_sizes[level]), picture[::factor, ::factor]
            )


def test_only_levels_that_every_scene_has_whole_are_used(tmp_path):
    pieces = mosaic(PICTURE[:128, :128], (1, 2, 4), scene=0)
    pieces += mosaic(PICTURE[:128, :128], (1, 2), corner=(200, 0), scene=1)
    with open_slide(write_pieces(tmp_path / "a.czi", pieces)) as slide:
        assert slide.level_sizes == ((328, 128), (164, 64))
        np.testing.assert_array_equal(slide.read(1, 100, 0, 64, 64), PICTURE[:128:2, :128:2])
    half = mosaic(PICTURE[:128, :256], (1,)) + mosaic(PICTURE[:128, :128], (2,))
    with open_slide(write_pieces(tmp_path / "b.czi", half)) as slide:
        assert slide.level_sizes == ((256, 128),)


def test_a_piece_without_bytes_is_white_and_named(tmp_path):
    pieces = mosaic(PICTURE, (1,), side=100)
    length = 4 + int.from_bytes(pieces[8][:4], "little")
    pieces[8] = pieces[8][:length]
    write_pieces(tmp_path / "slides/a.czi", pieces)
    summary = build_slide_store(tmp_path / "slides", tmp_path / "store", OPTIONS, num_workers=1)
    assert any("1 of 24 pieces of level 0 have no data in the file and are white" in line for line in summary.notes)
    with open_slide(tmp_path / "slides/a.czi") as slide:
        assert (slide.read(0, 200, 100, 100, 100) == 255).all()
        np.testing.assert_array_equal(slide.read(0, 300, 100, 100, 100), PICTURE[100:200, 300:400])


SMALL = PICTURE[:64, :64]
REFUSED = {
    "channels": (lambda: [*mosaic(SMALL), *mosaic(SMALL, C=1)], {"channels": ("DAPI", "Cy5")}, r"holds 2 channels \(DAPI, Cy5\)"),
    "focal planes": (lambda: [made for z in range(5) for made in mosaic(SMALL, Z=z)], {}, r"holds 5 focal planes \(Z\)"),
    "time points": (lambda: [made for t in range(3) for made in mosaic(SMALL, T=t)], {}, r"holds 3 time points \(T\)"),
    "scenes on one place": (
        lambda: [*mosaic(SMALL, scene=0), *mosaic(SMALL, scene=1)], {}, "holds 2 scenes that lie on one place",
    ),
    "a part of several files": (lambda: mosaic(SMALL), {"part": 1}, "part 2 of an image in several files"),
    "JPEG": (lambda: mosaic(SMALL, codec=JPEG), {}, "compressed with JPEG, which is not read in a CZI; convert it to"),
    "no level 0": (lambda: mosaic(SMALL, (2, 4)), {}, "no pixels at full resolution"),
    "no pieces": (list, {}, "directory states 0 pieces"),
    "mixed kinds": (
        lambda: [*mosaic(SMALL), *mosaic(SMALL[:, :, :1], corner=(64, 0))], {}, "its pieces have 2 kinds of pixels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_one_slide_is_refused_by_name(tmp_path, case):
    make, words, message = REFUSED[case]
    with pytest.raises(ValueError, match=rf"a\.czi cannot be read: .*{message}") as caught:
        open_slide(write_pieces(tmp_path / "a.czi", make(), **words))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "named"), [(2, "32-bit floats"), (9, "colours with transparency"), (77, "kind 77")])
def test_other_kinds_of_pixels_are_refused_by_name(tmp_path, kind, named):
    made = [part[:6] + kind.to_bytes(4, "little") + part[10:] for part in mosaic(SMALL)]
    with pytest.raises(ValueError, match=f"its pixels are {named}; expected grey or red, green and blue"):
        open_slide(write_pieces(tmp_path / "a.czi", made))


def test_an_entity_in_the_metadata_is_not_expanded_and_no_scale_is_no_resolution(tmp_path):
    path = write_czi(tmp_path / "a.czi", SMALL, microns=None)
    with open_slide(path) as slide:
        assert slide.microns_per_pixel is None
    path = write_czi(tmp_path / "b.czi", SMALL, channels=["name of a channel, long enough"])
    content = path.read_bytes().replace(b'<Channel Id="Channel:0" Name="name', b'<!ENTITY a "aaaaaaaaaaaa">        ')
    path.write_bytes(content)
    with open_slide(path) as slide:
        assert slide.microns_per_pixel is None


def test_a_file_cut_off_anywhere_and_pieces_of_a_forged_size_are_refused(tmp_path):
    whole = write_czi(tmp_path / "whole.czi", SMALL).read_bytes()
    path = tmp_path / "a.czi"
    for length in range(11, len(whole) - 400, 997):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.czi cannot be read: .*(ends at|damaged|cut off).*; copy it again"):
            open_slide(path)
    place = whole.index(b"DV", 200)
    # Width and stored width of the first piece, in the directory and in its own entry.
    entry = whole[place : place + 72]
    forged = bytearray(entry)
    forged[36:52] = struct.pack("<iifi", 0, 1 << 21, 0, 1 << 21)
    path.write_bytes(whole.replace(entry, bytes(forged)))
    with pytest.raises(ValueError, match=r"too large|bytes instead of|is not a reduction"):
        cut_slide(path, OPTIONS)


@pytest.mark.parametrize("codec", [RAW, ZSTD, JPEG_XR])
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, codec):
    original = write_czi(tmp_path / "whole.czi", PICTURE[130:258, 200:392], codec=codec).read_bytes()
    spans = [(place, 128) for place in range(len(original) - 128) if original[place : place + 7] == b"ZISRAWD"]
    spans += [(32, 80), (544, 300)]
    path, outcomes = tmp_path / "a.czi", Counter()
    for seed in range(150):
        content = bytearray(original)
        changes, length = damage(original, spans, random.Random(seed))
        for offset, new in changes:
            content[offset : offset + len(new)] = new
        path.write_bytes(content[:length])
        try:
            cut_slide(path, OPTIONS)
            outcomes["read"] += 1
        except (ValueError, OSError) as error:
            outcomes["refused"] += 1
            outcomes["of several lines"] += "\n" in str(error)
    assert not outcomes["of several lines"]
    assert min(outcomes["read"], outcomes["refused"]) > 20, outcomes


def test_a_closed_slide_keeps_no_file_open(tmp_path):
    slide = CziSlide(write_czi(tmp_path / "a.czi", SMALL))
    slide.close()
    with pytest.raises(ValueError, match="closed file"):
        slide._file._file.read()
