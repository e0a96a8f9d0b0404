import numpy as np
import pytest
from skimage.color import rgb2hsv

from milpath.slides.detection.marker import find_black, find_marker
from milpath.slides.detection.saturation import hue_of, saturation

INKS = {"blue": (25, 60, 190), "green": (40, 150, 90), "turquoise": (60, 175, 160), "red": (220, 25, 45), "black": (25, 25, 28),
        "violet": (95, 10, 170), "yellow": (225, 205, 40)}  # fmt: skip
STAINS = {"eosin": (225, 140, 175), "haematoxylin": (110, 75, 160), "blood": (200, 70, 90), "DAB": (120, 72, 36),
          "dark DAB": (60, 34, 20), "counterstain": (195, 200, 222), "fold": (110, 40, 105), "melanin": (70, 50, 40)}  # fmt: skip


def ink_in(colour):
    """Return the share of a drawn stroke of a colour that counts as ink, beside a piece of ordinary tissue."""
    picture = np.full((40, 60, 3), 255, np.uint8)
    picture[5:35, 30:58] = (225, 140, 175)
    picture[10:20, 5:25] = colour
    strength = saturation(picture)
    return find_marker(picture, strength, strength > 8)[10:20, 5:25].mean()


@pytest.mark.parametrize("name", INKS)
def test_ink_is_found(name):
    assert ink_in(INKS[name]) == 1


@pytest.mark.parametrize("name", STAINS)
def test_a_stain_is_not_ink(name):
    assert ink_in(STAINS[name]) == 0


def test_black_padding_includes_its_resampled_edge_and_not_dark_tissue():
    picture = np.full((10, 12, 3), 242, np.uint8)
    picture[:, :4] = 0
    picture[:, 4] = 110
    picture[4:7, 8:10] = (60, 20, 70)
    black = find_black(picture)
    assert black[:, :5].all()
    assert not black[:, 5:].any()


def test_hues_are_those_of_hsv():
    colours = np.random.default_rng(0).integers(0, 256, (500, 3), np.uint8)
    difference = hue_of(colours) - rgb2hsv(colours[None])[0, :, 0] * 360
    assert np.abs((difference + 180) % 360 - 180).max() < 1e-3
