"""Whether attention shows what a network uses, in one sentence."""

from collections.abc import Mapping
from typing import Any

from milpath.inference.faithfulness.tile_relevance import ATTENTION, RANDOM

# A change of a probability below this is hardly a change: nothing is concluded from it.
_HARDLY = 0.05
# Below this difference of areas attention counts as the best order itself.
_EQUAL = 0.01
# Share of the best order's gain over random ones from which on attention is called faithful.
_MIN_SHARE = 0.5
# With fewer bags, or groups of them, an interval of resamples is too narrow to decide anything.
_MIN_UNITS = 5
# What is found, from better to worse.
FAITHFUL, IN_PART, UNDECIDED, CHANCE, WORSE, MIXED = "faithful", "in part", "undecided", "chance", "worse", "mixed"
FLAT, INSENSITIVE = "no attention", "insensitive"
_WORDS = {
    FAITHFUL: "attention points at what the network uses",
    IN_PART: "attention points in part at what the network uses",
    CHANCE: "attention does not show what the network uses, it is no better than random",
    WORSE: "attention does not show what the network uses, it points away from it",
    MIXED: "attention does not show what the network uses, removing and keeping its tiles say the opposite of each other",
    UNDECIDED: "too few bags, or patients, to tell attention from random",
    FLAT: "all tiles have the same attention",
    INSENSITIVE: "the answer hardly depends on which tiles are removed",
}


def verdict_of(record: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Return `finding`, one of the names above, `verdict`, a few sentences, and `share_of_best`.

    Attention is faithful if its areas under both curves are better than those of random orders of the same bags, each with
    an interval above 0, and if its gain over random orders, the sum of both, is at least half of that of the best order
    measured. With less, or with one of the two areas only, it is so in part.

    The answer hardly depends on which tiles are removed, and nothing is concluded, if no order changes a probability by 0.05
    more than random ones, neither without the top share of tiles nor over the whole curves. Where only the curves tell more,
    the top tiles are not called faithful: the finding is at most "in part".

    `share_of_best` is the gain of attention over that of the best order, with its interval (value, low, high), `None` where
    attention is not graded or no order gains anything. If the interval has one half in it, and the grade hangs on the share,
    the sentence says that the two grades cannot be told apart.

    Args:
        record: What `summarise` returns, without these.
        part: The part of it that the verdict is about; what is found in the others is added in a sentence.
    """
    finding, words = _finding(record, part)
    if finding == INSENSITIVE:
        sentence = f"{_where(record, part)}, {words}.{_others(record, part)}"
        return {"finding": finding, "verdict": sentence, "share_of_best": None}
    best = _best(part, _scale(record, part))
    if finding == FLAT:
        sentence = (
            f"{_where(record, part)}, all tiles have the same attention: this network has no attention whose order could be "
            "tested."
        )
        if best != ATTENTION:
            sentence += (
                f" Removing the {record['share']:.0%} first tiles by {best} {_against_random(record, part, best)}."
            )
        return {"finding": finding, "verdict": sentence + _others(record, part), "share_of_best": None}
    sentence = (
        f"{_where(record, part)}, removing the {record['share']:.0%} most attended tiles "
        f"{_against_random(record, part, ATTENTION)}: {words}."
    )
    if best != ATTENTION:
        sentence += (
            f" Of the orders compared, {best} has the largest area between its curves, "
            f"{_number(part['orders'][best]['probability']['relevance_gain'], signed=True)}; attention has "
            f"{_number(part['orders'][ATTENTION]['probability']['relevance_gain'], signed=True)}, random orders "
            f"{_number(part['orders'][RANDOM]['probability']['relevance_gain'], plain=True)}."
        )
    share = None if finding == UNDECIDED else _share_of_best(part, _scale(record, part))
    return {"finding": finding, "verdict": sentence + _others(record, part), "share_of_best": share}


def _finding(record: Mapping[str, Any], part: Mapping[str, Any]) -> tuple[str, str]:
    """Return the finding and its words, from the intervals of both gains and their size."""
    scale = _scale(record, part)
    orders = [order for order in part["orders"] if order != RANDOM]
    largest = _largest_drop(part)
    few_change_nothing = largest < _HARDLY * scale
    drops_differ = max(abs(_numbers(part, order)["drop_gain"][0] or 0.0) for order in orders) >= _HARDLY * scale
    if not drops_differ and max(abs(_gain(part, order)) for order in orders) < _HARDLY * scale:
        return INSENSITIVE, _insensitive(record, scale)
    if part["num_flat"] == part["num_rows"]:
        return FLAT, _WORDS[FLAT]
    if part["num_units"] < _MIN_UNITS:
        return UNDECIDED, _WORDS[UNDECIDED]
    finding, reason = _direction(part)
    if finding == FAITHFUL and (few_change_nothing or ((_share_of_best(part, scale) or [None])[0] or 0.0) < _MIN_SHARE):
        finding = IN_PART
    words = _WORDS[finding]
    if finding in (FAITHFUL, IN_PART):
        words += f", {_share_words(part, scale)}"
    if reason:
        words += f"; {reason}"
    if not few_change_nothing:
        return finding, words
    return finding, (
        f"without so few tiles the answer hardly changes, in no order by more than {largest:.2f}, which says nothing about "
        f"the top tiles. Over the whole curves attention gains "
        f"{_number(_numbers(part)['deletion_gain'], signed=True)} on random orders while tiles are removed and "
        f"{_number(_numbers(part)['insertion_gain'], signed=True)} while they are put back: {words}"
    )


def _direction(part: Mapping[str, Any]) -> tuple[str, str]:
    """Return on which side of random orders attention is, whatever the size, and what is missing from both gains."""
    signs = [_sign(_numbers(part)[name]) for name in ("deletion_gain", "insertion_gain")]
    if signs == [1, 1]:
        return FAITHFUL, ""
    if 1 in signs and -1 in signs:
        return MIXED, ""
    if signs == [1, 0]:
        return IN_PART, "the network uses its top tiles, but these alone are no more of an answer than random tiles"
    if signs == [0, 1]:
        return IN_PART, "its top tiles alone give the answer, but the network does as well without them"
    return (WORSE, "") if -1 in signs else (CHANCE, "")


def _others(record: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """Return what is found in the bags of the other predicted classes, a sentence each; empty without any."""
    found = ""
    for other in record["parts"][1:]:
        if other["name"] == part["name"]:
            continue
        finding, _ = _finding(record, other)
        if finding == FLAT:  # where the verdict says so of the network, once is enough
            found += "" if part["num_flat"] == part["num_rows"] else f" {_where(record, other)}, {_WORDS[FLAT]}."
            continue
        scale = _scale(record, other)
        best, words = _best(other, scale), _WORDS[finding]
        if finding in (FAITHFUL, IN_PART):
            words += f", {_share_words(other, scale)}"
        gains = f"attention gains {_gain(other, ATTENTION):z.2f} on random orders"
        gains += "" if best == ATTENTION else f", {best} {_gain(other, best):z.2f}"
        found += f" {_where(record, other)}, {words} ({gains})."
    return found


def _gain(part: Mapping[str, Any], order: str) -> float:
    """Return by how much the area between the curves of an order is larger than that of random orders."""
    numbers = _numbers(part, order)
    return (numbers["deletion_gain"][0] or 0.0) + (numbers["insertion_gain"][0] or 0.0)


def _share_of_best(part: Mapping[str, Any], scale: float) -> list[float | None] | None:
    """Return the gain of attention over that of the best order, with its interval, `None` if that is not above 0.

    It is 1 if attention is the best.
    """
    best = _best(part, scale)
    if _gain(part, best) <= 0:
        return None
    if best == ATTENTION:
        return [1.0, None, None]
    return _numbers(part, best)["share_of_gain"]


def _share_words(part: Mapping[str, Any], scale: float) -> str:
    """Return the share of the best order's gain in words; where attention is the best, what it was compared with."""
    best, share = _best(part, scale), _share_of_best(part, scale)
    if share is None:
        gains = ", ".join(f"{order} {_gain(part, order):z.2f}" for order in _complete(part))
        return f"but no order compared gains on random ones over both curves ({gains})"
    if best != ATTENTION:
        _, low, high = share
        words = f"{_number(share, signed=True)} of what the best order, {best}, gains on random ones"
        unsure = low is not None and high is not None and low < _MIN_SHARE < high and _hangs_on_share(part, scale)
        return words + (f", too few bags to tell from {_MIN_SHARE:z.2f}, where the grade changes" if unsure else "")
    others = [order for order in _complete(part) if order != ATTENTION]
    return f"and no other order compared gains more on random ones ({', '.join(others) or 'none was measured'})"


def _hangs_on_share(part: Mapping[str, Any], scale: float) -> bool:
    """Return whether half of the best order's gain makes attention faithful: elsewhere it is in part with any share."""
    return _direction(part)[0] == FAITHFUL and _largest_drop(part) >= _HARDLY * scale


def _sign(interval: list[float | None]) -> int:
    """Return on which side of 0 an interval lies, 0 if on both; without one all resamples agree on the value."""
    value, low, high = interval
    if low is None or high is None:
        low = high = value or 0.0
    return 1 if low > 0 else -1 if high < 0 else 0


def _scale(record: Mapping[str, Any], part: Mapping[str, Any]) -> float:
    """Return the size of the watched value: 1 for probabilities, and for numbers their mean distance from the reference."""
    if record["of_classes"]:
        return 1.0
    largest = max(abs(each["probability"]["deletion"][0][0] or 0.0) for each in part["orders"].values())
    return min(1.0, largest) if largest else 1.0


def _complete(part: Mapping[str, Any]) -> list[str]:
    """Return the orders, without random ones, that are known for all bags."""
    return [order for order, each in part["orders"].items() if order != RANDOM and each["num_bags"] == part["num_bags"]]


def _best(part: Mapping[str, Any], scale: float) -> str:
    """Return the order with the largest gain of those known for all bags; attention if it is as good."""
    best = max(_complete(part), key=lambda order: _gain(part, order))
    return best if _gain(part, best) - _gain(part, ATTENTION) >= _EQUAL * scale else ATTENTION


def _drop(part: Mapping[str, Any], order: str) -> list[float | None]:
    found: list[float | None] = part["orders"][order]["probability"]["drop"]
    return found


def _largest_drop(part: Mapping[str, Any]) -> float:
    """Return by how much the value changes at most without the top share of tiles of an order."""
    return max(abs(_drop(part, order)[0] or 0.0) for order in part["orders"] if order != RANDOM)


def _numbers(part: Mapping[str, Any], order: str = ATTENTION) -> Mapping[str, list[float | None]]:
    found: Mapping[str, list[float | None]] = part["orders"][order]["probability"]
    return found


def _lowers(drop: list[float | None]) -> str:
    return "lowers" if (drop[0] or 0.0) >= 0 else "raises"


def _against_random(record: Mapping[str, Any], part: Mapping[str, Any], order: str) -> str:
    """Return what removing the top tiles of an order does to the value, and what removing random tiles does."""
    drop, by_chance = _drop(part, order), _drop(part, RANDOM)
    size = f"{abs(by_chance[0] or 0.0):.2f}"
    # The verb of the first half holds for the second, unless that goes the other way by more than 0.00.
    opposite = _lowers(drop) != _lowers(by_chance) and size != "0.00"
    verb = f" {_lowers(by_chance)} it" if opposite else ""
    return f"{_lowers(drop)} {_quantity(record)} by {_number(drop)}, removing random tiles{verb} by {size}"


def _where(record: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """Return the bags that a sentence is about."""
    count = f"{part['num_bags']:,} bag{'' if part['num_bags'] == 1 else 's'}"
    if part["name"] == "all bags":
        return f"In {count}"
    return f"In {count} predicted {part['name']}" if record["of_classes"] else f"In {count} with {part['name']}"


def _quantity(record: Mapping[str, Any]) -> str:
    return f"the {record['quantity']}"


def _insensitive(record: Mapping[str, Any], scale: float) -> str:
    return (
        f"no order of tiles changes {_quantity(record)} by {_HARDLY * scale:.2g} more than random orders do: "
        "the answer hardly depends on which tiles are removed, and whether attention is faithful cannot be seen here"
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
