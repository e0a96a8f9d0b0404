"""The tables of a prediction, written slide by slide so that a stopped run goes on."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.reports.prediction_folder import claim_folder

ATTENTION_COLUMNS = ("id", "tile", "x", "y", "level", "microns", "weight")


class PredictionFiles:
    """Write `predictions.csv` and `attention.csv` under temporary names until all slides are done.

    Tiles of a slide are written before its own row: a slide with a row is whole, and one without is predicted again.

    Args:
        output: Folder; made if it is missing.
        class_names: Names of the classes.
        threshold: Operating point, written beside each slide; None for tasks without one.
        source: What the predictions come from (checkpoint, slides); kept in `prediction.json`.
        overwrite: Begin anew, whatever a run before left.

    Raises:
        FileExistsError: If the folder holds something else than a stopped run of this source.
    """

    def __init__(
        self,
        output: Path,
        class_names: Sequence[str],
        threshold: float | None,
        source: Mapping[str, str],
        overwrite: bool = False,
    ) -> None:
        self.output = output
        self.threshold = threshold
        probabilities = [f"probability_{name}" for name in class_names]
        self.columns = ("id", *probabilities, "predicted", "threshold", "defer")
        claim_folder(output, source, overwrite)
        self.done = self._recover()

    def __enter__(self) -> Self:
        self._predictions = _append(self.output / ".predictions.csv.partial", self.columns)
        self._attention = _append(self.output / ".attention.csv.partial", ATTENTION_COLUMNS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._predictions.close()
        self._attention.close()
        if kind is None:
            for name in ("predictions.csv", "attention.csv"):
                (self.output / f".{name}.partial").replace(self.output / name)

    def add(
        self,
        bag_id: str,
        probabilities: NDArray[np.floating],
        predicted: str,
        defer: bool,
        tiles: pd.DataFrame,
        microns_per_pixel: float | None,
        weights: NDArray[np.floating],
    ) -> None:
        """Write one slide.

        Args:
            bag_id: Name of the slide.
            probabilities: `(classes,)`.
            predicted: Name of the class it is called.
            defer: Whether a person should look.
            tiles: Rows of the store's tile table; x, y and level where they are known.
            microns_per_pixel: At the level the tiles were read; None where unknown.
            weights: `(tiles,)` attention.
        """
        rows = csv.writer(self._attention)
        for number, weight in enumerate(weights):
            row = tiles.iloc[number]
            place = [row.get(name, "") for name in ("x", "y", "level")]
            rows.writerow([bag_id, number, *place, microns_per_pixel or "", f"{weight:.9g}"])
        self._attention.flush()
        words = [f"{value:.9g}" for value in probabilities]
        threshold = "" if self.threshold is None else f"{self.threshold:.9g}"
        csv.writer(self._predictions).writerow([bag_id, *words, predicted, threshold, int(defer)])
        self._predictions.flush()
        os.fsync(self._predictions.fileno())

    def _recover(self) -> set[str]:
        """Return the slides that a stopped run finished, and drop what it left half written."""
        path = self.output / ".predictions.csv.partial"
        if not path.exists():
            return set()
        kept = [row for row in _rows(path) if len(row) == len(self.columns)]
        done = {row[0] for row in kept[1:]}
        _rewrite(path, kept)
        attention = self.output / ".attention.csv.partial"
        if attention.exists():
            rows = [row for row in _rows(attention) if len(row) == len(ATTENTION_COLUMNS)]
            _rewrite(attention, rows[:1] + [row for row in rows[1:] if row[0] in done])
        return done


def _append(path: Path, columns: Sequence[str]) -> TextIO:
    """Open a table to add rows, with its head if it is new."""
    # A killed run may have made the file and written nothing yet.
    new = not path.exists() or path.stat().st_size == 0
    file = path.open("a", newline="", encoding="utf-8")
    if new:
        csv.writer(file).writerow(columns)
    return file


def _rows(path: Path) -> list[list[str]]:
    """Return the complete rows of a table; a last line without its end was being written."""
    with path.open(newline="", encoding="utf-8") as file:
        text = file.read()
    # Line by line would part the rows of slides whose names hold the end of a line.
    return list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline="")))


def _rewrite(path: Path, rows: list[list[str]]) -> None:
    """Replace a table in one step."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    temporary.replace(path)
