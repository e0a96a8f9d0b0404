import numpy as np
import pytest

from milpath.drawing.montage import BORDER, CAPTION, GAP, TileRow, draw_extremes, draw_montage
from milpath.drawing.picture_frame import colours_of, content_origin


def _tiles(count, size=128, channels=3):
    """Plain tiles, each of a grey of its own."""
    return np.repeat(np.arange(count, dtype=np.uint8) * 10, size * size * channels).reshape(count, size, size, channels)


def test_tiles_stand_in_the_order_of_their_weights_framed_in_their_colour():
    weights = np.array([0.1, 0.5, 0.05, 0.3, 0.05])
    picture = np.asarray(draw_montage(_tiles(5), weights, columns=2))
    left, top = content_origin()
    step = 128 + 2 * BORDER + GAP
    for place, index in enumerate([1, 3, 0, 2, 4]):
        row, column = divmod(place, 2)
        x, y = left + column * step, top + row * (step + CAPTION)
        assert (picture[y, x] == colours_of(weights[index], (0, 0.5), "viridis")).all()
        assert (picture[y + BORDER + 60, x + BORDER + 60] == index * 10).all()


@pytest.mark.parametrize(("count", "size", "channels"), [(1, 128, 3), (16, 28, 1), (672, 32, 3), (10, 27, 3)])
def test_any_number_and_size_of_tiles_makes_a_picture_of_a_size_to_look_at(count, size, channels):
    tiles = np.zeros((count, size, size, channels), np.uint8)
    picture = draw_montage(tiles, np.full(count, 1 / count), title="bag")
    assert 100 < picture.width < 900
    assert 100 < picture.height < 900


def test_tiles_left_out_and_tiles_that_matter_are_said():
    tiles, weights = _tiles(20), np.full(20, 0.05)
    plain = draw_montage(tiles[:16], weights[:16])
    assert draw_montage(tiles, weights).height > plain.height
    marked = draw_montage(tiles[:16], weights[:16], tile_labels=np.eye(16, dtype=int)[3])
    assert marked.height > plain.height
    assert (np.asarray(marked)[: plain.height // 2] != np.asarray(plain)[: plain.height // 2]).any()


def test_extremes_share_one_scale():
    rows = [
        TileRow("most", _tiles(3), np.array([0.9, 0.6, 0.3]), ["a", "b", "c"]),
        TileRow("least", _tiles(3), np.array([0.0, 0.0, 0.0]), ["a", "b", "<script>"]),
    ]
    picture = np.asarray(draw_extremes(rows, title="run"))
    for colour in colours_of(np.array([0.9, 0.6, 0.3, 0.0]), (0, 0.9), "viridis"):
        assert (picture == colour).all(axis=2).sum() > 100


@pytest.mark.parametrize(
    ("tiles", "weights"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0)),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros(3)),
        (np.zeros((2, 8, 8, 3)), np.zeros(2)),
        (np.zeros((2, 512), np.uint8), np.zeros(2)),
    ],
)
def test_what_is_no_bag_of_pictures_is_refused(tiles, weights):
    with pytest.raises(ValueError, match=r"montage needs tiles|tiles must be uint8"):
        draw_montage(tiles, weights)
    with pytest.raises(ValueError, match="at least one row"):
        draw_extremes([])
