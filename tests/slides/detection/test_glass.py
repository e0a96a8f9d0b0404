import numpy as np
import pytest

from milpath.slides.detection.glass import glass_colour, whiten_glass
from tests.tissue_situations import draw_situation


@pytest.mark.parametrize(
    ("name", "colour"),
    [("H&E", (243, 241, 242)), ("tinted glass", (228, 214, 186)), ("dark lamp", (196, 190, 199)),
     ("not scanned", (243, 241, 242)), ("black padding", (243, 241, 242)), ("tissue to every edge", (255, 255, 255))],
)  # fmt: skip
def test_the_colour_of_the_glass_is_found(name, colour):
    np.testing.assert_allclose(glass_colour(draw_situation(name)[0][::4, ::4]), colour, atol=2)


def test_glass_becomes_white_and_density_keeps_its_differences():
    glass = np.array([228.0, 214.0, 186.0])
    density = np.array([0.2, 0.8, 0.1])
    pixels = np.stack([glass, glass * np.exp(-density)]).round().astype(np.uint8)[None]
    white = whiten_glass(pixels, glass)[0].astype(float)
    assert (white[0] == 255).all()
    np.testing.assert_allclose(np.log(white[0] / white[1]), density, atol=0.02)
