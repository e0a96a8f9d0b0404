"""Tables of a prediction, written slide by slide so that an interrupted run can continue."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.inference.prediction_folder import claim_folder
from milpath.records.atomic_files import atomic_path, drop_open_line
from milpath.records.prediction_table import number_cells, require_finite_prediction, required_numbers
from milpath.slides.tile_positions import LEVEL0_COLUMNS

PREDICTIONS, ATTENTION = "predictions.csv", "attention.csv"
_PLACE = ("x", "y", "level", *LEVEL0_COLUMNS)
ATTENTION_COLUMNS = ("id", "tile", *_PLACE, "microns", "weight")
# Of bags with several slides: the share of the attention of each slide.
SLIDE_ATTENTION = "slide_attention.csv"


class PredictionFiles:
    """Write `predictions.csv` and `attention.csv` under temporary names until all slides are done.

    The tiles of a slide are written before its row: a slide with a row is complete, one without is predicted again.
    `predictions.csv` gets its name last: if it exists, the prediction is complete.

    Args:
        output: Output folder; created if it does not exist.
        class_names: Names of the classes.
        threshold: Operating point, written with each slide; `None` for tasks without one.
        source: Hashes of the inputs (checkpoint, slides); saved in `prediction.json`.
        overwrite: Start again and discard earlier results.
        answer_columns: Columns of the predicted numbers of a target without classes; empty with classes.
        further_columns: Columns at the end, such as the prediction set.
        several_slides: Whether a bag has several slides: `attention.csv` then has the column `slide` after `id`, `tile`
            counts within a slide, and `slide_attention.csv` has the share of the attention of each slide.
        call_columns: Columns of predicted classes and deferrals after the numbers, if several targets have any.
        warning: What the training data say against themselves, in words: the last cell of each row. Without one there is no
            such column.

    Raises:
        FileExistsError: If the folder contains anything else than an interrupted run of this source.
    """

    def __init__(
        self,
        output: Path,
        class_names: Sequence[str],
        threshold: float | None,
        source: Mapping[str, str],
        overwrite: bool = False,
        answer_columns: Sequence[str] = (),
        further_columns: Sequence[str] = (),
        several_slides: bool = False,
        call_columns: Sequence[str] = (),
        warning: str = "",
    ) -> None:
        self.output = output
        self.several_slides = several_slides
        first, *others = ATTENTION_COLUMNS
        self.attention_columns = (first, "slide", *others) if several_slides else ATTENTION_COLUMNS
        self.threshold = threshold
        probabilities = [f"probability_{name}" for name in class_names]
        self.answer_columns = tuple(answer_columns)
        self._last = (warning,) if warning else ()
        answers = self.answer_columns or (*probabilities, "predicted", "threshold", "defer")
        self.columns = ("id", *answers, *call_columns, *further_columns, *(("warning",) if warning else ()))
        claim_folder(output, source, overwrite)
        self._columns: list[str] = []
        self.done = self._recover()

    def __enter__(self) -> Self:
        self._predictions = _append(_unfinished(self.output, PREDICTIONS), self.columns)
        # The columns are known with the first slide: a network may have maps per class.
        self._attention = _append(_unfinished(self.output, ATTENTION))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._predictions.close()
        if kind is None and not self._columns:
            csv.writer(self._attention).writerow(self.attention_columns)
        self._attention.close()
        if kind is None:
            if self.several_slides:
                _write_slide_attention(_unfinished(self.output, ATTENTION), self.output / SLIDE_ATTENTION)
            for name in (ATTENTION, PREDICTIONS):
                _unfinished(self.output, name).replace(self.output / name)

    def add(
        self,
        bag_id: str,
        probabilities: NDArray[np.floating],
        predicted: str,
        defer: bool,
        tiles: pd.DataFrame,
        microns_per_pixel: float | None,
        weights: NDArray[np.floating],
        maps: Mapping[str, NDArray[np.floating]] | None = None,
        further: Sequence[str] = (),
        calls: Sequence[str] = (),
    ) -> None:
        """Write one slide.

        Args:
            bag_id: Name of the slide.
            probabilities: `(classes,)`, or the predicted numbers `(answer columns,)`.
            predicted: Name of the predicted class; not written without classes.
            defer: Whether to defer the slide to a person; not written without classes.
            tiles: Rows of the store's tile table; x, y, level, x0, y0 and size0 if known; of a bag with several slides also
                `slide`, `tile` and `microns` (see `tile_rows`).
            microns_per_pixel: Resolution of the tiles, if they have no column `microns`; `None` if unknown.
            weights: `(tiles,)` attention.
            maps: Name to `(tiles,)` of further columns of `attention.csv`, the same for all slides.
            further: Cells of `further_columns`.
            calls: Cells of `call_columns`.

        Raises:
            ValueError: If a probability, a weight or a value of a map is not finite.
        """
        maps = maps or {}
        numbers = required_numbers(np.asarray(probabilities), self.answer_columns)
        require_finite_prediction(bag_id, numbers, np.asarray(weights), maps)
        unknown: list[object] = [""] * len(weights)
        numbers_of = [_cells(tiles["slide"]), tiles["tile"].tolist()] if self.several_slides else [range(len(weights))]
        places = [_cells(tiles[name]) if name in tiles else unknown for name in _PLACE]
        same: list[object] = [microns_per_pixel or ""] * len(weights)
        places.append(_cells(tiles["microns"]) if "microns" in tiles else same)
        shares = zip(
            *([f"{value:.9g}" for value in values.tolist()] for values in (weights, *maps.values())), strict=True
        )
        rows = zip(*numbers_of, *places, shares, strict=True)
        writer, columns = csv.writer(self._attention), [*self.attention_columns, *maps]
        if not self._columns:
            writer.writerow(columns)
            self._columns = columns
        if self._columns != columns:
            raise ValueError(
                f"attention.csv in {self.output} was begun with the columns {', '.join(self._columns)}, not "
                f"{', '.join(columns)}; set another output, or overwrite=true"
            )
        writer.writerows([bag_id, *cells, *values] for *cells, values in rows)
        self._attention.flush()
        os.fsync(self._attention.fileno())
        row = self.cells(probabilities, predicted, defer, further, calls)
        csv.writer(self._predictions).writerow([bag_id, *row.values()])
        self._predictions.flush()
        os.fsync(self._predictions.fileno())

    def cells(
        self,
        probabilities: NDArray[np.floating],
        predicted: str,
        defer: bool,
        further: Sequence[str] = (),
        calls: Sequence[str] = (),
    ) -> dict[str, str]:
        """Return the row of a slide in `predictions.csv` without its name, column by column.

        Args:
            probabilities: As in `add`.
            predicted: As in `add`.
            defer: As in `add`.
            further: As in `add`.
            calls: As in `add`.
        """
        answer = number_cells(np.asarray(probabilities))
        if not self.answer_columns:
            answer += [predicted, "" if self.threshold is None else f"{self.threshold:.9g}", str(int(defer))]
        return dict(zip(self.columns[1:], [*answer, *calls, *further, *self._last], strict=True))

    def _recover(self) -> set[str]:
        """Return the slides that an interrupted run finished, and drop partial rows."""
        path = _unfinished(self.output, PREDICTIONS)
        if not path.exists():
            return set()
        attention = _unfinished(self.output, ATTENTION)
        if (self.output / ATTENTION).exists():  # killed between the two renames
            (self.output / ATTENTION).replace(attention)
        known = ((), self.attention_columns)
        others = attention.exists() and _header(attention)[: len(self.attention_columns)] not in known
        if others or _header(path) not in ((), self.columns):
            # Written by another version: its rows cannot be continued, and a slide without them is not complete.
            path.unlink()
            attention.unlink(missing_ok=True)
            return set()
        done = _keep_rows(path)
        if attention.exists():
            _keep_rows(attention, done)
            self._columns = list(_header(attention))
        return done


def _write_slide_attention(attention: Path, path: Path) -> None:
    """Write bag, slide, number of tiles and share of the attention from a table of tiles, read row by row."""
    shares: dict[tuple[str, str], list[float]] = {}
    with attention.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            share = shares.setdefault((row["id"], row["slide"]), [0, 0.0])
            share[0], share[1] = share[0] + 1, share[1] + float(row["weight"])
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(["id", "slide", "num_tiles", "attention"])
        writer.writerows([*names, int(count), f"{total:.9g}"] for names, (count, total) in shares.items())


def table_path(output: Path, name: str) -> Path:
    """Return the path of a table of a prediction, under its temporary name while the prediction is not complete.

    Args:
        output: Output folder.
        name: `PREDICTIONS` or `ATTENTION`.
    """
    unfinished = _unfinished(output, name)
    return unfinished if unfinished.exists() else output / name


def _unfinished(output: Path, name: str) -> Path:
    return output / f".{name}.partial"


def _cells(column: pd.Series) -> list[object]:
    """Return the cells of a column; a tile without a position has empty ones."""
    return column.astype(object).where(column.notna(), "").tolist()


def _header(path: Path) -> tuple[str, ...]:
    """Return the names of the columns of a table; empty if none were written."""
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(next(csv.reader(file), ()))


def _append(path: Path, columns: Sequence[str] = ()) -> TextIO:
    """Open a table for appending; a new one gets a header if there are columns."""
    # A killed run may have created the file without writing anything.
    new = not path.exists() or path.stat().st_size == 0
    file = path.open("a", newline="", encoding="utf-8")
    if new and columns:
        csv.writer(file).writerow(columns)
    return file


def _keep_rows(path: Path, wanted: set[str] | None = None) -> set[str]:
    """Rewrite a table without the partial rows of an interrupted run, atomically and row by row.

    Args:
        path: The table; a row with fewer cells than its header is partial.
        wanted: Names whose rows are kept; `None` for all.

    Returns:
        The names that remain in it.
    """
    drop_open_line(path)
    names = set()
    with (
        atomic_path(path) as temporary,
        path.open(newline="", encoding="utf-8") as source,
        temporary.open("w", newline="", encoding="utf-8") as target,
    ):
        # Not line by line, which would split the rows of slides whose names contain a newline.
        rows, kept = csv.reader(source), csv.writer(target)
        header = next(rows, [])
        kept.writerows([header] if header else [])
        for row in rows:
            if len(row) == len(header) and (wanted is None or row[0] in wanted):
                kept.writerow(row)
                names.add(row[0])
    return names
