"""The answers of the serving container as the tables of `milpath predict`."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milpath.inference.prediction_files import PredictionFiles
from milpath.models.checkpoint import Card
from milpath.models.tile_maps import is_tile_map
from milpath.records.data_warning import warning_in_words
from milpath.targets import NumericTarget, target_of
from milpath.targets.shown_sets import set_cells, set_columns


def error_of(answer: bytes) -> str | None:
    """Return why a bag was refused; `None` if it was predicted."""
    try:
        content = json.loads(answer)
    except ValueError:
        return "the answer is not JSON"
    if isinstance(content, dict) and len(content.get("predictions", ())) == 1:
        return None
    return str(content.get("error", "the answer has no prediction")) if isinstance(content, dict) else "no prediction"


def write_answer_tables(
    output: Path, card: Card, answers: Iterable[tuple[str, bytes]], source: Mapping[str, str]
) -> None:
    """Write `predictions.csv` and `attention.csv` of answers, in the order in which they come.

    Args:
        output: Folder; created if it does not exist.
        card: Card of the network that answered.
        answers: Name of each bag and the body of its answer.
        source: Hashes of the inputs, for `prediction.json`.

    Raises:
        ValueError: If an answer has other classes than the card: it is of another network.
    """
    target = target_of(card)
    numbers = target if isinstance(target, NumericTarget) else None
    warning = warning_in_words(card.warning)
    files = PredictionFiles(
        output, card.class_names, card.threshold if target.has_threshold else None, source,
        answer_columns=() if numbers is None else numbers.answer_columns,
        call_columns=() if numbers is None else numbers.call_columns,
        further_columns=set_columns(card), warning=warning,
    )  # fmt: skip
    with files:
        for name, body in answers:
            content = json.loads(body)
            if content["class_names"] != list(card.class_names):
                raise ValueError(
                    f"the answer for {name!r} is of another network than the checkpoint; give another name="
                )
            (answer,) = content["predictions"]
            values = _values(answer, card, numbers)
            maps = {key: np.array(column, np.float32) for key, column in answer.items() if is_tile_map(key)}
            files.add(
                name, values, answer.get("label", ""), bool(answer.get("deferred", False)), pd.DataFrame(), None,
                np.array(answer["attention"], np.float32), maps,
                () if numbers is None else numbers.calls(values), set_cells(card, values),
            )  # fmt: skip


def _values(answer: Mapping[str, Any], card: Card, numbers: NumericTarget | None) -> np.ndarray:
    """Return the probabilities of a bag, or its predicted numbers, NaN where one is not defined."""
    if numbers is None:
        return np.array([answer["probabilities"][name] for name in card.class_names], np.float32)
    found = [answer["answers"][name] for name in numbers.answer_columns]
    return np.array([np.nan if value is None else value for value in found], np.float32)
