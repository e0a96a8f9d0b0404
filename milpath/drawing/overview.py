"""Contact sheets of slides with their selected tiles."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from milpath.drawing.heatmap import outline_tiles, tile_span
from milpath.drawing.picture_frame import FAINT, INK, RESEARCH_USE_ONLY, fit_text, font
from milpath.slides.slide_view import SlideView, thumbnail
from milpath.slides.tile_positions import TilePositions

CELL_SIZE = 384
COLUMNS, ROWS = 6, 4
_CAPTION = 22
_GAP = 8
# Height of the line below all slides.
WORDS_HEIGHT = _GAP + _CAPTION
# Tissue outside the selected tiles keeps this fraction of its contrast.
_FAINT = 0.35


def draw_choice(
    view: SlideView,
    places: TilePositions,
    tile_size: int,
    max_size: int = CELL_SIZE,
    small: tuple[NDArray[np.uint8], float] | None = None,
) -> NDArray[np.uint8]:
    """Return the thumbnail of a slide with the selected tiles outlined and the rest faded.

    Args:
        view: The view of the slide from which the tiles were cut.
        places: Positions of the selected tiles.
        tile_size: Their side in pixels of the view.
        max_size: Maximum length of the longer side in pixels.
        small: What `thumbnail` returned for this slide and size, where it is known; `None` reads it.
    """
    picture, downsample = small or thumbnail(view.slide, max_size)
    scale = view.downsample / downsample
    chosen = np.zeros(picture.shape[:2], bool)
    real = places.number >= 0
    x, y = places.x[real].astype(np.float64), places.y[real].astype(np.float64)
    for left, top in zip(x, y, strict=True):
        rows = tile_span(top, tile_size, scale, picture.shape[0])
        chosen[rows, tile_span(left, tile_size, scale, picture.shape[1])] = True
    faint = 255 - ((255 - picture) * _FAINT).astype(np.uint8)
    return outline_tiles(np.where(chosen[:, :, None], picture, faint), x, y, tile_size, scale)


def encode_picture(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture as a small JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def draw_sheet(cells: Sequence[tuple[str, Sequence[str], bytes]]) -> Image.Image:
    """Return a contact sheet, with a note below that it is for research use only.

    Args:
        cells: At most `ROWS * COLUMNS` slides: name, at most two lines of text, and the thumbnail as JPEG data.
    """
    rows, columns = -(-len(cells) // COLUMNS), min(len(cells), COLUMNS)
    width, height = CELL_SIZE + _GAP, CELL_SIZE + _GAP + 3 * _CAPTION
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + WORDS_HEIGHT), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (name, lines, data) in enumerate(cells):
        x, y = _GAP + number % COLUMNS * width, _GAP + number // COLUMNS * height
        draw.text((x, y), fit_text(name, CELL_SIZE, font(bold=True)), INK, font(bold=True))
        for row, line in enumerate(lines, 1):
            draw.text((x, y + row * _CAPTION - 4), fit_text(line, CELL_SIZE, font()), FAINT, font())
        with Image.open(io.BytesIO(data)) as picture:
            sheet.paste(picture, (x, y + 3 * _CAPTION - 4))
    draw.text((_GAP, rows * height + 2), RESEARCH_USE_ONLY, FAINT, font(12))
    return sheet
