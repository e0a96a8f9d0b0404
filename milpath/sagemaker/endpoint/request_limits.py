"""What an endpoint takes at most, so that no body can fill its memory, and how it refuses the rest."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


MEBIBYTE = 2**20
Bounds = TypeVar("Bounds", bound="DataclassInstance")
_PREFIX = "MILPATH_"
_DECIMAL = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


class BadRequestError(ValueError):
    """A request that cannot be answered, and whose fault that is.

    Args:
        message: One line: what was expected, what came, what to send.
        status: 400 for a wrong body, 413 for a large one, 415 for a wrong type, 406 for a wrong wish.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(" ".join(message.split())[:500])
        self.status = status


@dataclass(frozen=True)
class Limits:
    """Bounds of requests; a container sets them as environment variables, `MILPATH_MAX_TILES=1000`.

    Attributes:
        max_body_bytes: Of the body as it comes. SageMaker's real-time endpoints pass 6 MiB on, asynchronous ones 1 GiB.
        max_decoded_bytes: Of all tiles of a request as arrays.
        max_tiles: Tiles of a request.
        max_pixels: Pixels of one picture, tile or slide.
        max_reference_bytes: Of an object in S3 that a body refers to.
        max_waiting: Requests that wait for their turn; one more gets 503 at once.
        s3_prefixes: Addresses below which references are followed, separated by commas; empty follows none.
    """

    max_body_bytes: int = 6 * MEBIBYTE
    max_decoded_bytes: int = 128 * MEBIBYTE
    max_tiles: int = 4096
    max_pixels: int = 64_000_000
    max_reference_bytes: int = 256 * MEBIBYTE
    max_waiting: int = 32
    s3_prefixes: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Limits":
        """Return the limits that the container was started with; see `read_environment`."""
        return read_environment(cls, environment)


def read_environment(kind: type[Bounds], environment: Mapping[str, str] = os.environ) -> Bounds:
    """Return the limits that the container was started with.

    An endpoint has no configuration file of Hydra's: variables are all that SageMaker hands to its container.

    Args:
        kind: A dataclass of whole numbers, seconds and texts, all of which have defaults.
        environment: `MILPATH_MAX_TILES=100` sets `max_tiles`.

    Raises:
        ValueError: If a limit is no number above 0, or no whole one where only such make sense.

    Example:
        >>> read_environment(Limits, {"MILPATH_MAX_TILES": "100"}).max_tiles
        100
    """
    values: dict[str, Any] = {}
    for item in fields(kind):
        name = _PREFIX + item.name.upper()
        if (value := environment.get(name)) is None:
            continue
        if item.type is str:
            values[item.name] = value
        elif item.type is float and _DECIMAL.fullmatch(value) and float(value) > 0:
            values[item.name] = float(value)
        elif item.type is int and value.isdecimal() and int(value) > 0:
            values[item.name] = int(value)
        else:
            raise ValueError(f"{name}={value} must be a {'whole ' if item.type is int else ''}number above 0")
    return kind(**values)
