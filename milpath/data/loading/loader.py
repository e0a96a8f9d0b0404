"""From a plan of batches to batches: gathered ahead by threads, finished on the device."""

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

    A batch is one read for each bag, which runs near the speed of memory where the system has the file in its cache.
    Threads do it ahead of time, so there are no worker processes to start, to copy between, or to seed. The position within
    an epoch is part of a checkpoint.

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
        self._pin_memory = torch.cuda.is_available()  # asked once: it opens a library each time
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
        if self.cache.tiles is None:
            batch = self.split.gather(planned.indices, planned.global_size, self._pin_memory)
            return LoadedBatch(batch, None, planned.seed, self)
        self.cache.require_finite(self.split.indices[planned.indices])
        batch = self.split.gather_rows(planned.indices, planned.global_size)
        return LoadedBatch(batch, batch.tiles, planned.seed, self)
