"""Assignment of bags to batches, consistent across processes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch.distributed as dist

from milpath.data.loading.tile_sample import TileSample

SAMPLERS = ("shuffle", "balanced")
# Bags are sorted by length within windows of this many batches: little padding, but batches are still mixed.
_WINDOW = 50
# Tiles of a padded batch of an evaluation, if it has more than one bag: 1 GB of 1024 float32 features.
_MOST_TILES = 2**18


class PlannedBatch(NamedTuple):
    """One step of one process.

    Attributes:
        indices: Bags of this process, as positions in the split; empty if a batch has fewer bags than processes.
        global_size: Number of bags of all processes in this step.
        of_step: What the seed of this step and process is computed from; empty without randomness.
        sample: Which tiles of long bags are used; `None` for all.
    """

    indices: np.ndarray
    global_size: int
    of_step: tuple[int, ...] = ()
    sample: TileSample | None = None

    @property
    def seed(self) -> int:
        """Seed of all randomness in this step and process, computed when asked for: bags of features need none."""
        if not self.of_step:
            return 0
        return int(np.random.SeedSequence(self.of_step).generate_state(1, np.uint64)[0] >> np.uint64(1))


def require_at_least(**options: tuple[int | None, int]) -> None:
    """Refuse options below their minimum.

    Args:
        options: Name of an option of `data` to its value and minimum; `None` passes.

    Raises:
        ValueError: With the first option that is too small.
    """
    for name, (value, least) in options.items():
        if value is not None and value < least:
            raise ValueError(f"data.{name} is {value}; it must be {least} or more")


def process_rank() -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class TrainingPlan:
    """Batches of an epoch: shuffled from (seed, epoch), identical on all processes; each takes its share of each batch.

    With `batch_size` b on n processes a step has b * n bags, exactly those of one process with batch size b * n. The
    bags of an epoch are split into batches of nearly equal size, at most b * n: otherwise a last batch of one or two
    bags would have the same weight as a full one. Every process makes the same number of steps.

    Args:
        labels: `(bags,)` class of each bag.
        lengths: `(bags,)` number of tiles of each bag.
        batch_size: Bags per step and process.
        seed: Seed of the order.
        sampler: "shuffle" takes every bag once; "balanced" takes equally many bags of each class: bags of rare classes
            more than once, bags of frequent classes not in every epoch.
        max_tiles: Largest number of tiles of a bag in an epoch (see `TileSample`); `None` for all.
    """

    def __init__(
        self,
        labels: np.ndarray,
        lengths: np.ndarray,
        batch_size: int,
        seed: int = 0,
        sampler: str = "shuffle",
        max_tiles: int | None = None,
    ) -> None:
        if sampler not in SAMPLERS:
            raise ValueError(f"data.sampler is {sampler!r}; it must be one of {', '.join(SAMPLERS)}")
        self.labels = labels
        self.lengths = lengths if max_tiles is None else np.minimum(lengths, max_tiles)
        self.max_tiles = max_tiles
        self.batch_size = batch_size
        self.seed = seed
        self.sampler = sampler
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines the order; called by Lightning."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of steps in an epoch."""
        return -(-len(self.labels) // (self.batch_size * process_rank()[1]))

    def __iter__(self) -> Iterator[PlannedBatch]:
        rank, world_size = process_rank()
        rng = np.random.default_rng([self.seed, self.epoch])
        order: np.ndarray = self._balanced(rng) if self.sampler == "balanced" else rng.permutation(len(self.labels))
        if self.lengths.min() != self.lengths.max():
            batches = self._by_length(order, rng, self.batch_size * world_size)
        else:
            batches = np.array_split(order, len(self))
        sample = None if self.max_tiles is None else TileSample(self.max_tiles, self.seed, self.epoch)
        for step, batch in enumerate(batches):
            yield PlannedBatch(batch[rank::world_size], len(batch), (self.seed, self.epoch, step, rank), sample)

    def _balanced(self, rng: np.random.Generator) -> np.ndarray:
        """Return as many draws as there are bags, equally many of each class, as evenly as possible within a class."""
        classes = np.unique(self.labels)
        quotas = [len(part) for part in np.array_split(np.arange(len(self.labels)), len(classes))]
        draws = []
        for number, quota in zip(classes, rng.permutation(quotas), strict=True):
            own = np.flatnonzero(self.labels == number)
            rounds = [rng.permutation(own) for _ in range(-(-int(quota) // len(own)))]
            draws.append(np.concatenate(rounds)[:quota])
        return rng.permutation(np.concatenate(draws))

    def _by_length(self, order: np.ndarray, rng: np.random.Generator, step_size: int) -> list[np.ndarray]:
        """Split an order into batches of bags of similar length, in random order."""
        num_windows = -(-len(order) // (step_size * _WINDOW))
        batches: list[np.ndarray] = []
        sizes = [len(part) for part in np.array_split(order, len(self))]
        for part in np.array_split(np.array(sizes), num_windows):
            window, order = order[: part.sum()], order[part.sum() :]
            window = window[np.argsort(self.lengths[window], kind="stable")]
            batches += np.split(window, np.cumsum(part)[:-1])
        return [batches[index] for index in rng.permutation(len(batches))]


class EvaluationPlan:
    """Batches in a fixed order, every bag exactly once over all processes: process r has the bags r, r + n, r + 2n, ...

    All processes make the same number of steps, the last one without a bag if necessary: collective operations in a
    step, such as broadcasting buffers, would otherwise wait for a process that has no such step.

    Args:
        lengths: `(bags,)` number of tiles of each bag; bags of similar length are batched together.
        batch_size: Maximum number of bags per step and process; fewer very long bags.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int) -> None:
        self.order = np.argsort(-lengths, kind="stable")
        self.lengths = lengths
        self.batch_size = batch_size

    def _share(self) -> Sequence[np.ndarray]:
        """Return the batches of this process."""
        rank, world_size = process_rank()
        own = self.order[rank::world_size]
        num_steps = -(-len(self.order) // (self.batch_size * world_size))
        if not num_steps:
            return []
        # The first process has the most and the longest bags: its batches say into how many steps all divide theirs.
        steps = []
        for first, batch in zip(
            np.array_split(self.order[::world_size], num_steps), np.array_split(own, num_steps), strict=True
        ):
            longest = int(self.lengths[first].max())
            steps += np.array_split(batch, -(-len(first) // max(1, _MOST_TILES // longest)))
        return steps

    def __len__(self) -> int:
        """Number of steps of this process."""
        return len(self._share())

    def __iter__(self) -> Iterator[PlannedBatch]:
        for indices in self._share():
            yield PlannedBatch(indices, len(indices))
