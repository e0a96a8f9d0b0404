"""Responses of an endpoint: predictions as JSON or npz."""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from milpath.models.card import Card, answering_card
from milpath.records.data_warning import TILE_UNFAMILIARITY, UNFAMILIAR_COLUMNS, warning_in_words
from milpath.records.tile_resolution import trained_range
from milpath.sagemaker.endpoint.input_spec import TileBag
from milpath.sagemaker.endpoint.request_limits import BadRequestError
from milpath.targets import NumericTarget, target_of
from milpath.targets.decision import Calls, Decision, decide, deferred_cells, say_other_decision
from milpath.targets.shown_sets import class_sets, number_intervals, say_about_sets, shown_parts

JSON, NPZ = "application/json", "application/x-npz"


class Answer(NamedTuple):
    """Prediction of one bag.

    Attributes:
        probabilities: `(classes,)` float32, sums to 1; or `(columns,)`, the numbers of a target without classes.
        attention: `(tiles,)` float32, sums to 1.
        bag: The bag, for the names and positions of its tiles.
        maps: Name (`attention_<class>`, `contribution_<class>`) to `(tiles,)`, for a network with maps per class.
        unfamiliarity: `(3,)`, the columns `UNFAMILIAR_COLUMNS`; `None` without a model of familiar slides.
        of_tiles: `(tiles,)` float32, percent of the validation tiles that are less unfamiliar; `None` likewise.
        stains_normalised: Whether the stains could be normalised as in training; `None` for a network that leaves them.
    """

    probabilities: NDArray[np.float32]
    attention: NDArray[np.float32]
    bag: TileBag
    maps: Mapping[str, NDArray[np.float32]] = MappingProxyType({})
    unfamiliarity: NDArray[np.float64] | None = None
    of_tiles: NDArray[np.float32] | None = None
    stains_normalised: bool | None = None


def choose_writer(accept: str) -> str:
    """Return the content type of the response.

    Args:
        accept: The `Accept` header; empty and `*/*` mean JSON.

    Raises:
        BadRequestError: With status 406.
    """
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    if not accept.strip() or any(kind in (JSON, "*/*", "application/*") for kind in kinds):
        return JSON
    if NPZ in kinds:
        return NPZ
    raise BadRequestError(f"the response can be {JSON} or {NPZ}, not {accept[:80]!r}", 406)


def write_answers(answers: Sequence[Answer], card: Card, content_type: str) -> bytes:
    """Return the body of a response.

    Args:
        answers: One per bag; none for a request of the card of the network, which `application/json` then adds.
        card: Class names, operating point and deferral threshold.
        content_type: `application/json`, or `application/x-npz` with the arrays `probabilities (bags, classes)`,
            `attention (bags, tiles)` (0 on padding), likewise each map of a network with maps per class, `num_tiles`,
            `label`, `deferred`, `threshold` and `class_names`. Without classes `answers (bags, columns)`, NaN where a number
            is not defined, and `answer_columns` and `units` replace the probabilities, `label` and `threshold`;
            several targets with classes among them have `calls (bags, call columns)` and `call_columns`, as text.
            A network trained on other data than tissue adds `warning`, and defers every bag.
            A network with a model of familiar slides adds `unfamiliar` (NaN without a bound), `unfamiliarity` and
            `unfamiliarity_score (bags,)`, and `tile_unfamiliarity (bags, tiles)`.
            A network that normalises stains adds `stains_normalised (bags,)`.
            With prediction sets also `coverage` and `sets (bags, classes)`, or `low` and `high (bags, columns)`, NaN
            without an end; those of several targets have the name of the target and a slash before them. `note` says what
            else to know, if there is anything.
    """
    if content_type == NPZ:
        return _npz(answers, card)
    content = {"class_names": list(card.class_names), "predictions": [describe(answer, card) for answer in answers]}
    if not answers:
        content["card"] = answering_card(card)
    if card.warning:
        content["warning"] = warning_in_words(card.warning)
    if isinstance(target := target_of(card), NumericTarget):
        content["units"] = dict(zip(target.answer_columns, target.units, strict=True))
    content |= _said(card)
    if (trained := trained_range(card.tiling)) is not None:
        content["trained_microns_per_pixel"] = list(trained)
    return json.dumps(content, allow_nan=False).encode()


def _said(card: Card) -> dict[str, Any]:
    """Return the coverage of the prediction sets, and what to know of sets and of the decision, if anything."""
    parts, said = shown_parts(card), (say_other_decision(card, card.data.get("aggregate"), None), say_about_sets(card))
    of_sets = {"coverage": parts[0].sets.coverage} if parts and parts[0].sets is not None else {}
    note = "; ".join(filter(None, said))
    return of_sets | ({"note": note} if note else {})


def call(answers: Sequence[Answer], card: Card) -> Calls:
    """Return the predicted classes and deferrals, by the same decision as every command of this library."""
    probabilities = np.stack([answer.probabilities for answer in answers])
    strange = np.array([_is_strange(answer) for answer in answers])
    return decide(probabilities.astype(np.float64), card.task, Decision.of_card(card), strange)


def describe(answer: Answer, card: Card) -> dict[str, Any]:
    """Return one prediction as plain values.

    Returns:
        label, probabilities by class and threshold (binary tasks), or the predicted numbers of a target without classes
        (null if not defined); deferred (numbers: only if the slide is unfamiliar, or the training data are no tissue); the
        names of the classes in the prediction set, or the ends of the interval of each number (null without an end), if the
        network has them; how unfamiliar the slide is, if the network has a model of familiar slides; whether its stains were
        normalised, if the network does it; attention; the resolution that the request stated (None: not compared with that
        of the training) if the card states its own; the maps of a network that has them per class, each a list like
        attention; and the names of the tiles, or their corners in the slide image (null of a white filler tile), if known.
    """
    content = _called(answer, card)
    if answer.unfamiliarity is not None:
        above, percent, score = answer.unfamiliarity.tolist()
        content |= dict(
            zip(UNFAMILIAR_COLUMNS, (None if np.isnan(above) else bool(above), percent, score), strict=True)
        )
    if answer.stains_normalised is not None:
        content["stains_normalised"] = answer.stains_normalised
    content["attention"] = [_plain(weight) for weight in answer.attention]
    if answer.of_tiles is not None:
        content[TILE_UNFAMILIARITY] = [_plain(value) for value in answer.of_tiles]
    content |= {name: [_plain(value) for value in values] for name, values in answer.maps.items()}
    if trained_range(card.tiling) is not None:
        content["microns_per_pixel"] = answer.bag.microns_per_pixel
    if answer.bag.names:
        content["tiles"] = list(answer.bag.names)
    if answer.bag.corners:
        content["corners"] = [None if corner is None else list(corner) for corner in answer.bag.corners]
    return content


def _called(answer: Answer, card: Card) -> dict[str, Any]:
    """Return the predicted class with its probabilities, or the predicted numbers."""
    target = target_of(card)
    if isinstance(target, NumericTarget):
        pairs = zip(target.answer_columns, answer.probabilities, strict=True)
        content: dict[str, Any] = {
            "answers": {name: None if np.isnan(value) else _plain(value) for name, value in pairs}
        }
        if target.call_columns:
            content["calls"] = dict(zip(target.call_columns, _calls_of(target, answer), strict=True))
        intervals = number_intervals(card, answer.probabilities)
        ends = {
            name: [None if end is None else float(f"{end:.9g}") for end in pair] for name, pair in intervals.items()
        }
        sets = class_sets(card, answer.probabilities)
        content |= {"deferred": bool(card.warning) or _is_strange(answer)}
        return content | ({"intervals": ends} if ends else {}) | ({"sets": sets} if sets else {})
    calls, names = call([answer], card), class_sets(card, answer.probabilities).get("", [])
    return {
        "label": card.class_names[calls.predicted[0]],
        "probabilities": {
            name: _plain(value) for name, value in zip(card.class_names, answer.probabilities, strict=True)
        },
        "threshold": card.threshold if target.has_threshold else None,
        "deferred": bool(calls.deferred[0]),
    } | ({"set": names} if names else {})


def _calls_of(target: NumericTarget, answer: Answer) -> Sequence[str]:
    """Return the cells of predicted classes and deferrals of several targets."""
    return deferred_cells(target.call_columns, target.calls(answer.probabilities), _is_strange(answer))


def _is_strange(answer: Answer) -> bool:
    """Return whether the network does not know slides like this one, which defers it."""
    return answer.unfamiliarity is not None and bool(answer.unfamiliarity[0] == 1)


def _npz(answers: Sequence[Answer], card: Card) -> bytes:
    """Return the predictions as arrays."""
    if not answers:
        raise BadRequestError(f"the card of the network can only be {JSON}, not {NPZ}", 406)
    lengths = [len(answer.attention) for answer in answers]
    of_tiles = {"attention": [answer.attention for answer in answers]}
    of_tiles |= {name: [answer.maps[name] for answer in answers] for name in answers[0].maps}
    if answers[0].of_tiles is not None:
        of_tiles[TILE_UNFAMILIARITY] = [answer.of_tiles for answer in answers if answer.of_tiles is not None]
    padded: dict[str, Any] = {name: np.zeros((len(answers), max(lengths)), np.float32) for name in of_tiles}
    for name, rows in of_tiles.items():
        for row, values in enumerate(rows):
            padded[name][row, : lengths[row]] = values
    if card.warning:
        padded["warning"] = np.array(warning_in_words(card.warning))
    strange = [answer.unfamiliarity for answer in answers if answer.unfamiliarity is not None]
    if strange:
        padded |= dict(zip(UNFAMILIAR_COLUMNS, np.stack(strange, axis=1), strict=True))
    if None not in (normalised := [answer.stains_normalised for answer in answers]):
        padded["stains_normalised"] = np.array(normalised)
    padded |= {name: np.array(value) for name, value in _said(card).items()}
    body = BytesIO()
    np.savez_compressed(
        body,
        **_called_arrays(answers, card),
        num_tiles=np.array(lengths),
        class_names=np.array(card.class_names),
        **padded,
    )
    return body.getvalue()


def _called_arrays(answers: Sequence[Answer], card: Card) -> dict[str, Any]:
    """Return predicted classes and probabilities, or predicted numbers, as arrays."""
    rows = np.stack([answer.probabilities for answer in answers])
    target, sets = target_of(card), dict[str, Any]()
    for part in shown_parts(card):
        assert part.sets is not None
        if part.target.has_classes:
            sets[f"{part.prefix}sets"] = part.sets.sets(part.of(rows))
        else:
            ends = zip(("low", "high"), part.sets.intervals(part.of(rows)), strict=True)
            sets |= {f"{part.prefix}{name}": values.astype(np.float32) for name, values in ends}
    if isinstance(target, NumericTarget):
        arrays = {"answers": rows, "answer_columns": np.array(target.answer_columns), "units": np.array(target.units)}
        if target.call_columns:
            arrays["call_columns"] = np.array(target.call_columns)
            arrays["calls"] = np.array([_calls_of(target, answer) for answer in answers])
        deferred = np.array([bool(card.warning) or _is_strange(answer) for answer in answers])
        return arrays | sets | {"deferred": deferred}
    calls = call(answers, card)
    return sets | {
        "probabilities": rows,
        "label": calls.predicted,
        "deferred": calls.deferred,
        "threshold": np.array(card.threshold),
    }


def _plain(value: np.float32) -> float:
    """Return a float with nine significant digits, which represent a float32 exactly."""
    return float(f"{value:.9g}")
