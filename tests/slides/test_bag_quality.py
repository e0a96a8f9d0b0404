import numpy as np
import pytest
from PIL import Image

from milpath.slides.bag_quality import (
    BLURRED,
    INK,
    LITTLE_TISSUE,
    NO_TISSUE,
    NOT_TISSUE,
    WARNINGS,
    BagQuality,
    measure_bag,
)
from milpath.slides.cut_slide import choose_places, cut_slide
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_view import view_slide
from milpath.slides.tiling_options import TileOptions
from milpath.slides.tissue import find_tissue
from tests.pyramids import tissue
from tests.tissue_situations import draw_situation

DARKEST = TileOptions(tile_size=64, num_tiles=12, level=0)


def quality_of(path, options):
    with open_slide(path) as slide:
        view = view_slide(slide, options)
        places = choose_places(view, options)
        return measure_bag(view, places, options.tile_size, find_tissue(view, options)), places


@pytest.fixture
def write(tmp_path):
    def write(name):
        picture, truth = draw_situation(name)
        Image.fromarray(picture).save(tmp_path / "slide.png")
        return tmp_path / "slide.png", truth

    return write


@pytest.mark.parametrize(
    "name", ["H&E", "pale beside a blue pen", "blue pen", "tinted glass", "counterstain with one brown spot"]
)
def test_shares_are_those_of_the_drawn_tissue(write, name):
    path, truth = write(name)
    quality, places = quality_of(path, TileOptions("tissue", 9, 64, 0))
    inside = np.zeros(truth.shape, bool)
    for x, y in zip(places.x, places.y, strict=True):
        inside[max(y, 0) : y + 64, max(x, 0) : x + 64] = True
    assert quality.slide_tissue == pytest.approx(truth.mean(), abs=0.01)
    assert quality.tissue_in_bag == pytest.approx((truth & inside).sum() / truth.sum(), abs=0.05)
    assert quality.bag_tissue == pytest.approx((truth & inside).sum() / (9 * 64 * 64), abs=0.03)
    assert quality.num_tiles == 9
    assert quality.bag_marker < 0.02
    assert (quality.warnings == [LITTLE_TISSUE]) == (quality.tissue_in_bag < 0.2)


@pytest.mark.parametrize("name", ["blue pen", "black pen"])
def test_dark_ink_is_said_to_be_the_choice_of_the_published_rule(write, name):
    quality, _ = quality_of(write(name)[0], DARKEST)
    assert quality.mostly_not_tissue or quality.bag_marker > 0.1
    assert INK in quality.warnings
    without, _ = quality_of(write(name)[0], TileOptions(tile_size=64, num_tiles=12, level=0, background="mask"))
    assert without.tissue_in_bag > 0.6
    assert without.bag_marker < 0.05
    assert without.warnings == []


def test_black_padding_is_said_to_be_the_cause_and_a_mask_to_be_the_way_out(write):
    path, _ = write("black padding")
    with pytest.raises(ValueError) as caught:
        cut_slide(path, DARKEST)
    assert str(caught.value) == (
        "the darkest tiles of slide.png are black padding, not tissue (values from 0 to 0); add background=mask, or use "
        "method=tissue, where slides are tiled or extracted"
    )
    bag = cut_slide(path, TileOptions(tile_size=64, num_tiles=12, level=0, background="mask"))
    assert (bag.pixels[bag.places.number >= 0].reshape(-1, 64 * 64 * 3) > 40).mean() > 0.95


def test_grey_padding_is_named_too_and_a_slide_of_one_grey_is_blank(tmp_path):
    picture = tissue(512, 512)
    picture[:, :256] = 90
    Image.fromarray(picture).save(tmp_path / "slide.png")
    with pytest.raises(ValueError, match=r"are grey padding, not tissue \(values from 90 to 90\); add background=mask"):
        cut_slide(tmp_path / "slide.png", DARKEST)
    bag = cut_slide(tmp_path / "slide.png", TileOptions(tile_size=64, num_tiles=4, level=0, background="mask"))
    assert (bag.places.x >= 256 - 64).all()
    Image.fromarray(np.full_like(picture, 90)).save(tmp_path / "slide.png")
    with pytest.raises(ValueError, match=r"slide\.png is blank"):
        cut_slide(tmp_path / "slide.png", DARKEST)


def test_tiles_over_the_edge_and_filler_tiles_are_counted(tmp_path):
    picture = np.full((100, 100, 3), 243, np.uint8)
    picture[20:80, 20:80] = (200, 120, 170)
    Image.fromarray(picture).save(tmp_path / "slide.png")
    quality, _ = quality_of(tmp_path / "slide.png", TileOptions(tile_size=64, num_tiles=7, level=0))
    assert (quality.num_tiles, quality.num_filler, quality.num_partly_outside) == (4, 3, 4)
    quality, _ = quality_of(tmp_path / "slide.png", TileOptions(tile_size=50, num_tiles=7, level=0))
    assert (quality.num_tiles, quality.num_filler, quality.num_partly_outside) == (4, 3, 0)


@pytest.mark.parametrize("method", ["darkest", "grid", "tissue"])
def test_tiles_with_too_little_of_the_slide_are_left_out(tmp_path, method):
    picture = np.full((100, 228, 3), 243, np.uint8)
    picture[:, :] = np.random.default_rng(0).integers((180, 80, 150), (230, 140, 200), (100, 228, 3))
    Image.fromarray(picture).save(tmp_path / "slide.png")
    for least, number in ((0.0, {8}), (0.7, {4, 3}), (0.5, range(4, 9))):
        options = TileOptions(method, None, 64, 0, min_inside=least)
        places = cut_slide(tmp_path / "slide.png", options).places
        width = (places.x + 64).clip(0, 228) - places.x.clip(0, 228)
        height = (places.y + 64).clip(0, 100) - places.y.clip(0, 100)
        assert (width * height / 64**2 >= least).all()
        if method != "tissue":
            assert len(places.number) in number
    with pytest.raises(ValueError, match="min_inside|min_tissue"):
        cut_slide(tmp_path / "slide.png", TileOptions(method, None, 128, 0, min_inside=0.9))


def test_what_looks_wrong_is_named():
    fine = {"num_tiles": 16, "slide_tissue": 0.2, "slide_marker": 0.0, "slide_black": 0.0, "slide_dense": 0.0, "tissue_in_bag": 0.9,
            "bag_tissue": 0.8, "bag_marker": 0.0, "bag_black": 0.0, "num_without_tissue": 0, "num_partly_outside": 0,
            "num_filler": 0, "blur": 0.3}  # fmt: skip
    assert BagQuality(**fine).warnings == []
    for changed, warning in (
        ({"slide_tissue": 0.0, "tissue_in_bag": None}, NO_TISSUE),
        ({"tissue_in_bag": 0.19}, LITTLE_TISSUE),
        ({"num_without_tissue": 9}, NOT_TISSUE),
        ({"bag_tissue": 0.2, "bag_black": 0.3}, NOT_TISSUE),
        ({"bag_marker": 0.11}, INK),
        ({"blur": 0.7}, BLURRED),
    ):
        assert BagQuality(**fine | changed).warnings == [warning]
    assert WARNINGS[LITTLE_TISSUE] == "less than 20 % of their tissue is in the bag"
    assert BagQuality.from_record(BagQuality(**fine).to_record()) == BagQuality(**fine)


def test_blurred_slides_are_flagged(write):
    quality, _ = quality_of(write("blurred")[0], DARKEST)
    assert BLURRED in quality.warnings
