"""Table of predictions, one row per bag, shared by all commands that predict."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from milpath.records.atomic_files import atomic_path
from milpath.records.data_warning import UNFAMILIAR_COLUMNS, unfamiliar_cells
from milpath.records.error_text import reason_of
from milpath.records.label_table import read_written_table
from milpath.records.predictions.possible_cells import LABEL_PREFIX, PROBABILITY_PREFIX, PossibleCells

_COLUMNS = ("id", "split", "label", "predicted")
# Columns with a value for each tile, besides attention.
_MAPS = ("attention_", "contribution_")
# Columns of predicted numbers whose cells may be empty: a median survival that is not reached. One of several targets has
# its name and a slash before it.
MAY_BE_EMPTY = ("median_time",)


@dataclass(frozen=True)
class Predictions:
    """Predictions of bags, in any order.

    Attributes:
        bag_ids: Name of each bag.
        splits: Split of each bag.
        labels: `(bags,)` int64 class indices; -1 if the label is unknown. Of a target without classes
            `(bags, label columns)` float64.
        probabilities: `(bags, classes)` in [0, 1], each row sums to 1. Of a target without classes the predicted numbers
            `(bags, answer columns)`, NaN only in a column of `MAY_BE_EMPTY`.
        attention: For each bag the weight of each tile, in the order of the store; sums to 1.
        class_names: Names of the classes in the order of their indices.
        predicted: `(bags,)` class indices; `None` takes the most probable class.
        logits: `(bags, outputs)` of the network, from which probabilities at any temperature can be computed; `None` if
            unknown.
        maps: Name (`attention_<class>`, `contribution_<class>`) to the value of each tile of each bag, for networks with
            more than one value per tile.
        label_columns: Names of the columns of the labels of a target without classes; empty with classes.
        answer_columns: Names of the columns of the predicted numbers; empty with classes.
        call_columns: Names of the columns of predicted classes and deferrals, if several targets have classes among them.
        calls: The cells of these columns for each bag; they are written, but not read again.
        each: `(bags, networks, columns)`, predictions of each network of an average; `None` of one network. Not written.
        agreement: `(bags,)`, how far the attention of these networks agrees; NaN if not defined, `None` of one network.
        further_columns: Names of columns at the end of the table, such as prediction sets.
        further: The cells of these columns for each bag; they are written, but not read again.
        unfamiliarity: `(bags, 3)`, the columns `UNFAMILIAR_COLUMNS`; `None` without a model of familiar slides.

    Raises:
        ValueError: If a probability, a weight or a value of a map is not finite, with the name of the bag.
    """

    bag_ids: Sequence[str]
    splits: Sequence[str]
    labels: np.ndarray
    probabilities: np.ndarray
    attention: Sequence[np.ndarray]
    class_names: Sequence[str]
    predicted: np.ndarray | None = None
    logits: np.ndarray | None = None
    maps: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)
    label_columns: Sequence[str] = ()
    answer_columns: Sequence[str] = ()
    call_columns: Sequence[str] = ()
    calls: Sequence[Sequence[str]] = ()
    each: np.ndarray | None = None
    agreement: np.ndarray | None = None
    further_columns: Sequence[str] = ()
    further: Sequence[Sequence[str]] = ()
    unfamiliarity: np.ndarray | None = None

    def __post_init__(self) -> None:
        for row, (bag_id, attention) in enumerate(zip(self.bag_ids, self.attention, strict=True)):
            numbers = required_numbers(self.probabilities[row], self.answer_columns)
            require_finite_prediction(bag_id, numbers, attention, self.maps_of(row))

    def __len__(self) -> int:
        return len(self.bag_ids)

    @property
    def predicted_labels(self) -> np.ndarray:
        """Class indices `(bags,)`."""
        return self.probabilities.argmax(1) if self.predicted is None else self.predicted

    @property
    def unfamiliar(self) -> np.ndarray:
        """Whether each bag is above the bound of unfamiliarity, bool `(bags,)`; none without a bound or a model."""
        return np.zeros(len(self), bool) if self.unfamiliarity is None else self.unfamiliarity[:, 0] == 1

    def maps_of(self, row: int) -> dict[str, np.ndarray]:
        """Return the maps of a bag, each `(tiles,)`."""
        return {name: values[row] for name, values in self.maps.items()}

    def of_split(self, split: str) -> "Predictions":
        """Return the predictions of one split."""
        chosen = [row for row, name in enumerate(self.splits) if name == split]
        return Predictions(
            bag_ids=[self.bag_ids[row] for row in chosen],
            splits=[split] * len(chosen),
            labels=self.labels[chosen],
            probabilities=self.probabilities[chosen],
            attention=[self.attention[row] for row in chosen],
            class_names=self.class_names,
            predicted=None if self.predicted is None else self.predicted[chosen],
            logits=None if self.logits is None else self.logits[chosen],
            maps={name: [values[row] for row in chosen] for name, values in self.maps.items()},
            label_columns=self.label_columns,
            answer_columns=self.answer_columns,
            call_columns=self.call_columns,
            calls=[self.calls[row] for row in chosen] if self.call_columns else (),
            each=None if self.each is None else self.each[chosen],
            agreement=None if self.agreement is None else self.agreement[chosen],
            further_columns=self.further_columns,
            further=[self.further[row] for row in chosen] if self.further_columns else (),
            unfamiliarity=None if self.unfamiliarity is None else self.unfamiliarity[chosen],
        )

    def write_csv(self, path: str | Path) -> None:
        """Write `id,split,label,predicted,probability_<class>...,attention,unfamiliar...`; float32 needs 9 digits.

        Label and prediction are class indices, an unknown label is an empty cell, attention and each map are JSON lists.
        A target without classes has `id,split,label_<column>...`, its predicted numbers and `attention`; the label of one
        of several targets may be empty, and their predicted classes come last.
        """
        if self.answer_columns:
            self._write_numbers(path)
            return
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            names = (PROBABILITY_PREFIX + name for name in self.class_names)
            writer.writerow([*_COLUMNS, *names, "attention", *self.maps, *self._last_columns])
            rows = zip(
                self.bag_ids, self.splits, self.labels, self.predicted_labels, self.probabilities,
                zip(self.attention, *self.maps.values(), strict=True), strict=True,
            )  # fmt: skip
            for row, (bag_id, split, label, predicted, probabilities, of_tiles) in enumerate(rows):
                known = int(label) if label >= 0 else ""
                numbers = [f"{value:.9g}" for value in probabilities]
                lists = ["[" + ", ".join(f"{value:.9g}" for value in values) + "]" for values in of_tiles]
                last = self._last_cells(row)
                writer.writerow([bag_id, split, known, int(predicted), *numbers, *lists, *last])

    @property
    def _last_columns(self) -> tuple[str, ...]:
        """Further columns, and those of unfamiliarity."""
        return (*self.further_columns, *(() if self.unfamiliarity is None else UNFAMILIAR_COLUMNS))

    def _last_cells(self, row: int) -> list[str]:
        """Return the cells of these columns."""
        strange = [] if self.unfamiliarity is None else unfamiliar_cells(self.unfamiliarity[row])
        return [*(self.further[row] if self.further_columns else ()), *strange]

    def _write_numbers(self, path: str | Path) -> None:
        """Write the table of a target without classes."""
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            columns = (*self.label_columns, *self.answer_columns, "attention", *self.maps, *self.call_columns)
            writer.writerow(["id", "split", *columns, *self._last_columns])
            rows = zip(
                self.bag_ids, self.splits, self.labels, self.probabilities,
                zip(self.attention, *self.maps.values(), strict=True), strict=True,
            )  # fmt: skip
            for row, (bag_id, split, labels, answers, of_tiles) in enumerate(rows):
                lists = ["[" + ", ".join(f"{value:.9g}" for value in values) + "]" for values in of_tiles]
                known = ["" if np.isnan(value) else f"{value:.15g}" for value in labels]
                calls = self.calls[row] if self.call_columns else ()
                writer.writerow([bag_id, split, *known, *number_cells(answers), *lists, *calls, *self._last_cells(row)])


def number_cells(answers: np.ndarray) -> list[str]:
    """Return predicted numbers as cells; one that is not defined is empty."""
    return ["" if np.isnan(value) else f"{value:.9g}" for value in answers]


def required_numbers(answers: np.ndarray, columns: Sequence[str]) -> np.ndarray:
    """Return the predicted numbers that must be finite."""
    return answers[[name.rpartition("/")[2] not in MAY_BE_EMPTY for name in columns]] if columns else answers


def require_finite_prediction(
    bag_id: str, probabilities: np.ndarray, attention: np.ndarray, maps: Mapping[str, np.ndarray] | None = None
) -> None:
    """Refuse a prediction that is not finite.

    Raises:
        ValueError: If a probability, a weight or a value of a map is NaN or infinite, with the name of the bag and the
            tile.
    """
    if not np.isfinite(probabilities).all():
        raise ValueError(f"bag {bag_id!r} has the probabilities {probabilities.tolist()}; they must be finite")
    for name, values in {"attention": attention, **(maps or {})}.items():
        if not (finite := np.isfinite(values)).all():
            tile = int(finite.argmin())
            raise ValueError(f"bag {bag_id!r} has {name} {values[tile]} on tile {tile}; it must be finite")


def read_predictions(path: str | Path) -> Predictions:
    """Read what `Predictions.write_csv` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a table, or a cell in it cannot be: a probability above 1, a class that there is not.
    """
    table = read_written_table(path, required=("split", "attention"), unique=False)
    before = [str(name) for name in table.columns[: list(table.columns).index("attention")]]
    if "label" not in before and any(name.startswith(LABEL_PREFIX) for name in before):
        return _read_numbers(path, table, [name for name in before if name not in ("bag_id", "split")])
    table = read_written_table(path, required=(*_COLUMNS[1:], "attention"), unique=False)
    names = [name for name in before if name.startswith(PROBABILITY_PREFIX)]
    if not names:
        raise ValueError(f"{path} has no column {PROBABILITY_PREFIX}<class>; it has {', '.join(table.columns)}")
    cells = PossibleCells(path, table)
    return Predictions(
        bag_ids=table["bag_id"].tolist(),
        splits=table["split"].astype(str).tolist(),
        labels=cells.classes("label", len(names), may_be_empty=True),
        probabilities=cells.probabilities(names),
        attention=cells.lists("attention"),
        class_names=[name.removeprefix(PROBABILITY_PREFIX) for name in names],
        predicted=cells.classes("predicted", len(names)),
        maps={name: cells.lists(name) for name in _map_columns(table)},
        unfamiliarity=_unfamiliarity(path, table),
    )


def _read_numbers(path: str | Path, table: pd.DataFrame, columns: Sequence[str]) -> Predictions:
    """Return the predictions of a target without classes."""
    labels = [name for name in columns if name.startswith(LABEL_PREFIX)]
    answers = [name for name in columns if name not in labels]
    if not answers:
        raise ValueError(f"{path} has labels ({', '.join(labels)}) and no columns of predicted numbers")
    cells = PossibleCells(path, table)
    return Predictions(
        bag_ids=table["bag_id"].tolist(),
        splits=table["split"].astype(str).tolist(),
        labels=cells.labels_of_numbers(labels),
        probabilities=cells.answers(answers, labels, MAY_BE_EMPTY),
        attention=cells.lists("attention"),
        class_names=answers,
        maps={name: cells.lists(name) for name in _map_columns(table)},
        label_columns=labels,
        answer_columns=answers,
        unfamiliarity=_unfamiliarity(path, table),
    )


def _unfamiliarity(path: str | Path, table: pd.DataFrame) -> np.ndarray | None:
    """Return the columns of unfamiliarity; `None` if the table does not have them all."""
    if not set(UNFAMILIAR_COLUMNS) <= set(table.columns):
        return None
    try:
        values = table[list(UNFAMILIAR_COLUMNS)].to_numpy(dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} contains values that are not numbers ({reason_of(error)})") from None
    if not np.isfinite(values[:, 1:]).all() or not (np.isnan(values[:, 0]) | np.isin(values[:, 0], (0, 1))).all():
        raise ValueError(
            f"{path} must have 0, 1 or nothing in unfamiliar, and finite numbers in {UNFAMILIAR_COLUMNS[1:]}"
        )
    return values


def _map_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns after attention that hold lists as well; a column that somebody added is none."""
    after = [str(name) for name in table.columns[list(table.columns).index("attention") + 1 :]]
    own = [name for name in after if name.startswith(_MAPS)]
    return [name for name in own if table[name].astype(str).str.startswith("[").all()]
