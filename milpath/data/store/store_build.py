"""Building the bag store of a source once, and finding it again by its content."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from filelock import FileLock
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from milpath.data.sources.bag_source import BagSource, FileSource
from milpath.data.store.bag_store import FORMAT_VERSION, BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.relabelled_store import find_store, labelled_as, parameters_of
from milpath.data.store.resumable_writer import ResumableStoreWriter
from milpath.data.store.stored_bags import StoredBags
from milpath.drawing.progress import ProgressLines
from milpath.records.data_warning import warning_of_source
from milpath.records.digests import sha256_of_text

_log = logging.getLogger(__name__)


class TableCheck(Protocol):
    """A check of a label table, which raises a ValueError."""

    def __call__(self, table: pd.DataFrame, *, and_split: bool) -> None: ...  # noqa: D102


def open_or_build(
    source: BagSource, stores_dir: str | Path, check: Callable[[], None] | None = None, *, verify: bool = True
) -> BagStore:
    """Return the bag store of a source; build it first if it does not exist.

    The folder is named by the source and a hash of its description, so that other parameters or changed files give
    another store. A file lock lets one process build while the others wait; a killed process leaves no partial store.

    Args:
        source: Source of the bags; a `StoredBags` is opened in place.
        stores_dir: Folder of the stores.
        check: Called before a store is built, to report errors before the work starts.
        verify: False skips the hash of a store's array (see `BagStore.open`).

    Raises:
        FileNotFoundError: If the data do not exist.
        ValueError: If the data are invalid.
    """
    if isinstance(source, StoredBags):
        return BagStore.open(source.path, verify=verify)
    if isinstance(source, FileSource):
        before = None if check is None else lambda table, and_split: check()
        return open_or_build_labelled(source, stores_dir, check=before, verify=verify)
    stores_dir = Path(stores_dir)
    description = source.describe()
    path = stores_dir / f"{type(source).__name__}-{_key(description, type(source).__module__)}"
    if not path.exists():
        stores_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(stores_dir / f".{path.name}.lock"):
            # Another process may have built it in the meantime.
            if not path.exists():
                if check is not None:
                    check()
                _build(source, path, description)
    return BagStore.open(path, verify=verify)


def open_or_build_labelled(
    source: FileSource,
    stores_dir: str | Path,
    left_out: Collection[str] = (),
    check: TableCheck | None = None,
    *,
    verify: bool = True,
) -> BagStore:
    """Return the bags of a label table, with its labels; a store is built only if none has their tiles.

    Args:
        source: Source of the bags.
        stores_dir: Folder of the stores.
        left_out: Bags whose files are not opened.
        check: Called with the label table before a store is opened, and with `and_split=True` before one is built, to
            report errors before the work starts.
        verify: False skips the hash of a store's array (see `BagStore.open`).

    Raises:
        FileNotFoundError: If the data do not exist.
        ValueError: If the data are invalid; bags that cannot be read are all named.
    """
    # A source that reads every image to describe itself does so when its labels are known to be right.
    stores_dir, first = Path(stores_dir), getattr(source, "hashes_images", False)
    description = {} if first else source.describe()
    table = source.label_table(left_out)
    if check is not None:
        check(table, and_split=False)
    description = source.describe() if first else description
    name, module = type(source).__name__, type(source).__module__
    bags = {"bags": sha256_of_text("\n".join(table["bag_id"]))}
    path = stores_dir / f"{name}-{_key(description | bags, module)}"
    # A store of somebody else's class of the same name is recognised by its key only.
    stem = name if module.partition(".")[0] == "milpath" else ""
    found = find_store(path, stem, description, table["bag_id"], getattr(source, "is_in_store", None))
    built = False
    if found is None:
        stores_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(stores_dir / f".{path.name}.lock"):
            # Another process may have built it in the meantime.
            if not path.exists():
                if check is not None:
                    check(table, and_split=True)
                parameters = parameters_of(source, description)
                _build(source, path, parameters, table)
                built = True
        found = path
    return labelled_as(BagStore.open(found, verify=verify), source, description, table, just_built=built)


def _key(description: dict[str, Any], module: str) -> str:
    """Return a short name for a description; user-defined data sets in different modules may have the same class name."""
    own = [] if module.partition(".")[0] == "milpath" else [module]
    text = json.dumps([FORMAT_VERSION, description, *own], sort_keys=True, allow_nan=False)
    return sha256_of_text(text)[:16]


def _build(
    source: BagSource | FileSource, path: Path, description: dict[str, Any], table: pd.DataFrame | None = None
) -> None:
    """Write the store, of the bags of a table if one is given, and log a summary line."""
    for leftover in path.parent.glob(f"{path.name}.partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    name = type(source).__name__
    started = time.perf_counter()
    recorded = {"name": name, "parameters": description}
    extra = {"warning": warning} if (warning := warning_of_source(source)) else {}
    if table is not None and isinstance(source, FileSource):
        with ResumableStoreWriter(path, recorded, extra) as resumable, _progress(resumable, name):
            source.write_bags(resumable, table)
        num_bags = resumable.num_bags
    else:
        with BagStoreWriter(path, recorded, extra) as writer, _progress(writer, name):
            source.write(writer)
        num_bags = writer.num_bags
    size = (path / "tiles.npy").stat().st_size
    _log.info(
        "%s: %s bags (%s MB) written to %s in %.1f s; later runs read them there",
        name, f"{num_bags:,}", f"{size / 1e6:,.0f}", path, time.perf_counter() - started,
    )  # fmt: skip


def _progress(writer: BagStoreWriter, name: str) -> AbstractContextManager[object]:
    """Show the progress of the writer: a bar on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        writer.on_bag = ProgressLines(f"bag store of {name}, bags").show
        return nullcontext()
    columns = (TextColumn(f"Building the bag store of {name}"), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(name, total=None)
    writer.on_bag = _advance(progress, task)
    return progress


def _advance(progress: Progress, task: Any) -> Callable[[int, int | None], None]:
    """Return the callback of the writer after each bag."""
    return lambda done, total: progress.update(task, completed=done, total=total)
