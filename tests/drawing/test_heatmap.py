import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from milpath.drawing.heatmap import (
    attention_map,
    blend,
    blend_mask,
    category_colours,
    draw_beside_truth,
    draw_overlay,
    label_map,
    outline_tiles,
    tile_span,
)
from milpath.drawing.montage import TileRow, draw_extremes, draw_montage
from milpath.drawing.picture_frame import colours_of, content_origin
from milpath.drawing.weight_bars import draw_weights
from milpath.slides.tile_selection import cut_darkest

PANDA_SLIDE = "0018ae58b01bdadc8e347995b69f99aa"
SCALES = [1.0, 0.5, 0.25, 1 / 3, 0.127, 1.7]


@pytest.mark.parametrize("scale", SCALES)
def test_the_colour_of_a_tile_lands_on_its_pixels_and_nowhere_else(scale):
    height, width = round(900 * scale), round(1200 * scale)
    thumbnail = np.full((height, width, 3), 200, np.uint8)
    x, y = np.array([256, 512, 640]), np.array([128, 128, 600])
    weights = np.array([0.7, 0.2, 0.1])
    picture = blend(thumbnail, attention_map(weights, x, y, 128, scale, (height, width)), (0.0, 0.7), "viridis", 0.5)
    rows, columns = np.mgrid[:height, :width] + 0.5
    for weight, left, top in zip(weights, x, y, strict=True):
        inside = (columns >= left * scale) & (columns < (left + 128) * scale)
        inside &= (rows >= top * scale) & (rows < (top + 128) * scale)
        assert abs(inside.sum() - (128 * scale) ** 2) <= 4 * 128 * scale
        opacity = 0.5 * (0.25 + 0.75 * weight / 0.7)
        colour = colours_of(np.array(weight), (0.0, 0.7), "viridis")
        expected = np.round((1 - opacity) * 200 + opacity * colour.astype(float))
        assert (picture[inside] == expected).all()
        thumbnail[inside] = 0
    assert (picture[thumbnail[..., 0] == 200] == 200).all()


@pytest.mark.parametrize("scale", SCALES)
def test_a_tile_lies_where_its_tissue_is_at_every_scale(panda_folder, scale):
    with Image.open(panda_folder / "level2" / f"{PANDA_SLIDE}.png") as file:
        slide = np.asarray(file.convert("RGB"))
    tiles = cut_darkest(slide)
    size = round(slide.shape[1] * scale), round(slide.shape[0] * scale)
    thumbnail = np.asarray(Image.fromarray(slide).resize(size, Image.Resampling.BOX))
    # The weight of a tile is its mean brightness; read back from the map it must be that of the thumbnail below it.
    brightness = tiles.pixels.mean(axis=(1, 2, 3))
    values = attention_map(brightness, tiles.x, tiles.y, 128, scale, thumbnail.shape[:2])
    for number in range(len(brightness)):
        if tiles.x[number] < 0 or tiles.x[number] + 128 > slide.shape[1] or tiles.y[number] < 0:
            continue
        here = values == brightness[number]
        assert here.any()
        assert thumbnail[here].mean() == pytest.approx(brightness[number], abs=2.5)


@given(
    st.floats(0.01, 3.0),
    st.integers(1, 300),
    st.lists(st.integers(-2, 20), min_size=1, max_size=5, unique=True),
)
def test_neighbouring_tiles_share_no_pixel_and_leave_none_out(scale, tile_size, cells):
    if tile_size * scale < 1:
        return
    for cell in cells:
        first = tile_span(cell * tile_size, tile_size, scale, 10_000)
        second = tile_span((cell + 1) * tile_size, tile_size, scale, 10_000)
        assert first.stop == second.start


def test_a_tile_smaller_than_a_pixel_is_still_seen():
    assert np.isfinite(attention_map(np.ones(1), np.array([100]), np.array([100]), 10, 0.01, (5, 5))).sum() == 1


def test_overlapping_tiles_give_their_mean_and_padding_is_cut_off():
    values = attention_map(np.array([0.2, 0.8]), np.array([-2, 1]), np.array([-2, 1]), 4, 1.0, (6, 6))
    assert values[0, 0] == 0.2
    assert values[1, 1] == pytest.approx(0.5)
    assert values[4, 4] == 0.8
    assert np.isnan(values[5, 5])


def test_a_tile_that_lies_nowhere_is_not_drawn():
    nowhere = np.array([np.nan])
    assert np.isnan(attention_map(np.ones(1), nowhere, nowhere, 4, 1.0, (6, 6))).all()
    white = np.full((6, 6, 3), 255, np.uint8)
    assert (outline_tiles(white, nowhere, nowhere, 4, 1.0) == 255).all()


def test_the_overlay_holds_the_thumbnail_unscaled_at_its_origin():
    thumbnail = np.random.default_rng(0).integers(0, 255, (120, 200, 3), np.uint8)
    overlay = draw_overlay(thumbnail, np.array([1.0]), np.array([64]), np.array([32]), 32, 1.0, title="slide")
    left, top = content_origin("slide")
    found = np.asarray(overlay)[top : top + 120, left : left + 200]
    outside = np.ones((120, 200), bool)
    outside[32:64, 64:96] = False
    assert (found[outside] == thumbnail[outside]).all()
    assert (found[~outside] != thumbnail[~outside]).any()


def test_the_colour_bar_of_a_dense_map_ends_at_what_is_drawn():
    white = np.full((30, 90, 3), 255, np.uint8)
    x, y = np.array([0, 0, 60.0]), np.zeros(3)
    picture = np.asarray(draw_overlay(white, np.array([0.9, 0.0, 0.1]), x, y, 30, 1.0, alpha=1.0, outlines=False))
    left, top = content_origin()
    # Two of three tiles overlap wholly; the brightest that is drawn is their mean, under twice the equal share of 1/3.
    expected = colours_of(np.array([0.45, 0.1]), (0, 2 / 3), "viridis")
    opacity = 0.25 + 0.75 * np.array([0.45, 0.1])[:, None] * 3 / 2
    found = picture[top + 15, [left + 15, left + 75]]
    assert np.abs(found - ((1 - opacity) * 255 + opacity * expected)).max() <= 1


def test_outlines_run_along_the_inner_edge():
    picture = outline_tiles(np.full((20, 20, 3), 255, np.uint8), np.array([4]), np.array([6]), 8, 1.0)
    dark = (picture != 255).all(axis=2)
    assert dark[6, 4:12].all()
    assert dark[13, 4:12].all()
    assert dark[6:14, 4].all()
    assert dark[6:14, 11].all()
    assert dark.sum() == 28


@pytest.mark.parametrize("tissue", [0, 60, 120, 200, 255])
def test_outlines_are_seen_on_dark_tissue_and_on_bright(tissue):
    plain = np.full((40, 40, 3), tissue, np.uint8)
    picture = outline_tiles(plain, np.array([8]), np.array([8]), 24, 1.0)
    assert np.abs(picture.astype(int) - tissue).max() > 100


def test_the_mask_of_a_slide_lies_on_its_tissue(panda_folder):
    with Image.open(panda_folder / "level2" / f"{PANDA_SLIDE}.png") as file:
        slide = np.asarray(file.convert("RGB"))
    with Image.open(panda_folder / "masks_level2" / f"{PANDA_SLIDE}_mask.png") as file:
        mask = np.asarray(file)
    half = np.asarray(Image.fromarray(slide).resize((slide.shape[1] // 2, slide.shape[0] // 2), Image.Resampling.BOX))
    picture = blend_mask(half, mask, {1: "stroma", 4: "Gleason 4"}, alpha=1.0)
    stroma, gleason = (np.array(colour) for colour in category_colours(2))
    middle = mask[1::2, 1::2]
    assert ((picture == gleason).all(axis=2) == (middle == 4)).mean() > 0.999
    assert ((picture == stroma).all(axis=2) == (middle == 1)).mean() > 0.999
    assert half[middle == 4].mean() < half[middle == 0].mean() - 40


def test_truth_stands_beside_attention_without_covering_it():
    thumbnail = np.full((100, 150, 3), 240, np.uint8)
    x, y = np.array([0, 50]), np.array([0, 50])
    overlay = draw_overlay(thumbnail, np.array([0.9, 0.1]), x, y, 50, 1.0, title="slide")
    truth = label_map(np.array([1, 0]), x, y, 50, 1.0, (100, 150))
    assert (truth == 1).sum() == (truth == 0).sum() == 2500
    both = draw_beside_truth(overlay, thumbnail, truth, {1: "lesion"})
    assert both.width > overlay.width
    assert (np.asarray(both)[: overlay.height, : overlay.width] == np.asarray(overlay)).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: attention_map(np.ones(2), np.ones(1), np.ones(1), 4, 1.0, (6, 6)), "2 weights need as many positions"),
        (lambda: attention_map(np.ones(1), np.ones(1), np.ones(1), 4, 0.0, (6, 6)), "must be positive"),
        (lambda: blend(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), (0, 1), "viridis", 2.0), "alpha must be in"),
        (lambda: category_colours(9), "cannot be distinguished"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "draw",
    [
        lambda weights: attention_map(weights, np.arange(3), np.zeros(3), 1, 1.0, (1, 3)),
        lambda weights: draw_overlay(np.zeros((4, 4, 3), np.uint8), weights, np.arange(3), np.zeros(3), 1, 1.0),
        lambda weights: draw_montage(np.zeros((3, 8, 8, 3), np.uint8), weights),
        lambda weights: draw_montage(np.zeros((3, 8, 8, 3), np.uint8), weights, limits=(0.0, 1.0)),
        lambda weights: draw_extremes([TileRow("most", np.zeros((3, 8, 8, 3), np.uint8), weights, ["a", "b", "c"])]),
        lambda weights: draw_weights(weights),
    ],
)
def test_no_picture_shows_attention_that_is_no_number(draw, value):
    with pytest.raises(ValueError, match=rf"attention of tile 1 is {value}; it must be finite"):
        draw(np.array([0.5, value, 0.5]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thumbnail": np.zeros((8, 8, 3))}, r"thumbnail must be uint8 \(height, width, 3\), not float64"),
        ({"thumbnail": np.zeros((8, 8), np.uint8)}, "thumbnail must be uint8"),
        ({"x": [0, 4, 8]}, r"must be \(tiles,\) of the same length, not \(2,\), \(3,\) and \(2,\)"),
        ({"weights": [[0.5, 0.5]]}, "of the same length"),
        ({"scale": 0.0}, "tile_size and scale must be above 0, not 4 and 0.0"),
        ({"tile_size": float("nan")}, "must be above 0"),
        ({"weights": [0.5, float("nan")]}, "finite"),
    ],
)
def test_arrays_that_do_not_fit_are_not_drawn(change, message):
    arrays = {"thumbnail": np.zeros((8, 8, 3), np.uint8), "weights": [0.6, 0.4], "x": [0, 4], "y": [0, 4]}
    given = arrays | {"tile_size": 4, "scale": 1.0} | change
    with pytest.raises(ValueError, match=message) as caught:
        draw_overlay(**given)
    assert "\n" not in str(caught.value)
    assert draw_overlay(**arrays, tile_size=4, scale=1.0).mode == "RGB"  # lists are as good as arrays


def test_the_warning_of_a_network_stands_below_its_picture():
    arrays = {"thumbnail": np.zeros((90, 90, 3), np.uint8), "weights": [0.6, 0.4], "x": [0, 4], "y": [0, 4]}
    plain = draw_overlay(**arrays, tile_size=4, scale=1.0)
    warned = draw_overlay(**arrays, tile_size=4, scale=1.0, warning="trained on synthetic slides")
    assert warned.height > plain.height
    assert (np.asarray(warned)[: plain.height, : plain.width] == np.asarray(plain)).all()
