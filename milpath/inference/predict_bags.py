"""Prediction of the bags of a store, batch by batch."""

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import Module

from milpath.data.loading.bag import fresh_buffer
from milpath.data.sources.features.feature_check import describe_non_finite
from milpath.data.store.bag_store import BagStore
from milpath.models.averaged_network import of_networks
from milpath.models.familiarity import Familiarity
from milpath.models.familiarity.embeddings import judged_answer
from milpath.models.finite import explain_non_finite_answer, finite_bags
from milpath.models.network_input import to_network_input
from milpath.models.tile_maps import tile_maps
from milpath.targets import Target, target_named

# Bytes of a batch as float32: enough to keep a processor busy, small enough for its caches and for long bags.
_BATCH_BYTES = 32 << 20
_MAX_BATCH_SIZE = 256


class BagPrediction(NamedTuple):
    """The prediction of a network for a bag.

    Attributes:
        position: Position of the bag in the store.
        bag_id: Name of the bag.
        probabilities: `(classes,)`, sums to 1; or `(columns,)`, the numbers of a target without classes.
        attention: `(tiles,)`, sums to 1.
        maps: Name to `(tiles,)` of the maps of a network with attention or contributions per class; see
            `milpath.models.tile_maps`.
        each: `(folds, columns)`, the predictions of the folds of an average; `None` of one network.
        agreement: Mean rank correlation of the attention of pairs of folds; `None` of one network or for a single tile.
        limits: Name ("attention" or a map) to the ends of its colour scale, if they are those of more tiles than these.
        ranks: `(tiles,)` ranks of the attention among the tiles of the bag, if these are only some of them; else `None`.
        num_ranked: Number of tiles of that bag.
        unfamiliarity: `(3,)`, the columns `UNFAMILIAR_COLUMNS`; `None` without a model of familiar slides.
        tile_unfamiliarity: `(tiles,)`, percent of the validation tiles that are less unfamiliar; `None` likewise.
    """

    position: int
    bag_id: str
    probabilities: NDArray[np.float32]
    attention: NDArray[np.float32]
    maps: Mapping[str, NDArray[np.float32]] = MappingProxyType({})
    limits: Mapping[str, tuple[float, float]] = MappingProxyType({})
    each: NDArray[np.float64] | None = None
    agreement: float | None = None
    ranks: NDArray[np.int64] | None = None
    num_ranked: int | None = None
    unfamiliarity: NDArray[np.float64] | None = None
    tile_unfamiliarity: NDArray[np.float32] | None = None

    @property
    def unfamiliar(self) -> bool:
        """Whether the bag is above the bound of unfamiliarity."""
        return self.unfamiliarity is not None and bool(self.unfamiliarity[0] == 1)

    @property
    def spread(self) -> NDArray[np.float64] | None:
        """`(columns,)`, standard deviation of the predictions between the folds; `None` of one network."""
        return None if self.each is None else np.asarray(self.each.std(axis=0, ddof=1))


def predict_bags(
    network: Module,
    store: BagStore,
    task: str | Target,
    *,
    temperature: float = 1.0,
    indices: Iterable[int] | None = None,
    done: Container[int] = (),
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
    class_names: Sequence[str] = (),
    on_failure: Callable[[str, str], None] | None = None,
    familiarity: Familiarity | None = None,
) -> Iterator[BagPrediction]:
    """Predict bags batch by batch; memory holds one batch, for any size of the store.

    Args:
        network: A network in evaluation mode.
        store: The bags.
        task: The target or its name; one without classes must be that of the checkpoint.
        temperature: Divides the logits; > 0.
        indices: Bags to predict; `None` for all.
        done: Bags that are not predicted again. They stay part of their batches, whose composition reaches the last digit:
            an interrupted prediction ends with the numbers of an uninterrupted one.
        batch_size: Bags per batch; `None` limits a batch to 32 MB of tiles.
        device: Device of the network.
        class_names: Names of the classes, to name the maps of a network that has them; without names there are no maps.
        on_failure: Called with the name of a bag and the reason instead of a prediction if a feature or the output is
            not finite; `None` raises.
        familiarity: The models of familiar slides of the network; `None` does not judge whether bags are familiar.

    Raises:
        ValueError: If a feature or the output is not finite, with the bag, and the tile if it is the cause.
    """
    network, target = network.to(device), target_named(task)
    fail = on_failure or _refuse
    ids = store.bags["bag_id"].tolist()
    for chosen in _batches(store, list(range(len(store)) if indices is None else indices), batch_size):
        if all(index in done for index in chosen):
            continue
        lengths = store.num_tiles[chosen]
        buffer = fresh_buffer((len(chosen), int(lengths.max()), *store.tile_shape), store.tiles.dtype, pin_memory=False)
        store.read_padded(chosen, buffer)
        failed = {}
        for row, length in enumerate(lengths.tolist()):
            if (found := describe_non_finite(buffer[row, :length])) is not None:
                failed[row] = f"bag {ids[chosen[row]]!r} of {store.path}: {found}"
                buffer[row] = 0  # must not affect the other bags in an encoder
        tiles = to_network_input(torch.from_numpy(buffer).to(device))
        mask = torch.arange(tiles.shape[1])[None, :] < torch.from_numpy(lengths)[:, None]
        with torch.inference_mode():
            output, judged = judged_answer(network, familiarity, tiles, None if mask.all() else mask.to(device))
            answers = target.answers(output.logits.float(), temperature)
            probabilities = answers.cpu().numpy()
            attention = output.attention.float().cpu().numpy()
            named = tile_maps(output, target.map_names(class_names), class_names) if class_names else {}
            maps = {name: values.cpu().numpy() for name, values in named.items()}
            finite = finite_bags(output, answers).tolist()
            of_folds = of_networks(output)
        for row, index in enumerate(chosen):
            if index in done:
                continue
            if row not in failed and not finite[row]:
                failed[row] = explain_non_finite_answer(ids[index], network)
            if row in failed:
                fail(ids[index], failed[row])
                continue
            length = store.num_tiles[index]
            own_maps = {name: values[row, :length] for name, values in maps.items()}
            yield BagPrediction(
                index, ids[index], probabilities[row], attention[row, :length], own_maps,
                each=None if (each := of_folds["each"]) is None else each[row].numpy(),
                agreement=None if (agreement := of_folds["agreement"]) is None else _known(float(agreement[row])),
                unfamiliarity=None if judged is None else judged.table()[row],
                tile_unfamiliarity=None if judged is None else judged.tiles[row],
            )  # fmt: skip


def _known(value: float) -> float | None:
    """Return a number, `None` if it is not defined."""
    return None if math.isnan(value) else value


def _refuse(bag_id: str, reason: str) -> None:
    """Raise at the first bag whose output is not finite."""
    raise ValueError(reason)


def _batches(store: BagStore, waiting: Sequence[int], batch_size: int | None) -> Iterator[list[int]]:
    """Split bags into batches, in their order; a batch padded to its longest bag stays within the limit."""
    tile_bytes = 4 * math.prod(store.tile_shape)
    chosen: list[int] = []
    longest = 0
    for index in waiting:
        longest = max(longest, int(store.num_tiles[index]))
        full = len(chosen) == (batch_size or _MAX_BATCH_SIZE)
        if full or (batch_size is None and chosen and (len(chosen) + 1) * longest * tile_bytes > _BATCH_BYTES):
            yield chosen
            chosen, longest = [], int(store.num_tiles[index])
        chosen.append(index)
    if chosen:
        yield chosen
