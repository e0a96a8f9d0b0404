"""Merging finished slides into one bag store, byte-identical for any number of processes, interruptions or shards."""

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from milpath.data.store.bag_store import FORMAT_VERSION
from milpath.data.store.store_digests import sealed_description
from milpath.drawing import overview
from milpath.records.atomic_files import atomic_path, sync_folder, write_json, write_text
from milpath.slides.tile_positions import LEVEL0_COLUMNS
from milpath.tiling.quality_table import QUALITY_FILE, suspicious_first, warnings_of, write_quality
from milpath.tiling.slide_append import merge_tiles
from milpath.tiling.slide_job import PICTURE, RECORD_SUFFIX, ROWS, SlideRecord, TileForm, read_beside
from milpath.tiling.slide_parts import SlideParts, in_order
from milpath.tiling.tile_rows import add_level0

FOLDER = "overview"


class StorePlan(Protocol):
    """The slides of a store, before any work.

    Attributes:
        files: Name to file, sorted by name.
        labels: Name to the cells of its row, as in the table.
        refused: Name of each slide that cannot be done to the reason.
        notes: Warnings for the user, one line each.
    """

    @property
    def files(self) -> dict[str, Path]: ...  # noqa: D102
    @property
    def labels(self) -> dict[str, dict[str, str]]: ...  # noqa: D102
    @property
    def refused(self) -> dict[str, str]: ...  # noqa: D102
    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102

    def bags(self, records: Sequence[SlideRecord]) -> pd.DataFrame:
        """Return the columns of `bags.csv` after `bag_id`, `start` and `num_tiles`."""
        ...

    def changed(self, bags: pd.DataFrame) -> list[str]:
        """Return the slides of a finished store whose files were replaced since."""
        ...


@dataclass(frozen=True)
class StoreContent:
    """What a store holds, and from what it is made.

    Attributes:
        form: What it holds of each tile.
        columns: Columns of `tiles.csv` after `bag_id`.
        description: What it depends on besides the slides; `tiling` says how they are cut.
        extra: Further entries of `store.json`.
        sheets: Whether to draw contact sheets.
        source: Name of the source in `store.json`.
    """

    form: TileForm
    columns: tuple[str, ...]
    description: Mapping[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)
    sheets: bool = True
    source: str = "slides"


def merge_store(parts: SlideParts, plan: StorePlan, output: Path, content: StoreContent) -> None:
    """Merge the finished slides into the store.

    Args:
        parts: The finished slides.
        plan: Labels and files of the slides.
        output: Folder of the store.
        content: What the store holds.
    """
    records = in_order(parts.finished(plan.files).values())
    parts.store_dir.mkdir(exist_ok=True)
    with ThreadPoolExecutor(1) as pool:
        # Drawing uses the CPU while the main thread waits for the disk.
        sheets = pool.submit(write_sheets, parts, records, plan.labels) if content.sheets else None
        sha256 = merge_tiles(parts, records, content.form, output / "tiles.npy")
        if sheets is not None:
            sheets.result()
    _write_tables(parts, records, plan, content)
    publish(parts, output, describe_store(records, content, sha256))


def _write_tables(parts: SlideParts, records: Sequence[SlideRecord], plan: StorePlan, content: StoreContent) -> None:
    """Write `bags.csv`, `tiles.csv` and `quality.csv`."""
    counts = [record.num_tiles for record in records]
    bags = pd.DataFrame(
        {
            "bag_id": [record.bag_id for record in records],
            "start": (np.cumsum([0, *counts])[:-1]).tolist(),
            "num_tiles": counts,
        }
    )
    bags = pd.concat([bags, plan.bags(records)], axis=1)
    write_text(parts.store_dir / "bags.csv", bags.to_csv(index=False, lineterminator="\n"))
    with atomic_path(parts.store_dir / ROWS) as temporary, temporary.open("wb") as file:
        file.write((",".join(["bag_id", *content.columns]) + "\n").encode())
        for record in records:
            rows = read_beside(parts.part(record.bag_id, RECORD_SUFFIX), ROWS)
            if record.bounds_x0 is None and LEVEL0_COLUMNS[0] in content.columns:
                rows = add_level0(rows, content.description["tiling"]["tile_size"], record.downsample)
            file.write(rows)
    write_quality(records, parts.store_dir / QUALITY_FILE)


def describe_store(records: Sequence[SlideRecord], content: StoreContent, sha256: str) -> dict[str, Any]:
    """Return the content of `store.json`, without date or machine, so that equal stores have equal files."""
    return {
        "format_version": FORMAT_VERSION,
        "source": {"name": content.source, "parameters": dict(content.description)},
        "num_bags": len(records),
        "num_tiles": sum(record.num_tiles for record in records),
        "tile_columns": list(content.columns),
        "sha256": sha256,
        "created_by": f"milpath {version('milpath')}",
        "tiling": content.description["tiling"],
        **_common(records, "microns_per_pixel"),
        **_common(records, "downsample"),
        **content.extra,
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

    Slides that look wrong come first.

    Args:
        parts: The finished slides.
        records: Their records, in the order of the store.
        labels: Name of a slide to the cells of its row; the first few are shown under its name.
    """
    folder = parts.store_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    size = overview.ROWS * overview.COLUMNS
    records = suspicious_first(records)
    for number, start in enumerate(range(0, len(records), size), 1):
        cells = [
            (record.bag_id, _lines(record, labels.get(record.bag_id, {})), _picture(parts, record))
            for record in records[start : start + size]
        ]
        overview.draw_sheet(cells).save(folder / f"sheet_{number:04}.jpg", quality=85)


def _picture(parts: SlideParts, record: SlideRecord) -> bytes:
    return read_beside(parts.part(record.bag_id, RECORD_SUFFIX), PICTURE)


def _lines(record: SlideRecord, row: dict[str, str]) -> tuple[str, str]:
    """Return the two lines of text shown with the thumbnail of a slide; what looks wrong with it takes the second one."""
    cells = [f"{name} {cell}" for name, cell in list(row.items())[:3] if cell]
    microns = record.microns_per_pixel
    resolution = "resolution not stated" if microns is None else f"{microns:.3g} µm/px"
    return f"{record.num_tiles} tiles, {resolution}", ", ".join(warnings_of(record) or cells)
