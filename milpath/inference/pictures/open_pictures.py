"""The writer of pictures and annotations that the options of `predict` ask for."""

from collections.abc import Iterable
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch.nn import Module

from milpath.data.store.bag_store import BagStore
from milpath.inference.annotations.annotation_files import ASAP, GEOJSON
from milpath.inference.dense_map import DenseMapper
from milpath.inference.pictures.bag_pictures import BagPictures
from milpath.inference.pictures.tile_pixels import slide_paths
from milpath.models.card import Card
from milpath.records.data_warning import warning_in_words
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_plan import require_masks

VIEWER = "viewer"
FORMATS = (GEOJSON, ASAP, VIEWER)


def open_pictures(
    config: DictConfig, store: BagStore, network: Module, card: Card, device: str | torch.device
) -> BagPictures:
    """Return the writer of pictures; refuse options that these slides do not support before any work is done.

    Args:
        config: Root of the `predict` command.
        store: The bags that are predicted.
        network: A network in evaluation mode.
        card: Its card.
        device: Device of the network.

    Raises:
        ValueError: If an option needs whole slides, but there are only tiles.
    """
    slides = slide_paths(store, Path(config.slides_dir or config.slides))
    if config.slides_dir is not None and not slides:
        raise ValueError(f"slides_dir={config.slides_dir} holds none of the slides of {config.slides}; leave it out")
    for name in ("masks", "dense"):
        if config[name] is not None and not slides:
            raise ValueError(
                f"{name}={config[name]} needs whole slides, but {config.slides} contains tiles; leave it out"
            )
    mapper = None
    if config.dense is not None and len(store.tile_shape) != 3:
        raise ValueError(f"dense={config.dense} needs a network of tiles, but this one takes features; set dense=null")
    if config.dense is not None:
        mapper = DenseMapper(network, TileOptions.from_tiling(card.tiling), config.dense, device)
    formats = chosen_formats(config.formats, config.pictures)
    masks = require_masks(Path(config.masks)) if config.masks is not None else {}
    look = {"alpha": config.alpha, "colour_map": config.colour_map, "warning": warning_in_words(card.warning)}
    kinds = {"formats": formats, "with_pictures": config.pictures}
    if VIEWER in formats:
        kinds["viewer_pixels"] = config.viewer_pixels
        if not slides and len(store.tile_shape) == 1:
            raise ValueError(
                f"formats={list(formats)}: a page shows a slide, but {config.slides} holds features; set slides_dir=FOLDER "
                "of the slides, or leave out viewer"
            )
    return BagPictures(store, Path(config.output), slides, masks, mapper, **look, **kinds)


def chosen_formats(formats: Iterable[str] | None, with_pictures: bool) -> tuple[str, ...]:
    """Return the formats of the annotations of each slide.

    Args:
        formats: Those that are asked for; `None` for GeoJSON next to pictures, and for nothing without pictures.
        with_pictures: Whether there are pictures.

    Raises:
        ValueError: If one is not known.
    """
    if formats is None:
        return (GEOJSON,) if with_pictures else ()
    chosen = (formats,) if isinstance(formats, str) else tuple(formats)
    if unknown := [name for name in chosen if name not in FORMATS]:
        raise ValueError(f"formats={list(chosen)}: {unknown[0]!r} must be one of {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(chosen))
