"""From a plan of batches to batches: gathered ahead by threads, finished on the device."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from milpath.data.bag import Bag, BagBatch, collate_bags, empty_batch
from milpath.data.bag_store import BagStore
from milpath.data.batch_plan import EvaluationPlan, PlannedBatch, TrainingPlan
from milpath.data.device_cache import DeviceCache
from milpath.data.preparation import Preparation
from milpath.data.threads import map_in_threads


class BagSplit:
    """The bags of one split of a store.

    Args:
        store: The store.
        indices: `(bags,)` positions in the store.
        labels: `(bags,)` class of each of these bags.
    """

    def __init__(self, store: BagStore, indices: np.ndarray, labels: np.ndarray) -> None:
        self.store = store
        self.indices = indices
        self.labels = labels
        self.bag_ids: list[str] = store.bags["bag_id"].iloc[indices].tolist()
        self.lengths = store.num_tiles[indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Bag:
        """Return a bag; its tiles are still in the memory map."""
        where = self.store.tile_slice(int(self.indices[position]))
        tile_labels = None if self.store.tile_labels is None else self.store.tile_labels[where]
        return Bag(self.store.tiles[where], int(self.labels[position]), self.bag_ids[position], tile_labels)


class LoadedBatch:
    """A batch on the host; `to(device)` makes it what a network takes.

    Lightning calls `to` for every batch, with or without a data module; a loop of one's own does
    `for batch in loader: batch = batch.to(device)`.
    """

    def __init__(self, batch: BagBatch, rows: torch.Tensor | None, seed: int, loader: "BagLoader") -> None:
        self.batch = batch
        self.rows = rows
        self.seed = seed
        self.loader = loader

    def to(self, device: torch.device | str) -> BagBatch:
        """Return the batch on a device: tiles float, augmented if the loader is for training."""
        device = torch.device(device)
        batch, loader = self.batch, self.loader
        loader.cache.prepare(device)
        padded = not bool(batch.mask.all())
        mask = batch.mask.to(device, non_blocking=True)
        if self.rows is None:
            tiles = batch.tiles.to(device, non_blocking=True)
        else:
            tiles = loader.cache.take(self.rows.to(device, non_blocking=True))
            if padded:
                tiles = tiles.masked_fill(~mask[(..., *(None,) * (tiles.ndim - 2))], 0)
        return batch._replace(
            tiles=loader.preparation(tiles, mask, self.seed, padded),
            mask=mask,
            labels=batch.labels.to(device, non_blocking=True),
            tile_labels=batch.tile_labels.to(device, non_blocking=True),
        )


class BagLoader:
    """Iterate over a split in batches.

    A batch is one slice of the memory map for each bag, which runs near the speed of memory; threads do it ahead of time
    and share the map, so there are no worker processes to start, to copy between, or to seed. The position within an epoch
    is part of a checkpoint.

    Args:
        split: The bags.
        plan: Which bags make which batch.
        preparation: Last step, on the device.
        cache: Tiles that are on the device already.
        num_workers: Threads that gather ahead; 0 gathers when asked.
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
        self.sampler = plan  # the name under which Lightning looks for `set_epoch`
        self.batch_sampler = None  # Lightning asks wherever it finds a sampler
        self.preparation = preparation
        self.cache = cache
        self.num_workers = num_workers
        self.position = 0
        self._resume: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[LoadedBatch]:
        plan = iter(self.sampler)
        self.position = self._start()
        plan = islice(plan, self.position, None)
        for batch in map_in_threads(self._load, plan, self.num_workers):
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return where in which epoch the loader is; Lightning keeps it in checkpoints."""
        return {"epoch": getattr(self.sampler, "epoch", 0), "position": self.position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the middle of an epoch: batches already trained on are not loaded again."""
        self._resume = (int(state_dict["epoch"]), int(state_dict["position"]))

    def _start(self) -> int:
        """Return how many batches of this epoch were done before a checkpoint was resumed."""
        resume, self._resume = self._resume, None
        if resume is None or resume[0] != getattr(self.sampler, "epoch", 0):
            return 0
        return resume[1]

    def _load(self, planned: PlannedBatch) -> LoadedBatch:
        """Gather one batch, or only where its tiles lie if they are on the device."""
        store = self.split.store
        if len(planned.indices) == 0:
            batch = empty_batch(store.tile_shape, store.tiles.dtype, planned.global_size)
            return LoadedBatch(batch, None, planned.seed, self)
        bags = [self.split[int(index)] for index in planned.indices]
        if self.cache.tiles is None:
            batch = collate_bags(bags, planned.global_size, pin_memory=torch.cuda.is_available())
            return LoadedBatch(batch, None, planned.seed, self)
        rows = [np.arange(where.start, where.stop)[:, None] for where in map(self._slice, planned.indices)]
        batch = collate_bags(
            [bag._replace(tiles=row) for bag, row in zip(bags, rows, strict=True)], planned.global_size
        )
        return LoadedBatch(batch, batch.tiles[..., 0], planned.seed, self)

    def _slice(self, position: int) -> slice:
        """Return where the tiles of a bag of the split lie."""
        return self.split.store.tile_slice(int(self.split.indices[position]))
