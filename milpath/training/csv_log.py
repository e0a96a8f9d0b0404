"""CSV logger for runs that may be resumed."""

import csv
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from milpath.records.atomic_files import drop_open_line


class CSVLog(CSVLogger):
    """Lightning's CSVLogger, except that a resumed run appends to its log instead of deleting it."""

    @property
    def experiment(self) -> Any:
        """The writer; on first access, an existing log is kept and its columns are read."""
        if self._experiment is not None or getattr(rank_zero_only, "rank", 0) != 0:
            return super().experiment
        log = Path(self.log_dir) / "metrics.csv"
        before = log.with_suffix(".before")
        if log.exists():
            log.replace(before)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
            writer: Any = super().experiment
        if before.exists():
            drop_open_line(before)  # left by a process killed while writing a row
            with before.open(newline="", encoding="utf-8") as file:
                writer.metrics_keys = next(csv.reader(file), [])
            before.replace(log)
        return writer
