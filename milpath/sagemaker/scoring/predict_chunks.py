"""The program of a Processing job that predicts: `milpath predict` on the slides of this instance, some at a time.

The results of some slides are one folder, which is in S3 as soon as it is complete, so that nothing is predicted twice.
"""

import csv
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from milpath import predict
from milpath.config.command_line import override
from milpath.inference.pictures.bag_pictures import file_name
from milpath.records.atomic_files import write_json
from milpath.records.digests import sha256_of_text
from milpath.records.error_text import counted
from milpath.sagemaker.jobs.training_job import compose_words
from milpath.tiling.slide_output import read_failures

CHUNK_SIZE = 25
# Written last; says which files belong to the folder.
DONE_FILE = "done.json"
_EXTREMES = "extremes"


def predict_slides(
    words: Sequence[str], slides: Sequence[tuple[str, Path]], arrived: Path, work: Path, chunks: Path
) -> None:
    """Predict slides, and write one folder with the results of each chunk of them.

    Args:
        words: Overrides of `milpath predict`.
        slides: Name of each slide and its path relative to `arrived`.
        arrived: Folder of the slides.
        work: Folder for what is not kept.
        chunks: Folder of the results.

    Raises:
        ValueError: If a chunk fails for another reason than its slides.
    """
    ordered = sorted(slides)
    for start in range(0, len(ordered), CHUNK_SIZE):
        chunk = ordered[start : start + CHUNK_SIZE]
        names = [name for name, _ in chunk]
        folder, output = work / "chunk", work / "predicted"
        for path in (folder, output):
            shutil.rmtree(path, ignore_errors=True)
        for _, path in chunk:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).symlink_to(arrived / path)
        own = [override("slides", folder), override("output", output), "on_error=skip"]
        try:
            predict.run(compose_words("predict", [*words, *own]))
        except ValueError:
            if not read_failures(output / "failures.csv").keys() >= set(names):
                raise
        _publish(names, output, chunks / sha256_of_text("\n".join(names))[:16])
        done = min(start + CHUNK_SIZE, len(ordered))
        sys.stdout.write(f"{counted(done, 'slide')} of {len(ordered):,} done\n")
        sys.stdout.flush()


def _publish(names: Sequence[str], output: Path, target: Path) -> None:
    """Move the results of a chunk to the folder that is copied to S3, except for the picture of its extremes."""
    failures = {name: reason for name, reason in read_failures(output / "failures.csv").items() if name in names}
    found = [output / name for name in ("predictions.csv", "attention.csv") if (output / name).is_file()]
    found += [path for kind in ("geojson", "pictures") for path in sorted((output / kind).rglob("*")) if path.is_file()]
    predicted = _ids(output / "predictions.csv")
    failures |= {name: "no prediction was written" for name in names if name not in predicted and name not in failures}
    files = {}
    for path in found:
        relative = path.relative_to(output).as_posix()
        if path.stem.startswith(_EXTREMES) and path.parent.name == "pictures":
            continue
        files[relative] = {"size": path.stat().st_size, "slide": _owner(path, names)}
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target / relative)
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / DONE_FILE, {"predicted": sorted(predicted), "failures": failures, "files": files})


def _owner(path: Path, names: Sequence[str]) -> str | None:
    """Return the slide after which a picture or an annotation is named; `None` for a table."""
    owners = [name for name in names if path.stem == file_name(name) or path.stem.startswith(f"{file_name(name)}_")]
    return None if path.suffix == ".csv" else max(owners, key=len, default=None)


def _ids(path: Path) -> set[str]:
    """Return the slides of a `predictions.csv`; empty if it was not written."""
    if not path.is_file():
        return set()
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"] for row in csv.DictReader(file)}


class Done(NamedTuple):
    """What a chunk holds.

    Attributes:
        predicted: Slides with a prediction.
        failures: Slide to the reason why it has none.
        sizes: File to its bytes.
        owners: File to its slide; `None` for a table.
    """

    predicted: list[str]
    failures: dict[str, str]
    sizes: dict[str, int]
    owners: dict[str, str | None]


def read_done(text: bytes) -> Done:
    """Return the content of the file that was written last."""
    content = json.loads(text)
    files = content["files"].items()
    return Done(
        content["predicted"], content["failures"], {name: item["size"] for name, item in files},
        {name: item["slide"] for name, item in files},
    )  # fmt: skip
