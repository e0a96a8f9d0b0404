"""Real files of several formats, each against a second reader."""

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from milpath.slides.cut_slide import cut_slide
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_files import find_slides
from milpath.slides.tiling_options import TileOptions
from tests.dicom_files import write_dicom


def test_a_real_ndpi_is_read_with_its_levels_and_resolution(shared_data):
    path = shared_data / "wsi_fixtures" / "ndpi" / "test3-DAPI-2-387.ndpi"
    with open_slide(path) as slide, openslide.OpenSlide(path) as reference:
        assert slide.level_sizes[0] == (3968, 4864)
        assert len(slide.level_sizes) == 7
        assert slide.microns_per_pixel == pytest.approx(0.22818, abs=1e-5)
        theirs = np.asarray(reference.read_region((1024, 2048), 0, (300, 200)).convert("RGB"))
        np.testing.assert_array_equal(slide.read_region(0, 1024, 2048, 300, 200), theirs)
    bag = cut_slide(path, TileOptions(tile_size=64, num_tiles=4, microns_per_pixel=2.0))
    assert bag.microns_per_pixel == pytest.approx(2.0)
    assert bag.downsample == pytest.approx(2.0 / 0.2281750559)


def test_a_real_tiff_that_openslide_rejects_is_read(shared_data):
    path = shared_data / "wsi_fixtures" / "tiff" / "kidney-48-5.tif"
    with open_slide(path) as slide:
        pixels = slide.read(0, 0, 0, *slide.level_sizes[0])
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("name", ["boxes.tiff", "small.svs", "😐.svs", "boxes_0.dcm", "boxes_1.dcm"])
def test_small_real_files_are_read_as_openslide_reads_them(shared_data, name):
    path = shared_data / "wsi_fixtures" / "odd" / name
    with open_slide(path) as slide, openslide.OpenSlide(path) as reference:
        assert slide.level_sizes == reference.level_dimensions
        size = reference.level_dimensions[0]
        theirs = np.asarray(reference.read_region((0, 0), 0, size).convert("RGB"))
        assert np.abs(slide.read(0, 0, 0, *size).astype(int) - theirs).max() <= 2


@pytest.mark.parametrize("name", ["unopenable.tiff", "unreadable.svs"])
def test_real_files_that_cannot_be_read_are_refused_by_name(shared_data, name):
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        cut_slide(shared_data / "wsi_fixtures" / "odd" / name, TileOptions(tile_size=8, num_tiles=2, level=0))


def test_a_real_slide_converted_to_dicom_without_decoding_reads_as_before(shared_data, tmp_path):
    """The tiles of the SVS are copied as they are, as converters to DICOM do it; a label and a thumbnail come along."""
    path = shared_data / "slides" / "CMU-1-Small-Region.svs"
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        tables = page.jpegtables[2:-2]
        streams = []
        for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True):
            file.filehandle.seek(offset)
            stream = file.filehandle.read(length)
            streams.append(stream[:2] + tables + stream[2:])
        size, side = page.shape, page.tilewidth
    folder = tmp_path / "converted"
    write_dicom(folder / "a.dcm", np.zeros(size, np.uint8), microns=0.499, side=side, frames=streams)
    for number, kind in enumerate(("LABEL", "THUMBNAIL"), 2):
        write_dicom(folder / f"{kind}.dcm", np.full((100, 100, 3), 40, np.uint8), 1, number, 20.0, kind=kind, side=100)
    found = find_slides(folder).found
    assert list(found) == ["converted"]
    with open_slide(found["converted"]) as slide, open_slide(path) as reference:
        assert slide.level_sizes == reference.level_sizes
        assert slide.microns_per_pixel == pytest.approx(reference.microns_per_pixel)
        whole = (0, 0, 0, *reference.level_sizes[0])
        np.testing.assert_array_equal(slide.read(*whole), reference.read(*whole))
    options = TileOptions(method="tissue", tile_size=128, num_tiles=8, microns_per_pixel=1.0)
    bag, expected = cut_slide(found["converted"], options), cut_slide(path, options)
    np.testing.assert_array_equal(bag.pixels, expected.pixels)
    np.testing.assert_array_equal(bag.places.x, expected.places.x)
