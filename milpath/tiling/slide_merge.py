"""Merging finished slides into one bag store, byte-identical for any number of processes, interruptions or shards."""

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milpath.data.store.bag_store import FORMAT_VERSION
from milpath.data.store.store_digests import sealed_description
from milpath.drawing import overview
from milpath.records.atomic_files import atomic_path, sync_folder, write_json, write_text
from milpath.records.label_table import own_columns
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_append import merge_tiles
from milpath.tiling.slide_job import PICTURE, RECORD_SUFFIX, ROWS, SlideRecord, read_beside
from milpath.tiling.slide_parts import SlideParts, in_order
from milpath.tiling.slide_plan import SlidePlan
from milpath.tiling.tile_rows import tile_columns

FOLDER = "overview"
# Columns of bags.csv that the store writes itself.
STORE_COLUMNS = (
    "bag_id", "start", "num_tiles", "slide_file", "slide_fingerprint", "level", "downsample", "microns_per_pixel",
)  # fmt: skip


def merge_store(
    parts: SlideParts, plan: SlidePlan, output: Path, options: TileOptions, source: Mapping[str, Any]
) -> None:
    """Merge the finished slides into the store.

    Args:
        parts: The finished slides.
        plan: Labels and files of the slides.
        output: Folder of the store.
        options: How they were cut.
        source: What the store depends on besides the slides.
    """
    records = in_order(parts.finished(plan.files).values())
    columns = tile_columns(options.method, masks=plan.masks is not None)
    parts.store_dir.mkdir(exist_ok=True)
    with ThreadPoolExecutor(1) as pool:
        # Drawing uses the CPU while the main thread waits for the disk.
        sheets = pool.submit(write_sheets, parts, records, plan.labels)
        sha256 = merge_tiles(parts, records, options.tile_size, output / "tiles.npy")
        sheets.result()
    names = {
        name: str(path.relative_to(plan.root)) if path != plan.root else path.name for name, path in plan.files.items()
    }
    write_tables(parts, records, plan.labels, names, columns)
    publish(parts, output, describe_store(records, {"name": "slides", "parameters": dict(source)}, columns, sha256))


def write_tables(
    parts: SlideParts,
    records: Sequence[SlideRecord],
    labels: Mapping[str, Mapping[str, str]],
    files: Mapping[str, str],
    columns: Sequence[str],
) -> None:
    """Write `bags.csv` and `tiles.csv`.

    Args:
        parts: The finished slides.
        records: Their records, in the order of the store.
        labels: Name of a slide to the cells of its row; empty without a label table.
        files: Name of a slide to its file, as shown to the user.
        columns: Columns of `tiles.csv` after `bag_id`.
    """
    counts = [record.num_tiles for record in records]
    bags = pd.DataFrame(
        {
            "bag_id": [record.bag_id for record in records],
            "start": (np.cumsum([0, *counts])[:-1]).tolist(),
            "num_tiles": counts,
        }
    )
    if labels:
        rows = pd.DataFrame([own_columns(labels[record.bag_id], STORE_COLUMNS) for record in records])
        bags = pd.concat([bags, rows], axis=1)
    bags["slide_file"] = [files[record.bag_id] for record in records]
    bags["slide_fingerprint"] = [record.fingerprint for record in records]
    for name in ("level", "downsample", "microns_per_pixel"):
        bags[name] = [getattr(record, name) for record in records]
    write_text(parts.store_dir / "bags.csv", bags.to_csv(index=False, lineterminator="\n"))
    with atomic_path(parts.store_dir / ROWS) as temporary, temporary.open("wb") as file:
        file.write((",".join(["bag_id", *columns]) + "\n").encode())
        for record in records:
            file.write(read_beside(parts.part(record.bag_id, RECORD_SUFFIX), ROWS))


def describe_store(
    records: Sequence[SlideRecord], source: Mapping[str, Any], columns: Sequence[str], sha256: str
) -> dict[str, Any]:
    """Return the content of `store.json`, without date or machine, so that equal stores have equal files."""
    return {
        "format_version": FORMAT_VERSION,
        "source": dict(source),
        "num_bags": len(records),
        "num_tiles": sum(record.num_tiles for record in records),
        "tile_columns": list(columns),
        "sha256": sha256,
        "created_by": f"milpath {version('milpath')}",
        "tiling": source["parameters"]["tiling"],
        **_common(records, "microns_per_pixel"),
        **_common(records, "downsample"),
    }


def publish(parts: SlideParts, output: Path, description: Mapping[str, Any]) -> None:
    """Move the files to their final paths; `store.json`, which marks the store as complete, comes last."""
    for path in sorted(parts.store_dir.iterdir()):
        if path.is_dir():
            shutil.rmtree(output / path.name, ignore_errors=True)
        path.replace(output / path.name)
    write_json(output / "store.json", sealed_description(description, output))
    sync_folder(output)


def _common(records: Sequence[SlideRecord], name: str) -> dict[str, float]:
    """Return a value if all slides share it, up to rounding."""
    values = [getattr(record, name) for record in records]
    if None in values or max(values) - min(values) > 1e-3 * max(values):
        return {}
    return {name: float(np.median(values))}


def write_sheets(parts: SlideParts, records: Sequence[SlideRecord], labels: dict[str, dict[str, str]]) -> None:
    """Write `overview/sheet_0001.jpg` and so on into the new store: each slide with its selected tiles outlined.

    Args:
        parts: The finished slides.
        records: Their records, in the order of the store.
        labels: Name of a slide to the cells of its row; the first few are shown under its name.
    """
    folder = parts.store_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    size = overview.ROWS * overview.COLUMNS
    for number, start in enumerate(range(0, len(records), size), 1):
        cells = [
            (record.bag_id, _lines(record, labels.get(record.bag_id, {})), _picture(parts, record))
            for record in records[start : start + size]
        ]
        overview.draw_sheet(cells).save(folder / f"sheet_{number:04}.jpg", quality=85)


def _picture(parts: SlideParts, record: SlideRecord) -> bytes:
    return read_beside(parts.part(record.bag_id, RECORD_SUFFIX), PICTURE)


def _lines(record: SlideRecord, row: dict[str, str]) -> tuple[str, str]:
    """Return the two lines of text shown with the thumbnail of a slide."""
    cells = [f"{name} {cell}" for name, cell in list(row.items())[:3] if cell]
    return f"{record.num_tiles} tiles, level {record.level}", ", ".join(cells)
