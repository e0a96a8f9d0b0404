"""Whose folder an output is: a prediction writes into its own or an empty one, and deletes nothing of others."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from milpath.records.atomic_files import remove_partial_files, write_text

_RECORD = "prediction.json"
_FOLDERS = ("bags", "pictures", "geojson")
_FILES = (
    "predictions.csv", "attention.csv", "failures.csv", ".predictions.csv.partial", ".attention.csv.partial", _RECORD
)  # fmt: skip


def claim_folder(output: Path, source: Mapping[str, str], overwrite: bool = False) -> None:
    """Write down what predictions in a folder come from, in `prediction.json`.

    Args:
        output: Folder; made if it is missing.
        source: What the predictions come from (checkpoint, slides).
        overwrite: Delete what a prediction before left; files of others stay.

    Raises:
        FileExistsError: If there is a finished prediction, an unfinished one of another source, or something else.
    """
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"output={output} is a file; give a folder")
    record, text = output / _RECORD, json.dumps(dict(source), indent=2) + "\n"
    if overwrite:
        # Without the record these would be somebody else's.
        if record.exists():
            _delete(output, Path(source.get("slides", os.devnull)))
    elif (output / "predictions.csv").exists():
        raise FileExistsError(f"{output} holds predictions already; give another output folder, or overwrite=true")
    elif record.exists() and record.read_text(encoding="utf-8") != text:
        raise FileExistsError(
            f"{output} holds an unfinished prediction of another checkpoint or of other slides; "
            "give another output folder, or overwrite=true"
        )
    elif not record.exists() and output.exists() and (found := sorted(path.name for path in output.iterdir())):
        raise FileExistsError(
            f"{output} holds {found[0]!r}, which no prediction wrote; give another output folder, or overwrite=true"
        )
    output.mkdir(parents=True, exist_ok=True)
    for folder in (output, output / "pictures", output / "geojson"):
        remove_partial_files(folder)
    write_text(record, text)


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
