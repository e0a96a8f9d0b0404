import numpy as np
import pytest

from milpath.slides.detection.stain_vectors import EOSIN, HAEMATOXYLIN, StainRange, stain_vectors
from tests.tissue_situations import draw_situation


def mixed(haematoxylin, eosin, number=20_000, glass=240):
    """Return colours of pixels with known amounts of two stains, some of which have one stain only."""
    rng = np.random.default_rng(1)
    amounts = rng.uniform(0, 1, (number, 2))
    amounts[: number // 4, 0] = amounts[number // 4 : number // 2, 1] = 0
    density = amounts @ np.stack([haematoxylin, eosin])
    return (glass * 10**-density).round().astype(np.uint8), amounts


@pytest.mark.parametrize("turn", [0.0, 0.08])
def test_the_colours_of_known_stains_are_recovered(turn):
    truth = [vector + turn * np.array([0.6, -0.5, 1.0]) for vector in (HAEMATOXYLIN, EOSIN)]
    truth = [vector / np.linalg.norm(vector) for vector in truth]
    for found, vector in zip(stain_vectors(mixed(*truth)[0], 240), truth, strict=True):
        assert np.linalg.norm(found) == pytest.approx(1)
        assert np.degrees(np.arccos(min(1, found @ vector))) < 2


def test_amounts_of_stain_are_recovered_up_to_their_range():
    unit = [vector / np.linalg.norm(vector) for vector in (HAEMATOXYLIN, EOSIN)]
    colours, amounts = mixed(*unit)
    picture = colours.reshape(100, 200, 3)
    found = StainRange.of(picture, np.ones(picture.shape[:2], bool)).amounts(picture).reshape(-1, 3)
    assert np.corrcoef(found[:, 0], amounts[:, 1])[0, 1] > 0.98
    assert np.corrcoef(found[:, 1], amounts[:, 0])[0, 1] > 0.98
    assert (found.min(), found.max()) == (0, 1)


def test_a_slide_without_stain_is_refused():
    picture, _ = draw_situation("H&E")
    with pytest.raises(ValueError, match="only 0 stained pixels"):
        stain_vectors(picture[:100, :100].reshape(-1, 3), 243)
