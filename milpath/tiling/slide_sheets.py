"""Contact sheets of all slides of a store."""

from collections.abc import Sequence

from milpath.drawing.overview import COLUMNS, ROWS, draw_sheet
from milpath.tiling.slide_job import PICTURE, RECORD_SUFFIX, SlideRecord, read_beside
from milpath.tiling.slide_parts import SlideParts

FOLDER = "overview"


def write_sheets(parts: SlideParts, records: Sequence[SlideRecord], labels: dict[str, dict[str, str]]) -> None:
    """Write `overview/sheet_0001.jpg` and so on into the new store: each slide with its selected tiles outlined.

    Args:
        parts: The finished slides.
        records: Their records, in the order of the store.
        labels: Name of a slide to the cells of its row; the first few are shown under its name.
    """
    folder = parts.store_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    size = ROWS * COLUMNS
    for number, start in enumerate(range(0, len(records), size), 1):
        cells = [
            (record.bag_id, _lines(record, labels.get(record.bag_id, {})), _picture(parts, record))
            for record in records[start : start + size]
        ]
        draw_sheet(cells).save(folder / f"sheet_{number:04}.jpg", quality=85)


def _picture(parts: SlideParts, record: SlideRecord) -> bytes:
    return read_beside(parts.part(record.bag_id, RECORD_SUFFIX), PICTURE)


def _lines(record: SlideRecord, row: dict[str, str]) -> tuple[str, str]:
    """Return the two lines of text shown with the thumbnail of a slide."""
    cells = [f"{name} {cell}" for name, cell in list(row.items())[:3] if cell]
    return f"{record.num_tiles} tiles, level {record.level}", ", ".join(cells)
