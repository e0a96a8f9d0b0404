"""The output folder of a run over slides: new, half done, or done."""

import csv
import errno
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from milpath.data.loading.threads import map_in_threads
from milpath.data.store.verified_arrays import MEMORY
from milpath.records.atomic_files import atomic_path
from milpath.records.digests import sampled_sha256_of_file
from milpath.records.label_table import read_table
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_job import OutputError
from milpath.tiling.slide_parts import SlideParts
from milpath.tiling.slide_plan import SlidePlan

_FILES = ("store.json", "tiles.npy", "bags.csv", "tiles.csv", "failures.csv", MEMORY)
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_PNG = re.compile(r".+_\d+\.png", re.DOTALL)


def open_output(output: Path, plan: SlidePlan, description: dict[str, Any], *, overwrite: bool) -> bool:
    """Make a folder ready, and say whether there is nothing left to do.

    Args:
        output: The folder; made if it is missing.
        plan: The slides of the store.
        description: What the store depends on beside the slides.
        overwrite: Delete what a run left there; other files stay.

    Returns:
        Whether the store of just these slides, cut just so, is there already.

    Raises:
        FileExistsError: If there is another store.
        ValueError: If there is unfinished work with other options.
    """
    output.mkdir(parents=True, exist_ok=True)
    if overwrite:
        _clear(output)
    path = output / "store.json"
    if path.exists():
        source = json.loads(path.read_text(encoding="utf-8")).get("source", {})
        table = read_table(output / "bags.csv")
        bags = set(table["bag_id"])
        if source.get("parameters") == description and bags <= set(plan.files):
            left = set(plan.files) - bags - set(read_failures(output / "failures.csv"))
            if not left:
                _require_same_slides(output, table, plan)
                # A run that was stopped after the last step but one.
                SlideParts(output).remove()
                return True
        raise FileExistsError(
            f"{output} holds a bag store of other slides or options; give another output, or overwrite=true to replace it"
        )
    if (output / "tiles.npy").exists() and not SlideParts(output).path.exists():
        raise FileExistsError(
            f"{output} holds a tiles.npy that no run left there; give another output, or overwrite=true"
        )
    SlideParts(output).begin(description)
    return False


def _require_same_slides(output: Path, bags: pd.DataFrame, plan: SlidePlan) -> None:
    """Refuse a store of slides whose files were replaced since; of a store of milpath 0.1.0 that is not known."""
    if "slide_fingerprint" not in bags:
        return
    known = bags[bags["slide_fingerprint"].notna()]
    cut_from = dict(zip(known["bag_id"], known["slide_fingerprint"].astype(str), strict=True))
    found = map_in_threads(lambda name: sampled_sha256_of_file(plan.files[name]), list(cut_from))
    changed = [name for name, digest in zip(cut_from, found, strict=True) if digest != cut_from[name]]
    if changed:
        raise FileExistsError(
            f"{output} holds tiles of another {plan.files[changed[0]].name} than lies there now ({len(changed):,} of "
            f"{len(bags):,} slides were replaced); give another output folder, or overwrite=true"
        )


def read_failures(path: Path) -> dict[str, str]:
    """Return slide and reason from a `failures.csv`; nothing where there is none."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["slide"]: row["reason"] for row in csv.DictReader(file)}


def _clear(output: Path) -> None:
    """Delete a store and what belongs to it, and nothing else."""
    for name in _FILES:
        (output / name).unlink(missing_ok=True)
    for name in ("parts", "overview"):
        shutil.rmtree(output / name, ignore_errors=True)
    if (output / "png").is_dir():
        for path in (output / "png").iterdir():
            if _PNG.fullmatch(path.name):
                path.unlink()


def write_failures(failures: Mapping[str, str], path: Path) -> None:
    """Write `failures.csv`: slide and reason, the header alone if there is none."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("slide", "reason"), *sorted(failures.items())])


def require_room(output: Path, options: TileOptions, num_slides: int) -> None:
    """Refuse to begin what the disk cannot hold, where that is known."""
    if options.method != "darkest" or options.num_tiles is None:
        return
    needed = num_slides * options.num_tiles * options.tile_size**2 * 3
    free = shutil.disk_usage(output).free
    if needed > free:
        raise ValueError(f"{num_slides:,} slides need {needed / 1e6:,.0f} MB, {output} has {free / 1e6:,.0f} MB free")


@contextmanager
def disk_errors(output: Path) -> Iterator[None]:
    """Say in one line that nothing more can be written."""
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
            f"cannot write to {output}: {error}; make room and run the same command again, finished slides are kept"
        ) from error
