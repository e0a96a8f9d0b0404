"""The pictures and outlines of a predicted bag."""

from pathlib import Path
from urllib.parse import quote

import pandas as pd

from milpath.data.bag_store import BagStore
from milpath.reports.geojson import tiles_to_geojson, write_geojson
from milpath.slides.montage import draw_montage
from milpath.training.inference import BagPrediction


def draw_bag(store: BagStore, bag: BagPrediction, tiles: pd.DataFrame, output: Path) -> None:
    """Write `pictures/<slide>.png`, the bag with its weights, and `geojson/<slide>.geojson` where places are known.

    Args:
        store: Where the tiles are.
        bag: What was predicted.
        tiles: Rows of the tile table of this bag.
        output: Folder of the prediction.
    """
    pixels = store.tiles[store.tile_slice(bag.position)]
    name = file_name(bag.bag_id)
    if pixels.ndim == 4:
        labels = tiles["tile_label"].to_numpy() if "tile_label" in tiles else None
        folder = output / "pictures"
        folder.mkdir(exist_ok=True)
        draw_montage(pixels, bag.attention, title=bag.bag_id, tile_labels=labels).save(folder / f"{name}.png")
    if {"x", "y"} <= set(tiles.columns) and pixels.ndim == 4:
        downsample = float(store.description.get("downsample", 1.0))
        folder = output / "geojson"
        folder.mkdir(exist_ok=True)
        x, y = tiles["x"].to_numpy(float), tiles["y"].to_numpy(float)
        collection = tiles_to_geojson(bag.attention, x, y, pixels.shape[1], downsample)
        write_geojson(collection, folder / f"{name}.geojson")


def file_name(bag_id: str) -> str:
    """Return a file name that stays in its folder, whatever the name of a slide.

    Example:
        >>> file_name("../<script>"), file_name("slide_1")
        ('%2E%2E%2F%3Cscript%3E', 'slide_1')
    """
    name = quote(bag_id, safe=" ")
    return name.replace(".", "%2E") if name.startswith(".") else name
