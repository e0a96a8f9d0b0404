import numpy as np
import pytest

from milpath.drawing.heatmap import category_colours
from milpath.drawing.picture_frame import content_origin
from milpath.drawing.weight_bars import BAR, HEIGHT, LABEL_ROOM, WIDTH, draw_weights


def test_bars_stand_in_the_order_of_their_weights_and_are_as_high_as_they_say():
    weights = np.array([0.1, 0.6, 0.3])
    picture = np.asarray(draw_weights(weights))
    left, top = content_origin()
    for place, weight in enumerate([0.6, 0.3, 0.1]):
        column = picture[top : top + HEIGHT, left + LABEL_ROOM + round((place + 0.5) * WIDTH / 3)]
        filled = (column == BAR).all(axis=1).sum()
        assert filled == pytest.approx(HEIGHT * weight / (2 / 3), abs=3)


def test_tiles_that_matter_have_a_colour_of_their_own():
    colour = category_colours(1)[0]
    plain, marked = (
        np.asarray(draw_weights(np.array([0.5, 0.5]), tile_labels=labels)) for labels in (None, np.array([0, 1]))
    )
    assert not (plain == colour).all(axis=2).any()
    assert (marked == colour).all(axis=2).sum() > WIDTH / 2 * HEIGHT / 2 * 0.9


@pytest.mark.parametrize("count", [1, 2, 1000, 10_000])
def test_any_number_of_weights_makes_a_picture_of_one_size(count):
    assert draw_weights(np.full(count, 1 / count)).size == draw_weights(np.array([1.0])).size


def test_no_weight_is_refused():
    with pytest.raises(ValueError, match="at least one weight"):
        draw_weights(np.zeros(0))
