import numpy as np
import pytest
import tifffile
from PIL import Image

from milpath.slides import slide_view as view_module
from milpath.slides.cut_slide import cut_slide
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_view import SlideView, thumbnail, view_at, view_slide
from milpath.slides.tiling_options import TileOptions
from tests.pyramids import tissue, write_pyramid

PICTURE = tissue(120, 90)


@pytest.fixture
def slide(tmp_path):
    with open_slide(write_pyramid(tmp_path / "a.tiff", PICTURE)) as slide:
        yield slide


def test_what_lies_outside_is_white(slide):
    view = SlideView(slide, 2)
    region = view.read(-10, -20, 110, 150)
    assert region.shape == (150, 110, 3)
    np.testing.assert_array_equal(region[20:140, 10:100], PICTURE)
    region[20:140, 10:100] = 255
    assert (region == 255).all()
    assert (view.read(500, 500, 4, 4) == 255).all()


@pytest.mark.parametrize(
    ("microns", "level", "scale"), [(0.5, 0, 1), (1.0, 1, 1), (1.005, 1, 1), (1.5, 1, 1.5), (9.0, 2, 4.5)]
)
def test_the_smallest_level_that_suffices_is_read(slide, microns, level, scale):
    view = view_slide(slide, TileOptions(microns_per_pixel=microns))
    assert view.level == level
    assert view.scale == pytest.approx(scale)
    assert view.downsample == pytest.approx(2**level * scale)
    assert view.microns_per_pixel == pytest.approx(0.5 * 2**level * scale)
    assert view.size.width == int(90 * 4 / view.downsample)


def test_a_resolution_that_the_slide_does_not_hold_is_refused(slide):
    with pytest.raises(ValueError, match=r"a\.tiff has 0\.5 microns per pixel at its largest level"):
        view_slide(slide, TileOptions(microns_per_pixel=0.25))


@pytest.mark.parametrize("scale", [1.3, 2.0, 3.7, 6.0])
def test_a_region_resampled_alone_is_that_of_the_whole_resampled(slide, scale, monkeypatch):
    view = SlideView(slide, 1, scale)
    whole = view.read(0, 0, *view.size)
    assert np.abs(view.read(7, 5, 20, 20).astype(int) - whole[5:25, 7:27]).max() <= 1
    # In small steps, as for a slide that does not fit into memory.
    monkeypatch.setattr(view_module, "_MAX_SOURCE_SIDE", 32)
    stepwise = view.read(0, 0, *view.size)
    assert np.abs(stepwise.astype(int) - whole).max() <= 1


def test_resampling_keeps_the_mean(slide):
    view = SlideView(slide, 0, 4.0)
    resampled = view.read(0, 0, *view.size)
    assert resampled.shape == PICTURE.shape
    np.testing.assert_allclose(resampled.mean(axis=(0, 1)), PICTURE.mean(axis=(0, 1)), atol=0.5)


def test_a_thumbnail_shows_the_whole_slide(slide):
    picture, downsample = thumbnail(slide, 30)
    assert picture.shape == (30, 22, 3)
    assert downsample == pytest.approx(16.0)
    expected = np.asarray(Image.fromarray(PICTURE).resize((22, 30), Image.Resampling.BOX))
    assert np.abs(picture.astype(float) - expected).mean() < 12
    small, downsample = thumbnail(slide, 5000)
    assert (small.shape, downsample) == ((480, 360, 3), 1.0)


def test_a_small_level_is_decoded_once(slide, monkeypatch):
    decoded = []
    original = type(slide).read_region
    monkeypatch.setattr(type(slide), "read_region", lambda *words: decoded.append(words[1]) or original(*words))
    view = view_at(slide, 4.0)
    for _ in range(3):
        view.read(3, 3, 10, 10)
    assert decoded == [2]


@pytest.mark.parametrize(
    ("stated", "note"),
    [(0.25, ["the stated 0.25 microns per pixel are used instead of the 0.5 in the file"]), (0.501, []), (None, [])],
)
def test_what_the_user_states_wins_and_both_values_are_noted(slide, stated, note):
    view = view_slide(slide, TileOptions(microns_per_pixel=1.0, slide_microns_per_pixel=stated))
    assert view.downsample == pytest.approx(1.0 / (stated or 0.5), rel=0.01)
    assert slide.notes == note


def scan_of(path, across, down):
    """Write a slide whose tags state the width and height of a pixel in microns."""
    import tifffile

    words = {"resolution": (10_000 / across, 10_000 / down), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, PICTURE, photometric="rgb", metadata=None, **words)
    return path


@pytest.mark.parametrize("microns", [42.33, 352.8, 0.0423, 20.5])
def test_a_resolution_that_no_microscope_has_counts_as_not_stated(tmp_path, microns):
    with open_slide(scan_of(tmp_path / "print.tif", microns, microns)) as slide:
        assert slide.microns_per_pixel is None
        with pytest.raises(
            ValueError, match=r"does not state its microns per pixel \(.* in the file is not that of a microscope"
        ):
            view_slide(slide, TileOptions(microns_per_pixel=1.0))
        assert view_slide(slide, TileOptions()).microns_per_pixel is None
        view = view_slide(slide, TileOptions(microns_per_pixel=1.0, slide_microns_per_pixel=0.5))
        assert (view.downsample, view.microns_per_pixel) == (2.0, 1.0)


def test_pixels_that_are_not_square_are_refused_and_rounding_is_not(tmp_path):
    path = scan_of(tmp_path / "flat.tif", 0.25, 0.5)
    for options in (TileOptions(), TileOptions(microns_per_pixel=1.0)):
        with (
            open_slide(path) as slide,
            pytest.raises(ValueError, match=r"flat\.tif has pixels of 0\.25 x 0\.5 microns, which are not square"),
        ):
            view_slide(slide, options)
    with open_slide(scan_of(tmp_path / "square.tif", 0.2305, 0.2308)) as slide:
        assert view_slide(slide, TileOptions()).microns_per_pixel == pytest.approx(0.2305, rel=1e-3)


def test_what_was_set_for_the_slides_of_a_training_does_not_override_other_files(slide, tmp_path):
    trained = TileOptions(microns_per_pixel=1.0, slide_microns_per_pixel=0.25)
    options = TileOptions.from_tiling(trained.to_tiling())
    assert view_slide(slide, options).downsample == 2.0  # the file states 0.5
    Image.fromarray(PICTURE).save(tmp_path / "silent.png")
    with open_slide(tmp_path / "silent.png") as silent:
        assert view_slide(silent, options).downsample == 4.0


@pytest.mark.parametrize("turned", [False, True])
def test_the_end_of_a_very_long_slide_is_where_its_pixels_are(tmp_path, turned):
    # Halved until its short side has a pixel, whose rounding says nothing about the scale.
    levels = [np.full((300, 20_003, 3), 245, np.uint8)]
    levels[0][100:228, 19_503:19_631] = (150, 60, 140)
    while min(levels[-1].shape[:2]) > 1:
        height, width = levels[-1].shape[:2]
        small = Image.fromarray(levels[-1]).resize((width // 2, height // 2), Image.Resampling.BOX)
        levels.append(np.asarray(small))
    with tifffile.TiffWriter(tmp_path / "long.tif") as writer:
        for level in levels:
            pixels = level.swapaxes(0, 1) if turned else level
            writer.write(pixels, tile=(64, 64), photometric="rgb", compression="zlib", metadata=None)
    for max_size in (384, 700, 1000):
        with open_slide(tmp_path / "long.tif") as slide:
            picture, downsample = thumbnail(slide, max_size)
        darkness = 245.0 - picture.min(axis=2).sum(axis=int(turned)) / picture.shape[int(turned)]
        darkness[darkness < 0.1 * darkness.max()] = 0
        assert len(darkness) == max_size
        middle = (np.arange(max_size) + 0.5) @ darkness / darkness.sum() * downsample
        assert middle == pytest.approx(19_567, abs=0.5 * downsample)
    bag = cut_slide(tmp_path / "long.tif", TileOptions(method="tissue", num_tiles=1, level=0, tile_size=128))
    # Steps of the map of tissue are 16 px.
    assert (bag.pixels[0].min(axis=2) < 200).mean() == pytest.approx(bag.places.tissue[0], abs=0.3)
