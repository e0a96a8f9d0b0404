"""One run over many slides into one store: what is finished is kept, and the last run merges it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from milpath.records.error_text import counted
from milpath.slides.slide_files import parse_shard
from milpath.tiling.quality_table import quality_notes
from milpath.tiling.slide_merge import StoreContent, StorePlan, merge_store
from milpath.tiling.slide_output import disk_errors, open_output, read_failures, remove_leftovers, write_failures
from milpath.tiling.slide_parts import SlideParts
from milpath.tiling.slide_progress import SlideProgress
from milpath.tiling.slide_resolutions import require_known_choice, require_one_resolution, resolution_notes

ON_ERROR = ("fail", "skip")
# Thirty days: the system takes no wait of any length.
MOST_SECONDS = 30 * 86_400


@dataclass(frozen=True)
class TilingSummary:
    """Result of a run.

    Attributes:
        num_slides: Slides in the whole store.
        num_cut: Slides done by this run.
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


def run_slides(
    plan: StorePlan,
    output: Path,
    content: StoreContent,
    work: Callable[[list[str], SlideParts], SlideProgress],
    *,
    on_error: str = "fail",
    overwrite: bool = False,
    shard: str | None = None,
    mixed_resolution: str = "error",
) -> TilingSummary:
    """Do the slides of a plan that are not finished, and merge the store once all are.

    Args:
        plan: The slides.
        output: Folder of the store.
        content: What the store holds.
        work: Does the slides with the given names and saves the result of each in the folder of parts.
        on_error: "fail" writes no store if a slide failed, "skip" omits the slide.
        overwrite: Delete a store or unfinished work in `output` first.
        shard: `i/n` does every n-th slide; the path of a text file does the slides that it names, one a line.
        mixed_resolution: "error" refuses tiles that differ in resolution by more than a factor of 1.25, "allow" does not.

    Raises:
        FileExistsError: If the output contains another store.
        ValueError: If it contains unfinished work with other options, the tiles differ in resolution, or the disk is full.
    """
    require_known_choice(mixed_resolution)
    with disk_errors(output):
        if open_output(output, plan, dict(content.description), overwrite=overwrite):
            failures = read_failures(output / "failures.csv")
            num_before = len(plan.files.keys() - failures.keys())
            return TilingSummary(
                len(plan.files), 0, num_before, 0, failures, True, 0.0, 0, (*plan.notes, *quality_notes(output))
            )
        parts = SlideParts(output)
        done = parts.finished(plan.files)
        chosen = _shard_of(list(plan.files), shard, plan.refused)
        progress = work([name for name in chosen if name not in done], parts)
        failures, num_unfinished, notes = _put_together(
            plan, parts, output, content, skip=on_error == "skip", mixed_resolution=mixed_resolution
        )
    return TilingSummary(
        len(plan.files), progress.num_done - progress.num_failed, len(done), num_unfinished, failures,
        (output / "store.json").exists(), progress.rate, progress.peak_memory,
        (*plan.notes, *notes, *quality_notes(output)),
    )  # fmt: skip


def _put_together(
    plan: StorePlan, parts: SlideParts, output: Path, content: StoreContent, *, skip: bool, mixed_resolution: str
) -> tuple[dict[str, str], int, list[str]]:
    """Write the store if all slides are done; return the failures, the number of unfinished slides, and notes.

    Several shards may finish last at the same time. One of them merges the store and deletes the parts, including the
    lock; the others recognise this by the finished store.
    """
    store = output / "store.json"
    notes: list[str] = []
    try:
        with FileLock(parts.path / "merge.lock"):
            if not store.exists():
                records = parts.finished(plan.files)
                failures = plan.refused | parts.failures(name for name in plan.files if name not in records)
                num_unfinished = len(plan.files.keys() - records.keys() - failures.keys())
                write_failures(failures, output / "failures.csv")
                if num_unfinished or not records or (failures and not skip):
                    return failures, num_unfinished, resolution_notes(list(records.values()))
                require_one_resolution(list(records.values()), mixed_resolution)
                notes = resolution_notes(list(records.values()))
                merge_store(parts, plan, output, content)
                remove_leftovers(output)
    except FileNotFoundError:
        if not store.exists():
            raise
    parts.remove()
    return read_failures(output / "failures.csv"), 0, notes


def require_known_on_error(on_error: str) -> None:
    """Refuse an unknown value of the option `on_error`."""
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error={on_error} is unknown; it must be one of {', '.join(ON_ERROR)}")


def require_sensible(
    on_error: str,
    num_workers: int | None,
    overwrite: bool,
    shard: str | None = None,
    max_seconds: float | None = None,
) -> None:
    """Refuse options of a run that contradict each other, are unknown or out of their range."""
    require_known_on_error(on_error)
    if max_seconds is not None and not 0 < max_seconds <= MOST_SECONDS:
        raise ValueError(
            f"max_seconds={max_seconds:g} must be above 0 and at most {MOST_SECONDS:,}, or null for no limit"
        )
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers={num_workers} must be at least 1, or null for one per core")
    if overwrite and shard is not None:
        raise ValueError(
            "overwrite=true with shard=... would delete the work of the other shards; delete the folder first"
        )


def _shard_of(names: list[str], shard: str | None, refused: Collection[str]) -> list[str]:
    """Return every n-th slide, starting with the i-th, or those that a file names.

    Raises:
        ValueError: If the file names a slide that is not there.
    """
    if shard is None:
        return names
    if Path(shard).is_file():
        wanted = Path(shard).read_text(encoding="utf-8").splitlines()
        if strangers := sorted(set(wanted).difference(names, refused)):
            raise ValueError(f"shard={shard} names {strangers[0]!r}, which is not one of the {len(names):,} slides")
        return sorted(set(wanted).intersection(names))
    index, count = parse_shard(shard)
    return [name for position, name in enumerate(names, 1) if position % count == index]


def describe_run(summary: TilingSummary, output: str, done: str, complete: str) -> str:
    """Return a summary of a run in a few lines.

    Args:
        summary: The run.
        output: Folder of the store.
        done: What this run did, said if it did any slide.
        complete: Said if the store is complete.
    """
    lines = list(summary.notes)
    if summary.num_before:
        lines.append(f"{summary.num_before:,} of {summary.num_slides:,} slides were already finished")
    if summary.num_cut:
        lines.append(done)
    if summary.has_store:
        if summary.failures:
            lines.append(f"left out: {describe_failures(summary, output)}")
        lines.append(complete)
    elif summary.num_unfinished:
        left = f"{summary.num_unfinished:,} slides are left for other shards"
        lines.append(f"{left}; the last shard to finish writes the store")
    return "".join(f"{line}\n" for line in lines)


def describe_failures(summary: TilingSummary, output: str) -> str:
    """Return how many slides failed and the first of them."""
    name, reason = next(iter(sorted(summary.failures.items())))
    return f"{counted(len(summary.failures), 'slide')} failed, see {output}/failures.csv (first: {name!r}: {reason})"


def require_complete_store(summary: TilingSummary, output: str, on_error: str) -> None:
    """Refuse a run with failed slides, unless they were to be left out.

    Raises:
        ValueError: With the number of failed slides, the first reason and what to do.
    """
    if not summary.failures or (on_error == "skip" and (summary.has_store or summary.num_unfinished)):
        return
    way_out = (
        "the store leaves them out: fix them and add overwrite=true"
        if summary.has_store
        else "no store was written: fix them"
    )
    if on_error != "skip":
        way_out += ", or add on_error=skip to leave them out"
    # Raised rather than sys.exit: in a sweep over shards the remaining shards still run.
    raise ValueError(f"{describe_failures(summary, output)}; {way_out}")
