"""Cache of all tiles of a store in device memory, so that batches need no transfer."""

import logging
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from milpath.data.sources.features.feature_check import all_finite, describe_non_finite
from milpath.data.store.bag_store import BagStore

_log = logging.getLogger(__name__)
DEVICE_CACHES = ("auto", "never", "always")
# The rest is for network, gradients and activations.
_LARGEST_SHARE = 0.6
_CHUNK_BYTES = 256 * 2**20


class DeviceCache:
    """All tiles of a store on a device, copied at the first batch.

    Args:
        store: The store.
        mode: "auto" caches on a GPU if the store needs at most 60 % of the memory that is free at the first batch;
            "always" caches on any device; "never" does not.
    """

    def __init__(self, store: BagStore, mode: str) -> None:
        if mode not in DEVICE_CACHES:
            raise ValueError(f"data.device_cache is {mode!r}; it must be one of {', '.join(DEVICE_CACHES)}")
        self.store = store
        self.mode = mode
        self.tiles: Tensor | None = None
        self._asked_for: torch.device | None = None
        self._decided_for: torch.device | None = None
        self._not_finite: set[int] = set()

    def prepare(self, device: torch.device) -> None:
        """Fill the cache if this device is to have one."""
        if self._asked_for == device:
            return
        self._asked_for = device
        device = torch.empty(0, device=device).device  # "cuda" is "cuda:0", for which all tiles may be there already
        if self._decided_for == device:
            return
        self._decided_for = device
        self.tiles = self._upload(device) if self._wanted(device) else None

    def take(self, rows: Tensor) -> Tensor:
        """Return the tiles of some rows of `tiles.npy`, `(bags, tiles, ...)`, on the device of the rows."""
        assert self.tiles is not None
        taken: Tensor = self.tiles.index_select(0, rows.flatten()).unflatten(0, rows.shape)
        return taken

    def require_finite(self, positions: Iterable[int]) -> None:
        """Refuse bags that had NaN or infinity when they were copied; other bags of the store may have them.

        Args:
            positions: Positions of the bags in the store.

        Raises:
            ValueError: With the bag and the tile.
        """
        for index in self._not_finite.intersection(int(position) for position in positions):
            found = describe_non_finite(self.store.read(index))
            raise ValueError(f"bag {self.store.bags['bag_id'].iloc[index]!r} of {self.store.path}: {found}")

    def _wanted(self, device: torch.device) -> bool:
        """Return whether to cache on a device."""
        if self.mode != "auto":
            return self.mode == "always"
        if device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(device)
        fits = self.store.tiles.nbytes <= _LARGEST_SHARE * free
        message = "store of %.1f GB, %.1f GB free on %s: batches are gathered %s"
        place = "there" if fits else "from the memory map"
        _log.info(message, self.store.tiles.nbytes / 1e9, free / 1e9, device, place)
        return fits

    def _upload(self, device: torch.device) -> Tensor:
        """Copy all tiles in chunks."""
        source = self.store.tiles
        dtype = torch.from_numpy(np.empty(0, source.dtype)).dtype
        cached = torch.empty(source.shape, dtype=dtype, device=device)
        rows = max(1, _CHUNK_BYTES // max(1, source[:1].nbytes))
        for start in range(0, len(source), rows):
            chunk = np.array(source[start : start + rows])
            if not all_finite(chunk):
                bad = start + np.flatnonzero(~np.isfinite(chunk.reshape(len(chunk), -1)).all(axis=1))
                self._not_finite |= {
                    index
                    for index in range(len(self.store))
                    for where in self.store.ranges(index)
                    if ((bad >= where.start) & (bad < where.stop)).any()
                }
            cached[start : start + rows] = torch.from_numpy(chunk).to(device)
        return cached
