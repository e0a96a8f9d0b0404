"""Nested search: choosing one candidate per fold on the validation split only."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pandas as pd

from milpath.records.atomic_files import write_text
from milpath.search.cross_validation import Training
from milpath.search.trials import best_first, failure_of, validation_value


def choose(trainings: Sequence[Training], monitor: str, mode: str) -> list[Training]:
    """Return one training per fold: the candidate with the best validation metric.

    Args:
        trainings: The plan of a table, with the candidates of a fold next to each other.
        monitor: `val/` and the name of a metric.
        mode: "max" or "min".

    Returns:
        The chosen trainings, in the order of the plan. A failed candidate is chosen only if all of its fold failed.
    """
    folds = groupby(trainings, key=lambda training: training.name)
    return [
        best_first(candidates, lambda training: validation_value(training.run_dir, monitor), mode)[0]
        for _, candidates in folds
    ]


def write_choices(trainings: Sequence[Training], chosen: Sequence[Training], monitor: str, path: Path) -> int:
    """Write a CSV with the validation metric of each candidate and which one was chosen.

    Args:
        trainings: All trainings of the table.
        chosen: Result of `choose`.
        monitor: The metric they were chosen by.
        path: Path of the file.

    Returns:
        Number of failed candidates.
    """
    failures = [failure_of(training.run_dir) for training in trainings]
    rows = [
        {
            "method": training.method,
            "repeat": training.repeat,
            "fold": training.fold,
            "candidate": " ".join(training.candidate),
            monitor: validation_value(training.run_dir, monitor),
            "chosen": training in chosen and failure is None,
            "failure": failure,
        }
        for training, failure in zip(trainings, failures, strict=True)
    ]
    write_text(path, pd.DataFrame(rows).to_csv(index=False))
    return sum(failure is not None for failure in failures)
