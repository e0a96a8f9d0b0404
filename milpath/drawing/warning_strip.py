"""A line below a picture that says what its network was trained on, where that is no tissue."""

import textwrap

from PIL import Image, ImageDraw

from milpath.drawing.picture_frame import MARGIN, TEXT_SIZE, font

_INK = (122, 61, 0)
_LINE = TEXT_SIZE + 8


def with_warning(picture: Image.Image, warning: str) -> Image.Image:
    """Return a picture with a warning below it; the picture itself if there is none.

    Args:
        picture: RGB.
        warning: One line; it is wrapped to the width of the picture, so that none of it is lost.
    """
    if not warning:
        return picture
    text = warning[0].upper() + warning[1:]
    letters = max(8, int((picture.width - 2 * MARGIN) / font(bold=True).getlength("n")))
    lines = textwrap.wrap(text, letters)
    canvas = Image.new("RGB", (picture.width, picture.height + len(lines) * _LINE + MARGIN // 2), "white")
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text((MARGIN, picture.height + number * _LINE), line, _INK, font(bold=True))
    return canvas
