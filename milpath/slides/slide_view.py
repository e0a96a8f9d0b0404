"""A slide at one resolution, surrounded by unlimited white."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from milpath.slides.readers.open_slide import open_slide
from milpath.slides.readers.rgb import WHITE
from milpath.slides.readers.slide import PLAUSIBLE_MICRONS, WHOLE_LEVEL_PIXELS, Size, Slide
from milpath.slides.shrunken_picture import shrink
from milpath.slides.tiling_options import TileOptions

# Resolutions that differ by less than 1% count as equal: resampling would blur and gain nothing.
_SAME = 0.01
_MAX_SOURCE_SIDE = 4096


class SlideView:
    """A slide as a single image of a given resolution.

    Args:
        slide: An open slide; the caller keeps it open.
        level: Level to read, 0 for the largest.
        scale: Pixels of that level per pixel of the view; 1 reads the level without resampling.

    Attributes:
        size: Width and height of the view.
        downsample: Pixels of level 0 per pixel of the view.
        microns_per_pixel: Resolution of the view; `None` if the slide does not state it.
    """

    def __init__(self, slide: Slide, level: int, scale: float = 1.0) -> None:
        self.slide = slide
        self.level = level
        self.scale = scale
        # How much finer than the view the source of the resampling filter may be: 2 or more is close to using every
        # pixel.
        self.reducing_gap = 2.0
        source = slide.level_sizes[level]
        self.size = source if scale == 1 else Size(*(max(1, int(side / scale + 1e-6)) for side in source))
        self.downsample = slide.downsample(level) * scale
        base = slide.microns_per_pixel
        self.microns_per_pixel = None if base is None else base * self.downsample

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return any region, uint8 RGB `(height, width, 3)`; pixels outside the slide are white."""
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, self.size.width), min(y + height, self.size.height)
        if left >= right or top >= bottom:
            return np.full((height, width, 3), WHITE, np.uint8)
        # White only where it stays: a region may be a whole level.
        canvas = np.empty((height, width, 3), np.uint8)
        canvas[: top - y], canvas[bottom - y :] = WHITE, WHITE
        canvas[top - y : bottom - y, : left - x], canvas[top - y : bottom - y, right - x :] = WHITE, WHITE
        inside = canvas[top - y : bottom - y, left - x : right - x]
        if self.scale == 1:
            inside[...] = self.slide.read(self.level, left, top, right - left, bottom - top)
        else:
            self._resample(inside, left, top)
        return canvas

    def whole(self) -> NDArray[np.uint8] | None:
        """Return all of the view without copying it, `None` if it is resampled or too large for the memory."""
        if self.scale != 1 or self.size.width * self.size.height > WHOLE_LEVEL_PIXELS:
            return None
        return self.slide.read(self.level, 0, 0, *self.size)

    def to_level0(self, x: NDArray[np.int64], y: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return positions of the view in pixels of level 0, rounded; the sides of a level may be scaled differently."""
        base, source = self.slide.level_sizes[0], self.slide.level_sizes[self.level]
        across, down = base.width / source.width * self.scale, base.height / source.height * self.scale
        return np.rint(x * across).astype(np.int64), np.rint(y * down).astype(np.int64)

    def from_level0(self, x: float, y: float) -> tuple[int, int]:
        """Return a position of level 0 in pixels of the view: the inverse of `to_level0`."""
        base, source = self.slide.level_sizes[0], self.slide.level_sizes[self.level]
        return (
            round(x * source.width / (base.width * self.scale)),
            round(y * source.height / (base.height * self.scale)),
        )

    def steps_of(self, picture: NDArray[np.uint8]) -> tuple[float, float]:
        """Return the pixels of the view per pixel of a picture of the whole slide, across and down."""
        return self.size.width / picture.shape[1], self.size.height / picture.shape[0]

    def _resample(self, target: NDArray[np.uint8], x: int, y: int) -> None:
        """Fill a region inside the view in chunks whose source fits into memory."""
        step = max(1, int(_MAX_SOURCE_SIDE / self.scale))
        for top in range(0, target.shape[0], step):
            for left in range(0, target.shape[1], step):
                part = target[top : top + step, left : left + step]
                part[...] = self._resample_part(x + left, y + top, part.shape[1], part.shape[0])

    def _resample_part(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region; each pixel is a triangle-weighted mean (Pillow's antialiased bilinear filter)."""
        source = self.slide.level_sizes[self.level]
        margin = math.ceil(self.scale) + 2
        box = [side * self.scale for side in (x, y, x + width, y + height)]
        left, top = max(int(box[0]) - margin, 0), max(int(box[1]) - margin, 0)
        right = min(math.ceil(box[2]) + margin, source.width)
        bottom = min(math.ceil(box[3]) + margin, source.height)
        pixels = self.slide.read(self.level, left, top, right - left, bottom - top)
        inner = (
            max(box[0] - left, 0.0), max(box[1] - top, 0.0),
            min(box[2] - left, right - left), min(box[3] - top, bottom - top),
        )  # fmt: skip
        return shrink(pixels, Size(width, height), inner, self.reducing_gap)


def view_slide(slide: Slide, options: TileOptions) -> SlideView:
    """Return the view of a slide at the resolution at which it is cut.

    Raises:
        ValueError: If the slide has no such level, or its resolution is unknown or too low.
    """
    _take_resolution(slide, options)
    if options.microns_per_pixel is None:
        return SlideView(slide, _level_index(slide, options.level))
    if slide.microns_per_pixel is None:
        raise ValueError(
            f"{slide.path.name} does not state its microns per pixel{_implausible(slide)}; set "
            "slide_microns_per_pixel=NUMBER (of its largest level) where slides are tiled or extracted, or choose a level "
            "there with level=INDEX microns_per_pixel=null; a table of all slides is resolutions=CSV, in predict and "
            "evaluate, too"
        )
    wanted = options.microns_per_pixel / slide.microns_per_pixel
    if wanted < 1 - _SAME:
        raise ValueError(
            f"{slide.path.name} has {slide.microns_per_pixel:g} microns per pixel at its largest level; "
            f"microns_per_pixel={options.microns_per_pixel:g} needs a higher resolution than that"
        )
    return view_at(slide, wanted, _SAME)


def _take_resolution(slide: Slide, options: TileOptions) -> None:
    """Give a slide the resolution that the user states, or that the file states, or that was set for others.

    Raises:
        ValueError: If the pixels are not square.
    """
    stated = options.slide_microns_per_pixel
    if stated is None:
        if not slide.has_square_pixels:
            across, down = slide.stated_microns
            raise ValueError(
                f"{slide.path.name} has pixels of {across:.4g} x {down:.4g} microns, which are not square; resample it "
                "(vips resize --vscale), or take them for square: slide_microns_per_pixel=NUMBER where slides are tiled or "
                "extracted, resolutions=CSV elsewhere"
            )
        if slide.microns_per_pixel is None:
            slide.microns_per_pixel = options.assumed_microns_per_pixel
        return
    file_says = slide.stated_microns[0] or slide.stated_microns[1]
    if file_says is not None and abs(file_says - stated) > _SAME * stated:
        slide.note(f"the stated {stated:g} microns per pixel are used instead of the {file_says:.4g} in the file")
    slide.microns_per_pixel = stated


def _implausible(slide: Slide) -> str:
    """Return why what the file states does not count, for a message."""
    stated = [side for side in slide.stated_microns if side is not None]
    if not stated:
        return ""
    low, high = PLAUSIBLE_MICRONS
    return f" ({stated[0]:.4g} in the file is not that of a microscope: {low:g} to {high:g})"


def view_at(slide: Slide, downsample: float, tolerance: float = 1e-6) -> SlideView:
    """Return a view read from the smallest level with sufficient resolution.

    Args:
        slide: An open slide.
        downsample: Pixels of level 0 per pixel of the view.
        tolerance: A level whose downsample differs by at most this fraction is read without resampling.
    """
    levels = range(len(slide.level_sizes))
    level = max(index for index in levels if index == 0 or slide.downsample(index) <= downsample * (1 + tolerance))
    scale = downsample / slide.downsample(level)
    return SlideView(slide, level, 1.0 if abs(scale - 1) <= tolerance else scale)


def thumbnail(slide: Slide, max_size: int = 512) -> tuple[NDArray[np.uint8], float]:
    """Return a thumbnail of a whole slide, and the pixels of level 0 per pixel of the thumbnail.

    Args:
        slide: An open slide.
        max_size: Largest length of the longer side in pixels (the thumbnail is never larger than the slide).
    """
    view = view_at(slide, max(1.0, max(slide.level_sizes[0]) / max_size))
    view.reducing_gap = 1.0  # enough for viewing, in half the time
    return view.read(0, 0, *view.size)[:max_size, :max_size], view.downsample


def read_thumbnail(path: str | Path, max_size: int = 512) -> tuple[NDArray[np.uint8], float]:
    """Return a thumbnail of the slide in a file, uint8 `(height, width, 3)`, and its scale.

    Args:
        path: The slide.
        max_size: Largest length of the longer side in pixels (the thumbnail is never larger than the slide).

    Returns:
        The thumbnail, and its pixels per pixel of level 0, at most 1: `draw_overlay` takes both.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a slide.
    """
    with open_slide(path) as slide:
        pixels, downsample = thumbnail(slide, max_size)
        return np.ascontiguousarray(pixels), 1 / downsample


def _level_index(slide: Slide, level: int) -> int:
    """Return the index of a level, counted from the largest.

    Raises:
        ValueError: If there is no such level.
    """
    count = len(slide.level_sizes)
    if not -count <= level < count:
        sizes = ", ".join(f"{width} x {height}" for width, height in slide.level_sizes)
        last = f"a level from 0 to {count - 1}" if count > 1 else "level=0"
        raise ValueError(f"{slide.path.name} has no level {level}; it has {sizes} px: set {last}")
    return level % count
