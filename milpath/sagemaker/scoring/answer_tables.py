"""The answers of the serving container as the tables of `milpath predict`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.inference.bag_call import BagCaller
from milpath.inference.predict_bags import BagPrediction
from milpath.inference.prediction_files import PredictionFiles
from milpath.models.checkpoint import Card
from milpath.models.tile_maps import is_tile_map
from milpath.records.data_warning import TILE_UNFAMILIARITY, UNFAMILIAR_COLUMNS, warning_in_words


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
    caller = BagCaller.of_card(card)
    files = PredictionFiles(
        output, card.class_names, card.threshold if caller.target.has_threshold else None, source,
        answer_columns=caller.answer_columns, call_columns=caller.call_columns, further_columns=caller.further_columns,
        warning=warning_in_words(card.warning),
    )  # fmt: skip
    with files:
        for name, body in answers:
            content = json.loads(body)
            if content["class_names"] != list(card.class_names):
                raise ValueError(
                    f"the answer for {name!r} is of another network than the checkpoint; give another name="
                )
            (answer,) = content["predictions"]
            bag = _prediction(name, answer, caller)
            call = caller(bag)
            of_tiles = {} if bag.tile_unfamiliarity is None else {UNFAMILIAR_COLUMNS[1]: bag.tile_unfamiliarity}
            files.add(
                name, bag.probabilities, call.predicted, call.defer, pd.DataFrame(), None, bag.attention,
                {**bag.maps, **of_tiles}, further=call.further, calls=call.calls,
            )  # fmt: skip


def _prediction(name: str, answer: Mapping[str, Any], caller: BagCaller) -> BagPrediction:
    """Return an answer as the prediction of a bag."""
    columns = caller.answer_columns
    given = answer["answers"] if columns else answer["probabilities"]
    numbers = [given[column] for column in columns or caller.predictor.card.class_names]
    strange = [answer[column] for column in UNFAMILIAR_COLUMNS] if caller.predictor.familiarity else None
    return BagPrediction(
        0, name, _floats(numbers), _floats(answer["attention"]),
        {key: _floats(column) for key, column in answer.items() if is_tile_map(key)},
        unfamiliarity=None if strange is None else _floats(strange, np.float64),
        tile_unfamiliarity=None if strange is None else _floats(answer[TILE_UNFAMILIARITY]),
    )  # fmt: skip


def _floats(values: Sequence[float | None], dtype: Any = np.float32) -> NDArray[Any]:
    """Return numbers of an answer, NaN where one is not defined."""
    return np.array([np.nan if value is None else value for value in values], dtype)
