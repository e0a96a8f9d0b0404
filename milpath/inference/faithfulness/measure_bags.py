"""Curves, agreement and truth of each bag of a store, for one network or several."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from milpath.data.sources.features.feature_check import describe_non_finite
from milpath.data.store.bag_store import BagStore
from milpath.inference.faithfulness.explained_quantity import Explained, Question
from milpath.inference.faithfulness.partial_bags import PartialBags
from milpath.inference.faithfulness.tile_relevance import ATTENTION, RANDOM, tile_relevance
from milpath.metrics.attention_quality import attention_quality
from milpath.metrics.faithfulness.perturbation_curves import mean_over_orders, num_kept, num_of_share, num_removed
from milpath.metrics.faithfulness.rank_agreement import kendall, overlap_by_chance, top_overlap
from milpath.metrics.number_metrics import spearman
from milpath.models.network_input import to_network_input
from milpath.records.digests import sha256_of_text

Array = NDArray[np.float64]
AGREEMENTS = ("spearman", "kendall", "overlap", "overlap_by_chance")


@dataclass(frozen=True)
class MeasureOptions:
    """How bags are perturbed.

    Attributes:
        share: Share of the tiles that counts as the top ones, in (0, 1).
        num_random: Number of random orders, each from the seed and the name of the bag.
        max_passes: Number of tiles up to which each tile is left out and taken by itself.
        augment: Changes tiles `(1, tiles, channels, height, width)` at random with a generator; `None` for no augmentation.
        num_augmented: Number of augmented copies of each bag.
        seed: Seed of the random orders and of the augmentation.

    Raises:
        ValueError: If a number is out of its range.
    """

    share: float = 0.1
    num_random: int = 10
    max_passes: int = 1000
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    num_augmented: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(
                f"share={self.share} must be in (0, 1): the share of the tiles that counts as the top ones"
            )
        for name, least in (("num_random", 1), ("max_passes", 0), ("num_augmented", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")


@dataclass(frozen=True)
class MeasuredBag:
    """A bag as one network sees it.

    Attributes:
        bag_id: Name of the bag.
        network: Position of the network.
        num_tiles: Number of its tiles, at least 2.
        explained: What is explained, in words: the class, or the side of the reference.
        values: `(2,)` probability and log-odds, or twice the distance of a number, of the whole bag.
        deletion: Order to `(2, steps)`: the values after the first tiles of the order are removed, at `REMOVED`.
        insertion: Order to `(2, steps)`: the values of the first tiles only, at `KEPT`.
        truth: Order to the AUROC with which it ranks positive tiles; NaN without tiles of both kinds.
        flat: Whether all tiles have the same attention.
        between: Agreement of attention between each two networks of the bag: `AGREEMENTS` to the mean over pairs; only in
            the row of the first network, and empty of one.
        augmented: Agreement of attention with that of augmented copies: `AGREEMENTS` to the mean, and "change", the mean
            change of the probability; empty without augmentation.
        between_kinds: Kind of pair to what `between` is for the pairs of that kind.
    """

    bag_id: str
    network: int
    num_tiles: int
    explained: str
    values: Array
    deletion: Mapping[str, Array]
    insertion: Mapping[str, Array]
    truth: Mapping[str, float]
    flat: bool
    between: Mapping[str, float]
    augmented: Mapping[str, float]
    between_kinds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def measure_bags(
    networks: Sequence[nn.Module],
    store: BagStore,
    indices: Sequence[int],
    questions: Sequence[Question],
    options: MeasureOptions,
    *,
    device: str | torch.device = "cpu",
    tile_labels: NDArray[np.int64] | None = None,
    networks_of: Mapping[int, Sequence[int]] | None = None,
    kinds: Mapping[tuple[int, int], str] | None = None,
) -> Iterator[list[MeasuredBag]]:
    """Measure bags one by one; memory holds one bag and 32 MB of its parts.

    Args:
        networks: Networks in evaluation mode with the same input.
        store: The bags.
        indices: Bags to measure.
        questions: What is explained, one per network.
        options: How bags are perturbed.
        device: Device of the networks.
        tile_labels: Label of each tile of the store; `None` if they are not known.
        networks_of: Bag to the positions of the networks that are measured on it, in order; `None` for all.
        kinds: Kind of some pairs of networks, by their positions in order; the agreement of each kind is told apart.

    Yields:
        A row per measured network of each bag; nothing for a bag of one tile, of which no part can be removed.

    Raises:
        ValueError: If a feature or an answer is not finite.
    """
    networks = [network.to(device).eval() for network in networks]
    ids = store.bags["bag_id"].tolist()
    for index in indices:
        stored = store.read(index)
        if len(stored) < 2:
            continue
        if (reason := describe_non_finite(stored)) is not None:
            raise ValueError(f"bag {ids[index]!r} of {store.path}: {reason}")
        tiles = to_network_input(torch.from_numpy(stored).to(device))[None]
        labels = None if tile_labels is None else tile_labels[store.tile_slice(index)]
        rows, weights = [], []
        chosen = range(len(networks)) if networks_of is None else networks_of[index]
        for number in chosen:
            row, attention = _measure(networks[number], tiles, ids[index], number, questions[number], options, labels)
            rows.append(row)
            weights.append(attention)
        pairs = {
            (chosen[first], chosen[second]): _agreement(weights[first], weights[second], options.share)
            for first, second in combinations(range(len(chosen)), 2)
        }
        by_kind = {
            kind: _mean_agreement([found for pair, found in pairs.items() if (kinds or {}).get(pair) == kind])
            for kind in dict.fromkeys((kinds or {})[pair] for pair in pairs if pair in (kinds or {}))
        }
        # One row of a bag carries what belongs to all its networks.
        if rows:
            rows[0] = replace(rows[0], between=_mean_agreement(list(pairs.values())), between_kinds=by_kind)
        yield rows


def _measure(
    network: nn.Module,
    tiles: Tensor,
    bag_id: str,
    number: int,
    question: Question,
    options: MeasureOptions,
    labels: NDArray[np.int64] | None,
) -> tuple[MeasuredBag, Array]:
    """Return the row of a bag and its attention."""
    bag = PartialBags(network, tiles)
    explained, values, relevance, _ = tile_relevance(bag, question, options.max_passes)
    attention = relevance[ATTENTION]
    if not np.isfinite(values).all() or not all(np.isfinite(each).all() for each in relevance.values()):
        raise ValueError(f"the network gives {values.tolist()} for bag {bag_id!r}: no finite answer, train it again")
    draw = np.random.default_rng([options.seed, int(sha256_of_text(bag_id)[:8], 16)])
    deletion, insertion = {}, {}
    for name, scores in relevance.items():
        # Equal tiles in random order: the order of the store says nothing.
        order = np.lexsort((draw.random(bag.num_tiles), -scores))
        deletion[name], insertion[name] = _curves(bag, order, question, explained, values)
    random = [
        _curves(bag, draw.permutation(bag.num_tiles), question, explained, values) for _ in range(options.num_random)
    ]
    deletion[RANDOM], insertion[RANDOM] = (mean_over_orders(each) for each in zip(*random, strict=True))
    row = MeasuredBag(
        bag_id, number, bag.num_tiles, explained.words, values, deletion, insertion,
        _truth(relevance, labels, explained), bool(np.ptp(attention) <= 1e-6 * attention.max()), {},
        _augmented(network, tiles, attention, question, explained, values, options),
    )  # fmt: skip
    return row, attention


def _curves(
    bag: PartialBags, order: NDArray[np.int64], question: Question, explained: Explained, values: Array
) -> tuple[Array, Array]:
    """Return the curves of an order, `(2, steps)` each: without its first tiles, and of its first tiles only."""
    removed, kept = num_removed(bag.num_tiles), num_kept(bag.num_tiles)
    # Short bags have the same part at several steps.
    sizes = {"removed": np.unique(removed[removed > 0]), "kept": np.unique(kept[kept < bag.num_tiles])}
    parts = [order[size:] for size in sizes["removed"]] + [order[:size] for size in sizes["kept"]]
    found = bag.values(parts, question, explained)
    of_removed = np.concatenate([values[None], found[: len(sizes["removed"])]])
    of_kept = np.concatenate([found[len(sizes["removed"]) :], values[None]])
    deletion = of_removed[np.searchsorted(np.r_[0, sizes["removed"]], removed)]
    insertion = of_kept[np.searchsorted(np.r_[sizes["kept"], bag.num_tiles], kept)]
    return deletion.T, insertion.T


def _truth(relevance: Mapping[str, Array], labels: NDArray[np.int64] | None, explained: Explained) -> dict[str, float]:
    """Return the AUROC of positive tiles by each order; signed relevance is that for the positive side."""
    if labels is None:
        return {}
    found = {}
    for name, scores in relevance.items():
        signed = scores if "attention" in name else explained.towards_positive * scores
        found[name] = float(attention_quality([signed], [labels]).per_bag_auroc[0])
    return found


def _agreement(first: Array, second: Array, share: float) -> dict[str, float]:
    """Return how far two attentions of one bag agree."""
    top = int(num_of_share(share, len(first)))
    found = float(spearman(first, second)), kendall(first, second), top_overlap(first, second, top)
    return dict(zip(AGREEMENTS, (*found, overlap_by_chance(len(first), top)), strict=True))


def _mean_agreement(pairs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over pairs of networks of each kind of agreement; empty without pairs."""
    return {name: float(np.mean([pair[name] for pair in pairs])) for name in AGREEMENTS} if pairs else {}


def _augmented(
    network: nn.Module,
    tiles: Tensor,
    attention: Array,
    question: Question,
    explained: Explained,
    values: Array,
    options: MeasureOptions,
) -> dict[str, float]:
    """Return how far attention and probability stay what they are if the tiles are augmented."""
    if options.augment is None:
        return {}
    found = []
    for copy in range(options.num_augmented):
        generator = torch.Generator(tiles.device).manual_seed(options.seed * 1000 + copy)
        bag = PartialBags(network, options.augment(tiles, generator))
        _, _, relevance, output = tile_relevance(bag, question, 0)
        changed = question.values(output.logits, explained).detach().cpu().numpy()[0]
        agreed = _agreement(attention, relevance[ATTENTION], options.share)
        found.append(agreed | {"change": float(abs(changed[0] - values[0]))})
    return {name: float(np.mean([each[name] for each in found])) for name in found[0]}
