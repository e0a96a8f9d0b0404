"""Resolutions of the slides of a run: what a table states per slide, and whether the tiles of a store have one."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from milpath.records.error_text import counted
from milpath.records.id_matching import match_ids
from milpath.records.label_table import find_column, quote_first, read_table
from milpath.records.tile_resolution import ALLOW, SAME_RESOLUTION, describe_range
from milpath.slides.readers.slide import PLAUSIBLE_MICRONS, is_plausible
from milpath.tiling.slide_job import SlideRecord

_log = logging.getLogger(__name__)

COLUMN = "microns_per_pixel"
# `bags.csv` of a store has the resolution of the tiles in this column, and these beside it.
_OF_TILES = ("downsample", "level")
MIXED = ("error", ALLOW)


class MixedResolutionError(ValueError):
    """Tiles of one store differ in resolution.

    Args:
        facts: The range, and the slides at its ends.
        way_out: What to set, of the options of the commands that cut slides for a training.
    """

    def __init__(self, facts: str, way_out: str) -> None:
        super().__init__(f"{facts}; {way_out}")
        self.facts = facts


def stated_resolutions(
    names: Sequence[str],
    labels: Path | None,
    rows: Mapping[str, Mapping[str, str]],
    table: Path | None,
    id_column: str | None = None,
) -> dict[str, float]:
    """Return the microns per pixel of level 0 that a user states for slides; an empty cell leaves it to the file.

    Args:
        names: Names of the slides.
        labels: The label table, for messages.
        rows: Name of a slide to the cells of its row in the label table.
        table: Table with the column `microns_per_pixel`; `None` takes this column of the label table, if it has one.
        id_column: Column of `table` that names the slides.

    Raises:
        FileNotFoundError: If there is no such table.
        ValueError: If a cell is not a resolution, the column is missing, or both tables have it.
    """
    of_labels = _of_labels(rows)
    if table is None:
        return {name: _number(labels, name, cell) for name, cell in of_labels.items() if cell and name in names}
    if any(of_labels.values()):
        raise ValueError(f"{labels} has a column {COLUMN} and resolutions={table} is given; give one of them")
    content = read_table(
        table, [COLUMN], what="table of resolutions", id_column=id_column, id_option="id_column", as_text=True
    )
    matched = match_ids(content["bag_id"].tolist(), names)
    if not matched:
        raise ValueError(
            f"resolutions={table} names none of the slides (a row: {content['bag_id'].iloc[0]!r}, a slide: "
            f"{quote_first(list(names), 1)}); name them like their files"
        )
    strangers = [name for name in content["bag_id"] if name not in matched]
    if strangers and (without := [name for name in names if name not in set(matched.values())]):
        _log.warning(
            "resolutions=%s has no row for %s of %s slides (first: %r), which keep the resolution of their file, and names "
            "%s that are not here (first: %r)",
            table, f"{len(without):,}", f"{len(names):,}", without[0], f"{len(strangers):,}", strangers[0],
        )  # fmt: skip
    cells = zip(content["bag_id"], content[COLUMN], strict=True)
    return {matched[name]: _number(table, name, cell) for name, cell in cells if name in matched and cell}


def _of_labels(rows: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the cells of the column in the label table; none if the table is that of the tiles of a store."""
    first = next(iter(rows.values()), {})
    column = find_column(list(first), COLUMN)
    if column is None or all(name in first for name in _OF_TILES):
        return {}
    return {name: row.get(column, "").strip() for name, row in rows.items()}


def _number(table: Path | None, name: str, cell: str) -> float:
    try:
        value = float(cell.replace(",", "."))
    except ValueError:
        value = math.nan
    if not is_plausible(value):
        low, high = PLAUSIBLE_MICRONS
        raise ValueError(
            f"{table} states {cell!r} microns per pixel for {name!r}; expected a number from {low:g} to {high:g}, such as "
            "0.25, of level 0, or nothing"
        )
    return value


def require_known_choice(mixed_resolution: str) -> None:
    """Refuse an unknown value of the option `mixed_resolution`."""
    if mixed_resolution not in MIXED:
        raise ValueError(f"mixed_resolution={mixed_resolution} is unknown; it must be one of {', '.join(MIXED)}")


def require_one_resolution(records: Sequence[SlideRecord], mixed_resolution: str) -> None:
    """Refuse a store whose tiles differ in resolution by more than a factor of 1.25.

    Raises:
        MixedResolutionError: With the range, the slides at its ends, and what to set.
    """
    known = [record for record in records if record.microns_per_pixel is not None]
    if not known or mixed_resolution == ALLOW:
        return
    finest, coarsest = min(known, key=_microns), max(known, key=_microns)
    if _microns(coarsest) <= SAME_RESOLUTION * _microns(finest):
        return
    raise MixedResolutionError(
        f"tiles have {describe_range(_microns(finest), _microns(coarsest))} microns per pixel ({finest.bag_id}, "
        f"{coarsest.bag_id})",
        f"set microns_per_pixel={_microns(coarsest):.3g} overwrite=true to cut all slides at one resolution, or "
        "mixed_resolution=allow",
    )


def resolution_notes(records: Sequence[SlideRecord]) -> list[str]:
    """Return what to say about the resolution of the tiles of a store, and about its slides; one line each."""
    known = [_microns(record) for record in records if record.microns_per_pixel is not None]
    unknown = [record.bag_id for record in records if record.microns_per_pixel is None]
    lines = []
    if known:
        lines.append(f"tiles have {describe_range(min(known), max(known))} microns per pixel")
    if unknown and known:
        verb = "does not state its own" if len(unknown) == 1 else "do not state theirs"
        lines[0] += f"; {counted(len(unknown), 'slide')} {verb}: {quote_first(unknown)}"
    by_text: dict[str, list[str]] = {}
    for record in records:
        for text in record.notes:
            by_text.setdefault(text, []).append(record.bag_id)
    return lines + [f"{quote_first(names)}: {text}" for text, names in by_text.items()]


def _microns(record: SlideRecord) -> float:
    return float(record.microns_per_pixel or 0)
