"""DICOM whole slides: a folder of instances is one slide, read by OpenSlide."""

import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from milpath.slides.cut_slide import cut_slide
from milpath.slides.readers.dicom_header import WHOLE_SLIDE, read_dicom_header
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_files import find_slides
from milpath.slides.tiling_options import TileOptions
from tests.dicom_files import write_dicom, write_dicom_slide
from tests.pyramids import tissue

PICTURE = np.asarray(Image.fromarray(tissue(96, 128)).resize((512, 384), Image.Resampling.BICUBIC))


def test_a_folder_of_instances_is_one_slide_named_like_its_folder(tmp_path):
    write_dicom_slide(tmp_path / "slides/case_7", PICTURE)
    write_dicom_slide(tmp_path / "slides/deep/case_8", PICTURE[:256], series=2)
    files = find_slides(tmp_path / "slides")
    assert list(files.found) == ["case_7", "case_8"]
    assert not files.broken
    assert not files.ignored
    with open_slide(files.found["case_7"]) as slide:
        assert slide.level_sizes == ((512, 384), (256, 192), (128, 96))
        assert slide.microns_per_pixel == 0.5
        pixels = slide.read(0, 0, 0, 512, 384)
    assert np.abs(pixels.astype(int) - PICTURE).mean() < 2


def test_the_folder_itself_may_be_given_or_one_instance(tmp_path):
    write_dicom_slide(tmp_path / "case_7", PICTURE)
    assert list(find_slides(tmp_path / "case_7").found) == ["case_7"]
    one = find_slides(tmp_path / "case_7/level_1.dcm").found
    assert list(one) == ["level_1"]
    with open_slide(one["level_1"]) as slide:
        assert slide.level_sizes[0] == (512, 384)


def test_several_slides_in_one_folder_are_told_apart_by_their_series(tmp_path):
    for number, name in enumerate(("a", "b"), 1):
        folder = write_dicom_slide(tmp_path / name, PICTURE[: 128 * (number + 1)], levels=2, series=number)
        for path in folder.iterdir():
            path.rename(tmp_path / f"{name}_{path.name.removeprefix('level_')}")
        folder.rmdir()
    write_dicom(tmp_path / "single.dcm", PICTURE, series=9)
    assert list(find_slides(tmp_path).found) == ["a", "b", "single"]


def test_instances_need_no_suffix_and_other_classes_are_no_slides(tmp_path):
    write_dicom(tmp_path / "IM0001", PICTURE)
    write_dicom(tmp_path / "report.dcm", PICTURE[:128], series=2, sop_class="1.2.840.10008.5.1.4.1.1.88.11")
    write_dicom(tmp_path / "label.dcm", PICTURE[:128, :128], series=3, kind="LABEL")
    (tmp_path / "README").write_text("not an instance")
    files = find_slides(tmp_path)
    assert list(files.found) == ["IM0001"]
    assert sorted(path.name for path in files.ignored) == ["README", "label.dcm", "report.dcm"]


def test_a_czi_beside_the_dicom_slide_it_was_converted_to_is_left_out_with_a_note(tmp_path):
    write_dicom(tmp_path / "case.dcm", PICTURE)
    (tmp_path / "case.czi").write_bytes(b"ZISRAWFILE")
    files = find_slides(tmp_path)
    assert (files.found, files.broken) == ({"case": tmp_path / "case.dcm"}, {})
    assert files.notes == ["case.czi is left out: slide 'case' is taken from case.dcm"]


def test_the_tiles_of_a_dicom_slide_are_those_of_its_pixels(tmp_path):
    write_dicom_slide(tmp_path / "case", PICTURE)
    bag = cut_slide(find_slides(tmp_path).found["case"], TileOptions(tile_size=64, num_tiles=4, microns_per_pixel=1.0))
    assert (bag.level, bag.downsample, bag.microns_per_pixel) == (1, 2.0, 1.0)
    half = np.asarray(Image.fromarray(PICTURE).reduce(2))
    for x, y, tile in zip(bag.places.x, bag.places.y, bag.pixels, strict=True):
        assert np.abs(tile.astype(int) - half[y : y + 64, x : x + 64]).mean() < 4


def test_pixels_that_are_not_square_are_refused_with_both_sides(tmp_path):
    write_dicom(tmp_path / "a.dcm", PICTURE, microns=(0.25, 0.5))
    with pytest.raises(ValueError, match=r"a\.dcm has pixels of 0\.5 x 0\.25 microns, which are not square"):
        cut_slide(tmp_path / "a.dcm", TileOptions(tile_size=64))
    bag = cut_slide(tmp_path / "a.dcm", TileOptions(tile_size=64, slide_microns_per_pixel=0.4))
    assert bag.microns_per_pixel == 0.4


@pytest.mark.parametrize("implicit", [False, True])
def test_the_header_is_read_without_a_library(tmp_path, implicit):
    path = write_dicom(tmp_path / "a.dcm", PICTURE, series=4)
    if implicit:
        path.write_bytes(as_implicit(path.read_bytes()))
    header = read_dicom_header(path)
    assert header.series.endswith(".4.0")
    assert (header.sop_class, header.image_type[2], header.is_level) == (WHOLE_SLIDE, "VOLUME", True)


def as_implicit(data):
    """Return the elements up to the series in implicit encoding, with a nested sequence before it."""
    start = data.index(b"\x08\x00\x08\x00CS")
    meta = data[:start].replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2\0\0\0\0\0")
    body, position = b"", start
    while data[position : position + 4] <= b"\x20\x00\x0e\x00" and data[position : position + 2] <= b"\x20\x00":
        (length,) = struct.unpack("<H", data[position + 6 : position + 8])
        value = data[position + 8 : position + 8 + length]
        body += data[position : position + 4] + struct.pack("<I", length) + value
        position += 8 + length
        if data[position : position + 4] == b"\x20\x00\x0d\x00":
            item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + b"\x20\x00\x0e\x00" + struct.pack("<I", 2) + b"9\0"
            ends = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
            body += struct.pack("<HHI", 0x0008, 0x1140, 0xFFFFFFFF) + item + ends
        if data[position : position + 4] == b"\x20\x00\x13\x00":
            break
    return meta + body + b"\x28\x00\x02\x00\x02\0\0\0\3\0"


def test_a_damaged_header_is_refused_by_name_and_hides_nothing(tmp_path):
    whole = write_dicom(tmp_path / "whole.dcm", PICTURE).read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:200])
    (tmp_path / "zeros.dcm").write_bytes(bytes(5000))
    files = find_slides(tmp_path)
    assert list(files.found) == ["cut", "whole", "zeros"]
    for name in ("cut", "zeros"):
        with pytest.raises(ValueError, match=rf"{name}\.dcm"):
            open_slide(files.found[name])


def test_a_slide_with_a_damaged_instance_is_not_read_from_its_other_levels(tmp_path):
    folder = write_dicom_slide(tmp_path / "case_7", PICTURE)
    data = (folder / "level_0.dcm").read_bytes()
    (folder / "level_0.dcm").write_bytes(data[:200])
    files = find_slides(tmp_path)
    assert not files.found
    assert "level_0.dcm in its folder is not a readable instance" in files.broken["case_7"]


@pytest.mark.parametrize(
    "name", ["multi_frame_jpeg2000_camelyon_challenge_image", "multi_frame_jpeg_camelyon_challenge_image"]
)
def test_real_dicom_slides_are_read(shared_data, tmp_path, name):
    shutil.copy(shared_data / "wsi_fixtures" / "dicom" / f"{name}.dcm", tmp_path)
    (path,) = find_slides(tmp_path).found.values()
    with open_slide(path) as slide:
        assert slide.stated_microns == pytest.approx((28.969, 28.968))
        assert slide.microns_per_pixel is None  # an overview: no microscope has such pixels
        assert slide.level_sizes in (((1696, 812),), ((1152, 700),))
    with pytest.raises(ValueError, match=r"28\.97 in the file is not that of a microscope: 0\.05 to 20"):
        cut_slide(path, TileOptions(microns_per_pixel=29))
    bag = cut_slide(path, TileOptions(level=0))
    assert bag.pixels.std() > 10


@pytest.mark.parametrize("name", ["sm_image_grayscale", "sm_image_jpegls"])
def test_real_dicom_that_openslide_does_not_read_is_refused_by_name(shared_data, name):
    with pytest.raises(
        ValueError,
        match=rf"{name}\.dcm is of a kind that OpenSlide does not read \(.*(BitsAllocated|transfer syntax).*; convert it",
    ):
        open_slide(shared_data / "wsi_fixtures" / "dicom" / f"{name}.dcm")


def test_a_scan_written_as_dicom_gives_the_tiles_of_the_scan(scan, tmp_path):
    with open_slide(scan) as slide:
        pixels = slide.read(0, 0, 0, *slide.level_sizes[0])
    write_dicom_slide(tmp_path / "scan", pixels, levels=2, microns=0.499, side=256)
    options = TileOptions(method="tissue", tile_size=128, num_tiles=8, microns_per_pixel=0.998)
    ours = cut_slide(find_slides(tmp_path).found["scan"], options)
    theirs = cut_slide(scan, options)
    assert (ours.level, ours.microns_per_pixel) == (1, pytest.approx(0.998, rel=1e-3))
    assert ours.downsample == pytest.approx(theirs.downsample, rel=1e-3)
    with open_slide(find_slides(tmp_path).found["scan"]) as slide:
        again = slide.read(0, 0, 0, *slide.level_sizes[0])
    assert again.shape == pixels.shape
    assert np.abs(again.astype(int) - pixels).mean() < 3
    assert abs(ours.pixels.mean() - theirs.pixels.mean()) < 12
