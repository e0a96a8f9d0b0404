"""What an endpoint takes at most, so that no body can fill its memory."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

MEBIBYTE = 2**20
_PREFIX = "MILPATH_"


@dataclass(frozen=True)
class Limits:
    """Bounds of one request; a container sets them as environment variables, `MILPATH_MAX_TILES=1000`.

    Attributes:
        max_body_bytes: Of the body as it comes. SageMaker's real-time endpoints pass 6 MiB on, asynchronous ones 1 GiB.
        max_decoded_bytes: Of all tiles of a request as arrays.
        max_tiles: Tiles of a request.
        max_pixels: Pixels of one picture, tile or slide.
        max_reference_bytes: Of an object in S3 that a body refers to.
        s3_prefixes: Addresses below which references are followed, separated by commas; empty follows none.
    """

    max_body_bytes: int = 6 * MEBIBYTE
    max_decoded_bytes: int = 128 * MEBIBYTE
    max_tiles: int = 4096
    max_pixels: int = 64_000_000
    max_reference_bytes: int = 256 * MEBIBYTE
    s3_prefixes: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Limits":
        """Return the limits that the container was started with.

        An endpoint has no configuration file of Hydra's: variables are all that SageMaker hands to its container.

        Raises:
            ValueError: If a limit is no whole number.

        Example:
            >>> Limits.from_environment({"MILPATH_MAX_TILES": "100"}).max_tiles
            100
        """
        values: dict[str, Any] = {}
        for item in fields(cls):
            name = _PREFIX + item.name.upper()
            if (value := environment.get(name)) is None:
                continue
            if item.type is str:
                values[item.name] = value
            elif value.isdecimal() and int(value) > 0:
                values[item.name] = int(value)
            else:
                raise ValueError(f"{name}={value} must be a whole number above 0")
        return cls(**values)
