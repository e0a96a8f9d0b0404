import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage.measure import blur_effect

from milpath.slides.bag_quality import MOST_BLUR
from milpath.slides.detection.blur import blur_of
from tests.tissue_situations import draw_situation


@pytest.mark.parametrize("radius", [0, 1, 2, 4])
def test_blur_is_close_to_that_of_scikit_image(radius):
    """Its gradients are averaged over three rows (Sobel), ours are the differences of the paper."""
    tile = Image.fromarray(draw_situation("tissue to every edge")[0][:200, :240]).filter(
        ImageFilter.GaussianBlur(radius)
    )
    assert blur_of(np.asarray(tile)) == pytest.approx(blur_effect(np.asarray(tile), channel_axis=2), abs=0.12)


def test_real_tiles_are_sharp_and_their_blurred_copies_are_not(shared_data):
    images = sorted((shared_data / "glas/images").iterdir())[::20]
    for path in images:
        with Image.open(path) as image:
            tile = image.convert("RGB").crop((0, 0, 256, 256))
        assert blur_of(np.asarray(tile)) < MOST_BLUR - 0.15
        assert blur_of(np.asarray(tile.filter(ImageFilter.GaussianBlur(4)))) > MOST_BLUR


def test_a_tile_of_one_colour_has_no_blur():
    assert np.isnan(blur_of(np.full((64, 64, 3), 200, np.uint8)))
