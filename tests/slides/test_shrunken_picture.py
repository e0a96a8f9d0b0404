"""Reduced pictures are, bit for bit, those of Pillow."""

import numpy as np
import pytest
from PIL import Image

from milpath.slides.readers.slide import Size
from milpath.slides.shrunken_picture import mean_pixels, shrink


@pytest.mark.parametrize(
    ("across", "down"), [(2, 2), (3, 3), (1, 7), (7, 1), (5, 4), (20, 16), (3, 300), (300, 2), (17, 16), (60, 90)]
)
def test_means_are_those_of_pillow(across, down):
    random = np.random.default_rng(across * 1000 + down)
    for shape in ((61, 83), (1, 1), (across, down), (301, 20), (2, 650), (down, across)):
        pixels = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
        for case in (pixels, pixels | 0xF8, np.full_like(pixels, 255), pixels[:, ::-1]):
            expected = np.asarray(Image.fromarray(case).reduce((across, down)))
            np.testing.assert_array_equal(mean_pixels(case, across, down), expected)


@pytest.mark.parametrize("gap", [1.0, 2.0])
def test_a_part_of_a_picture_is_resized_as_pillow_resizes_it(gap):
    random = np.random.default_rng(4)
    for _ in range(40):
        height, width = random.integers(20, 300, 2)
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        left, top = random.uniform(0, 8, 2)
        box = (left, top, random.uniform(left + 4, width), random.uniform(top + 4, height))
        scale = random.uniform(1, 30)
        size = Size(*(max(1, int((box[axis + 2] - box[axis]) / scale)) for axis in (0, 1)))
        expected = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, box, gap)
        np.testing.assert_array_equal(shrink(pixels, size, box, gap), np.asarray(expected))
