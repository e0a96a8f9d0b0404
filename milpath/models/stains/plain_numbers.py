"""Numbers of a stain target, which may come from somebody else's file."""

import math
from collections.abc import Mapping
from typing import Any

from milpath.records.plain_values import brief


def require_numbers(target: Any, expected: Mapping[str, tuple[int, float, float]]) -> list[list[float]]:
    """Return the lists of numbers of a target in the order that is expected.

    Args:
        target: Name to list of numbers.
        expected: Name to how many numbers there must be, the smallest and the largest.

    Raises:
        ValueError: If a list is missing, unknown, of another length, or a number is not finite or out of its range.
    """
    if not isinstance(target, Mapping) or set(target) != set(expected):
        raise ValueError(f"stain_target must have {', '.join(expected)}, not {brief(target)}")
    found = []
    for name, (length, lowest, highest) in expected.items():
        values = target[name]
        if (
            not isinstance(values, list | tuple)
            or len(values) != length
            or not all(type(value) in (int, float) and math.isfinite(value) for value in values)
            or not all(lowest <= value <= highest for value in values)
        ):
            raise ValueError(
                f"{name} of stain_target must be {length} numbers in [{lowest}, {highest}], not {brief(values)}"
            )
        found.append([float(value) for value in values])
    return found
