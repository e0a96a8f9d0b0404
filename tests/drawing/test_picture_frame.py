import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from milpath.drawing.picture_frame import (
    COLOUR_MAPS,
    INK,
    MARGIN,
    MAX_TITLE_WIDTH,
    colour_table,
    colours_of,
    content_origin,
    fit_text,
    font,
    frame,
    scale_bar,
)


@given(st.floats(0.05, 100), st.integers(60, 4000))
def test_a_scale_bar_is_as_long_as_it_says_and_fits(microns_per_pixel, width):
    length, words = scale_bar(microns_per_pixel, width)
    number, unit = words.split()
    microns = float(number) * (1000 if unit == "mm" else 1)
    assert length == pytest.approx(microns / microns_per_pixel, abs=0.5) or length == 1
    assert length <= width / 3 + 0.5
    assert f"{microns:e}"[0] in "125"


@pytest.mark.parametrize("microns_per_pixel", [0.0, -1.0, float("nan")])
def test_a_resolution_that_is_none_is_refused(microns_per_pixel):
    with pytest.raises(ValueError, match="microns_per_pixel must be positive"):
        scale_bar(microns_per_pixel, 100)


@pytest.mark.parametrize("name", COLOUR_MAPS)
def test_lightness_rises_along_every_colour_map(name):
    lightness = colour_table(name) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > -2).all()
    assert lightness[-1] - lightness[0] > 100


def test_a_rainbow_is_refused():
    with pytest.raises(ValueError, match="colour map 'jet' must be one of viridis"):
        colour_table("jet")


def test_values_outside_the_limits_take_the_nearer_end():
    table = colour_table("magma")
    found = colours_of(np.array([-1.0, 0.0, 0.5, 1.0, 9.0]), (0.0, 1.0), "magma")
    assert (found == table[[0, 0, 128, 255, 255]]).all()
    assert (colours_of(np.array([0.3]), (0.3, 0.3), "magma") == table[128]).all()


def test_long_and_strange_names_become_one_line_that_fits():
    line = fit_text("../" * 200 + "\n<script>", 300, font())
    assert font().getlength(line) <= 300
    assert "\n" not in line
    assert line.endswith("script>")
    assert fit_text("short", 300, font()) == "short"


def test_every_picture_says_what_it_must_not_be_used_for():
    content = np.full((60, 60, 3), 255, np.uint8)
    picture = np.asarray(frame(content))
    assert (picture[-40:] < 200).any(axis=2).sum() > 200


def test_the_title_of_a_narrow_picture_is_whole():
    title = "0018ae58b01bdadc8e347995b69f99aa · malignant 0.93 · all tissue"
    picture = frame(np.zeros((20, 30, 3), np.uint8), title)
    words = Image.new("RGB", picture.size, "white")
    ImageDraw.Draw(words).text((MARGIN, MARGIN), title, INK, font(bold=True))
    top = content_origin(title)[1]
    np.testing.assert_array_equal(np.asarray(picture)[:top], np.asarray(words)[:top])
    assert frame(np.zeros((20, 30, 3), np.uint8), title * 99).width <= MAX_TITLE_WIDTH + 2 * MARGIN
