import numpy as np
import pytest
from PIL import Image, ImageDraw

from milpath.drawing.overview import COLUMNS, ROWS, WORDS_HEIGHT, draw_choice, draw_sheet, encode_picture
from milpath.drawing.picture_frame import FAINT, RESEARCH_USE_ONLY, font
from milpath.slides.cut_slide import choose_places
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_view import view_slide
from milpath.slides.tiling_options import TileOptions
from tests.pyramids import write_pyramid

PINK = (200, 100, 160)


def test_chosen_tiles_are_outlined_in_full_strength_and_the_rest_is_faint(tmp_path):
    picture = np.full((256, 256, 3), 255, np.uint8)
    picture[64:128, 128:192] = PINK  # one tile of the grid
    picture[200:230, 10:40] = PINK  # less of it: not chosen
    options = TileOptions(tile_size=64, num_tiles=1)
    with open_slide(write_pyramid(tmp_path / "a.tiff", picture, factors=(4, 1))) as slide:
        view = view_slide(slide, options)
        drawn = draw_choice(view, choose_places(view, options), options.tile_size, max_size=256)
    assert drawn.shape == (256, 256, 3)
    assert (drawn[70:122, 134:186] == PINK).all()
    edges = np.stack([drawn[64:67, 128:192].min(axis=(0, 2)), drawn[64:128, 128:131].min(axis=(1, 2))])
    assert edges.max() < 100, "the outline is dark"
    assert drawn[205:225, 15:35].min() > 190, "what was not chosen is faint"
    assert (drawn[:50, :50] == 255).all()


def test_white_tiles_that_fill_the_bag_up_are_drawn_nowhere(tmp_path):
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[20:40, 20:40] = PINK
    path = write_pyramid(tmp_path / "a.tiff", picture, factors=(1,))
    with open_slide(path) as slide:
        for number in (1, 5):
            options = TileOptions(tile_size=64, num_tiles=number)
            view = view_slide(slide, options)
            drawn = draw_choice(view, choose_places(view, options), 64)
            if number == 1:
                alone = drawn
    np.testing.assert_array_equal(drawn, alone)


@pytest.mark.parametrize(("number", "rows", "columns"), [(1, 1, 1), (7, 2, 6), (ROWS * COLUMNS, ROWS, COLUMNS)])
def test_a_sheet_has_the_picture_of_each_slide_under_its_name(number, rows, columns):
    data = encode_picture(np.full((100, 80, 3), PINK, np.uint8))
    sheet = np.asarray(draw_sheet([(f"<slide> {n} ü" * 9, ("16 tiles", "isup_grade 4"), data) for n in range(number)]))
    height, width = (sheet.shape[0] - WORDS_HEIGHT) // rows, sheet.shape[1] // columns
    pink = (np.abs(sheet.astype(int) - PINK) < 12).all(axis=2)
    dark = sheet.max(axis=2) < 110
    for cell in range(number):
        row, column = divmod(cell, columns)
        where = slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)
        assert 0.95 * 8000 < pink[where].sum() < 1.05 * 8000
        assert dark[where][: height // 4].any(), "its name"


def test_every_sheet_says_that_it_is_for_research_only():
    data = encode_picture(np.full((10, 10, 3), PINK, np.uint8))
    sheet = draw_sheet([("slide", (), data)])
    words = Image.new("RGB", sheet.size, "white")
    ImageDraw.Draw(words).text((8, sheet.height - WORDS_HEIGHT + 2), RESEARCH_USE_ONLY, FAINT, font(12))
    np.testing.assert_array_equal(np.asarray(sheet)[-WORDS_HEIGHT:], np.asarray(words)[-WORDS_HEIGHT:])
    assert (np.asarray(words)[-WORDS_HEIGHT:] < 128).any()
