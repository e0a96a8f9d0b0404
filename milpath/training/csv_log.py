"""CSV logger for runs that may be resumed or killed."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from milpath.records.atomic_files import atomic_path, drop_open_line


class CSVLog(CSVLogger):
    """Lightning's CSVLogger, except that a resumed run appends to its log, and no kill loses a row that was written."""

    @property
    def experiment(self) -> Any:
        """The writer; on first access, an existing log is kept and its columns are read."""
        if self._experiment is not None or getattr(rank_zero_only, "rank", 0) != 0:
            return super().experiment
        self._experiment = _Writer(self.log_dir)
        return self._experiment


class _Writer(ExperimentWriter):
    """Append rows to `metrics.csv`; a new column replaces the file as a whole."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self._path = Path(self.metrics_file_path)
        before = self._path.with_suffix(".before")  # version 0.1.0, if it was killed at its start
        if before.exists() and not self._path.exists():
            before.replace(self._path)
        if self._path.exists():
            drop_open_line(self._path)  # left by a process killed while writing a row
            with self._path.open(newline="", encoding="utf-8") as file:
                self.metrics_keys = next(csv.reader(file), [])

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
