"""The CSV log of a run that may be resumed."""

import csv
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from milpath.records.atomic_files import drop_open_line


class CSVLog(CSVLogger):
    """Lightning's CSVLogger, which goes on in the file of the run it resumes instead of deleting the epochs before."""

    @property
    def experiment(self) -> Any:
        """The writer; the first time, what a run before left is put back where the writer expects it."""
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
            drop_open_line(before)  # a kill in the middle of a row
            with before.open(newline="", encoding="utf-8") as file:
                writer.metrics_keys = next(csv.reader(file), [])
            before.replace(log)
        return writer
