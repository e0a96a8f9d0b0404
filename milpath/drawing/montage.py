"""Montages of a bag: its tiles with their weights, and the tiles with the most and the least attention."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from milpath.drawing.picture_frame import (
    INK,
    ColourBar,
    attention_limits,
    colour_table,
    colours_of,
    fit_text,
    font,
    frame,
    require_finite_attention,
)
from milpath.drawing.tile_numbers import EXPLANATION, tile_number
from milpath.slides.slide_tiles import SlideTiles, TilesOfSlides

Pixels = NDArray[np.uint8]
Values = NDArray[np.floating]
BORDER = 4
GAP = 8
CAPTION = 18
SMALLEST_CELL = 96
MARKED = "● "


@dataclass(frozen=True)
class TileRow:
    """A row of tiles with a heading.

    Attributes:
        title: Heading.
        tiles: uint8 `(tiles, height, width, channels)`.
        weights: `(tiles,)` attention.
        captions: One line below each tile.
    """

    title: str
    tiles: Pixels
    weights: Values
    captions: Sequence[str]


def draw_montage(
    tiles: Pixels | SlideTiles | TilesOfSlides,
    weights: Values,
    *,
    title: str = "",
    columns: int = 4,
    num_shown: int = 16,
    tile_labels: NDArray[np.integer] | None = None,
    colour_map: str = "viridis",
    limits: tuple[float, float] | None = None,
    cell_size: int | None = None,
) -> Image.Image:
    """Draw a bag: tiles in descending order of attention, each framed in the colour of its weight, with its number.

    Args:
        tiles: uint8 `(tiles, height, width, 3 or 1)`; of tiles in a slide only those that are shown are read.
        weights: `(tiles,)` attention, sums to 1.
        title: Title above the montage.
        columns: Tiles per row.
        num_shown: Maximum number of tiles; a note states how many are omitted.
        tile_labels: `(tiles,)`, above 0 for positive tiles, which are marked with a dot and explained in the legend; `None`
            if unknown.
        colour_map: One of `picture_frame.COLOUR_MAPS`.
        limits: Weights at the ends of the colour bar; `None` uses `attention_limits`.
        cell_size: Side of a tile in the montage in pixels; `None` keeps the size of tiles, but enlarges small ones to at
            least 96.

    Raises:
        ValueError: If there is no tile, or the numbers of weights and tiles differ.
    """
    _check(tiles, weights)
    limits = limits or attention_limits(weights)
    chosen = np.argsort(-np.asarray(weights), kind="stable")[:num_shown]
    captions = [f"{tile_number(index)}  {weights[index]:.3f}" for index in chosen]
    if tile_labels is not None:
        captions = [
            MARKED * bool(tile_labels[index] > 0) + words for index, words in zip(chosen, captions, strict=True)
        ]
    cells = [
        _cell(tile, weights[index], words, limits, colour_map, cell_size)
        for tile, index, words in zip(tiles[chosen], chosen, captions, strict=True)
    ]
    grid = _arrange(cells, min(columns, len(cells)))
    bar = ColourBar(limits, colour_table(colour_map), "attention", (1 / len(weights), "equal share"))
    notes = [EXPLANATION]
    if len(chosen) < len(tiles):
        notes.append(f"{len(chosen)} of {len(tiles):,} tiles, {float(np.sum(weights[chosen])):.0%} of the attention")
    if tile_labels is not None:
        notes.append(f"{MARKED.strip()} known to matter")
    return frame(_with_notes(grid, notes), title, bar)


def draw_extremes(
    rows: Sequence[TileRow],
    *,
    title: str = "",
    colour_map: str = "viridis",
    limits: tuple[float, float] | None = None,
) -> Image.Image:
    """Draw rows of tiles with one colour scale, such as the tiles of a run with the most and the least attention.

    Args:
        rows: Rows of tiles, such as the top tiles and the bottom tiles.
        title: Title above the picture.
        colour_map: One of `picture_frame.COLOUR_MAPS`.
        limits: Weights at the ends of the colour bar; `None` means 0 and the largest weight.
    """
    if not rows:
        raise ValueError("a picture of tiles needs at least one row, got none")
    for row in rows:
        _check(row.tiles, row.weights)
    limits = limits or (0.0, float(max(np.max(row.weights) for row in rows)))
    parts = []
    for row in rows:
        cells = [
            _cell(tile, weight, words, limits, colour_map)
            for tile, weight, words in zip(row.tiles, row.weights, row.captions, strict=True)
        ]
        parts.append(_with_notes(_arrange(cells, len(cells)), [row.title], above=True))
    width = max(part.width for part in parts)
    canvas = Image.new("RGB", (width, sum(part.height + GAP for part in parts) - GAP), "white")
    y = 0
    for part in parts:
        canvas.paste(part, (0, y))
        y += part.height + GAP
    return frame(canvas, title, ColourBar(limits, colour_table(colour_map), "attention"))


def _check(tiles: Pixels | SlideTiles | TilesOfSlides, weights: Values) -> None:
    if len(tiles) == 0 or len(tiles) != len(weights):
        raise ValueError(
            f"a montage needs tiles and as many weights, got {len(tiles)} tiles and {len(weights)} weights"
        )
    require_finite_attention(weights)
    if tiles.ndim != 4 or tiles.dtype != np.uint8 or tiles.shape[3] not in (1, 3):
        raise ValueError(f"tiles must be uint8 (tiles, height, width, 1 or 3), not {tiles.dtype} {tiles.shape}")


def _cell(
    tile: Pixels,
    weight: float,
    words: str,
    limits: tuple[float, float],
    colour_map: str,
    cell_size: int | None = None,
) -> Image.Image:
    """Return a tile framed in its colour with the caption below; small tiles are enlarged without interpolation."""
    picture = Image.fromarray(np.repeat(tile, 3, axis=2) if tile.shape[2] == 1 else np.ascontiguousarray(tile))
    if cell_size is not None and cell_size < min(picture.size):
        picture = picture.resize((cell_size, cell_size), Image.Resampling.BOX)
    factor = math.ceil((cell_size or SMALLEST_CELL) / min(picture.size))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    colour = tuple(int(part) for part in colours_of(np.array(weight), limits, colour_map))
    cell = Image.new("RGB", (picture.width + 2 * BORDER, picture.height + 2 * BORDER + CAPTION), "white")
    draw = ImageDraw.Draw(cell)
    draw.rectangle((0, 0, cell.width - 1, picture.height + 2 * BORDER - 1), fill=colour)
    cell.paste(picture, (BORDER, BORDER))
    draw.text((1, picture.height + 2 * BORDER + 1), fit_text(words, cell.width, font(12)), INK, font(12))
    return cell


def _arrange(cells: Sequence[Image.Image], columns: int) -> Image.Image:
    """Arrange cells of equal size in rows."""
    width, height = cells[0].size
    rows = math.ceil(len(cells) / columns)
    canvas = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), "white")
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        canvas.paste(cell, (column * (width + GAP), row * (height + GAP)))
    return canvas


def _with_notes(picture: Image.Image, notes: Sequence[str], *, above: bool = False) -> Image.Image:
    """Return a picture with lines of text below or above it."""
    if not notes:
        return picture
    room = len(notes) * CAPTION + 4
    width = max(picture.width, *(math.ceil(font().getlength(note)) for note in notes))
    canvas = Image.new("RGB", (width, picture.height + room), "white")
    canvas.paste(picture, (0, room if above else 0))
    for number, note in enumerate(notes):
        y = number * CAPTION + (0 if above else picture.height + 4)
        ImageDraw.Draw(canvas).text((0, y), note, INK, font())
    return canvas
