"""Bar chart of the weights of a bag without images."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from milpath.drawing.heatmap import category_colours
from milpath.drawing.picture_frame import FAINT, INK, attention_limits, font, frame

WIDTH, HEIGHT = 480, 120
LABEL_ROOM = 46
BAR = (68, 84, 106)


def draw_weights(
    weights: NDArray[np.floating],
    *,
    title: str = "",
    tile_labels: NDArray[np.integer] | None = None,
) -> Image.Image:
    """Draw the weights of a bag as bars in descending order, with a line at the equal share.

    Args:
        weights: `(tiles,)` attention, sums to 1.
        title: Title above the chart.
        tile_labels: `(tiles,)`, above 0 for positive tiles, whose bars are coloured and explained in the legend.

    Raises:
        ValueError: If there are no weights.

    Example:
        >>> draw_weights(np.array([0.7, 0.2, 0.1])).width > 400
        True
    """
    if len(weights) == 0:
        raise ValueError("a picture of weights needs at least one weight, got none")
    low, high = attention_limits(weights)
    order = np.argsort(-np.asarray(weights), kind="stable")
    colour = category_colours(1)[0]
    canvas = Image.new("RGB", (LABEL_ROOM + WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(canvas)
    edges = np.linspace(LABEL_ROOM, LABEL_ROOM + WIDTH, len(order) + 1)
    gap = 1 if edges[1] - edges[0] >= 3 else 0
    for place, index in enumerate(order):
        top = _row(float(weights[index]), low, high)
        left, right = int(edges[place]), max(int(edges[place + 1]) - 1 - gap, int(edges[place]))
        matters = tile_labels is not None and tile_labels[index] > 0
        draw.rectangle((left, top, right, HEIGHT - 1), fill=colour if matters else BAR)
    for value in (low, high):
        at = _row(value, low, high)
        draw.text((0, min(max(at - 7, 0), HEIGHT - 15)), f"{value:.3g}", INK, font(12))
    share = _row(1 / len(order), low, high)
    for left in range(LABEL_ROOM, LABEL_ROOM + WIDTH, 8):
        draw.line((left, share, left + 3, share), FAINT)
    legend = [(BAR, f"weights of {len(order):,} tiles, the greatest first; dashed: equal share")]
    if tile_labels is not None:
        legend.append((colour, "known to matter"))
    return frame(canvas, title, legend=legend)


def _row(value: float, low: float, high: float) -> int:
    """Return the canvas row of a weight."""
    share = (value - low) / (high - low) if high > low else 1.0
    return round((1 - min(max(share, 0.0), 1.0)) * (HEIGHT - 1))
