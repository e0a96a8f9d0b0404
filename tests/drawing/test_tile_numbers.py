import numpy as np
from PIL import ImageChops

from milpath.drawing.heatmap import draw_overlay
from milpath.drawing.tile_numbers import numbers_of_top_tiles, write_numbers


def test_a_number_is_written_on_the_tile_that_it_names():
    weights, x, y = np.array([0.1, 0.7, 0.2]), np.array([0.0, 100.0, np.nan]), np.array([0.0, 100.0, np.nan])
    numbers = numbers_of_top_tiles(weights, 2)
    assert numbers == {1: "#1", 2: "#2"}
    plain, numbered = (
        draw_overlay(np.full((200, 200, 3), 200, np.uint8), weights, x, y, 100, 1.0, numbers=each)
        for each in ({}, numbers)
    )
    left, top, right, bottom = ImageChops.difference(plain, numbered).getbbox()
    assert right - left < 40
    assert bottom - top < 25
    assert left > 90


def test_numbers_at_the_edge_stay_within_the_picture():
    picture = write_numbers(np.full((60, 60, 3), 90, np.uint8), {0: "#0"}, np.array([58.0]), np.array([58.0]), 1.0)
    changed = (picture != 90).any(axis=2)
    assert changed.sum() > 150
    assert picture.shape == (60, 60, 3)
