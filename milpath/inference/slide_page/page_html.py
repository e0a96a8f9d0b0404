"""The HTML of a page of a slide and of the list of all pages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from milpath.drawing.embedded_data import embed
from milpath.drawing.picture_frame import RESEARCH_USE_ONLY
from milpath.inference.annotations.slide_answer import REFER, SlideAnswer
from milpath.inference.slide_page.attention_layer import Layer
from milpath.inference.slide_page.image_pyramid import OVERLAP, TILE_SIZE, Source, level_range
from milpath.models.familiarity.fold_familiarity import say_unknown
from milpath.records.data_warning import UNFAMILIAR_COLUMNS

ASSETS = Path(__file__).parent / "assets"
# OpenSeadragon 6.1.1 as its authors published it; its licence lies beside it.
OPENSEADRAGON, LICENCE = "openseadragon.min.js", "openseadragon.LICENSE.txt"
_KEYS = "Slide. Arrow keys move it, plus and minus zoom, 0 shows the whole slide."


class TopTile(NamedTuple):
    """A tile in the list of the highest attention.

    Attributes:
        number: Its number in `attention.csv`.
        weight: Its attention.
        x0: Left edge in pixels of level 0, counted from the corner of the image of the page.
        y0: Top edge likewise.
        size0: Its side likewise.
        image: Data URI of its pixels; empty if they are not at hand.
    """

    number: int
    weight: float
    x0: float
    y0: float
    size0: float
    image: str = ""


def slide_html(
    title: str,
    source: Source,
    layers: Sequence[Layer],
    tiles: Sequence[TopTile],
    *,
    answer: SlideAnswer | None = None,
    warning: str = "",
    note: str = "",
    microns_per_pixel: float | None = None,
    folder: str = "",
    inline: Mapping[str, str] | None = None,
) -> str:
    """Return the page of a slide.

    Args:
        title: Name of the slide; like all text it is escaped.
        source: The image.
        layers: At least one; the first is shown first.
        tiles: The tiles with the highest attention, highest first.
        answer: The answer for the slide; `None` leaves out everything but the viewer, for a page that shows it itself.
        warning: What the training data say against themselves, in words.
        note: A further sentence.
        microns_per_pixel: Resolution of the image; `None` shows no scale bar.
        folder: URL of the tiles of the pyramid, relative to the page.
        inline: Instead of a folder: `level/column_row` to the data URI of each tile. Such a page is a single file.
    """
    smallest, largest = level_range(source.width, source.height)
    pyramid = {
        "width": source.width, "height": source.height, "downsample": source.downsample, "tile_size": TILE_SIZE,
        "overlap": OVERLAP, "smallest": smallest, "largest": largest, "folder": folder, "inline": inline,
    }  # fmt: skip
    data = {
        "pyramid": pyramid, "keys": _KEYS, "microns_per_pixel": microns_per_pixel,
        "layers": [layer._asdict() for layer in layers],
        "tiles": [{"x0": tile.x0, "y0": tile.y0, "size0": tile.size0} for tile in tiles],
    }  # fmt: skip
    bare = answer is None
    return _render(
        "slide_page.html.j2", title=title, warning=_sentence(warning), note=note, layers=layers, bare=bare,
        lines=[] if answer is None else _lines(title, answer), refer=_say_referral(answer, warning),
        tiles=[{"number": tile.number, "weight": f"{tile.weight:.3g}", "image": tile.image} for tile in tiles],
        cells={} if answer is None else answer.labelled(),
        data=data, script=_asset("slide_page.js"), openseadragon=_asset(OPENSEADRAGON) if bare else "",
    )  # fmt: skip


def index_html(rows: Sequence[Mapping[str, str]], warning: str = "", several: bool = False) -> str:
    """Return the list of the pages of a prediction.

    Args:
        rows: `slide`, `bag`, `answer` and `href` of each slide; an empty `href` says that it has no page.
        warning: What the training data say against themselves, in words.
        several: Whether the bags are patients.
    """
    return _render("slide_index.html.j2", rows=rows, warning=_sentence(warning), several=several)


def _lines(title: str, answer: SlideAnswer) -> list[str]:
    """Return the answer in sentences."""
    said = answer.in_words().partition(f"; {REFER}")[0]
    lines = [f"Predicted {said}."] if said else []
    if answer.bag_id != title:
        lines.append(f"This is the answer for {answer.bag_id}, all of whose slides count together.")
    strange = answer.measurements().get(UNFAMILIAR_COLUMNS[1])
    if strange is None:
        lines.append(_sentence(say_unknown()))
    else:
        lines.append(f"More unfamiliar than {strange:.3g}% of the validation bags of this network.")
    return lines


def _say_referral(answer: SlideAnswer | None, warning: str) -> str:
    """Return the sentence that refers a slide to a person; empty if it is not referred."""
    if answer is None or not (answer.deferred or answer.unfamiliar):
        return ""
    if warning:
        return "Refer to a person, whatever the probability."  # The warning stands above.
    if answer.unfamiliar:
        return "Refer to a person, whatever the probability: the network does not know slides like this one."
    return "Refer to a person: by the rule of this network its answer for this slide does not stand on its own."


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def _asset(name: str) -> Markup:
    """Return a script or style of this package, which is not escaped."""
    return Markup((ASSETS / name).read_text(encoding="utf-8"))  # noqa: S704


def _render(template: str, **content: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embed"] = embed
    return environment.get_template(template).render(
        style=_asset("slide_page.css"), research_use_only=RESEARCH_USE_ONLY, **content
    )
