"""CSV logger for runs that may be resumed or killed."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from milpath.records.atomic_files import atomic_path, drop_open_line, remove_partial_files


class CSVLog(CSVLogger):
    """Lightning's CSVLogger, except that a resumed run continues its log, and no kill loses a row that was written."""

    @property
    def experiment(self) -> Any:
        """The writer; on first access, an existing log is kept and its columns are read."""
        if self._experiment is not None or getattr(rank_zero_only, "rank", 0) != 0:
            return super().experiment
        self._experiment = _Writer(self.log_dir)
        return self._experiment

    def continue_from(self, step: int) -> None:
        """Remove the rows of an earlier process which this one writes again: those from `step` on, counted from 0.

        Args:
            step: Optimizer steps done by the checkpoint that training resumes from; 0 begins a new log.
        """
        self.experiment.continue_from(step)


class _Writer(ExperimentWriter):
    """Append rows to `metrics.csv`; a new column replaces the file as a whole."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self._path = Path(self.metrics_file_path)
        remove_partial_files(self._path.parent)  # left by a process killed while replacing the file
        before = self._path.with_suffix(".before")  # version 0.1.0, if it was killed at its start
        if before.exists() and not self._path.exists():
            before.replace(self._path)
        if self._path.exists():
            drop_open_line(self._path)  # left by a process killed while writing a row
            with self._path.open(newline="", encoding="utf-8") as file:
                self.metrics_keys = next(csv.reader(file), [])
        self._last_step = -1
        self._kept: set[tuple[str, ...]] = set()  # columns of the rows of the last step that an earlier process did

    def continue_from(self, step: int) -> None:
        """Remove the rows from a step on, and the columns that only they had."""
        rows = self._rows()
        kept = [row for row in rows if int(row["step"]) < step]
        self._kept = {_columns(row) for row in kept if int(row["step"]) == step - 1}
        if len(kept) < len(rows):
            used = {key for row in kept for key in _columns(row)}
            self.metrics_keys = [key for key in self.metrics_keys if key in used]
            kept = [{key: row[key] for key in self.metrics_keys} for row in kept]
            with atomic_path(self._path) as temporary:
                temporary.write_text(self._text(kept, header=True), encoding="utf-8", newline="")
        self._last_step = step - 1

    def log_metrics(self, metrics_dict: dict[str, Any], step: int | None = None) -> None:
        """Record a row, unless it is one of the last kept step, as after a resume in its validation."""
        if step == self._last_step and _columns({**metrics_dict, "step": step}) in self._kept:
            return
        super().log_metrics(metrics_dict, step)

    def save(self) -> None:
        """Write the rows recorded since the last call."""
        if not self.metrics:
            return
        if self._record_new_keys():
            earlier = self._rows()
            with atomic_path(self._path) as temporary:
                temporary.write_text(self._text([*earlier, *self.metrics], header=True), encoding="utf-8", newline="")
        else:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                file.write(self._text(self.metrics))
        self.metrics = []

    def _rows(self) -> list[dict[str, Any]]:
        """Return the rows in the file."""
        if not self._path.exists():
            return []
        with self._path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _text(self, rows: list[dict[str, Any]], header: bool = False) -> str:
        """Return rows as CSV."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=self.metrics_keys)
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def _check_log_dir_exists(self) -> None:
        """Keep the log of a resumed run, which Lightning would delete."""


def _columns(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the columns in which a row has a value."""
    return tuple(sorted(key for key, value in row.items() if value != ""))
