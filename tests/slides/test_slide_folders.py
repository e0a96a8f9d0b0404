"""What a folder of slides holds beside them: parts of slides, formats that are not read, folders that cannot be read."""

import os
import zlib

import numpy as np
import pytest
from PIL import Image

from milpath.data.sources.features.feature_folder import holds_features
from milpath.slides.cut_slide import cut_slide
from milpath.slides.readers.image_header import PNG_SIGNATURE
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.readers.slide_formats import OTHER_FORMATS
from milpath.slides.slide_files import find_slides
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_plan import plan_slides
from tests.mirax import write_mirax
from tests.nobody import hidden_from_user
from tests.pyramids import tissue, write_pyramid

PICTURE = tissue(512, 512)


@pytest.fixture
def mirax(tmp_path):
    """An MRXS slide whose own file is a JPEG thumbnail, as scanners write it."""
    path = write_mirax(tmp_path / "slides/case.mrxs", PICTURE)
    Image.fromarray(PICTURE).reduce(8).save(path, "JPEG")
    return path


def test_mrxs_is_read_from_its_folder_though_its_own_file_is_a_picture(mirax):
    with open_slide(mirax) as slide:
        assert len(slide.level_sizes) == 3
        assert slide.microns_per_pixel == 0.5
        left, top = slide.bounds_offset
        assert (left, top) == (512, 256)
        pixels = slide.read(0, left, top, 512, 512)
    assert np.abs(pixels.astype(int) - PICTURE).mean() < 6


def test_the_data_of_mrxs_are_neither_slides_nor_strangers(mirax):
    files = find_slides(mirax.parent)
    assert (list(files.found), files.ignored, files.broken) == (["case"], [], {})


def test_mrxs_without_its_folder_says_so(mirax):
    folder = mirax.with_suffix("")
    (folder / "Slidedat.ini").rename(folder.parent / "elsewhere.ini")
    with pytest.raises(ValueError, match=r"case\.mrxs lacks case/Slidedat\.ini; copy the whole folder again"):
        open_slide(mirax)
    folder.rename(folder.parent / "moved")
    with pytest.raises(ValueError, match=r"case\.mrxs lacks the folder case beside it, which holds the slide"):
        cut_slide(mirax)


def test_the_pictures_of_a_vms_slide_are_not_slides(tmp_path):
    for name in ("a.jpg", "a_map2.jpg", "a_macro.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "a.vms").write_text(
        "[Virtual Microscope Specimen]\nImageFile=a.jpg\nMapFile=a_map2.jpg\nMacroImage=a_macro.jpg\n"
    )
    assert list(find_slides(tmp_path).found) == ["a", "other"]


@pytest.mark.parametrize("suffix", OTHER_FORMATS)
def test_a_format_that_is_not_read_is_refused_with_what_converts_it(tmp_path, suffix):
    path = tmp_path / f"case{suffix}"
    path.write_bytes(b"something of a vendor")
    write_pyramid(tmp_path / "good.tif", PICTURE[:64, :64], factors=(1,))
    files = find_slides(tmp_path)
    assert list(files.found) == ["good"]
    (reason,) = files.broken.values()
    assert f"case{suffix} is a" in reason
    assert "convert it to" in reason
    with pytest.raises(ValueError, match="which is not read; convert it to"):
        open_slide(path)
    (tmp_path / "good.tif").unlink()
    with pytest.raises(FileNotFoundError, match=r"no slide to cut in .*which is not read; convert it to"):
        plan_slides(tmp_path, None, None, tmp_path / "out")


def test_a_format_that_is_not_read_is_recognised_by_its_content(tmp_path):
    (tmp_path / "case.tif").write_bytes(b"\xda\xce\xbe\x0a" + bytes(100))
    with pytest.raises(ValueError, match=r"case\.tif is a Nikon ND2 file, which is not read"):
        open_slide(tmp_path / "case.tif")


@pytest.mark.parametrize(
    ("original", "named"), [("case.vsi", "case.vsi is an Olympus VSI"), ("case.czi", "case.czi is left out")]
)
def test_a_converted_slide_beside_its_original_is_read_and_the_original_is_named(tmp_path, original, named):
    (tmp_path / original).write_bytes(b"ZISRAWFILE")
    write_pyramid(tmp_path / "case.tif", PICTURE[:64, :64], factors=(1,))
    plan = plan_slides(tmp_path, None, None, tmp_path / "out")
    assert list(plan.files) == ["case"]
    assert any(named in note and "taken from case.tif" in note for note in plan.notes)


def test_files_without_the_suffix_of_a_slide_are_counted_in_plain_english(tmp_path):
    write_pyramid(tmp_path / "case.tif", PICTURE[:64, :64], factors=(1,))
    (tmp_path / "README.md").touch()
    (note,) = plan_slides(tmp_path, None, None, tmp_path / "out").notes
    assert note == f"1 file in {tmp_path} does not have the suffix of a slide: 'README.md'"
    (tmp_path / "notes.txt").touch()
    (note,) = plan_slides(tmp_path, None, None, tmp_path / "out").notes
    assert note == f"2 files in {tmp_path} do not have the suffix of a slide: 'README.md', 'notes.txt'"


def test_pictures_that_milpath_wrote_among_the_slides_are_no_slides(tmp_path):
    picture = Image.fromarray(PICTURE[:64, :64])
    write_pyramid(tmp_path / "case.tif", PICTURE[:64, :64], factors=(1,))
    for marker, made in (
        ("store/store.json", ("store/overview/sheet_0001.jpg", "store/png/case_0.png")),
        ("predictions/prediction.json", ("predictions/pictures/case_overlay.png", "predictions/dense/case.tif")),
        ("runs/first/provenance.json", ("runs/first/report_files/case_montage.jpg",)),
    ):
        for name in made:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            picture.save(tmp_path / name)
        (tmp_path / marker).touch()
    write_pyramid(tmp_path / "predictions/other.tif", PICTURE[:64, :64], factors=(1,))
    picture.save(tmp_path / "mine.png")
    (tmp_path / "overview").mkdir()
    picture.save(tmp_path / "overview/own.png")
    assert sorted(find_slides(tmp_path).found) == ["case", "mine", "other", "own"]


def test_a_folder_of_slides_that_are_all_refused_is_not_called_the_wrong_folder(tmp_path):
    for suffix in (".tif", ".tiff"):
        write_pyramid(tmp_path / f"case{suffix}", PICTURE[:64, :64], factors=(1,))
    with pytest.raises(FileNotFoundError) as error:
        plan_slides(tmp_path, None, None, tmp_path / "out")
    assert "case.tif" in str(error.value)
    assert str(error.value).endswith("rename or remove all but one)")
    assert "give the folder" not in str(error.value)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="a system without users")
@pytest.mark.parametrize("search", [find_slides, holds_features])
def test_a_folder_that_cannot_be_read_is_an_error_by_name(tmp_path, search):
    write_pyramid(tmp_path / "slides/a.tif", PICTURE[:64, :64], factors=(1,))
    hidden = tmp_path / "slides/hidden"
    hidden.mkdir()
    with (
        hidden_from_user(hidden),
        pytest.raises(OSError, match=r"the folder .*hidden cannot be read \(Permission denied\)"),
    ):
        search(tmp_path / "slides")


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("choice", [{}, {"background": "mask"}, {"method": "tissue"}, {"method": "grid"}], ids=str)
def test_few_bits_in_sixteen_are_named_and_not_called_blank_or_ink(tmp_path, bits, choice):
    options = TileOptions(tile_size=64, **({"num_tiles": 4} | choice if choice.get("method") != "grid" else choice))
    pixels = (PICTURE.astype(np.uint16) << (bits - 8)) | (3 if bits > 8 else 0)
    path = write_pyramid(tmp_path / "a.tif", pixels, factors=(1,))
    with pytest.raises(
        ValueError,
        match=rf"the 16-bit values of a\.tif end at \d+: they have {bits} bits .*out\.tif {2 ** (16 - bits)} 0",
    ):
        cut_slide(path, options)
    full = write_pyramid(tmp_path / "b.tif", PICTURE.astype(np.uint16) * 257, factors=(1,))
    assert cut_slide(full, options).pixels.max() == 255


@pytest.mark.parametrize(("channels", "colour"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_a_picture_of_twelve_bits_is_named_too(tmp_path, channels, colour):
    pixels = np.repeat(PICTURE[..., :1], channels, axis=2)
    (tmp_path / "few.png").write_bytes(_sixteen_bit_png((pixels.astype(np.uint16) << 4) | 3, colour))
    with pytest.raises(ValueError, match=r"the 16-bit values of few\.png end at \d+: they have 12 bits"):
        cut_slide(tmp_path / "few.png", TileOptions(tile_size=64, num_tiles=4))
    if channels % 2:
        (tmp_path / "full.png").write_bytes(_sixteen_bit_png(pixels.astype(np.uint16) * 257, colour))
        assert cut_slide(tmp_path / "full.png", TileOptions(tile_size=64, num_tiles=4)).pixels.max() == 255


def _sixteen_bit_png(pixels: np.ndarray, colour: int) -> bytes:
    """Return a PNG of 16 bits; Pillow writes them for grey alone."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)

    height, width = pixels.shape[:2]
    header = width.to_bytes(4) + height.to_bytes(4) + bytes([16, colour, 0, 0, 0])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
