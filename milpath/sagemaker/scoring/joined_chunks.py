"""The results of many jobs as one prediction: tables in the order of one run, and the files of each slide."""

import csv
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from milpath.records.atomic_files import atomic_path
from milpath.sagemaker.processing.slide_listing import S3Slide, WorkState
from milpath.sagemaker.scoring.predict_chunks import DONE_FILE, read_done


@dataclass(frozen=True)
class Chunks:
    """What the jobs of a name have predicted.

    Attributes:
        state: Which slides are finished, failed and to do.
        reasons: Name of each failed slide to the reason.
        keep: Folder of a chunk to the slides that are taken from it; a slide that was predicted twice is taken once.
        owners: Folder of a chunk to its files with the slide of each.
    """

    state: WorkState
    reasons: Mapping[str, str] = field(default_factory=dict)
    keep: Mapping[str, frozenset[str]] = field(default_factory=dict)
    owners: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)


def chunks_in(
    slides: Sequence[S3Slide], objects: Mapping[str, Mapping[str, Any]], read: Callable[[str], bytes]
) -> Chunks:
    """Return what is predicted; a chunk counts if all its files are there, for slides that were not replaced since.

    Args:
        slides: The slides.
        objects: Objects below the folder of the chunks, from `list_objects`.
        read: Returns the content of one of them.
    """
    modified = {slide.name: slide.modified for slide in slides}
    latest: dict[str, tuple[Any, str, str | None]] = {}
    owners: dict[str, dict[str, str | None]] = {}
    for key in sorted(objects):
        folder, _, name = key.rpartition("/")
        if name != DONE_FILE:
            continue
        done_here = read_done(read(key))
        if any(objects.get(f"{folder}/{file}", {}).get("Size") != size for file, size in done_here.sizes.items()):
            continue
        owners[folder] = done_here.owners
        time = objects[key]["LastModified"]
        for slide, reason in [*dict.fromkeys(done_here.predicted).items(), *done_here.failures.items()]:
            if slide in modified and time >= modified[slide] and (slide not in latest or time >= latest[slide][0]):
                latest[slide] = (time, folder, reason)
    reasons = {slide: reason for slide, (_, _, reason) in latest.items() if reason is not None}
    done = [slide for slide in slides if slide.name in latest]
    failed = {slide: f"{latest[slide.name][1]}/{DONE_FILE}" for slide in done if slide.name in reasons}
    keep: dict[str, set[str]] = {}
    for name, (_, folder, reason) in latest.items():
        if reason is None:
            keep.setdefault(folder, set()).add(name)
    return Chunks(
        WorkState(
            tuple(slide for slide in done if slide not in failed), failed,
            tuple(slide for slide in slides if slide.name not in latest),
        ),
        reasons, {folder: frozenset(names) for folder, names in keep.items()}, owners,
    )  # fmt: skip


def join_tables(paths: Sequence[tuple[Path, frozenset[str]]], target: Path) -> None:
    """Merge tables whose first column is the slide into one, sorted by slide, without reading them into memory.

    Args:
        paths: Each table, sorted by slide, and the slides that are taken from it.
        target: The table to write.

    Raises:
        ValueError: If the tables have different columns: they are not of one network.
    """
    with ExitStack() as opened:
        readers = [csv.reader(opened.enter_context(path.open(newline="", encoding="utf-8"))) for path, _ in paths]
        headers = [next(reader) for reader in readers]
        if other := next((header for header in headers if header != headers[0]), None):
            raise ValueError(
                f"the tables of {target.name} have the columns {', '.join(headers[0])} and {', '.join(other)}"
            )
        with atomic_path(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(headers[0])
            kept = [_kept(reader, names) for reader, (_, names) in zip(readers, paths, strict=True)]
            rows = heapq.merge(*kept, key=itemgetter(0))
            writer.writerows(rows)


def _kept(rows: Iterable[list[str]], names: frozenset[str]) -> Iterator[list[str]]:
    return (row for row in rows if row[0] in names)


def files_of(chunks: Chunks) -> dict[str, str]:
    """Return the other files of the slides, `geojson/NAME.geojson` and pictures, by the key of their object."""
    return {
        f"{folder}/{file}": file
        for folder, names in chunks.keep.items()
        for file, owner in chunks.owners[folder].items()
        if owner in names
    }
