"""The recipe of the classic sets against the authors', fold by fold:

    python scripts/classic_comparison.py ANCHOR METHOD OUTPUT SET=TABLE...      e.g. musk1=tables/musk1

ANCHOR is the output of `scripts/classic_anchor.py`, TABLE that of `milpath table` with the same folds and repeats. Writes
OUTPUT, with the mean and standard error of both on each set and on the average of the sets, and a paired test (Nadeau and
Bengio).
"""

import json
import sys
from pathlib import Path

import numpy as np

from milpath.metrics.comparison import corrected_resampled_t_test
from milpath.records.atomic_files import write_json

FOLDS = 10
# The networks of a table and their counterpart among the authors'.
COUNTERPARTS = {"attention_ensemble": "attention", "gated_attention_ensemble": "gated_attention"}


def compared(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float | int | None]:
    """Return means, standard errors and the test of two methods on the folds that both have."""
    both = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ours[both], theirs[both]
    test = corrected_resampled_t_test(ours.tolist(), theirs.tolist(), 1 / (FOLDS - 1))
    numbers = {
        "recipe": ours.mean(), "recipe_se": ours.std(ddof=1) / len(ours) ** 0.5,
        "authors": theirs.mean(), "authors_se": theirs.std(ddof=1) / len(theirs) ** 0.5,
        "difference": test.difference, "low": test.low, "high": test.high, "p_value": test.p_value,
    }  # fmt: skip
    return {"folds": len(ours)} | {
        name: None if value is None else round(float(value), 5) for name, value in numbers.items()
    }


def folds_of_table(folder: Path, method: str, metric: str = "accuracy") -> np.ndarray:
    """Return the metric of each fold of each repeat of a table; NaN for a fold that has not been trained."""
    runs = folder / "runs" / method
    repeats = len(list(runs.glob("repeat_*")))
    files = [runs / f"repeat_{repeat}/fold_{fold}/metrics.json" for repeat in range(repeats) for fold in range(FOLDS)]
    return np.array([json.loads(file.read_text())["test"][metric] if file.is_file() else np.nan for file in files])


def main(anchor: str, method: str, output: str, *tables: str) -> None:
    record: dict[str, dict[str, float | int | None]] = {}
    columns = []
    for word in tables:
        name, _, folder = word.partition("=")
        ours = folds_of_table(Path(folder), method)
        theirs = np.array(json.loads((Path(anchor) / f"{name}_{COUNTERPARTS[method]}.json").read_text())["accuracies"])
        length = min(len(ours), len(theirs))
        columns.append((ours[:length], theirs[:length]))
        record[name] = compared(*columns[-1])
    length = min(len(ours) for ours, _ in columns)
    mean = [np.mean([pair[side][:length] for pair in columns], axis=0) for side in (0, 1)]
    record["average"] = compared(*mean)
    write_json(Path(output), {"method": method, "metric": "accuracy", "test": "corrected resampled t-test"} | record)
    for name, row in record.items():
        print(name, row)


if __name__ == "__main__":
    main(*sys.argv[1:])
