"""Root schemas of the commands that read slides or encoders, without a training."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class SlideConfig:
    """Root keys that `milpath.tile` and `milpath.extract` share."""

    slides: str = MISSING
    output: str = MISSING
    labels: str | None = None
    id_column: str | None = None
    label_column: str | None = None
    num_tiles: int | None = None
    microns_per_pixel: float | None = None
    overlap: int = 0
    min_tissue: float = 0.1
    tissue_threshold: Any = None
    background: str = "white"
    min_inside: float = 0.0
    tissue_model: str | None = None
    slide_microns_per_pixel: float | None = None
    resolutions: str | None = None
    mixed_resolution: str = "error"
    num_workers: int | None = None
    on_error: str = "fail"
    overwrite: bool = False
    shard: str | None = None
    max_seconds: float | None = 3600.0


@dataclass
class TileConfig(SlideConfig):
    """Root keys of `python -m milpath.tile`."""

    masks: str | None = None
    method: str = "darkest"
    num_tiles: int | None = 16
    tile_size: int = 128
    level: int = -1
    write_png: bool = False


@dataclass
class ExtractConfig(SlideConfig):
    """Root keys of `python -m milpath.extract`."""

    encoder: Any = MISSING
    paths: Any = MISSING
    method: str = "tissue"
    tile_size: int | None = None
    level: int | None = None
    format: list[str] = field(default_factory=lambda: ["store"])
    precision: str | None = None
    dtype: str = "float16"
    device: str = "auto"
    batch_size: Any = "auto"


@dataclass
class EncodersConfig:
    """Root keys of `python -m milpath.encoders`."""

    encoder: Any = None
    paths: Any = MISSING
    device: str = "auto"
    parts: list[str] = field(default_factory=list)
