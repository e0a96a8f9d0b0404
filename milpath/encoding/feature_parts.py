"""Features of a stream of tiles, written bag by bag into the work folder of an extraction."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milpath.data.sources.features.feature_check import all_finite
from milpath.encoding.batch_encoder import BatchEncoder
from milpath.encoding.tile_events import BagBegun, BagEnded, BagTiles, TileEvent
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.bag_files import BagFiles
from milpath.tiling.slide_job import SlideJob, TileForm
from milpath.tiling.slide_parts import SlideParts
from milpath.tiling.slide_progress import SlideProgress


@dataclass(eq=False)
class _OpenBag:
    """A bag whose features are not complete."""

    begun: BagBegun
    files: BagFiles
    missing: int
    stain_values: Tensor | None


class FeatureParts:
    """Encode a stream of tiles, and write each bag as soon as all of its features are known.

    Batches run over the borders of bags. Memory holds one batch and the bags that are open: those of the workers and of
    the batch, without their tiles.

    Args:
        encoder: Encodes batches.
        form: What is written of each tile.
        parts: The work folder.
        progress: Counts bags.
    """

    def __init__(self, encoder: BatchEncoder, form: TileForm, parts: SlideParts, progress: SlideProgress) -> None:
        self._encoder = encoder
        self._form = form
        self._parts = parts
        self._progress = progress
        self._open: dict[str, _OpenBag] = {}
        self._peak_memory = 0
        # The bag and the position of each tile, in the batch that is filled and in the one that is encoded.
        self._filled: list[tuple[_OpenBag, int]] = []
        self._running: list[tuple[_OpenBag, int]] = []
        self.num_tiles = 0

    def write(self, events: Iterable[TileEvent]) -> None:
        """Process all events.

        Raises:
            OutputError: If the disk is full.
        """
        try:
            for event in events:
                if isinstance(event, BagBegun):
                    self._begin(event)
                elif isinstance(event, BagTiles):
                    self._add(event)
                else:
                    self._end(event)
            if self._filled:
                self._submit()
            self._store(self._encoder.finish())
        finally:
            for bag in self._open.values():
                bag.files.__exit__(None, None, None)

    def _begin(self, begun: BagBegun) -> None:
        name = begun.record.bag_id
        job = SlideJob(name, "", str(self._parts.part(name)), None, None, None, TileOptions())
        files = BagFiles(job, self._form, begun.record.num_tiles)
        values = None
        if self._encoder.normalises_stains:
            if begun.sample is None:
                raise ValueError(f"{name} came without the sample that its stains are normalised by")
            values = self._encoder.stain_values(begun.sample)
        # Not kept while the tiles are encoded.
        self._open[name] = _OpenBag(replace(begun, sample=None), files, begun.record.num_tiles, values)

    def _add(self, tiles: BagTiles) -> None:
        """Copy tiles into the batch, and encode it whenever it is full."""
        bag = self._open.get(tiles.bag_id)
        if bag is None:
            return  # failed, but its process has not noticed
        done = 0
        while done < len(tiles.positions):
            start = len(self._filled)
            count = min(len(tiles.positions) - done, self._encoder.batch_size - start)
            self._encoder.buffer[start : start + count] = tiles.pixels[done : done + count]
            self._filled += [(bag, position) for position in tiles.positions[done : done + count].tolist()]
            done += count
            if len(self._filled) == self._encoder.batch_size:
                self._submit()

    def _end(self, ended: BagEnded) -> None:
        self._peak_memory = max(self._peak_memory, ended.peak_memory)
        if ended.error is not None:
            self._fail(ended.bag_id, ended.error)

    def _submit(self) -> None:
        values = [bag.stain_values for bag, _ in self._filled if bag.stain_values is not None]
        before = self._encoder.submit(len(self._filled), torch.cat(values) if values else None)
        self._store(before)
        self._running, self._filled = self._filled, []

    def _store(self, features: NDArray[np.floating] | None) -> None:
        """Write the features of the batch that was encoded."""
        if features is None:
            return
        rows, self._running = self._running, []
        self.num_tiles += len(rows)
        start = 0
        while start < len(rows):
            bag, stop = rows[start][0], start + 1
            while stop < len(rows) and rows[stop][0] is bag:
                stop += 1
            self._write(bag, np.array([position for _, position in rows[start:stop]]), features[start:stop])
            start = stop

    def _write(self, bag: _OpenBag, positions: NDArray[np.int64], features: NDArray[np.floating]) -> None:
        """Write features of a bag, which is finished with the last of them."""
        name = bag.begun.record.bag_id
        if self._open.get(name) is not bag:
            return
        if not all_finite(features):
            row, column = np.argwhere(~np.isfinite(features))[0]
            self._fail(
                name,
                f"the encoder gives {features[row, column]} as feature {column} of tile {positions[row]} (as "
                f"{features.dtype}); set precision=32-true, and dtype=float32 if its features exceed 65,504",
            )
            return
        bag.files.write(positions, features)
        bag.missing -= len(positions)
        if not bag.missing:
            with bag.files:
                bag.files.finish(bag.begun.record, bag.begun.rows, bag.begun.picture)
            del self._open[name]
            self._parts.succeed(name)
            self._progress.advance(failed=False, peak_memory=self._peak_memory)

    def _fail(self, name: str, reason: str) -> None:
        """Save why a bag failed; its tiles in a batch are forgotten."""
        bag = self._open.pop(name, None)
        if bag is not None:
            bag.files.__exit__(None, None, None)
        self._parts.fail(name, " ".join(reason.split()))
        self._progress.advance(failed=True, peak_memory=self._peak_memory)
