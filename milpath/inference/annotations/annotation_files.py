"""Annotation files of predicted slides: GeoJSON, XML and the dense map as a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import bounds_offset, level0_positions
from milpath.inference.annotations.asap_xml import tiles_to_asap, write_asap
from milpath.inference.annotations.attention_classes import attention_ranks
from milpath.inference.annotations.geojson import tiles_to_geojson, write_geojson
from milpath.inference.annotations.slide_answer import SlideAnswer
from milpath.inference.dense_map import DenseMap
from milpath.inference.predict_bags import BagPrediction
from milpath.records.atomic_files import write_text
from milpath.records.data_warning import UNFAMILIAR_COLUMNS

GEOJSON, ASAP = "geojson", "asap"
DENSE_DIR = "dense"
_DENSE_COLUMNS = "x0,y0,size0,weight"


class AnnotationFiles:
    """Write the annotations of slides, each in the folder of its format.

    Args:
        store: Store with a bag per slide.
        output: Output folder of the prediction.
        formats: `GEOJSON`, `ASAP`, both or none.
        colour_map: One of `milpath.drawing.picture_frame.COLOUR_MAPS`.
        warning: What the training data say against themselves, kept in each file.
    """

    def __init__(
        self, store: BagStore, output: Path, formats: Sequence[str], colour_map: str = "viridis", warning: str = ""
    ) -> None:
        self.store = store
        self.output = output
        self.formats = tuple(formats)
        self.colour_map = colour_map
        self.warning = warning

    def write(self, bag: BagPrediction, name: str, answer: SlideAnswer | None = None) -> None:
        """Write the tiles of a slide; nothing if their positions are unknown.

        Args:
            bag: The prediction of the slide.
            name: Name of its files, without an ending.
            answer: The answer for the slide.
        """
        where = self.store.tile_slice(bag.position)
        if (places := level0_positions(self.store, where)) is None:
            return
        ranks = attention_ranks(bag.attention) if bag.ranks is None else bag.ranks
        ranked = len(bag.attention) if bag.num_ranked is None else bag.num_ranked
        if GEOJSON in self.formats:
            strange = {} if bag.tile_unfamiliarity is None else {UNFAMILIAR_COLUMNS[1]: bag.tile_unfamiliarity}
            left, top = bounds_offset(self.store, where)  # QuPath crops a slide to its scanned area
            collection = tiles_to_geojson(
                bag.attention, places.x0 - left, places.y0 - top, places.size0, measurements={**bag.maps, **strange},
                warning=self.warning, limits=bag.limits.get("attention"), ranks=ranks, num_ranked=ranked, answer=answer,
                colour_map=self.colour_map,
            )  # fmt: skip
            write_geojson(collection, self._folder(GEOJSON) / f"{name}.geojson")
        if ASAP in self.formats:
            root = tiles_to_asap(
                bag.attention, *places, ranks, ranked, answer, warning=self.warning, colour_map=self.colour_map
            )
            write_asap(root, self._folder(ASAP) / f"{name}.xml")

    def write_dense(self, dense: DenseMap, bag: BagPrediction, name: str, answer: SlideAnswer | None = None) -> None:
        """Write a dense map as a table and, with GeoJSON among the formats, for QuPath.

        Args:
            dense: The attention on all tissue.
            bag: The prediction of the slide.
            name: Name of its files, without an ending.
            answer: The answer for the slide.
        """
        folder = self._folder(DENSE_DIR)
        columns = (dense.x0.tolist(), dense.y0.tolist(), dense.attention.tolist())
        rows = [f"{x:.10g},{y:.10g},{dense.size0:.10g},{weight:.9g}" for x, y, weight in zip(*columns, strict=True)]
        write_text(folder / f"{name}.csv", "\n".join([_DENSE_COLUMNS, *rows]) + "\n")
        if GEOJSON in self.formats:
            left, top = bounds_offset(self.store, self.store.tile_slice(bag.position))
            weights = dense.attention.astype(np.float64)
            collection = tiles_to_geojson(
                weights, dense.x0 - left, dense.y0 - top, dense.size0, warning=self.warning, answer=answer,
                colour_map=self.colour_map,
            )  # fmt: skip
            write_geojson(collection, folder / f"{name}.geojson")

    def _folder(self, name: str) -> Path:
        folder = self.output / name
        folder.mkdir(exist_ok=True)
        return folder
