"""Drawn slides of the situations in which tissue is hard to find, each with the true mask of its tissue."""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

HEIGHT, WIDTH = 640, 960
GLASS = (243, 241, 242)
EOSIN, HAEMATOXYLIN = np.array([0.07, 0.99, 0.11]), np.array([0.65, 0.70, 0.29])


def _smooth(rng, shape, radius):
    noise = Image.fromarray(rng.integers(0, 256, shape, np.uint8))
    values = np.asarray(noise.filter(ImageFilter.GaussianBlur(radius)), float)
    return (values - values.mean()) / max(values.std(), 1e-9)


def blob(rng, centre, radii):
    """Return an irregular region."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    angle = np.arctan2(y - centre[0], x - centre[1])
    edge = 1 + sum(rng.uniform(-0.12, 0.12) * np.sin(k * angle + rng.uniform(0, 6)) for k in range(2, 7))
    return ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < edge**2


def stained(rng, eosin=0.35, haematoxylin=0.25, vectors=(EOSIN, HAEMATOXYLIN)):
    """Return the optical density of stained tissue `(height, width, 3)`: stroma, and nuclei as dots."""
    fibres = np.clip(1 + 0.3 * _smooth(rng, (HEIGHT, WIDTH), 3), 0.3, 2)
    nuclei = (_smooth(rng, (HEIGHT, WIDTH), 1.5) > 1.2) * 2.5 + 0.3
    return eosin * fibres[..., None] * vectors[0] + haematoxylin * nuclei[..., None] * vectors[1]


def scan(density, rng, glass=GLASS, noise=1.5):
    """Return the picture of an optical density on glass, with the noise of the scanner, as JPEG leaves it."""
    picture = np.asarray(glass) * np.exp(-density) + rng.normal(0, noise, density.shape)
    return picture.clip(0, 255).astype(np.uint8)


def stroke(colour, box, width=26, blur=3.0, strength=1.0):
    """Return a hollow ellipse drawn with a pen: its colour and its opacity `(height, width, 1)`."""
    layer = Image.new("L", (WIDTH, HEIGHT), 0)
    ImageDraw.Draw(layer).ellipse(box, outline=255, width=width)
    return np.array(colour, float), np.asarray(layer.filter(ImageFilter.GaussianBlur(blur)), float)[
        ..., None
    ] / 255 * strength


def with_pen(picture, colour, box=(60, 60, 560, 600), **words):
    """Return a picture with a pen's stroke, and where the ink covers it by more than half."""
    ink, alpha = stroke(colour, box, **words)
    drawn = picture * (1 - alpha) + ink * alpha
    return drawn.clip(0, 255).astype(np.uint8), alpha[..., 0] > 0.5


def _plain(rng, eosin=0.35, haematoxylin=0.25, **words):
    region = blob(rng, (330, 310), (150, 130))
    return scan(stained(rng, eosin, haematoxylin) * region[..., None], rng, **words), region


def _pen(colour, eosin=0.35, haematoxylin=0.25, **words):
    def draw(rng):
        picture, region = _plain(rng, eosin, haematoxylin)
        picture, ink = with_pen(picture, colour, **words)
        return picture, region & ~ink

    return draw


def _padding(rng):
    picture, region = _plain(rng)
    picture[:, 700:] = 0
    picture[:90] = 0
    return picture, region & (np.mgrid[:HEIGHT, :WIDTH][0] >= 90)


def _tinted(rng):
    return _plain(rng, glass=(228, 214, 186))


def _dark_lamp(rng):
    return _plain(rng, glass=(196, 190, 199))


def _counterstain(rng):
    """A pale blue counterstain with one strong brown spot."""
    region = blob(rng, (320, 480), (220, 330))
    density = stained(rng, 0.0, 0.45) * region[..., None]
    brown = blob(rng, (260, 400), (50, 60))
    density[brown] += np.array([0.5, 0.9, 1.5])
    return scan(density, rng), region | brown


def _fat(rng):
    """A piece of dense tissue and a larger one of fat: thin membranes around empty cells."""
    dense = blob(rng, (220, 220), (110, 110))
    fat = blob(rng, (330, 640), (200, 230))
    cells = np.abs(_smooth(rng, (HEIGHT, WIDTH), 6)) < 0.22
    density = stained(rng) * dense[..., None] + (0.2 * (cells & fat) + 0.02 * fat)[..., None] * EOSIN
    return scan(density, rng), dense | fat


def _fold(rng):
    _, region = _plain(rng)
    density = stained(rng) * region[..., None]
    density[:, 300:330] *= 2.6
    return scan(density, rng), region


def _blurred(rng):
    picture, region = _plain(rng)
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(6))), region


def _dust(rng):
    """Grey dust, the edge of a cover slip, and the squares in which a scanner took its pictures."""
    picture, region = _plain(rng)
    shaded = picture.astype(float)
    for _ in range(25):
        y, x = rng.integers(0, HEIGHT - 12), rng.integers(600, WIDTH - 12)
        shaded[y : y + 8, x : x + 10] *= rng.uniform(0.45, 0.8)
    shaded[:, 780:784] *= 0.5
    shaded[:, 784:] *= 0.95
    shaded[: HEIGHT // 2, 620:780] *= 0.985
    return shaded.astype(np.uint8), region


def _unscanned(rng):
    """Glass only around the tissue; the rest is filled with exact white."""
    picture, region = _plain(rng)
    picture[:, 520:] = 255
    return picture, region


def _all_tissue(rng):
    return scan(stained(rng), rng), np.ones((HEIGHT, WIDTH), bool)


SITUATIONS = {
    "H&E": _plain,
    "pale H&E": lambda rng: _plain(rng, 0.09, 0.05),
    "pale beside a blue pen": _pen((30, 60, 190), 0.12, 0.06),
    "blue pen": _pen((30, 60, 190)),
    "green pen": _pen((50, 160, 140)),
    "red pen": _pen((215, 25, 45)),
    "black pen": _pen((22, 22, 24)),
    "violet pen": _pen((110, 20, 160)),
    "green pen out of focus": _pen((50, 160, 140), blur=14.0),
    "black padding": _padding,
    "tinted glass": _tinted,
    "dark lamp": _dark_lamp,
    "counterstain with one brown spot": _counterstain,
    "fat": _fat,
    "fold": _fold,
    "blurred": _blurred,
    "dust and cover slip": _dust,
    "not scanned": _unscanned,
    "tissue to every edge": _all_tissue,
}


def draw_situation(name, seed=0):
    """Return the picture, uint8 `(height, width, 3)`, and the true mask of its tissue, bool `(height, width)`, not to write to."""
    return _first(name) if seed == 0 else SITUATIONS[name](np.random.default_rng(seed))


@cache
def _first(name):
    """Return the situation of the seed that most tests share, drawn once."""
    drawn = SITUATIONS[name](np.random.default_rng(0))
    for array in drawn:
        array.flags.writeable = False
    return drawn
