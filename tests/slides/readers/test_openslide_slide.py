import imagecodecs
import numpy as np
import pytest
import tifffile

from milpath.slides.cut_slide import cut_slide
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.readers.openslide_slide import OpenSlideSlide
from milpath.slides.tiling_options import TileOptions
from tests.dicom_files import write_dicom_slide
from tests.pyramids import tissue, write_pyramid


def test_openslide_reads_the_levels_of_a_pyramid_in_their_own_pixels(tmp_path):
    picture = tissue(256, 192)
    path = write_pyramid(tmp_path / "a.tiff", picture, compression="jpeg", compressionargs={"level": 95})
    with OpenSlideSlide(path) as reference, open_slide(path) as slide:
        assert reference.level_sizes == slide.level_sizes
        theirs, ours = reference.read_region(1, 64, 128, 100, 90), slide.read_region(1, 64, 128, 100, 90)
    assert np.abs(theirs.astype(int) - ours).max() <= 2


@pytest.fixture
def aperio(tmp_path):
    """A scan in JPEG 2000 as scanners of Aperio write it, and its pixels."""
    picture, side = tissue(256, 384), 128
    corners = [(y, x) for y in range(0, 256, side) for x in range(0, 384, side)]
    pieces = [
        imagecodecs.jpeg2k_encode(picture[y : y + side, x : x + side].copy(), level=0, codecformat="j2k")
        for y, x in corners
    ]
    with tifffile.TiffWriter(tmp_path / "scan.svs") as writer:
        writer.write(
            iter(pieces), shape=picture.shape, dtype=np.uint8, tile=(side, side), photometric="rgb", compression=33005,
            metadata=None, software=False, description="Aperio Image Library v11\r\n384x256 (128x128) J2K|MPP = 0.5",
        )  # fmt: skip
    return tmp_path / "scan.svs", picture


def test_what_its_vendor_compressed_is_left_to_openslide(aperio):
    path, picture = aperio
    with open_slide(path) as slide:
        assert isinstance(slide, OpenSlideSlide)
        assert (slide.level_sizes, slide.microns_per_pixel) == (((384, 256),), 0.5)
        np.testing.assert_array_equal(slide.read(0, 0, 0, 384, 256), picture)
        np.testing.assert_array_equal(slide.read_region(0, 100, 30, 60, 150), picture[30:180, 100:160])


def test_a_damaged_piece_is_refused_with_the_name_and_the_level(aperio):
    path, _ = aperio
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[2], file.pages[0].databytecounts[2]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(count))
    with pytest.raises(ValueError, match=r"scan\.svs cannot be read at level 0: .+"):
        cut_slide(path, TileOptions(tile_size=64))


def test_a_piece_that_the_scanner_lost_is_white_and_noted(aperio):
    path, picture = aperio
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["TileByteCounts"]
    size = tag.valuebytecount // tag.count
    data[tag.valueoffset + 2 * size : tag.valueoffset + 3 * size] = bytes(size)
    path.write_bytes(data)
    with open_slide(path) as slide:
        slide.prepare(0)
        assert slide.notes == ["1 of 6 pieces of level 0 have no data in the file and are white"]
        pixels = slide.read(0, 0, 0, 384, 256)
    assert (pixels[:128, 256:] == 255).all()
    np.testing.assert_array_equal(pixels[:, :256], picture[:, :256])


def test_a_region_of_a_long_slide_is_that_of_its_whole_level(tmp_path):
    # OpenSlide divides by the mean of both sides, of which the short one is rounded to 8 px of 7.5.
    picture = tissue(60, 8000)
    picture[:, 7600:7700] = (120, 40, 90)
    write_dicom_slide(tmp_path / "long", picture, levels=4)
    with open_slide(tmp_path / "long/level_0.dcm") as slide:
        assert slide.level_sizes[3] == (1000, 8)
        whole, part = slide.read_region(3, 0, 0, 1000, 8), slide.read_region(3, 900, 0, 100, 8)
    assert np.abs(part.astype(int) - whole[:, 900:]).max() <= 4
