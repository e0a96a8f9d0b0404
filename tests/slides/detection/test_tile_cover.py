import numpy as np
import pytest

from milpath.slides.detection.tile_cover import covered, tile_fractions

DOWN, ACROSS, SIZE, MARGIN = 4, 5, 7, 60


@pytest.fixture
def drawn():
    """A mask, its enlargement with a margin, and tiles that lie anywhere on and beside it."""
    rng = np.random.default_rng(0)
    mask = rng.random((9, 13)) < 0.5
    large = np.zeros((36 + 2 * MARGIN, 65 + 2 * MARGIN), bool)
    large[MARGIN:-MARGIN, MARGIN:-MARGIN] = mask.repeat(DOWN, 0).repeat(ACROSS, 1)
    return mask, large, rng.integers(-9, 66, 40), rng.integers(-9, 40, 40)


def test_fractions_are_those_of_counted_pixels(drawn):
    mask, large, x, y = drawn
    counted = [
        large[MARGIN + b : MARGIN + b + SIZE, MARGIN + a : MARGIN + a + SIZE].mean() for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(tile_fractions(mask, x, y, SIZE, (ACROSS, DOWN)), counted, atol=1e-12)


def test_coverage_is_that_of_counted_pixels(drawn):
    mask, large, *_ = drawn
    x, y = np.array([-3, 4, 18, 62]), np.array([-2, 9, 9, 33])
    drawn_over = np.zeros(large.shape)
    for a, b in zip(x, y, strict=True):
        drawn_over[MARGIN + b : MARGIN + b + SIZE, MARGIN + a : MARGIN + a + SIZE] = 1
    counted = drawn_over[MARGIN:-MARGIN, MARGIN:-MARGIN].reshape(9, DOWN, 13, ACROSS).mean(axis=(1, 3))
    np.testing.assert_allclose(covered(mask.shape, x, y, SIZE, (ACROSS, DOWN)), counted, atol=1e-12)


def test_tiles_that_overlap_count_once_and_tiles_smaller_than_a_pixel_by_their_area():
    twice = covered((4, 4), np.array([0, 0]), np.array([0, 0]), 20, (10.0, 10.0))
    assert twice.max() == 1
    assert twice.sum() == 4
    assert covered((4, 4), np.array([12]), np.array([13]), 5, (10.0, 10.0)).sum() == pytest.approx(0.25)
