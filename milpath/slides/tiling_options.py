"""Options for cutting slides into tiles, validated before any work."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from milpath.records.digests import sha256_of_file
from milpath.slides.detection.tissue_map import OTSU
from milpath.slides.readers.slide import PLAUSIBLE_MICRONS, is_plausible

BACKGROUNDS = ("white", "mask")
METHODS = ("darkest", "tissue", "grid")
_MAX_TILE_SIZE = 4096
# Above any resolution of tiles.
_MAX_MICRONS = 1000


@dataclass(frozen=True)
class TileOptions:
    """How a slide is cut into tiles.

    Attributes:
        method: "darkest" keeps the `num_tiles` tiles with the lowest pixel sum and fills up with white tiles: the rule
            of the published PANDA tile set. "tissue" keeps the tiles with the most tissue, at most `num_tiles`. "grid"
            keeps all tiles.
        num_tiles: Tiles per bag; `None` keeps all ("tissue": all with enough tissue). Not used by "grid".
        tile_size: Width and height of a tile in pixels.
        level: Pyramid level; 0 is the largest, -1 the smallest.
        microns_per_pixel: Resolution of the tiles instead of a level; the slide is resampled to it.
        overlap: Overlap of neighbouring tiles in pixels, less than `tile_size`.
        min_tissue: "tissue" keeps tiles with at least this fraction of tissue, in (0, 1].
        slide_microns_per_pixel: Resolution of level 0 of every slide, instead of what its file states.
        assumed_microns_per_pixel: Resolution of level 0 of slides whose files do not state it. Set for a checkpoint: what
            was stated for the slides of the training says nothing about files that state their own.
        tissue_threshold: Tissue has a larger saturation than this, from 0 to 255, after the tint of the glass was removed;
            `None` chooses it from the noise of the glass (8 to 20), "otsu" is the detection of milpath 0.1.0.
        background: "white" lets "darkest" count all pixels, as the published rule does; "mask" counts everything that is
            not tissue, such as ink and black padding, as white, and leaves out tiles with less than `min_tissue`.
        min_inside: Minimum fraction of a tile that lies on the slide, in [0, 1]; the rest is white.
        tissue_model: ONNX file of a segmentation network that decides where tissue is, for "tissue" and for the background
            "mask"; `None` decides it by colour.

    Example:
        >>> TileOptions(method="tissue", num_tiles=None, microns_per_pixel=2.0).tile_size
        128
    """

    method: str = "darkest"
    num_tiles: int | None = 16
    tile_size: int = 128
    level: int = -1
    microns_per_pixel: float | None = None
    overlap: int = 0
    min_tissue: float = 0.1
    slide_microns_per_pixel: float | None = None
    tissue_threshold: float | str | None = None
    background: str = "white"
    min_inside: float = 0.0
    tissue_model: str | None = None
    assumed_microns_per_pixel: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method={self.method} is unknown; it must be one of {', '.join(METHODS)}")
        _require_whole("tile_size", self.tile_size, 1, _MAX_TILE_SIZE)
        _require_whole("level", self.level)
        _require_whole("overlap", self.overlap, 0, self.tile_size - 1)
        if self.num_tiles is not None:
            _require_whole("num_tiles", self.num_tiles, 1)
        if not 0 < self.min_tissue <= 1:
            raise ValueError(f"min_tissue={self.min_tissue} must be above 0 and at most 1")
        if self.tissue_threshold != OTSU and self.tissue_threshold is not None:
            _require_threshold(self.tissue_threshold)
        if self.background not in BACKGROUNDS:
            raise ValueError(f"background={self.background} is unknown; it must be one of {', '.join(BACKGROUNDS)}")
        if self.background != "white" and self.method != "darkest":
            raise ValueError(f"background={self.background} is for method=darkest, not method={self.method}")
        if isinstance(self.min_inside, bool) or not 0 <= self.min_inside <= 1:
            raise ValueError(f"min_inside={self.min_inside} must be from 0 to 1")
        if self.tissue_model is not None and (not self.needs_map or self.tissue_threshold == OTSU):
            raise ValueError(
                f"tissue_model is for method=tissue, or method=darkest background=mask, without tissue_threshold={OTSU}"
            )
        if self.slide_microns_per_pixel is not None and not is_plausible(self.slide_microns_per_pixel):
            low, high = PLAUSIBLE_MICRONS
            raise ValueError(
                f"slide_microns_per_pixel={self.slide_microns_per_pixel} must be from {low:g} to {high:g}, the microns of a "
                "pixel of a microscope (40x: 0.25); an overview is cut with level=INDEX microns_per_pixel=null"
            )
        # An earlier version let a user state what no microscope has.
        for name in ("microns_per_pixel", "assumed_microns_per_pixel"):
            value = getattr(self, name)
            if value is not None and not 0 < value < _MAX_MICRONS:
                raise ValueError(f"{name}={value} must be above 0 and below 1000 (typical: 0.25 to 16)")
        if self.microns_per_pixel is not None and self.level != -1:
            raise ValueError(f"give level={self.level} or microns_per_pixel={self.microns_per_pixel}, not both")

    @property
    def needs_map(self) -> bool:
        """Whether the choice of the tiles depends on where the tissue is."""
        return self.method == "tissue" or self.background == "mask"

    @classmethod
    def from_tiling(cls, tiling: Mapping[str, Any]) -> "TileOptions":
        """Return the options that a store or a checkpoint keeps under `tiling`, for other slides than its own.

        Raises:
            ValueError: If the tiles were not cut from slides by one of the methods of this module, or with a tissue model.
        """
        # Sources of ready-made tiles store it as "rule".
        method = tiling.get("method", tiling.get("rule"))
        if method not in METHODS:
            raise ValueError(
                f"the tiles of the network were made by {method!r}, which cannot cut slides; train on tiles of "
                f"python -m milpath.tile (method={'|'.join(METHODS)})"
            )
        if "tissue_model_sha256" in tiling:
            raise ValueError(
                "the tiles of the network were chosen with a tissue model, which checkpoints and stores do not hold; cut "
                "the slides with python -m milpath.tile ... tissue_model=FILE and give the store instead"
            )
        if method == "tissue" and "tissue_threshold" not in tiling:
            # Written by milpath 0.1.0: the same tiles are found again.
            tiling = {**tiling, "tissue_threshold": OTSU}
        names = cls.__dataclass_fields__
        values = {name: value for name, value in tiling.items() if name in names} | {"method": method}
        stated = values.pop("slide_microns_per_pixel", None)
        return cls(**values | ({"assumed_microns_per_pixel": stated} if stated else {}))

    def to_tiling(self) -> dict[str, Any]:
        """Return the options as plain values for `store.json` and checkpoints."""
        values = asdict(self)
        if self.method == "grid":
            values["num_tiles"] = None
        del values["tissue_model"]
        if self.tissue_model is not None:
            values["tissue_model_sha256"] = sha256_of_file(self.tissue_model)
        if not self.needs_map:
            del values["min_tissue"], values["tissue_threshold"]
        if self.assumed_microns_per_pixel is None:
            del values["assumed_microns_per_pixel"]
        # Stores of earlier versions, which lack these options, are still recognised as finished.
        for name in ("background", "min_inside"):
            if values[name] == self.__dataclass_fields__[name].default:
                del values[name]
        return values


def _require_threshold(value: Any) -> None:
    """Refuse a threshold that is not a saturation."""
    if isinstance(value, bool | str) or not 0 < value < 255:
        raise ValueError(
            f"tissue_threshold={value} must be a saturation above 0 and below 255, {OTSU} (as in milpath 0.1.0), or null"
        )


def require_used(options: TileOptions, num_tiles: int | None = TileOptions.num_tiles) -> None:
    """Refuse options of a command that choose no tile with this method; stores and checkpoints may hold them.

    Args:
        options: The options.
        num_tiles: The number of tiles of a bag if none is given.

    Raises:
        ValueError: With the option, and the methods that have it.
    """
    where = f"method={options.method}" + (" background=white" if options.method == "darkest" else "")
    if not options.needs_map:
        for name in ("min_tissue", "tissue_threshold"):
            if (value := getattr(options, name)) != getattr(TileOptions, name):
                raise ValueError(
                    f"{name}={value} changes nothing with {where}; give method=tissue, or method=darkest background=mask"
                )
    if options.method == "grid" and options.num_tiles not in (None, num_tiles):
        raise ValueError(
            f"num_tiles={options.num_tiles} changes nothing with method=grid, which takes all tiles; give method=tissue or "
            "method=darkest"
        )


# Those that a user sets.
OPTION_NAMES = tuple(name for name in TileOptions.__dataclass_fields__ if name != "assumed_microns_per_pixel")


def _require_whole(name: str, value: Any, least: int | None = None, most: int | None = None) -> None:
    """Refuse a value that is not an integer in the range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}={value} must be a whole number")
    if least is not None and value < least:
        raise ValueError(f"{name}={value} must be at least {least}")
    if most is not None and value > most:
        raise ValueError(f"{name}={value} must be at most {most}")
