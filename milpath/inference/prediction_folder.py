"""Whose folder an output is: a prediction writes into its own or an empty one, and deletes nothing of others."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from milpath.records.atomic_files import remove_partial_files, write_json

_RECORD = "prediction.json"
_FOLDERS = ("bags", "pictures", "geojson")
_FILES = (
    "predictions.csv", "attention.csv", "failures.csv", ".predictions.csv.partial", ".attention.csv.partial", _RECORD
)  # fmt: skip


def claim_folder(
    output: Path, source: Mapping[str, str], overwrite: bool = False, *, slides: str | Path = os.devnull
) -> None:
    """Write down what predictions in a folder come from, in `prediction.json`.

    The content of the slides is known only when they have become a bag store, which may lie in this very folder: a folder
    is claimed with the hash of the checkpoint first, and with the hash of the slides as well before the first prediction.

    Args:
        output: Folder; made if it is missing.
        source: Hashes of what the predictions come from: `checkpoint`, and `slides` once it is known.
        overwrite: Delete what a prediction before left; files of others stay.
        slides: Where the slides lie, which are never deleted.

    Raises:
        FileExistsError: If there is a finished prediction, an unfinished one of another source, or something else.
    """
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"output={output} is a file; give a folder")
    record, before = output / _RECORD, _read_record(output)
    if overwrite:
        # Without the record these would be somebody else's.
        if record.exists():
            _delete(output, Path(slides))
        before = None
    elif (output / "predictions.csv").exists():
        raise FileExistsError(f"{output} holds predictions already; give another output folder, or overwrite=true")
    elif record.exists() and (other := _other_source(output, before or {}, source)) is not None:
        raise FileExistsError(
            f"{output} holds an unfinished prediction of {other}; give another output folder, or overwrite=true"
        )
    elif not record.exists() and output.exists() and (found := sorted(path.name for path in output.iterdir())):
        raise FileExistsError(
            f"{output} holds {found[0]!r}, which no prediction wrote; give another output folder, or overwrite=true"
        )
    output.mkdir(parents=True, exist_ok=True)
    for folder in (output, output / "pictures", output / "geojson"):
        remove_partial_files(folder)
    write_json(record, (before or {}) | dict(source))


def _read_record(output: Path) -> dict[str, str] | None:
    """Return what a prediction before wrote down; None if there is nothing that can be read."""
    try:
        content = json.loads((output / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _other_source(output: Path, before: Mapping[str, str], source: Mapping[str, str]) -> str | None:
    """Return in what an unfinished prediction differs from this one; None if in nothing."""
    if before.get("checkpoint") != source.get("checkpoint"):
        return "another checkpoint"
    # Rows without a word on their slides may be of any.
    begun = (output / ".predictions.csv.partial").exists()
    if "slides" in source and source["slides"] != before.get("slides", None if begun else source["slides"]):
        return "other slides"
    return None


def release_folder(output: Path) -> None:
    """Give a folder back in which nothing came to lie but the record."""
    if [path.name for path in output.iterdir()] == [_RECORD]:
        (output / _RECORD).unlink()
        output.rmdir()


def _delete(output: Path, slides: Path) -> None:
    """Delete what a prediction writes but for the slides that the next one reads, its record last."""
    for name in _FOLDERS:
        if not slides.resolve().is_relative_to((output / name).resolve()):
            shutil.rmtree(output / name, ignore_errors=True)
    for name in _FILES:
        (output / name).unlink(missing_ok=True)
