"""What a stranger may send."""

from dataclasses import dataclass

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """Bounds of one upload.

    Attributes:
        max_upload_mb: Size of all files together, and of what a zip unpacks to, in MiB.
        max_tiles: Tiles of a bag that comes as tiles.
        max_seconds: Time that cutting a slide may take.

    Raises:
        ValueError: If one of them is not above 0.
    """

    max_upload_mb: int = 2048
    max_tiles: int = 4096
    max_seconds: float = 600.0

    def __post_init__(self) -> None:
        for name in ("max_upload_mb", "max_tiles", "max_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")

    @property
    def max_bytes(self) -> int:
        """Size of all files together in bytes."""
        return self.max_upload_mb * MEBIBYTE
