"""`quality.csv` of a store: what the tiles of each slide are, and which slides look wrong."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pandas as pd

from milpath.records.atomic_files import write_text
from milpath.records.label_table import read_written_table
from milpath.slides.bag_quality import WARNINGS, BagQuality
from milpath.tiling.slide_job import SlideRecord

QUALITY_FILE = "quality.csv"
_SEPARATOR = "; "


def warnings_of(record: SlideRecord) -> list[str]:
    """Return what looks wrong with a slide; nothing for one whose tiles were not checked."""
    return [] if record.quality is None else BagQuality.from_record(record.quality).warnings


def suspicious_first(records: Sequence[SlideRecord]) -> list[SlideRecord]:
    """Return slides that look wrong before the others, each in their order."""
    return sorted(records, key=lambda record: not warnings_of(record))


def write_quality(records: Sequence[SlideRecord], path: Path) -> None:
    """Write one row per slide; nothing is written if no slide was checked.

    Args:
        records: The slides, in the order of the store.
        path: The file.
    """
    if not any(record.quality for record in records):
        return
    names = [field.name for field in fields(BagQuality)]
    rows = [
        {
            "bag_id": record.bag_id,
            **{name: (record.quality or {}).get(name) for name in names},
            "warnings": _SEPARATOR.join(warnings_of(record)),
        }
        for record in records
    ]
    table = pd.DataFrame(rows)
    counts = [field.name for field in fields(BagQuality) if field.type is int]
    table[counts] = table[counts].astype("Int64")
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def quality_notes(output: Path) -> tuple[str, ...]:
    """Return one line per warning of a finished store: to how many slides it applies.

    Args:
        output: Folder of the store.
    """
    path = output / QUALITY_FILE
    if not path.is_file():
        return ()
    counts: Counter[str] = Counter()
    for cell in read_written_table(path)["warnings"].dropna():
        counts.update(str(cell).split(_SEPARATOR))
    return tuple(
        f"{count:,} slide{'s' * (count != 1)}: {WARNINGS.get(warning, warning)}, see {path}"
        for warning, count in counts.most_common()
    )
