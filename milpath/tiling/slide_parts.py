"""Unfinished work: two files per finished slide, one per failed slide. Existing files are not written again."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from milpath.records.atomic_files import write_json
from milpath.records.digests import sha256_of_text, size_and_time
from milpath.records.plain_values import read_mapping
from milpath.tiling.slide_job import RECORD_SUFFIX, TILES_SUFFIX, SlideRecord


class SlideParts:
    """The folder `parts` inside an output folder.

    Args:
        output: Folder of the store.

    Attributes:
        path: The folder.
        store_dir: Folder in which the store is merged.
    """

    def __init__(self, output: Path) -> None:
        self.path = output / "parts"
        self.store_dir = self.path / "store"
        self._merged = self.path / "merged.json"

    def begin(self, description: dict[str, Any]) -> None:
        """Start, or continue work that was started with the same options.

        Raises:
            ValueError: If it was started with other options.
        """
        plan = self.path / "plan.json"
        self.path.mkdir(parents=True, exist_ok=True)
        if not plan.exists():
            write_json(plan, description)
            return
        begun = read_mapping(plan)
        if begun != description:
            changed = [key for key in description if begun.get(key) != description[key]]
            words = ", ".join(f"{key}={begun.get(key)} then, {key}={description[key]} now" for key in changed)
            raise ValueError(
                f"{self.path.parent} contains unfinished work with other options ({words}); "
                "set the same options, or overwrite=true"
            )

    def part(self, name: str, suffix: str = "") -> Path:
        """Return the path of a slide's file; the name is hashed, since it may be too long or invalid as a file name."""
        return self.path / (sha256_of_text(name)[:24] + suffix)

    def finished(self, files: dict[str, Path]) -> dict[str, SlideRecord]:
        """Return the records of finished slides whose files have not changed since."""
        there = {path.name for path in self.path.iterdir()}
        records = {}
        for name in files:
            path = self.part(name, RECORD_SUFFIX)
            if path.name in there and (record := SlideRecord.read(path)) is not None:
                records[name] = record
        merged = set(self.merged(records.values()))
        done = {}
        for name, record in records.items():
            try:
                found = size_and_time(files[name])
            except OSError:
                continue  # reported when the slide is read
            same = (record.file_size, record.file_time) == found
            if same and (name in merged or self.part(name, TILES_SUFFIX).name in there):
                done[name] = record
        return done

    def fail(self, name: str, reason: str) -> None:
        """Save why a slide failed."""
        write_json(self._failure(name), {"bag_id": name, "reason": reason})

    def succeed(self, name: str) -> None:
        """Delete the saved failure of a slide."""
        self._failure(name).unlink(missing_ok=True)

    def failures(self, names: Iterable[str]) -> dict[str, str]:
        """Return the names of the failed slides and the reasons."""
        paths = {name: self._failure(name) for name in names}
        return {name: str(read_mapping(path).get("reason")) for name, path in paths.items() if path.is_file()}

    def merged(self, records: Iterable[SlideRecord]) -> list[str]:
        """Return the slides whose tiles are already in the new store, if it is a store of exactly these slides."""
        records = list(records)
        try:
            state = read_mapping(self._merged)
        except FileNotFoundError:
            return []
        num_merged = state.get("num_merged")
        if state.get("order") != order_of(records) or not isinstance(num_merged, int):
            return []
        return [record.bag_id for record in in_order(records)][:num_merged]

    def set_merged(self, records: Iterable[SlideRecord], num_merged: int) -> None:
        """Save how many slides are in the new store."""
        write_json(self._merged, {"order": order_of(records), "num_merged": num_merged})

    def remove(self) -> None:
        """Delete the folder; another shard may be deleting it at the same time."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _failure(self, name: str) -> Path:
        return self.part(name, ".failed.json")


def in_order(records: Iterable[SlideRecord]) -> list[SlideRecord]:
    """Return records in the order of a store."""
    return sorted(records, key=lambda record: record.bag_id)


def order_of(records: Iterable[SlideRecord]) -> str:
    """Return an identifier of exactly these slides with exactly these tiles."""
    content = [(record.bag_id, record.num_tiles, record.crc32) for record in in_order(records)]
    return sha256_of_text(json.dumps(content))
