"""Hyperparameter ranges: read from a configuration, checked, and converted for the request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from milpath.sagemaker.jobs.hyperparameters import parameter_name

STRATEGIES = ("Bayesian", "Random", "Grid", "Hyperband")


@dataclass(frozen=True)
class Range:
    """Values that one configuration key may take.

    Attributes:
        key: The key, `optimizer.lr`.
        choices: All values, or empty for a numeric range.
        low: Lower bound.
        high: Upper bound.
        log: Whether to sample on a logarithmic scale.
    """

    key: str
    choices: tuple[Any, ...] = ()
    low: float | int = 0
    high: float | int = 0
    log: bool = False

    @property
    def example(self) -> str:
        """An override with one of the values."""
        value = self.choices[0] if self.choices else self.low
        return f"{self.key}={str(value).lower() if isinstance(value, bool) else value}"


def read_ranges(content: Mapping[str, Any] | None) -> list[Range]:
    """Return the ranges of `tune.ranges`.

    Args:
        content: Configuration key to a list of values, or to `{low: 1e-5, high: 1e-2, log: true}`. Integer bounds give an
            integer range.

    Raises:
        ValueError: If an entry is neither, or empty.

    Example:
        >>> [found] = read_ranges({"optimizer.lr": {"low": 1e-5, "high": 1e-2, "log": True}})
        >>> found.example
        'optimizer.lr=1e-05'
    """
    if not content:
        raise ValueError("tune.ranges is empty; add for example 'tune.ranges={optimizer.lr: {low: 1e-5, high: 1e-2}}'")
    ranges = []
    for key, entry in content.items():
        if isinstance(entry, Sequence) and not isinstance(entry, str) and entry:
            ranges.append(Range(key, choices=tuple(entry)))
        elif isinstance(entry, Mapping) and {"low", "high"} <= set(entry) <= {"low", "high", "log"}:
            if not entry["low"] < entry["high"] or (entry.get("log") and entry["low"] <= 0):
                raise ValueError(f"tune.ranges.{key}: low must be less than high, and greater than 0 if log is true")
            ranges.append(Range(key, low=entry["low"], high=entry["high"], log=bool(entry.get("log"))))
        else:
            raise ValueError(f"tune.ranges.{key} must be a list of values, or {{low: ..., high: ..., log: true}}")
    return ranges


def request_ranges(ranges: Sequence[Range]) -> dict[str, list[dict[str, Any]]]:
    """Return the ranges as the API takes them, by hyperparameter name.

    Args:
        ranges: Result of `read_ranges`.

    Example:
        >>> request_ranges(read_ranges({"seed": {"low": 0, "high": 9}}))
        {'IntegerParameterRanges': [{'Name': 'seed', 'MinValue': '0', 'MaxValue': '9', 'ScalingType': 'Auto'}]}
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for item in ranges:
        entry: dict[str, Any] = {"Name": parameter_name(item.key)}
        if item.choices:
            kind = "CategoricalParameterRanges"
            entry["Values"] = [str(value) for value in item.choices]
        else:
            whole = isinstance(item.low, int) and isinstance(item.high, int)
            kind = "IntegerParameterRanges" if whole else "ContinuousParameterRanges"
            entry |= {"MinValue": str(item.low), "MaxValue": str(item.high)}
            entry["ScalingType"] = "Logarithmic" if item.log else "Auto"
        found.setdefault(kind, []).append(entry)
    return found
