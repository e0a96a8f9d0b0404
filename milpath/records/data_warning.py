"""What speaks against an answer: data that are drawn or no tissue at all, kept from the source on, and unfamiliar slides."""

import math
from collections.abc import Iterable
from typing import Any

from milpath.records.plain_values import brief

SYNTHETIC = "synthetic slides: says nothing about real tissue"
MAX_LENGTH = 300
# Name of the warning in files of other formats: an attribute in HDF5, a text in PNG.
WARNING_KEY = "milpath_warning"
# Columns of predictions: 1 for a bag above the bound, 0 for others, not a number without a bound; percent of the validation
# bags that are less unfamiliar; the score that is compared.
UNFAMILIAR_COLUMNS = ("unfamiliar", "unfamiliarity", "unfamiliarity_score")
# In answers of an endpoint: percent of the validation tiles that are less unfamiliar than each tile.
TILE_UNFAMILIARITY = "tile_unfamiliarity"


def warning_of_source(source: object) -> str:
    """Return the warning that a source of bags declares; empty if it declares none.

    A source declares `synthetic = True`, or its own words in `warning`, such as "MNIST digits: says nothing about tissue",
    which have to make sense after "trained on".

    Raises:
        ValueError: If the words are not one line of at most 300 characters.
    """
    own = require_warning(getattr(source, "warning", ""), f"warning of {type(source).__name__}")
    return own or (SYNTHETIC if getattr(source, "synthetic", False) is True else "")


def require_warning(value: Any, where: str) -> str:
    """Return a warning from a file; it is text, and nothing in it is ever interpreted.

    Args:
        value: The warning; empty for none.
        where: Its place, for the message.

    Raises:
        ValueError: If it is not one line of at most 300 printable characters.
    """
    if type(value) is not str or len(value) > MAX_LENGTH or not value.isprintable():
        raise ValueError(f"{where} must be one line of at most {MAX_LENGTH} characters, not {brief(value)}")
    return value


def joined(warnings: Iterable[str]) -> str:
    """Return the warning of data of several origins: what holds for some of them is said of all.

    Example:
        >>> joined(["", "synthetic slides: says nothing", "", "synthetic slides: says nothing"])
        'synthetic slides: says nothing'
    """
    return "; ".join(dict.fromkeys(warning for warning in warnings if warning))[:MAX_LENGTH]


def warning_in_words(trained: str, evaluated: str = "") -> str:
    """Return the sentence that stands beside every result; empty if there is nothing to say.

    Args:
        trained: Warning of the training data.
        evaluated: Warning of the data on which the network was evaluated.

    Example:
        >>> warning_in_words("synthetic slides: says nothing about real tissue")
        'trained on synthetic slides: says nothing about real tissue'
        >>> warning_in_words("digits", "digits"), warning_in_words("", "digits"), warning_in_words("digits", "slides")
        ('trained and evaluated on digits', 'evaluated on digits', 'trained on digits; evaluated on slides')
    """
    if trained and trained == evaluated:
        return f"trained and evaluated on {trained}"
    parts = [f"{verb} on {warning}" for verb, warning in (("trained", trained), ("evaluated", evaluated)) if warning]
    return "; ".join(parts)


def unfamiliar_cells(values: Iterable[float]) -> list[str]:
    """Return the cells of a bag in `UNFAMILIAR_COLUMNS`; the first is empty without a bound.

    Example:
        >>> unfamiliar_cells([1.0, 97.5, 3.25])
        ['1', '97.5', '3.2500']
    """
    above, percent, score = values
    return ["" if math.isnan(above) else str(int(above)), f"{percent:.4g}", f"{score:.4f}"]
