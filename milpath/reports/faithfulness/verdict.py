"""Whether attention shows what a network uses, in one sentence."""

from collections.abc import Mapping
from typing import Any

from milpath.inference.faithfulness.tile_relevance import ATTENTION, RANDOM

# Below this no order of tiles changes the answer more than random ones do.
_NOTHING = 0.01
# With fewer bags, or groups of them, an interval of resamples is too narrow to decide anything.
_MIN_UNITS = 5
# What is found, from better to worse.
FAITHFUL, IN_PART, UNDECIDED, CHANCE, WORSE, MIXED = "faithful", "in part", "undecided", "chance", "worse", "mixed"
FLAT, INSENSITIVE = "no attention", "insensitive"
_WORDS = {
    FAITHFUL: "attention points at what the network uses",
    CHANCE: "attention is no better than random",
    WORSE: "attention points away from what the network uses",
    MIXED: "removing and keeping its tiles say the opposite of each other",
    UNDECIDED: "too few bags, or patients, to tell attention from random",
}


def verdict_of(record: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, str]:
    """Return `finding`, one of the names above, and `verdict`, a sentence or two.

    Attention is faithful if its areas under both curves are better than those of random orders of the same bags, each with
    an interval above 0.

    Args:
        record: What `summarise` returns, without these.
        part: The part of it that the verdict is about.
    """
    if not _any_change(part):
        return {"finding": INSENSITIVE, "verdict": f"{_where(record, part)}, {_insensitive(record)}."}
    best = _best(part)
    if part["num_flat"] == part["num_rows"]:
        words = (
            f"{_where(record, part)}, all tiles have the same attention: this network has no attention whose order could be "
            f"tested. Removing the {record['share']:.0%} first tiles by {best} lowers {_quantity(record)} by "
            f"{_number(_drop(part, best))}, removing random tiles by {_number(_drop(part, RANDOM), plain=True)}."
        )
        return {"finding": FLAT, "verdict": words}
    finding, words = _finding(part)
    if finding != UNDECIDED and abs(_numbers(part)["drop_gain"][0] or 0.0) < _NOTHING * _scale(part):
        words = (
            "so few tiles change as little as random ones, and over the whole curves attention gains "
            f"{_number(_numbers(part)['deletion_gain'], signed=True)} on random orders while tiles are removed and "
            f"{_number(_numbers(part)['insertion_gain'], signed=True)} while they are put back: {words}"
        )
    sentence = (
        f"{_where(record, part)}, removing the {record['share']:.0%} most attended tiles "
        f"{_lowers(_drop(part, ATTENTION))} {_quantity(record)} by {_number(_drop(part, ATTENTION))}, "
        f"removing random tiles by {_number(_drop(part, RANDOM), plain=True)}: {words}."
    )
    if best != ATTENTION:
        sentence += (
            f" Of the orders compared, {best} has the largest area between its curves, "
            f"{_number(part['orders'][best]['probability']['relevance_gain'])}; attention has "
            f"{_number(part['orders'][ATTENTION]['probability']['relevance_gain'])}, random orders "
            f"{_number(part['orders'][RANDOM]['probability']['relevance_gain'], plain=True)}."
        )
    return {"finding": finding, "verdict": sentence}


def _finding(part: Mapping[str, Any]) -> tuple[str, str]:
    """Return the finding and its words, from the intervals of both gains."""
    numbers = _numbers(part)
    signs = [_sign(numbers[name]) for name in ("deletion_gain", "insertion_gain")]
    if part["num_units"] < _MIN_UNITS:
        return UNDECIDED, _WORDS[UNDECIDED]
    if signs == [1, 1]:
        return FAITHFUL, _WORDS[FAITHFUL]
    if 1 in signs and -1 in signs:
        return MIXED, _WORDS[MIXED]
    if signs == [1, 0]:
        return IN_PART, "the network uses its top tiles, but these alone are no more of an answer than random tiles"
    if signs == [0, 1]:
        return IN_PART, "its top tiles alone give the answer, but the network does as well without them"
    return (WORSE, _WORDS[WORSE]) if -1 in signs else (CHANCE, _WORDS[CHANCE])


def _sign(interval: list[float | None]) -> int:
    """Return on which side of 0 an interval lies, 0 if on both; without one all resamples agree on the value."""
    value, low, high = interval
    if low is None or high is None:
        low = high = value or 0.0
    return 1 if low > 0 else -1 if high < 0 else 0


def _any_change(part: Mapping[str, Any]) -> bool:
    """Return whether any order of tiles changes the answer differently from random ones."""
    gains = [
        each["probability"][name][0] or 0.0
        for order, each in part["orders"].items()
        for name in ("deletion_gain", "insertion_gain")
        if order != RANDOM
    ]
    return max(map(abs, gains), default=0.0) >= _NOTHING * _scale(part)


def _scale(part: Mapping[str, Any]) -> float:
    """Return the size of the watched value: 1 for probabilities, and for numbers their mean distance from the reference."""
    largest = max(abs(each["probability"]["deletion"][0][0] or 0.0) for each in part["orders"].values())
    return min(1.0, largest) if largest else 1.0


def _best(part: Mapping[str, Any]) -> str:
    """Return the order with the largest area between its curves of those known for all bags; attention if it is as good."""
    gains = {
        order: each["probability"]["relevance_gain"][0] or 0.0
        for order, each in part["orders"].items()
        if order != RANDOM and each["num_bags"] == part["num_bags"]
    }
    best = max(gains, key=lambda order: gains[order])
    return best if gains[best] - gains[ATTENTION] >= _NOTHING * _scale(part) else ATTENTION


def _drop(part: Mapping[str, Any], order: str) -> list[float | None]:
    found: list[float | None] = part["orders"][order]["probability"]["drop"]
    return found


def _numbers(part: Mapping[str, Any]) -> Mapping[str, list[float | None]]:
    found: Mapping[str, list[float | None]] = part["orders"][ATTENTION]["probability"]
    return found


def _lowers(drop: list[float | None]) -> str:
    return "lowers" if (drop[0] or 0.0) >= 0 else "raises"


def _where(record: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """Return the bags that a sentence is about."""
    count = f"{part['num_bags']:,} bag{'' if part['num_bags'] == 1 else 's'}"
    if part["name"] == "all bags":
        return f"In {count}"
    return f"In {count} predicted {part['name']}" if record["of_classes"] else f"In {count} with {part['name']}"


def _quantity(record: Mapping[str, Any]) -> str:
    return f"the {record['quantity']}"


def _insensitive(record: Mapping[str, Any]) -> str:
    return (
        f"no order of tiles changes {_quantity(record)} more than random orders do: the answer hangs on no tiles in "
        "particular, and whether attention is faithful cannot be seen here"
    )


def _number(interval: list[float | None], *, plain: bool = False, signed: bool = False) -> str:
    """Return the size of a value with its interval; its value only if `plain`, which like `signed` keeps the sign."""
    value, low, high = interval
    if value is None:
        return "an undefined amount"
    if plain:
        return f"{value:z.2f}"
    sign = 1 if signed or value >= 0 else -1
    if low is None or high is None:
        return f"{sign * value:z.2f} (no interval)"
    ends = sorted((sign * low, sign * high))
    return f"{sign * value:z.2f} ({ends[0]:z.2f} to {ends[1]:z.2f})"
