import numpy as np
import pytest
from PIL import Image

from milpath.slides.detection.tissue_map import OTSU, map_tissue
from tests.tissue_situations import SITUATIONS, draw_situation

STEP = 8
# Fat is found by its membranes; the cells between them are as empty as glass.
LEAST_SENSITIVITY = {"fat": 0.5}
LEAST_PRECISION = {"blurred": 0.9}
# Situations in which the detection of version 0.1.0 misses at least a twentieth of the tissue, or finds at least two fifths too much.
FAILED_BEFORE = {
    "pale beside a blue pen", "blue pen", "green pen", "red pen", "violet pen", "green pen out of focus", "counterstain with one brown spot",
    "fat", "tissue to every edge", "tinted glass",
}  # fmt: skip


def small(picture):
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(picture).resize((width // STEP, height // STEP), Image.Resampling.BILINEAR))


def found_and_right(name, seed, threshold=None):
    """Return sensitivity and precision over the pixels of the thumbnail that are not at the edge of the tissue."""
    picture, truth = draw_situation(name, seed)
    share = truth.reshape(truth.shape[0] // STEP, STEP, -1, STEP).mean(axis=(1, 3))
    sure, tissue = (share > 0.9) | (share < 0.1), share > 0.5
    found = map_tissue(small(picture), threshold).tissue
    hits = (found & tissue & sure).sum()
    return hits / (tissue & sure).sum(), hits / max(1, (found & sure).sum())


@pytest.mark.command  # draws 57 slides
@pytest.mark.parametrize("name", SITUATIONS)
def test_tissue_is_found_and_nothing_else(name):
    sensitivity, precision = np.mean([found_and_right(name, seed) for seed in range(3)], axis=0)
    assert sensitivity >= LEAST_SENSITIVITY.get(name, 0.95)
    assert precision >= LEAST_PRECISION.get(name, 0.95)


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_detection_of_0_1_0_stays_as_it_was(name):
    """What it could and could not do, so that stores made with it can be made again."""
    sensitivity, precision = found_and_right(name, 0, OTSU)
    assert (sensitivity < 0.95 or precision < 0.6) == (name in FAILED_BEFORE)


@pytest.mark.parametrize(
    ("name", "ink"),
    [("blue pen", True), ("green pen", True), ("red pen", True), ("black pen", True), ("violet pen", True), ("H&E", False),
     ("fold", False), ("counterstain with one brown spot", False), ("dark lamp", False), ("black padding", False)],
)  # fmt: skip
def test_ink_is_told_from_stains_and_padding(name, ink):
    found = map_tissue(small(draw_situation(name)[0]))
    assert (found.marker.mean() > 0.02) == ink
    assert not (found.marker & found.tissue).any()
    assert (found.black.mean() > 0.2) == (name == "black padding")


def test_a_fold_is_marked_as_dense():
    found = map_tissue(small(draw_situation("fold")[0]))
    fold = np.zeros(found.tissue.shape, bool)
    fold[:, 300 // STEP + 1 : 330 // STEP - 1] = True
    assert found.dense[fold & found.tissue].mean() > 0.75
    assert found.dense[found.tissue & ~fold].mean() < 0.15


def test_a_stain_that_covers_the_slide_is_not_taken_for_ink():
    rng = np.random.default_rng(0)
    green = np.full((60, 80, 3), 244, np.uint8)
    green[10:50, 10:70] = rng.integers((120, 170, 150), (150, 195, 175), (40, 60, 3))  # a light green of Masson's stain
    found = map_tissue(green)
    assert found.tissue[12:48, 12:68].mean() > 0.95
    assert not found.marker.any()


def test_a_threshold_is_the_saturation_above_which_pixels_are_tissue():
    picture = np.full((20, 30, 3), 240, np.uint8)
    picture[:, 10:20] = (240, 200, 240)  # saturation 42
    picture[:, 20:] = (240, 120, 240)  # saturation 127
    for threshold, columns in ((20, 20), (60, 10), (200, 0)):
        assert map_tissue(picture, threshold).tissue.sum() == 20 * columns


def test_the_real_slides_keep_their_tissue(shared_data):
    for path in sorted((shared_data / "panda_pixels/level2").glob("*.png")):
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB").reduce(16))
        found, before = map_tissue(picture), map_tissue(picture, OTSU)
        assert found.tissue[before.tissue].mean() > 0.97
        assert found.tissue.sum() < 1.6 * before.tissue.sum()
        assert found.marker.mean() < 0.005
