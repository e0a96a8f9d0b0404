"""Reading of run folders for reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.records.data_warning import require_warning
from milpath.records.plain_values import read_mapping
from milpath.records.prediction_table import Predictions, read_predictions
from milpath.reports.method_tables.run_design import FoldResult
from milpath.targets import Target, target_named

FAITHFULNESS = "faithfulness.json"
IDENTITY_FILE = "identity.json"
# Records of any run have some kilobytes.
SPLITS = ("test", "val", "train")


@dataclass(frozen=True)
class RunFolder:
    """The files of a run.

    Attributes:
        path: The folder.
        predictions: Content of `predictions.csv`.
        metrics: Split to metric to value, from `metrics.json`; empty if it is missing.
        history: Content of `logs/csv/metrics.csv`; None if it is missing.
        provenance: Content of `provenance.json`; empty if it is missing.
        config: Text of `config.yaml`; empty if it is missing.
        faithfulness: Content of `faithfulness.json`, what an evaluation measured of attention; empty if it did not.
    """

    path: Path
    predictions: Predictions
    metrics: Mapping[str, Mapping[str, float | None]]
    history: pd.DataFrame | None
    provenance: Mapping[str, Any]
    config: str
    faithfulness: Mapping[str, Any] = field(default_factory=dict)

    @property
    def splits(self) -> list[str]:
        """Splits with predictions: test first, then validation, then training."""
        present = set(self.predictions.splits)
        return [split for split in SPLITS if split in present] + sorted(present - set(SPLITS))

    @property
    def warning(self) -> str:
        """What the data of the run say against themselves, in words; empty for tissue."""
        data = self.provenance.get("data")
        said = data.get("warning", "") if isinstance(data, Mapping) else ""
        return require_warning(said, f"warning in {self.path / 'provenance.json'}")

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the rows of the predictions that belong to a split."""
        return np.flatnonzero(np.array(self.predictions.splits) == split)

    def outcomes(
        self, split: str, task: str | Target, threshold: float = 0.5, groups: NDArray[np.str_] | None = None
    ) -> Any:
        """Return the outcomes of a split.

        Args:
            split: "train", "val" or "test".
            task: The target or its name.
            threshold: Operating point of a binary task.
            groups: One per row of the predictions; None if bags are not grouped.
        """
        rows = self.rows(split)
        return target_named(task).evaluate(
            self.predictions.labels[rows],
            self.predictions.probabilities[rows].astype(np.float64),
            threshold,
            None if groups is None else groups[rows],
        )


def read_run(path: Path) -> RunFolder:
    """Read a run folder; only `predictions.csv` is required.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If it, or a record beside it, is not what a run writes.
    """
    if not (path / "predictions.csv").is_file():
        raise FileNotFoundError(f"{path} has no predictions.csv; give the folder of a finished run")
    predictions = read_predictions(path / "predictions.csv")
    config = path / "config.yaml"
    return RunFolder(
        path=path,
        predictions=predictions,
        metrics=_read_json(path / "metrics.json"),
        history=_read_history(path / "logs" / "csv" / "metrics.csv"),
        provenance=_read_json(path / "provenance.json"),
        config=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        faithfulness=_read_json(path / FAITHFULNESS),
    )


def read_fold(
    path: Path,
    method: str,
    repeat: int,
    fold: int,
    task: str | Target,
    groups: Mapping[str, str] | None = None,
) -> FoldResult:
    """Read the test split of one training of a table, or the reason it failed.

    Args:
        path: Run folder of the training.
        method: Name of the method.
        repeat: 0-based repeat of the cross-validation.
        fold: 0-based fold.
        task: The target or its name.
        groups: Bag to group; None if bags are not grouped.

    Raises:
        ValueError: If a bag has no group.
    """
    if not (path / "predictions.csv").is_file():
        failure = path / "failure.txt"
        reason = " ".join(failure.read_text(encoding="utf-8").split()) if failure.is_file() else "no predictions.csv"
        return FoldResult(method, repeat, fold, failure=reason)
    run = read_run(path)
    rows = run.rows("test")
    if len(rows) == 0:
        return FoldResult(method, repeat, fold, failure="predictions.csv has no test split")
    of_bags = None if groups is None else groups_of(run.predictions.bag_ids, groups)
    return FoldResult(
        method=method,
        repeat=repeat,
        fold=fold,
        bag_ids=[run.predictions.bag_ids[row] for row in rows],
        # The predictions of the run: its operating point, chosen on validation, may differ from 0.5.
        outcomes=_as_predicted(run.outcomes("test", task, groups=of_bags), run, rows),
        num_train=len(run.rows("train")),
        **_digests_of(path),
    )


def _digests_of(path: Path) -> dict[str, str]:
    """Return the digests of the tiles and of the split of a run; empty ones if it did not record them."""
    record = path / IDENTITY_FILE
    content = read_mapping(record) if record.is_file() else {}
    contents = content.get("contents")
    contents = contents if isinstance(contents, dict) else {}
    return {name: str(contents.get(name) or "") for name in ("tiles_sha256", "splits_sha256")}


def _as_predicted(outcomes: Any, run: RunFolder, rows: NDArray[np.int64]) -> Any:
    """Return outcomes with the classes that the run predicted; numbers have none."""
    if not isinstance(outcomes, EvaluatedBags):
        return outcomes
    return replace(outcomes, predicted=run.predictions.predicted_labels[rows])


def groups_of(bag_ids: Sequence[str], groups: Mapping[str, str]) -> NDArray[np.str_]:
    """Return the group of each bag.

    Raises:
        ValueError: If a bag has none.
    """
    missing = [bag_id for bag_id in bag_ids if bag_id not in groups]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(bag_ids)} bags have no group (first: {missing[0]!r}); give one for each bag"
        )
    return np.array([str(groups[bag_id]) for bag_id in bag_ids])


def _read_history(path: Path) -> pd.DataFrame | None:
    """Return the log of a training, `None` if it is missing or empty."""
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        return pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV table ({str(error).strip()})") from None


def _read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, or an empty dictionary if it is missing.

    Raises:
        ValueError: If a run cannot have written it.
    """
    return read_mapping(path, only_shown=True) if path.is_file() else {}
