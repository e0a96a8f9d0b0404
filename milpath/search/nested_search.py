"""The candidates of a nested search: which one of a fold is tested, chosen on the validation split alone."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pandas as pd

from milpath.records.atomic_files import write_text
from milpath.search.cross_validation import Training
from milpath.search.trials import best_first, failure_of, validation_value


def choose(trainings: Sequence[Training], monitor: str, mode: str) -> list[Training]:
    """Return one training of each fold: the candidate with the best validation metric.

    Args:
        trainings: The plan of a table, the candidates of a fold after each other.
        monitor: `val/` and a metric.
        mode: "max" or "min".

    Returns:
        In the order of the plan. A candidate that failed is chosen only where all of its fold did.
    """
    folds = groupby(trainings, key=lambda training: training.name)
    return [
        best_first(candidates, lambda training: validation_value(training.run_dir, monitor), mode)[0]
        for _, candidates in folds
    ]


def write_choices(trainings: Sequence[Training], chosen: Sequence[Training], monitor: str, path: Path) -> int:
    """Write what each candidate reached and which one was chosen, as CSV.

    Args:
        trainings: All.
        chosen: From `choose`.
        monitor: What chose.
        path: Of the file.

    Returns:
        Number of candidates that failed; the file names them.
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
