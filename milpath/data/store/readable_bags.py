"""Reading the files of many bags: every bag that cannot be read is reported, not only the first."""

import csv
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from milpath.data.loading.threads import map_in_threads
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.records.atomic_files import atomic_path
from milpath.records.label_table import labelled_bags

_log = logging.getLogger(__name__)
Content = TypeVar("Content")
ON_ERROR = ("fail", "skip")
_MOST_NAMED = 20


def check_on_error(on_error: str) -> str:
    """Return the option if it is valid."""
    if on_error not in ON_ERROR:
        raise ValueError(f"data.on_error is {on_error!r}; it must be one of {', '.join(ON_ERROR)}")
    return on_error


def readable_bags(
    read: Callable[[str], Content], table: pd.DataFrame, writer: BagStoreWriter, where: Path, on_error: str
) -> Iterator[tuple[str, dict[str, Any], Content]]:
    """Yield name, labels and content of every bag that can be read, in the order of the table.

    Bags that an earlier process wrote are neither read nor yielded. All bags are read before the failures are reported;
    after the first failure nothing more is written, unless bags that cannot be read are skipped.

    Args:
        read: Returns the content of a bag; raises ValueError or OSError with the reason if it cannot be read.
        table: One row per bag.
        writer: The store that is written; skipped bags are recorded in it as `failures`.
        where: The data, for the message.
        on_error: "fail", or "skip" to leave bags out that cannot be read, with a warning.

    Raises:
        ValueError: With the name and the reason of every bag that cannot be read.
    """

    def attempt(bag_id: str) -> Content | _Failure | None:
        if bag_id in writer.finished:
            return None
        try:
            return read(bag_id)
        except (ValueError, OSError) as error:
            return _Failure(str(error))

    writer.expected_bags = len(table)
    failures: dict[str, str] = {}
    contents = map_in_threads(attempt, table["bag_id"])
    for (bag_id, labels), content in zip(labelled_bags(table), contents, strict=True):
        if content is None:
            writer.keep(bag_id, labels)
        elif isinstance(content, _Failure):
            failures[bag_id] = content.reason
        elif not failures or on_error == "skip":
            yield bag_id, labels, content
    if failures:
        said = describe_failures(failures, len(table), where)
        if on_error == "fail" or len(failures) == len(table):
            if on_error == "skip":
                raise ValueError(said)
            listed = writer.path.with_name(f"{writer.path.name}.failures.csv")
            write_exclusion_list(failures, listed)
            raise ValueError(said + way_out(listed))
        writer.extra["failures"] = failures
        _log.warning("left out: %s", said)


class _Failure:
    """The reason why a bag cannot be read."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def describe_failures(failures: Mapping[str, str], num_bags: int, where: str | Path) -> str:
    """Return the bags that cannot be read and why, in one line."""
    named = [f"{name!r} ({reason})" for name, reason in list(failures.items())[:_MOST_NAMED]]
    more = f"; and {len(failures) - _MOST_NAMED:,} more" if len(failures) > _MOST_NAMED else ""
    return f"{len(failures):,} of {num_bags:,} bags in {where} cannot be read: {'; '.join(named)}{more}"


def way_out(listed: Path | None = None) -> str:
    """Return what to do about bags that cannot be read."""
    if listed is None:
        return "; repair them, or leave them out with data.on_error=skip"
    return f"; repair them, or leave them out with data.on_error=skip or data.exclude=[{listed}], which lists them all"


def write_exclusion_list(failures: Mapping[str, str], path: Path) -> None:
    """Write the bags that cannot be read, with the reason, as a table that `data.exclude` reads."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("bag_id", "reason"), *failures.items()])
