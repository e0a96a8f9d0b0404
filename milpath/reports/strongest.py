"""The bags whose attention is the sharpest, found in the tables of a prediction."""

import csv
import heapq
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def read_strongest(output: Path, first_class: str, count: int) -> dict[str, NDArray[np.float64]]:
    """Return name and weights of the bags whose best tile has the most equal shares, the sharpest first.

    The tables are walked through, never held: memory does not grow with the number of slides.

    Args:
        output: Folder with `predictions.csv` and `attention.csv`.
        first_class: Bags called other than this are looked at; all bags, if there are none.
        count: Bags at most.
    """
    table = pd.read_csv(output / "predictions.csv", usecols=["id", "predicted"], dtype=str, keep_default_na=False)
    called = set(table["id"][table["predicted"] != first_class]) or set(table["id"])
    bags = ((weights.max() * len(weights), name, weights) for name, weights in _bags(output) if name in called)
    return {name: weights for _, name, weights in heapq.nlargest(count, bags, key=lambda bag: float(bag[0]))}


def _bags(output: Path) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield name and weights of each bag; the rows of one stand together."""
    with (output / "attention.csv").open(newline="", encoding="utf-8") as file:
        for name, rows in groupby(csv.DictReader(file), key=lambda row: row["id"]):
            yield name, np.array([float(row["weight"]) for row in rows])
