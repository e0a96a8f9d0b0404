"""A bag store seen by patient: a bag is all tiles of several slides, and nothing is copied."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.data.store.bag_store import BagStore, SlidePart, TileRows
from milpath.records.digests import sha256_of_values


class GroupedStore(BagStore):
    """A view of a store whose bags are groups of slides.

    A bag is a list of ranges of the mapped array, one per slide, in the order of the slides in the store.

    Attributes:
        slide_store: The store with a bag per slide.
        members: For each bag the positions of its slides in `slide_store`.

    Args:
        slides: The store with a bag per slide.
        bags: One row per bag: `bag_id` and the columns of the labels, without `start` and `num_tiles`.
        members: For each bag the positions of its slides, one or more.

    Raises:
        ValueError: If a bag has no slide, or a slide is in two bags.
    """

    grouped = True

    def __init__(self, slides: BagStore, bags: pd.DataFrame, members: Sequence[np.ndarray]) -> None:
        used = np.concatenate([np.asarray(own) for own in members]) if len(members) else np.empty(0, np.int64)
        if len(bags) != len(members) or not all(map(len, members)) or len(np.unique(used)) < len(used):
            raise ValueError(f"{len(bags)} bags need one or more slides each, and each slide in one bag only")
        starts = slides.bags["start"].to_numpy()
        table = bags.reset_index(drop=True)
        table.insert(1, "start", [int(starts[own[0]]) for own in members])
        table.insert(2, "num_tiles", [int(slides.num_tiles[own].sum()) for own in members])
        super().__init__(slides.path, slides.description, table, slides.tiles)
        self.stored_bags = slides.stored_bags
        self.array_sha256 = slides.array_sha256
        self._slides = slides
        self.members = [np.asarray(own) for own in members]

    @property
    def slide_store(self) -> BagStore:
        """The store with a bag per slide."""
        return self._slides

    def of_slides(self, slides: BagStore) -> "GroupedStore":
        """Return the same bags of another store with the same slides, such as the features of their tiles."""
        return GroupedStore(slides, self.bags.drop(columns=["start", "num_tiles"]), self.members)

    def ranges(self, index: int) -> list[slice]:
        """Return the slices of the tiles of a bag, one per slide."""
        return [where for own in self.members[index] for where in self._slides.ranges(int(own))]

    def tile_slice(self, index: int) -> TileRows:
        """Return the tiles of a bag: a slice if it has one slide, otherwise `(tiles,)` row numbers."""
        parts = self.ranges(index)
        return parts[0] if len(parts) == 1 else np.concatenate([np.arange(part.start, part.stop) for part in parts])

    def slides_of(self, index: int) -> list[SlidePart]:
        """Return the slides of a bag and where their tiles are in it."""
        ends = np.cumsum([self._slides.num_tiles[own] for own in self.members[index]])
        starts = ends - [self._slides.num_tiles[own] for own in self.members[index]]
        return [
            SlidePart(int(own), slice(int(start), int(end)))
            for own, start, end in zip(self.members[index], starts, ends, strict=True)
        ]

    @property
    def tiles_table(self) -> pd.DataFrame:
        """One row per tile, as in the store of slides; `slide` is the slide of the tile, `bag_id` its patient."""
        return self._of_patients(self._slides.tiles_table)

    def tile_rows(self, chosen: TileRows) -> pd.DataFrame:
        """Return the rows of `tiles_table` of some tiles."""
        return self._of_patients(self._slides.tile_rows(chosen))

    @cached_property
    def _bag_of_slide(self) -> dict[str, str]:
        names = self._slides.bags["bag_id"].to_numpy()
        return {names[own]: bag for bag, owned in zip(self.bags["bag_id"], self.members, strict=True) for own in owned}

    def _of_patients(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(slide=rows["bag_id"], bag_id=rows["bag_id"].map(self._bag_of_slide))

    def labels_of_tiles(self, chosen: TileRows) -> NDArray[np.int64] | None:
        """Return the label of some tiles, as the store of slides does."""
        return self._slides.labels_of_tiles(chosen)

    def content_digest(self) -> str:
        """Return a hash of the slides and of how they are grouped."""
        return sha256_of_values(
            [self._slides.content_digest(), self.bags["bag_id"].tolist(), [own.tolist() for own in self.members]]
        )
