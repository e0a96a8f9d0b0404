"""The output folder of a tiling run: new, unfinished or complete."""

import csv
import errno
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from milpath.data.store.tile_table import INDEX_FILES
from milpath.data.store.verified_arrays import MEMORY
from milpath.records.atomic_files import atomic_path, remove_partial_files
from milpath.records.error_text import counted
from milpath.records.label_table import read_written_table
from milpath.records.plain_values import read_mapping
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.kept_inputs import require_kept
from milpath.tiling.quality_table import QUALITY_FILE
from milpath.tiling.slide_job import OutputError
from milpath.tiling.slide_merge import StorePlan
from milpath.tiling.slide_parts import SlideParts

_FILES = ("store.json", "tiles.npy", "bags.csv", "tiles.csv", "failures.csv", QUALITY_FILE, MEMORY, *INDEX_FILES)
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
# One file of features per slide, in the formats of other programs.
FEATURE_FOLDERS = ("h5", "stamp")
# All that a run writes in its output, and deletes to overwrite it.
WRITTEN = (*_FILES, "parts", "overview", "png", *FEATURE_FOLDERS)
_PNG = re.compile(r".+_\d+\.png", re.DOTALL)


def open_output(output: Path, plan: StorePlan, description: dict[str, Any], *, overwrite: bool) -> bool:
    """Prepare the output folder, and return whether the store is already complete.

    Args:
        output: The folder; created if it does not exist.
        plan: The slides of the store.
        description: What the store depends on besides the slides.
        overwrite: Delete the output of an earlier run; other files stay.

    Returns:
        Whether a store of exactly these slides and options already exists.

    Raises:
        FileExistsError: If another store exists.
        ValueError: If unfinished work with other options exists, or a slide is among what would be deleted.
    """
    output.mkdir(parents=True, exist_ok=True)
    if overwrite:
        # Links may lead from the folder of the slides into the output.
        require_kept(output, WRITTEN, {f"slide {name!r} of slides": path for name, path in plan.files.items()})
        _clear(output)
    path = output / "store.json"
    if path.exists():
        source = read_mapping(path).get("source")
        table = read_written_table(output / "bags.csv")
        bags = set(table["bag_id"])
        if isinstance(source, dict) and source.get("parameters") == description and bags <= set(plan.files):
            left = set(plan.files) - bags - set(read_failures(output / "failures.csv"))
            if not left:
                _require_same_slides(output, table, plan)
                # A run that was interrupted before its last step.
                SlideParts(output).remove()
                remove_leftovers(output)
                return True
        raise FileExistsError(
            f"{output} contains a bag store of other slides or options; set another output, or overwrite=true to replace it"
        )
    if (output / "tiles.npy").exists() and not SlideParts(output).path.exists():
        raise FileExistsError(
            f"{output} contains a tiles.npy that was not written by a tiling run; set another output, or overwrite=true"
        )
    SlideParts(output).begin(description)
    return False


def remove_leftovers(output: Path) -> None:
    """Delete the partial files of killed runs next to a finished store, which no tiling run writes to any more."""
    for folder in (output, output / "overview", output / "png"):
        remove_partial_files(folder)


def _require_same_slides(output: Path, bags: pd.DataFrame, plan: StorePlan) -> None:
    """Refuse a store if files of its slides were replaced since."""
    if changed := plan.changed(bags):
        raise FileExistsError(
            f"{output} was cut from another {plan.files[changed[0]].name} than the current file ({len(changed):,} of "
            f"{len(bags):,} slides were replaced); set another output, or overwrite=true"
        )


def read_failures(path: Path) -> dict[str, str]:
    """Return slide and reason from a `failures.csv`; empty if the file does not exist."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["slide"]: row["reason"] for row in csv.DictReader(file)}


def _clear(output: Path) -> None:
    """Delete a store and the files that belong to it, and nothing else."""
    for name in _FILES:
        (output / name).unlink(missing_ok=True)
    for name in ("parts", "overview", *FEATURE_FOLDERS):
        shutil.rmtree(output / name, ignore_errors=True)
    remove_partial_files(output / "png")
    if (output / "png").is_dir():
        for path in (output / "png").iterdir():
            if _PNG.fullmatch(path.name):
                path.unlink()


def write_failures(failures: Mapping[str, str], path: Path) -> None:
    """Write `failures.csv`: slide and reason; only the header if there are no failures."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("slide", "reason"), *sorted(failures.items())])


def require_room(output: Path, options: TileOptions, num_slides: int) -> None:
    """Refuse to start if the disk is known to be too small."""
    if options.method != "darkest" or options.num_tiles is None:
        return
    needed = num_slides * options.num_tiles * options.tile_size**2 * 3
    free = shutil.disk_usage(output).free
    if needed > free:
        raise ValueError(
            f"{counted(num_slides, 'slide')} need {needed / 1e6:,.1f} MB, but {output} has {free / 1e6:,.1f} MB free; free "
            "some disk space, or give another output"
        )


@contextmanager
def disk_errors(output: Path) -> Iterator[None]:
    """Turn errors of a full or unwritable disk into a one-line message."""
    try:
        yield
    except (OutputError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _FORBIDDEN:
            raise PermissionError(
                f"cannot write to {output} ({error.strerror}: {error.filename}); give a folder that you may write to"
            ) from error
        if isinstance(error, OSError) and error.errno not in _DISK_ERRORS:
            raise
        raise ValueError(
            f"cannot write to {output}: {error}; make room and run the same command again; finished slides are kept"
        ) from error
