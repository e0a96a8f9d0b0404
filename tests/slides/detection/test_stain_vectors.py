import numpy as np
import pytest
import torch

from milpath.models.stains import STAIN_METHODS
from milpath.models.stains.tissue_pixels import LEAST_DENSITY, optical_density
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


@pytest.mark.parametrize("eosin", [(0.38, 0.74, 0.555), (0.07, 0.99, 0.11), (0.30, 0.95, 0.05)])
def test_haematoxylin_is_the_stain_that_absorbs_more_red_as_in_stain_normalisation(eosin):
    """Also where its direction in the other channels is less like the textbook's than that of the eosin."""
    truth = [np.array(vector) / np.linalg.norm(vector) for vector in ((0.50, 0.84, 0.20), eosin)]
    colours, _ = mixed(*truth, glass=255)
    found = stain_vectors(colours, 255.0)
    for vector, expected in zip(found, truth, strict=True):
        assert np.degrees(np.arccos(min(1, vector @ expected))) < 2
    pixels = torch.from_numpy(colours / 255).float()[None]
    statistics, _ = STAIN_METHODS["macenko"].statistics(pixels, optical_density(pixels).norm(dim=2) >= LEAST_DENSITY)
    np.testing.assert_allclose(statistics[0, :6].reshape(2, 3), np.stack(found), atol=0.01)


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
