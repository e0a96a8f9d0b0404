"""What the files of slides say without tissue: size, time, pixels, resolution, colour, and a hash of the thumbnail."""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milpath.checks.perceptual_hash import is_blank, perceptual_hash, text_of_hash
from milpath.checks.slide_colours import COLOURS, mean_densities
from milpath.data.loading.threads import num_cores
from milpath.records.atomic_files import write_text
from milpath.records.digests import sampled_sha256_of_file, size_and_time
from milpath.records.error_text import reason_of
from milpath.records.label_table import read_written_table
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_view import thumbnail

FACTS_FILE = "slides.csv"
_COLUMNS = (
    "bag_id", "file", "file_size", "file_time", "fingerprint", "width", "height", "microns_per_pixel", *COLOURS, "blank",
    "hash", "reason",
)  # fmt: skip
# The hash needs 64 pixels; with a few times more, the filter that shrinks a slide has no influence.
_THUMBNAIL = 256
_SAVED_EVERY = 200


def slide_facts(
    files: Mapping[str, Path], output: Path, tell: Callable[[int, int], None] | None = None
) -> pd.DataFrame:
    """Return one row per slide, and keep it in `slides.csv`: a slide whose file did not change is not opened again.

    Args:
        files: Name of a slide to its file.
        output: Folder of `slides.csv`.
        tell: Called now and then with the number of slides that are done, and of all.

    Returns:
        `bag_id`, `file`, `file_size` (bytes), `file_time` (nanoseconds), `fingerprint` (sampled SHA-256), `width` and
        `height` (pixels of level 0), `microns_per_pixel`, mean optical densities, `blank` (1 if the thumbnail shows
        nothing), `hash` (of the thumbnail) and `reason`, which is empty unless the file cannot be read.
    """
    path = output / FACTS_FILE
    known = _kept(path)
    rows: list[dict[str, Any]] = []
    waiting: list[tuple[str, Path]] = []
    for name, file in files.items():
        old = known.get(name)
        with suppress(OSError):
            if (
                old is not None
                and (old["file_size"], old["file_time"]) == size_and_time(file)
                and old["file"] == str(file)
            ):
                rows.append(old)
                continue
        waiting.append((name, file))
    with ThreadPoolExecutor(max(1, num_cores())) as threads:
        for number, row in enumerate(threads.map(lambda item: _facts(*item), waiting), 1):
            rows.append(row)
            if number % _SAVED_EVERY == 0:
                _keep(rows, path)
                if tell is not None:
                    tell(number, len(waiting))
    _keep(rows, path)
    order = {name: place for place, name in enumerate(files)}
    rows.sort(key=lambda row: order[row["bag_id"]])
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _facts(name: str, file: Path) -> dict[str, Any]:
    """Return the row of a slide."""
    row: dict[str, Any] = dict.fromkeys(_COLUMNS, math.nan) | {
        "bag_id": name, "file": str(file), "file_size": 0, "file_time": 0, "fingerprint": "", "blank": 1, "hash": "",
        "reason": "",
    }  # fmt: skip
    try:
        row["file_size"], row["file_time"] = size_and_time(file)
        row["fingerprint"] = sampled_sha256_of_file(file)
        with open_slide(file) as slide:
            row["width"], row["height"] = slide.level_sizes[0]
            if slide.microns_per_pixel is not None:
                row["microns_per_pixel"] = slide.microns_per_pixel
            pixels = np.ascontiguousarray(thumbnail(slide, _THUMBNAIL)[0])
        row |= dict(zip(COLOURS, mean_densities(pixels).tolist(), strict=True))
        row["blank"], row["hash"] = int(is_blank(pixels)), text_of_hash(perceptual_hash(pixels))
    except (OSError, ValueError) as error:
        row["reason"] = reason_of(error)
    return row


def _kept(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of an earlier check; none of a file that is damaged, or from another version."""
    if not path.is_file():
        return {}
    try:
        table = read_written_table(path, required=_COLUMNS)
    except (ValueError, OSError):
        return {}
    # Nanoseconds have so many digits that they are read as a code.
    table = table[table["reason"].isna()]
    table = table.astype({"hash": str, "fingerprint": str, "reason": object, "file_time": "int64"})
    rows = ({str(name): value for name, value in row.items()} for row in table.to_dict("records"))
    return {str(row["bag_id"]): row | {"reason": ""} for row in rows}


def _keep(rows: list[dict[str, Any]], path: Path) -> None:
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
