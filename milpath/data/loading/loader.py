"""Loader: batches of a plan, gathered in advance by threads and prepared on the device."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch

from milpath.data.loading.bag import BagBatch
from milpath.data.loading.bag_split import BagSplit
from milpath.data.loading.batch_plan import EvaluationPlan, PlannedBatch, TrainingPlan
from milpath.data.loading.batch_preparation import Preparation
from milpath.data.loading.device_cache import DeviceCache
from milpath.data.loading.threads import map_in_threads

# Batches of this size from a store of this size are gathered in the thread that trains: the store stays in the page cache,
# and handing such a batch over takes longer than gathering it. So many are gathered one after another, which is faster
# than in turn with steps that drive the code and data of gathering out of the caches of the core.
_SMALL_BATCH, _SMALL_STORE, _IN_ADVANCE = 2**18, 2**30, 32


class LoadedBatch:
    """A batch on the host; `to(device)` converts it to the input of a network.

    Lightning calls `to` for every batch, with or without a data module; your own loop does
    `for batch in loader: batch = batch.to(device)`.
    """

    def __init__(self, batch: BagBatch, rows: torch.Tensor | None, seed: int, loader: "BagLoader") -> None:
        self.batch = batch
        self.rows = rows
        self.seed = seed
        self.loader = loader

    def to(self, device: torch.device | str) -> BagBatch:
        """Return the batch on a device: float tiles, augmented if the loader is for training."""
        device = torch.device(device)
        batch, loader = self.batch, self.loader
        loader.cache.prepare(device)
        mask = batch.mask.to(device, non_blocking=True)
        if self.rows is None:
            tiles = batch.tiles.to(device, non_blocking=True)
        else:
            tiles = loader.cache.take(self.rows.to(device, non_blocking=True))
            if batch.padded:
                tiles = tiles.masked_fill(~mask[(..., *(None,) * (tiles.ndim - 2))], 0)
        return batch._replace(
            tiles=loader.preparation(tiles, mask, self.seed, batch.padded),
            mask=mask,
            labels=batch.labels.to(device, non_blocking=True),
            tile_labels=batch.tile_labels.to(device, non_blocking=True),
        )


class BagLoader:
    """Iterate over a split in batches.

    A batch takes one read per bag, which runs near memory speed if the file is in the page cache. Threads read in
    advance, so there are no worker processes to start, copy between or seed. The position within an epoch is part of a
    checkpoint.

    Args:
        split: The bags.
        plan: Assignment of bags to batches.
        preparation: Last step, on the device.
        cache: Tiles that are already on the device.
        num_workers: Threads that gather in advance; 0 gathers on demand. Small batches need none.
    """

    def __init__(
        self,
        split: BagSplit,
        plan: TrainingPlan | EvaluationPlan,
        preparation: Preparation,
        cache: DeviceCache,
        num_workers: int = 1,
    ) -> None:
        self.split = split
        self.sampler = plan  # Lightning looks for `set_epoch` under this name
        self.batch_sampler = None  # Lightning checks wherever it finds a sampler
        self.preparation = preparation
        self.cache = cache
        self.num_workers = num_workers
        self.position = 0
        self._pin_memory = torch.cuda.is_available()  # called once: it opens a library each time
        self._resume: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[LoadedBatch]:
        plan = iter(self.sampler)
        self.position = self._start()
        plan = islice(plan, self.position, None)
        small = self._is_small()
        for batch in self._in_advance(plan) if small else map_in_threads(self._load, plan, self.num_workers):
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch and the position in it; Lightning saves them in checkpoints."""
        return {"epoch": getattr(self.sampler, "epoch", 0), "position": self.position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue in the middle of an epoch: batches already trained on are not loaded again."""
        self._resume = (int(state_dict["epoch"]), int(state_dict["position"]))

    def _in_advance(self, plan: Iterator[PlannedBatch]) -> Iterator[LoadedBatch]:
        """Gather small batches, some at a time."""
        while loaded := [self._load(planned) for planned in islice(plan, _IN_ADVANCE)]:
            yield from loaded

    def _is_small(self) -> bool:
        """Return whether gathering a batch takes less time than handing it over to another thread."""
        tiles = self.split.store.tiles
        if not len(tiles) or not len(self.split):
            return True
        batch = tiles[:1].nbytes * float(self.split.lengths.mean()) * self.sampler.batch_size
        return tiles.nbytes <= _SMALL_STORE and batch <= _SMALL_BATCH

    def _start(self) -> int:
        """Return how many batches of this epoch were done before the checkpoint that is resumed."""
        resume, self._resume = self._resume, None
        if resume is None or resume[0] != getattr(self.sampler, "epoch", 0):
            return 0
        return resume[1]

    def _load(self, planned: PlannedBatch) -> LoadedBatch:
        """Gather one batch, or only the rows of its tiles if they are on the device."""
        seed = planned.seed if self.preparation.is_random else 0
        if self.cache.tiles is None:
            # Each bag is drawn from the store or one of its augmented copies.
            drawn = planned.seed if self.split.copies else 0
            batch = self.split.gather(planned.indices, planned.global_size, self._pin_memory, planned.sample, drawn)
            return LoadedBatch(batch, None, seed, self)
        self.cache.require_finite(self.split.indices[planned.indices])
        batch = self.split.gather_rows(planned.indices, planned.global_size, planned.sample)
        return LoadedBatch(batch, batch.tiles, seed, self)
