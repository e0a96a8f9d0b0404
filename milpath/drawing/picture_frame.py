"""The frame of all pictures: title, colour bar, scale bar, legend and the research-use notice."""

import math
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

RESEARCH_USE_ONLY = "Research use only, not for diagnosis"
MARGIN = 14
MIN_WIDTH = 280
# A narrow picture is padded with white before its title is shortened.
MAX_TITLE_WIDTH = 640
INK = (31, 41, 51)
FAINT = (96, 108, 120)
TEXT_SIZE = 13
BAR_WIDTH = 12
BAR_HEIGHT = 220
# Perceptually uniform and readable with red-green colour blindness.
COLOUR_MAPS = ("viridis", "cividis", "magma", "inferno", "plasma")
# For quantities with a sign: blue below 0, red above, readable with colour blindness as well.
SIGNED_MAP = "bwr"


@cache
def colour_table(name: str) -> NDArray[np.uint8]:
    """Return the 256 colours of a matplotlib colour map, uint8 `(256, 3)`.

    Raises:
        ValueError: If the map is not one of those that are readable with colour blindness.
    """
    if name not in (*COLOUR_MAPS, SIGNED_MAP):
        raise ValueError(
            f"colour map {name!r} must be one of {', '.join(COLOUR_MAPS)} (readable with colour blindness)"
        )
    # Only here: importing it costs the workers that cut slides, which draw no map, 0.2 s and 15 MB.
    import matplotlib as mpl

    table = np.array(mpl.colormaps[name](np.arange(256), bytes=True)[:, :3], dtype=np.uint8)
    # The array is cached and shared by all callers.
    table.flags.writeable = False
    return table


def colours_of(values: NDArray[np.floating], limits: tuple[float, float], colour_map: str) -> NDArray[np.uint8]:
    """Return the colour of each value, uint8 `(..., 3)`; values outside the limits get the colour of the nearer end.

    Raises:
        ValueError: If a value is not finite.

    Example:
        >>> colours_of(np.array([0.0, 1.0]), (0.0, 1.0), "viridis").tolist()
        [[68, 1, 84], [253, 231, 36]]
    """
    require_finite_attention(values)
    low, high = limits
    share = (
        (np.asarray(values, dtype=np.float64) - low) / (high - low) if high > low else np.full(np.shape(values), 0.5)
    )
    index = np.clip(share * 256, 0, 255).astype(np.int64)
    return colour_table(colour_map)[index]


def attention_limits(weights: NDArray[np.floating], largest: float | None = None) -> tuple[float, float]:
    """Return the limits of the colour scale of a bag: 0 and the largest weight, but at least twice the equal share.

    Equal weights then get one dull colour everywhere instead of the colour of high attention.

    Args:
        weights: `(tiles,)`, sums to 1.
        largest: The largest value that is drawn; `None` uses the largest weight.

    Example:
        >>> attention_limits(np.array([0.25, 0.25, 0.25, 0.25])), attention_limits(np.array([0.9, 0.1]))
        ((0.0, 0.5), (0.0, 1.0))
    """
    require_finite_attention(weights)
    largest = float(np.max(weights, initial=0.0)) if largest is None else largest
    return 0.0, max(largest, min(1.0, 2 / max(len(weights), 1)))


def require_finite_attention(weights: NDArray[np.floating]) -> None:
    """Refuse weights that are NaN or infinite: they would get a colour like any other.

    Raises:
        ValueError: With the first tile whose weight is not finite.
    """
    if not (finite := np.isfinite(weights)).all():
        tile = int(np.argmin(finite))
        raise ValueError(f"the attention of tile {tile} is {np.ravel(weights)[tile]}; it must be finite to be drawn")


@cache
def font(size: int = TEXT_SIZE, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return a font bundled with matplotlib, so that pictures look the same on every machine."""
    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(found.origin).parent / "mpl-data/fonts/ttf" / name), size)


def fit_text(text: str, width: int, face: ImageFont.FreeTypeFont) -> str:
    """Return one printable line of at most the given width, with the middle elided if it is too long."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    if face.getlength(line) <= width:
        return line
    for kept in range(min(len(line), 400), 1, -1):
        shorter = line[: math.ceil(kept / 2)] + "…" + line[len(line) - kept // 2 :]
        if face.getlength(shorter) <= width:
            return shorter
    return "…"


def scale_bar(microns_per_pixel: float, width: int) -> tuple[int, str]:
    """Return length in pixels and label of a scale bar: 1, 2 or 5 times a power of ten, at most a third of the width.

    Args:
        microns_per_pixel: Resolution of the picture, > 0.
        width: Width of the picture in pixels.

    Example:
        >>> scale_bar(8.0, 400)
        (125, '1 mm')
    """
    if not microns_per_pixel > 0:
        raise ValueError(f"microns_per_pixel must be positive, got {microns_per_pixel}")
    longest = width / 3 * microns_per_pixel
    power = 10.0 ** math.floor(math.log10(longest))
    length = max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))
    words = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    return max(1, round(length / microns_per_pixel)), words


def frame(
    content: NDArray[np.uint8] | Image.Image,
    title: str = "",
    bar: "ColourBar | None" = None,
    microns_per_pixel: float | None = None,
    legend: Sequence[tuple[tuple[int, int, int], str]] = (),
) -> Image.Image:
    """Frame a picture on white with title, colour bar, scale bar, legend and the research-use notice.

    Args:
        content: RGB; placed unscaled with its upper left pixel at `content_origin(title)`.
        title: One line, such as the name of a slide.
        bar: Colour bar on the right.
        microns_per_pixel: Resolution of the content; `None` draws no scale bar.
        legend: Colour and name of each legend entry.
    """
    picture = content if isinstance(content, Image.Image) else Image.fromarray(content)
    left, top = content_origin(title)
    bar_space = 0 if bar is None else BAR_WIDTH + 12 + bar.text_width()
    title_width = math.ceil(font(bold=True).getlength(fit_text(title, MAX_TITLE_WIDTH, font(bold=True))))
    body = max(picture.width + bar_space, MIN_WIDTH, title_width)
    body_height = max(picture.height, 0 if bar is None else bar.height(picture.height) + 2 * TEXT_SIZE)
    rows = len(legend) + (1 if microns_per_pixel else 0) + 1
    line = TEXT_SIZE + 8
    canvas = Image.new("RGB", (body + 2 * MARGIN, top + body_height + rows * line + MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((left, MARGIN), fit_text(title, body, font(bold=True)), INK, font(bold=True))
    canvas.paste(picture, (left, top))
    if bar is not None:
        bar.draw(draw, left + picture.width + 12, top, picture.height)
    y = top + body_height + 8
    for colour, name in legend:
        draw.rectangle((left, y + 1, left + 11, y + 12), fill=colour, outline=INK)
        draw.text((left + 20, y - 1), fit_text(name, body - 20, font()), INK, font())
        y += line
    if microns_per_pixel:
        length, words = scale_bar(microns_per_pixel, picture.width)
        draw.line((left, y + 7, left + length - 1, y + 7), INK, 3)
        draw.text((left + length + 8, y - 1), words, INK, font())
        y += line
    draw.text((left, y), RESEARCH_USE_ONLY, FAINT, font(12))
    return canvas


def content_origin(title: str = "") -> tuple[int, int]:
    """Return the position of the upper left pixel of the content in `frame`, x and y."""
    return MARGIN, MARGIN + (TEXT_SIZE + 10 if title else 0)


class ColourBar:
    """A colour bar.

    Args:
        limits: Values at the two ends.
        colours: uint8 `(256, 3)`, from the low end to the high end.
        words: Name of the quantity.
        marked: A value to mark between the ends, and its name.
    """

    def __init__(
        self,
        limits: tuple[float, float],
        colours: NDArray[np.uint8],
        words: str,
        marked: tuple[float, str] | None = None,
    ) -> None:
        self.limits = limits
        self.colours = colours
        self.words = words
        self.marked = marked if marked and limits[0] < marked[0] < limits[1] else None

    def text_width(self) -> int:
        """Return the width of the longest line in pixels."""
        lines = [self.words, *(f"{value:.3g}" for value in self.limits), self.marked[1] if self.marked else ""]
        return math.ceil(max(font(12).getlength(line) for line in lines)) + 10

    @staticmethod
    def height(content_height: int) -> int:
        """Return the height of the bar in pixels next to content of a given height."""
        return min(max(content_height - 2 * TEXT_SIZE, 60), BAR_HEIGHT)

    def draw(self, draw: ImageDraw.ImageDraw, x: int, y: int, content_height: int) -> None:
        """Draw the bar with its upper left corner at `(x, y)`."""
        height = self.height(content_height)
        draw.text((x, y), self.words, INK, font(12))
        top = y + TEXT_SIZE + 8
        for row, colour in enumerate(self.colours[np.linspace(255, 0, height).astype(np.int64)]):
            draw.line((x, top + row, x + BAR_WIDTH - 1, top + row), tuple(int(part) for part in colour))
        marks = [(0.0, f"{self.limits[1]:.3g}"), (1.0, f"{self.limits[0]:.3g}")]
        if self.marked:
            low, high = self.limits
            share = (high - self.marked[0]) / (high - low)
            # Near an end the label of the mark would overlap with that of the end, so it is omitted.
            if 0.12 < share < 0.88:
                marks.append((share, self.marked[1]))
        for share, words in marks:
            at = top + round(share * (height - 1))
            draw.line((x + BAR_WIDTH, at, x + BAR_WIDTH + 3, at), INK)
            draw.text((x + BAR_WIDTH + 6, at - 7), words, INK, font(12))


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Return pictures stacked vertically."""
    canvas = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        canvas.paste(picture, (0, top))
        top += picture.height
    return canvas
