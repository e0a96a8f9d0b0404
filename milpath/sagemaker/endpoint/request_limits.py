"""Limits of requests, which bound the memory of an endpoint, and the error for requests that exceed them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


MEBIBYTE = 2**20
# The JSON body that asks for the card of the network instead of a prediction.
DESCRIBE = {"describe": True}
Bounds = TypeVar("Bounds", bound="DataclassInstance")
_PREFIX = "MILPATH_"
_DECIMAL = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


class BadRequestError(ValueError):
    """A request that is refused because of its content.

    Args:
        message: One line: what was expected, what was sent, what to send instead.
        status: 400 for an invalid body, 413 if it is too large, 415 for an unsupported content type, 406 for an
            unsupported `Accept` header.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(" ".join(message.split())[:500])
        self.status = status


def status_of(error: BadRequestError) -> int:
    """Return the status of the response to a refused request.

    In a batch (`MILPATH_BATCH=1`) the refusal is an answer like any other, so that it is kept with its reason: Batch
    Transform writes nothing for a request that fails.
    """
    return 200 if os.environ.get("MILPATH_BATCH") == "1" else error.status


@dataclass(frozen=True)
class Limits:
    """Limits of requests, set as environment variables of the container such as `MILPATH_MAX_TILES=1000`.

    Attributes:
        max_body_bytes: Size of the body. SageMaker's real-time endpoints accept 6 MiB, asynchronous ones 1 GiB.
        max_decoded_bytes: Size of all tiles of a request as arrays.
        max_tiles: Number of tiles of a request.
        max_pixels: Pixels of one picture, tile or slide.
        max_reference_bytes: Size of an S3 object that a body refers to.
        max_waiting: Number of requests that may wait; any more get 503 immediately.
        s3_prefixes: Comma-separated S3 prefixes that references may be under; empty for none.
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
        """Return the limits set in the environment; see `read_environment`."""
        return read_environment(cls, environment)


def read_environment(kind: type[Bounds], environment: Mapping[str, str] = os.environ) -> Bounds:
    """Return the limits set in the environment.

    An endpoint has no Hydra configuration; SageMaker only passes environment variables to its container.

    Args:
        kind: A dataclass with int, float and str fields, all with defaults.
        environment: Environment variables; `MILPATH_MAX_TILES=100` sets `max_tiles`.

    Raises:
        ValueError: If a limit is not a positive number, or not an integer where one is required.

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
            raise ValueError(f"{name}={value} must be a positive {'integer' if item.type is int else 'number'}")
    return kind(**values)
