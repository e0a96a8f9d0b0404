"""Ownership of output folders: a prediction writes only into its own or an empty one, and deletes no other files."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from milpath.records.atomic_files import is_partial_file, remove_partial_files, require_folder, write_json
from milpath.records.digests import sha256_of_text
from milpath.records.plain_values import read_mapping

_RECORD = "prediction.json"
# What is drawn of each slide, in the record.
DRAWN = "drawn"
_LONGEST_NAME = 150
_FOLDERS = ("bags", "pictures", "geojson", "asap", "dense", "viewer")
_FILES = (
    "predictions.csv", "attention.csv", "slide_attention.csv", "patients.csv", "failures.csv",
    ".predictions.csv.partial", ".attention.csv.partial", _RECORD,
)  # fmt: skip
# All that a prediction writes in its output, and deletes to overwrite it.
WRITTEN = (*_FOLDERS, *_FILES)


def holds_prediction(output: Path) -> bool:
    """Return whether a folder holds a prediction, finished or not, which `overwrite` deletes."""
    return (output / _RECORD).exists()


def claim_folder(
    output: Path, source: Mapping[str, str], overwrite: bool = False, *, slides: str | Path = os.devnull
) -> None:
    """Record the inputs of the predictions in a folder, in `prediction.json`.

    The content of the slides is known only after they were cut into a bag store, which may be in this folder: a folder
    is first claimed with the hash of the checkpoint, and before the first prediction also with the hash of the slides.

    Args:
        output: Output folder; created if it does not exist.
        source: Hashes of the inputs: `checkpoint`, and `slides` once it is known; `drawn`: what is drawn of each slide.
        overwrite: Delete the files of an earlier prediction; other files stay.
        slides: Path of the slides, which are never deleted.

    Raises:
        FileExistsError: If the folder contains a finished prediction, an unfinished one of another source, or other
            files.
    """
    require_free(output, source, overwrite)
    record, before = output / _RECORD, _read_record(output)
    if overwrite:
        # Without the record these would not belong to a prediction.
        if record.exists():
            _delete(output, Path(slides))
        before = None
    output.mkdir(parents=True, exist_ok=True)
    for folder in (output, *(output / name for name in _FOLDERS if name != "bags"), output / "viewer/slides"):
        remove_partial_files(folder)
    write_json(record, (before or {}) | dict(source))


def require_free(output: Path, source: Mapping[str, str], overwrite: bool = False) -> None:
    """Refuse a folder that `claim_folder` would refuse; the arguments are the same, and nothing is written.

    Raises:
        FileExistsError: As `claim_folder`.
    """
    require_folder(output, f"output={output}")
    if overwrite:
        return
    record, before = output / _RECORD, _read_record(output)
    if (output / "predictions.csv").exists():
        raise FileExistsError(f"{output} already contains predictions; set another output, or overwrite=true")
    if record.exists() and (other := _other_source(output, before or {}, source)) is not None:
        raise FileExistsError(
            f"{output} contains an unfinished prediction of {other}; set another output, or overwrite=true"
        )
    if not record.exists() and output.exists() and (found := sorted(_of_others(output))):
        raise FileExistsError(
            f"{output} contains {found[0]!r}, which was not written by a prediction; set another output, or overwrite=true"
        )


def file_name(bag_id: str) -> str:
    """Return a file name for a slide of any name that is valid and stays in its folder.

    Example:
        >>> file_name("../<script>"), file_name("slide_1")
        ('%2E%2E%2F%3Cscript%3E', 'slide_1')
    """
    name = quote(bag_id, safe=" ")
    name = name.replace(".", "%2E") if name.startswith(".") else name
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{sha256_of_text(bag_id)[:16]}"
    return name


def _of_others(output: Path) -> list[str]:
    """Return the names in a folder, except for a record that a killed prediction did not finish."""
    return [path.name for path in output.iterdir() if not is_partial_file(path, _RECORD)]


def _read_record(output: Path) -> dict[str, str] | None:
    """Return the record of an earlier prediction; `None` if there is none that can be read."""
    try:
        return read_mapping(output / _RECORD)
    except (OSError, ValueError):
        return None


def _other_source(output: Path, before: Mapping[str, str], source: Mapping[str, str]) -> str | None:
    """Return how an unfinished prediction differs from this one; `None` if it does not."""
    if before.get("checkpoint") != source.get("checkpoint"):
        return "another checkpoint"
    # Rows without a hash of their slides may be of any slides.
    begun = (output / ".predictions.csv.partial").exists()
    if begun and (changed := _changed(before.get(DRAWN), source.get(DRAWN))):
        return f"other options, which slides that are finished would keep: {changed}"
    if "slides" in source and source["slides"] != before.get("slides", None if begun else source["slides"]):
        return "other slides"
    return None


def _changed(before: str | None, now: str | None) -> str:
    """Return which options of the pictures differ; empty if none, or if one of both does not say it."""
    try:
        was, found = (json.loads(text or "{}") for text in (before, now))
    except (TypeError, ValueError, RecursionError):  # not written by a prediction
        return ""
    if not isinstance(was, dict):
        return ""
    differ = [name for name in found if name in was and was[name] != found[name]]
    return ", ".join(f"{name}={json.dumps(was[name])} (now {json.dumps(found[name])})" for name in differ)


def release_folder(output: Path) -> None:
    """Release a folder that contains nothing but the record."""
    if [path.name for path in output.iterdir()] == [_RECORD]:
        (output / _RECORD).unlink()
        output.rmdir()


def _delete(output: Path, slides: Path) -> None:
    """Delete the files of a prediction except for the slides that the next one reads; the record comes last."""
    for name in _FOLDERS:
        if not slides.resolve().is_relative_to((output / name).resolve()):
            shutil.rmtree(output / name, ignore_errors=True)
    for name in _FILES:
        (output / name).unlink(missing_ok=True)
