"""Cutting a folder of slides into one bag store, in parallel and resumable; no slide is skipped silently."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from milpath.records.digests import sha256_of_file
from milpath.slides.slide_files import parse_shard
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_job import SlideJob
from milpath.tiling.slide_merge import merge_store
from milpath.tiling.slide_output import disk_errors, open_output, read_failures, require_room, write_failures
from milpath.tiling.slide_parts import SlideParts
from milpath.tiling.slide_plan import SlidePlan, plan_slides, require_complete
from milpath.tiling.slide_progress import SlideProgress
from milpath.tiling.worker_pool import cut_slides

ON_ERROR = ("fail", "skip")
MAX_SECONDS = 3600.0


@dataclass(frozen=True)
class TilingSummary:
    """Result of a run.

    Attributes:
        num_slides: Slides in the whole store.
        num_cut: Slides cut by this run.
        num_before: Slides finished by earlier runs.
        num_unfinished: Slides left for other shards.
        failures: Name of each slide that is not in the store to the reason.
        has_store: Whether the store is complete.
        rate: Slides per second of this run.
        peak_memory: Largest memory of a worker in bytes.
        notes: Warnings, one line each.
    """

    num_slides: int
    num_cut: int
    num_before: int
    num_unfinished: int
    failures: Mapping[str, str]
    has_store: bool
    rate: float
    peak_memory: int
    notes: tuple[str, ...]


def build_slide_store(
    slides: str | Path,
    output: str | Path,
    options: TileOptions | None = None,
    *,
    labels: str | Path | None = None,
    masks: str | Path | None = None,
    id_column: str | None = None,
    label_column: str | None = None,
    num_workers: int | None = None,
    write_png: bool = False,
    on_error: str = "fail",
    overwrite: bool = False,
    shard: str | None = None,
    max_seconds: float | None = MAX_SECONDS,
) -> TilingSummary:
    """Cut slides into a bag store.

    Every slide is tried. Each finished slide is saved: an interrupted run continues, and several machines may each do a
    shard in the same output folder; the one that finishes the last slide merges the store.

    Args:
        slides: Folder of slides, or one slide.
        output: Folder of the store.
        options: How slides are cut into tiles; `None` uses the rule of the PANDA tile set.
        labels: Table with one row per slide (CSV, `.xlsx` or `.parquet`); its columns are copied into `bags.csv`.
        masks: Folder of PANDA masks; the tile labels derived from them are written to `tiles.csv`.
        id_column: Column of the table that names the slides; `None` takes `slide_id` or one of its other names.
        label_column: Column of the table in which every slide must have a cell; `None` checks none.
        num_workers: Number of processes; `None` for one per core.
        write_png: Also write `png/{slide}_{i}.png`, the layout of the published tile set.
        on_error: "fail" writes no store if a slide failed, "skip" omits the slide.
        overwrite: Delete a store or unfinished work in `output` first.
        shard: `i/n` does every n-th slide.
        max_seconds: A slide that takes longer fails; `None` is no limit.

    Raises:
        FileNotFoundError: If the slides, the table or the masks do not exist.
        FileExistsError: If the output contains another store.
        ValueError: If options, table, slides and masks do not fit together, or the disk is full.
    """
    options, output = options or TileOptions(), Path(output)
    _require_sensible(on_error, num_workers, overwrite, shard)
    plan = plan_slides(
        Path(slides), _path(labels), _path(masks), output, id_column=id_column, label_column=label_column
    )
    if on_error == "fail":
        require_complete(plan)
    description = {
        "tiling": options.to_tiling(),
        "masks": masks is not None,
        "labels": None if labels is None else sha256_of_file(Path(labels)),
        "write_png": write_png,
        **({"id_column": id_column} if id_column else {}),
    }
    with disk_errors(output):
        if open_output(output, plan, description, overwrite=overwrite):
            failures = read_failures(output / "failures.csv")
            num_before = len(plan.files.keys() - failures.keys())
            return TilingSummary(len(plan.files), 0, num_before, 0, failures, True, 0.0, 0, plan.notes)
        parts = SlideParts(output)
        done = parts.finished(plan.files)
        waiting = [name for name in _shard_of(list(plan.files), shard) if name not in done]
        require_room(output, options, len(waiting))
        progress = _cut(plan, parts, output, options, waiting, num_workers or _num_cores(), write_png, max_seconds)
        failures, num_unfinished = _put_together(plan, parts, output, options, description, skip=on_error == "skip")
    return TilingSummary(
        len(plan.files), progress.num_done - progress.num_failed, len(done), num_unfinished, failures,
        (output / "store.json").exists(), progress.rate, progress.peak_memory, plan.notes,
    )  # fmt: skip


def _put_together(
    plan: SlidePlan,
    parts: SlideParts,
    output: Path,
    options: TileOptions,
    description: Mapping[str, object],
    *,
    skip: bool,
) -> tuple[dict[str, str], int]:
    """Write the store if all slides are done; return the failures and the number of unfinished slides.

    Several shards may finish last at the same time. One of them merges the store and deletes the parts, including the
    lock; the others recognise this by the finished store.
    """
    store = output / "store.json"
    try:
        with FileLock(parts.path / "merge.lock"):
            if not store.exists():
                records = parts.finished(plan.files)
                failures = plan.refused | parts.failures(name for name in plan.files if name not in records)
                num_unfinished = len(plan.files.keys() - records.keys() - failures.keys())
                write_failures(failures, output / "failures.csv")
                if num_unfinished or not records or (failures and not skip):
                    return failures, num_unfinished
                merge_store(parts, plan, output, options, description)
    except FileNotFoundError:
        if not store.exists():
            raise
    parts.remove()
    return read_failures(output / "failures.csv"), 0


def _cut(
    plan: SlidePlan,
    parts: SlideParts,
    output: Path,
    options: TileOptions,
    names: list[str],
    num_workers: int,
    write_png: bool,
    max_seconds: float | None,
) -> SlideProgress:
    """Cut slides and record the result of each."""
    png_dir = output / "png"
    if write_png:
        png_dir.mkdir(exist_ok=True)
    jobs = (
        SlideJob(
            name, str(plan.files[name]), str(parts.part(name)), str(png_dir) if write_png else None,
            str(plan.masks[name]) if plan.masks and name in plan.masks else None, plan.provider(name), options,
        )
        for name in names
    )  # fmt: skip
    with SlideProgress(len(names)) as progress:
        for answer in cut_slides(jobs, min(num_workers, max(1, len(names))), max_seconds):
            if answer.error is None:
                parts.succeed(answer.job.bag_id)
            else:
                parts.fail(answer.job.bag_id, " ".join(answer.error.split()))
            progress.advance(failed=answer.error is not None, peak_memory=answer.peak_memory)
    return progress


def _require_sensible(on_error: str, num_workers: int | None, overwrite: bool, shard: str | None) -> None:
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error={on_error} is unknown; it must be one of {', '.join(ON_ERROR)}")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers={num_workers} must be at least 1, or null for one per core")
    if overwrite and shard is not None:
        raise ValueError(
            "overwrite=true with shard=... would delete the work of the other shards; delete the folder first"
        )


def _shard_of(names: list[str], shard: str | None) -> list[str]:
    """Return every n-th slide, starting with the i-th."""
    if shard is None:
        return names
    index, count = parse_shard(shard)
    return [name for position, name in enumerate(names, 1) if position % count == index]


def _num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
