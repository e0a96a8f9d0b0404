"""Trials of a search: parameters, validation metric and ranking."""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from milpath.records.atomic_files import write_text
from milpath.records.plain_values import read_mapping
from milpath.reports.markdown import markdown_table

TRIAL = "trial.json"
FAILURE = "failure.txt"
MODES = ("max", "min")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Attributes:
        folder: Its run folder.
        parameters: Key to value, as typed on the command line.
        value: The monitored metric on the validation split; None if the trial failed or is not finished.
        stopped_after: Number of epochs after which median stopping ended it; None if it did not.
        failure: Why it failed; None if it did not.
    """

    folder: Path
    parameters: Mapping[str, str]
    value: float | None
    stopped_after: int | None = None
    failure: str | None = None

    @property
    def state(self) -> str:
        """State of the trial, as shown in the last column of the table."""
        if self.failure is not None:
            return f"FAILED {self.failure}"
        if self.value is None:
            return "not finished"
        return "finished" if self.stopped_after is None else f"stopped after {self.stopped_after} epochs"


def validation_value(run_dir: Path, monitor: str) -> float | None:
    """Return the monitored metric of a run on its validation split.

    Args:
        run_dir: Folder of the run.
        monitor: `val/` and a name in `metrics.json`.

    Returns:
        The value, or None if the run is not finished or the metric is undefined.
    """
    path = run_dir / "metrics.json"
    if not path.is_file():
        return None
    split, _, name = monitor.partition("/")
    values = read_mapping(path, only_shown=True).get(split)
    value = values.get(name) if isinstance(values, dict) else None
    return float(value) if isinstance(value, int | float) else None


def failure_of(run_dir: Path) -> str | None:
    """Return why a training failed, in one line, or None if it did not."""
    path = run_dir / FAILURE
    return " ".join(path.read_text(encoding="utf-8").split()) if path.is_file() else None


def best_first(items: Iterable[Item], value: Callable[[Item], float | None], mode: str) -> list[Item]:
    """Return items sorted by a value, best first and those without one last; the sort is stable.

    Args:
        items: Any items.
        value: Function from an item to its value, or None.
        mode: "max" or "min".

    Raises:
        ValueError: If the mode is neither.

    Example:
        >>> best_first([0.5, None, 0.9], lambda value: value, "max")
        [0.9, 0.5, None]
    """
    if mode not in MODES:
        raise ValueError(f"monitor_mode must be one of {', '.join(MODES)}, got {mode!r}")
    sign = -1.0 if mode == "max" else 1.0

    def key(item: Item) -> tuple[bool, float]:
        number = value(item)
        return (number is None, 0.0 if number is None else sign * number)

    return sorted(items, key=key)


def read_trials(search_dir: Path, monitor: str, mode: str) -> list[Trial]:
    """Return the trials in the folder of a search, best first."""
    folders = sorted(path.parent for path in search_dir.glob(f"*/{TRIAL}"))
    return best_first((_read_trial(folder, monitor) for folder in folders), lambda trial: trial.value, mode)


def write_trials(search_dir: Path, trials: Sequence[Trial], monitor: str, mode: str) -> str:
    """Write `trials.csv` and `trials.md` and return the latter.

    Args:
        search_dir: Folder of the search.
        trials: The trials, best first.
        monitor: The metric they are ranked by.
        mode: "max" or "min".
    """
    keys = sorted({key for trial in trials for key in trial.parameters})
    rows: list[list[Any]] = [
        [
            "" if trial.value is None else rank,
            trial.value,
            *(trial.parameters.get(key) for key in keys),
            trial.folder.name,
            trial.state,
        ]
        for rank, trial in enumerate(trials, start=1)
    ]
    frame = pd.DataFrame(rows, columns=["rank", monitor, *keys, "folder", "state"])
    write_text(search_dir / "trials.csv", frame.to_csv(index=False))
    shown = [
        [
            row[0],
            "" if row[1] is None else f"{row[1]:.4f}",
            *row[2:-1],
            textwrap.shorten(row[-1], 60, placeholder=" ..."),
        ]
        for row in rows
    ]
    lines = [
        f"# Trials of {search_dir.name}",
        "",
        f"By {monitor} on the validation split, {'highest' if mode == 'max' else 'lowest'} first. No trial used the test "
        "split. The value of the best of many trials is optimistic: test that trial once, at the end.",
        *(
            ["", f"The full reason of a failure is in {FAILURE} of the trial."]
            if any(trial.failure for trial in trials)
            else []
        ),
        "",
        *markdown_table(list(frame.columns), shown, [True, True] + [False] * (len(frame.columns) - 2)),
        "",
    ]
    text = "\n".join(lines)
    write_text(search_dir / "trials.md", text)
    return text


def _read_trial(folder: Path, monitor: str) -> Trial:
    """Read one folder."""
    failure, curve = failure_of(folder), folder / "curve.json"
    stopped = read_mapping(curve).get("stopped_after") if curve.is_file() else None
    parameters = read_mapping(folder / TRIAL, only_shown=True).get("parameters")
    if not isinstance(parameters, dict) or not isinstance(stopped, int | None):
        raise ValueError(f"{folder} is not the folder of a trial of a search; give another run_name, or remove it")
    return Trial(
        folder=folder,
        parameters=parameters,
        value=None if failure else validation_value(folder, monitor),
        stopped_after=stopped,
        failure=failure,
    )
