"""How the trainings of a table were made: command, version, machine, minutes, seeds and folds, for `table.json`."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from milpath.records.digests import sha256_of_splits, sha256_of_values
from milpath.records.plain_values import read_json

FORMAT_VERSION = 1
_SEED = re.compile(r"^seed: (\d+)$", re.MULTILINE)
# What all trainings of a table have in common where one machine and one version made them.
_MACHINE = ("processor", "device", "num_cores", "num_threads", "platform", "python")


@dataclass(frozen=True)
class RecordedRun:
    """One training of a table and its place in it.

    Attributes:
        repeat: 0-based repeat of the cross-validation.
        fold: 0-based fold.
        run_dir: Folder of the training.
    """

    repeat: int
    fold: int
    run_dir: Path


def record_of(runs: Iterable[RecordedRun], command: Sequence[str] | None = None) -> dict[str, Any]:
    """Return how the finished trainings of a table were made, from the files in their folders.

    Args:
        runs: The trainings whose test splits the table shows, and the other candidates of a search.
        command: The command as typed; None takes that of the first training.

    Returns:
        Plain values. `minutes` is the sum over trainings, each from its start to its results; of those that were resumed
        (`num_resumed`) only the last part is known. `folds_sha256` is one digest of every fold's assignment of bags to
        splits. A value that differs between trainings is a list. None stands for what the folders do not say.
    """
    done = [run for run in runs if (run.run_dir / "metrics.json").is_file()]
    found = [(run, _provenance(run.run_dir)) for run in done]
    minutes = [_minutes(run.run_dir, provenance) for run, provenance in found]
    known = [value for value in minutes if value is not None]
    codes = [provenance.get("code") or {} for _, provenance in found]
    packages = [provenance.get("packages") or {} for _, provenance in found]
    first = found[0][1] if found else {}
    return {
        "format_version": FORMAT_VERSION,
        "command": list(command if command is not None else first.get("command") or []),
        "started": min((str(p["started"]) for _, p in found if "started" in p), default=None),
        "version": _one([each.get("milpath") for each in packages]),
        "commit": _one([code.get("commit") for code in codes]),
        "dirty": any(bool(code.get("dirty")) for code in codes),
        "packages": packages[0] if packages else {},
        **{name: _one([provenance.get(name) for _, provenance in found]) for name in _MACHINE},
        "num_trainings": len(done),
        "minutes": round(sum(known), 3) if len(known) == len(done) and done else None,
        "num_resumed": sum(bool(provenance.get("resumed")) for _, provenance in found),
        "seeds": _seeds(done),
        "folds_sha256": _folds_sha256(done),
        "data": _data([provenance.get("data") or {} for _, provenance in found]),
    }


def _provenance(run_dir: Path) -> Mapping[str, Any]:
    path = run_dir / "provenance.json"
    content = read_json(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def _minutes(run_dir: Path, provenance: Mapping[str, Any]) -> float | None:
    """Return the minutes of a training; older versions left its start and the time of its last file."""
    if isinstance(minutes := provenance.get("minutes"), int | float):
        return float(minutes)
    try:
        started = datetime.fromisoformat(str(provenance.get("started"))).timestamp()
    except ValueError:
        return None
    return max(((run_dir / "metrics.json").stat().st_mtime - started) / 60, 0.0)


def _seeds(runs: Sequence[RecordedRun]) -> list[int]:
    """Return the seeds of the trainings, each once."""
    texts = [run.run_dir / "config.yaml" for run in runs]
    found = [_SEED.search(path.read_text(encoding="utf-8")) for path in texts if path.is_file()]
    return sorted({int(match[1]) for match in found if match})


def _folds_sha256(runs: Sequence[RecordedRun]) -> str | None:
    """Return a digest of repeat, fold and the assignment of bags to splits; None if a training does not say it."""
    folds = set()
    for run in runs:
        path = run.run_dir / "splits.csv"
        if not path.is_file():
            return None
        with path.open(newline="", encoding="utf-8") as file:
            splits = {row["id"]: row["split"] for row in csv.DictReader(file)}
        folds.add((run.repeat, run.fold, sha256_of_splits(splits)))
    return sha256_of_values(sorted(folds)) if folds else None


def _data(described: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return number of bags, source and digests of the data."""
    counts = [
        sum(sum(per_class) for per_class in each["bags_per_class"].values())
        for each in described
        if isinstance(each.get("bags_per_class"), dict)
    ]
    sources = [each["source"].get("name") for each in described if isinstance(each.get("source"), dict)]
    return {
        "num_bags": _one(counts),
        "source": _one(sources),
        **{name: _one([each.get(name) for each in described]) for name in ("store_sha256", "labels_sha256")},
    }


def _one(values: Sequence[Any]) -> Any:
    """Return the value if all are equal, else the list of the different ones."""
    different = list(dict.fromkeys(value for value in values if value is not None))
    return different[0] if len(different) == 1 else (different or None)
