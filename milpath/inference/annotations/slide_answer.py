"""The answer for a bag in the form that annotations and pages show."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from milpath.inference.ensemble.fold_columns import AGREEMENT, EACH, SPREAD
from milpath.records.data_warning import UNFAMILIAR_COLUMNS

REFER = "refer to a person"
# Columns of names, of which some look like numbers.
_WORDS = ("predicted", "set", "warning")
# End of the column with the predicted class of one of several targets.
_CALLED = "/predicted"
# Columns that sentences say.
_SAID = ("predicted", "warning", "defer", "unfamiliar")
_LABELS = {
    "set": "prediction set",
    "fold_spread": "standard deviation between folds",
    "attention_agreement": "rank correlation of the attention of folds",
    "unfamiliarity": "percent of validation bags that are less unfamiliar",
    "unfamiliarity_score": "score of unfamiliarity",
}


@dataclass(frozen=True)
class SlideAnswer:
    """What a prediction says about a bag.

    Attributes:
        bag_id: Name of the bag: a slide, or a patient of several slides.
        predicted: Name of the predicted class; empty for a target without classes.
        deferred: Whether the bag is referred to a person.
        cells: Column of `predictions.csv` to the cell of the bag.
    """

    bag_id: str
    predicted: str = ""
    deferred: bool = False
    cells: Mapping[str, str] = field(default_factory=dict)

    def measurements(self) -> dict[str, float]:
        """Return the columns that are finite numbers, under their names."""
        numbers = {name: _number(name, cell) for name, cell in self.cells.items()}
        return {name: value for name, value in numbers.items() if value is not None}

    def _called(self, target: str) -> str:
        """Return the call of one of several targets in words."""
        name = self.cells[f"{target}{_CALLED}"]
        probability = self.measurements().get(f"{target}/probability_{name}")
        refer = f", {REFER}" if self.cells.get(f"{target}/defer") == "1" else ""
        return f"{target} {name}" + ("" if probability is None else f", probability {probability:.3f}") + refer

    def labelled(self) -> dict[str, str]:
        """Return the cells under labels in words, without what sentences say; numbers have four digits.

        The predictions of each fold are left out, as in `texts`.
        """
        found = {}
        for name, cell in self.cells.items():
            value = _number(name, cell)
            if cell and name not in (*_SAID, EACH):
                words = _LABELS.get(name, name.replace("probability_", "probability of ", 1).replace("_", " "))
                found[words] = cell if value is None else f"{value:.4g}"
        return found

    def of_folds(self, num_folds: int) -> str:
        """Return how far the folds of an average differ, in a sentence; empty for one network."""
        if num_folds < 2:
            return ""
        values = self.measurements()
        named = {name: value for name, value in values.items() if SPREAD in name or name == AGREEMENT}
        said = [f"{_LABELS.get(name, name.replace('_', ' '))} {value:.3g}" for name, value in named.items()]
        return f"Average of {num_folds} folds: {', '.join(said)}."

    def texts(self) -> dict[str, str]:
        """Return the columns that are not numbers, such as the prediction set and the warning.

        The predictions of each fold of an average are left out: a list for programs, of which the spread is shown.
        """
        return {
            name: cell for name, cell in self.cells.items() if cell and name != EACH and _number(name, cell) is None
        }

    @property
    def unfamiliar(self) -> bool:
        """Whether the network does not know slides like this one."""
        return self.cells.get(UNFAMILIAR_COLUMNS[0]) == "1"

    def in_words(self) -> str:
        """Return the answer in one line.

        Example:
            >>> SlideAnswer("a", "tumour", True, {"probability_tumour": "0.61", "defer": "1"}).in_words()
            'tumour, probability 0.610; refer to a person'
            >>> cells = {"grade/probability_high": "0.61", "grade/predicted": "high", "grade/defer": "1", "age/age": "61"}
            >>> SlideAnswer("a", cells=cells).in_words()
            'grade high, probability 0.610, refer to a person; age/age 61'
        """
        values = self.measurements()
        if self.predicted:
            probability = values.get(f"probability_{self.predicted}")
            said = self.predicted + ("" if probability is None else f", probability {probability:.3f}")
        else:
            called = [name.removesuffix(_CALLED) for name in self.cells if name.endswith(_CALLED)]
            of_called = tuple(f"{target}/" for target in called)
            # Of several targets each has its name and a slash before its columns.
            others = [name for name in values if not called or ("/" in name and not name.startswith(of_called))]
            numbers = ", ".join(f"{name} {values[name]:.4g}" for name in others[:3])
            said = "; ".join(filter(None, (*(self._called(target) for target in called), numbers)))
        why = ": unfamiliar" if self.unfamiliar else ""
        return f"{said}; {REFER}{why}" if self.deferred or self.unfamiliar else said


def read_answers(path: Path) -> dict[str, SlideAnswer]:
    """Return the answers of a `predictions.csv`, by the name of the bag."""
    answers = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            bag_id = row.pop("id")
            answers[bag_id] = SlideAnswer(bag_id, row.get("predicted", ""), row.get("defer") == "1", row)
    return answers


def _number(name: str, cell: str) -> float | None:
    """Return a cell as a finite number; `None` if it is none, such as a class that is called 1."""
    if name.rpartition("/")[2] in _WORDS:
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
