"""What is seen of the embeddings of bags while a classifier predicts them: samples to fit on, or distances to compare."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from milpath.models.familiarity import Familiarity, ShrunkGaussian, fit_gaussian
from milpath.models.familiarity.embeddings import answer_with_distances, embed, pooled, unit
from milpath.models.familiarity.familiar_slides import FamiliarSlides, calibrate
from milpath.models.output import MILOutput
from milpath.models.stains import sampled_tiles

# Of a training split, whatever its size.
MOST_TILES, MOST_PER_BAG = 8192, 64


class SeenBag(NamedTuple):
    """What is kept of a bag, on the CPU.

    Attributes:
        embedding: `(dim,)` float32 of a training bag, of length 1; empty otherwise.
        tiles: `(tiles, dim)` float32, a sample of its tiles, likewise; empty otherwise.
        distances: `(networks,)`; empty for a training bag before the fit.
        tile_distances: `(networks, tiles)`; likewise.
    """

    embedding: NDArray[np.float32]
    tiles: NDArray[np.float32]
    distances: NDArray[np.float64]
    tile_distances: NDArray[np.float32]


class EmbeddingProbe:
    """Look at the embeddings of bags that a classifier predicts, and compare them with a model of familiar slides.

    The training bags, on which the model was fitted, are judged by the same sample of tiles as in the fit, so that a later
    evaluation finds the same numbers.

    Args:
        familiarity: The model of the checkpoint.
    """

    def __init__(self, familiarity: Familiarity | None) -> None:
        self.familiarity = familiarity
        self.gaussians: list[tuple[ShrunkGaussian, ShrunkGaussian]] = []
        self.tiles_per_bag = MOST_PER_BAG
        if familiarity is not None:
            self.gaussians = [(model.bags, model.tiles) for model in familiarity.models]
            self.tiles_per_bag = familiarity.models[0].tiles_per_bag
        self._distances: list[NDArray[np.float64]] = []

    def answer(self, network: nn.Module, tiles: Tensor, mask: Tensor | None) -> tuple[MILOutput, list[SeenBag]]:
        """Return the output of the network for a batch and what is seen of each bag."""
        output, found = answer_with_distances(network, self.gaussians, tiles, mask)
        empty = np.empty(0, np.float32)
        return output, [SeenBag(empty, empty, *pair) for pair in zip(found.bags, found.tiles, strict=True)]

    def see(self, split: str, bags: Sequence[SeenBag]) -> None:
        """Take the bags of a split, in its order, after all processes have predicted them."""
        for bag in bags:
            rows = bag.tile_distances
            if split == "train":
                rows = rows[:, sampled_tiles(rows.shape[1], self.tiles_per_bag)]
            self._distances.append(np.stack([bag.distances, rows.mean(axis=1, dtype=np.float64)], axis=1))

    def table(self) -> NDArray[np.float64] | None:
        """Return the columns of unfamiliarity of all bags so far, `(bags, 3)`; `None` without a model."""
        return None if self.familiarity is None else self.familiarity.judge(np.stack(self._distances)).table()


class FittingProbe(EmbeddingProbe):
    """Fit the model on the training bags, which come first, and compare it with the validation bags.

    The fit depends on the bags of the split and their order only: not on the number of processes, nor on batches.

    Args:
        num_bags: Number of training bags.
        refer: Share of bags like those of validation that may be referred; `None` for none.
        num_groups: Of how many groups, such as patients, the validation bags are; 0 if all bags are independent.
        compares: Whether there are validation bags to compare with; without them nothing is fitted.

    Attributes:
        reason: Why there is no model; empty if there is one.
    """

    def __init__(self, num_bags: int, refer: float | None, num_groups: int = 0, compares: bool = True) -> None:
        super().__init__(None)
        self.num_bags, self.refer, self.num_groups = num_bags, refer, num_groups
        self.tiles_per_bag = max(1, min(MOST_PER_BAG, MOST_TILES // max(1, num_bags)))
        self.reason = "there is no validation split to compare with; set data.val_fraction"
        self._sampling = compares

    def answer(self, network: nn.Module, tiles: Tensor, mask: Tensor | None) -> tuple[MILOutput, list[SeenBag]]:
        if self.gaussians:
            return super().answer(network, tiles, mask)
        if not self._sampling:
            return network(tiles, mask), []
        output, embeddings = embed(network, tiles, mask)
        if embeddings is None:
            return output, []
        lengths = [tiles.shape[1]] * len(tiles) if mask is None else mask.sum(1).tolist()
        means = unit(pooled(output, embeddings)).cpu().numpy()
        none = np.empty(0, np.float32)
        rows = [
            unit(embeddings[row, sampled_tiles(length, self.tiles_per_bag)]).cpu().numpy()
            for row, length in enumerate(lengths)
        ]
        return output, [SeenBag(*pair, none.astype(np.float64), none) for pair in zip(means, rows, strict=True)]

    def see(self, split: str, bags: Sequence[SeenBag]) -> None:
        if self._sampling:
            self._sampling = False
            self._fit(split, bags)
            return
        if not self.gaussians:
            return
        super().see(split, bags)
        if split == "val":
            first = len(self._distances) - len(bags)
            model = calibrate(
                *self.gaussians[0], np.stack(self._distances[first:])[:, 0],
                np.concatenate([bag.tile_distances[0] for bag in bags]),
                refer=self.refer, num_bags=self.num_bags, tiles_per_bag=self.tiles_per_bag,
                num_groups=self.num_groups,
            )  # fmt: skip
            # Rounded and checked as in a card, so that the numbers of this run are those of its checkpoint.
            self.familiarity, self.reason = Familiarity([FamiliarSlides.of_state(model.state())]), ""

    def _fit(self, split: str, bags: Sequence[SeenBag]) -> None:
        """Fit the Gaussians, and judge the training bags by them."""
        if split != "train" or not bags:
            self.reason = "the network has no embeddings" if split == "train" else "there is no training split"
            return
        embeddings, tiles = np.stack([bag.embedding for bag in bags]), np.concatenate([bag.tiles for bag in bags])
        try:
            pair = fit_gaussian(embeddings), fit_gaussian(tiles)
        except (ValueError, np.linalg.LinAlgError) as error:
            self.reason = f"no covariance of its {len(bags)} training bags: {error}"
            return
        self.gaussians = [pair]
        self._distances += distances_of_sample(pair, bags)

    def state(self) -> Mapping[str, object]:
        """Return the model as kept in a card; empty without one."""
        return {} if self.familiarity is None else self.familiarity.models[0].state()


def distances_of_sample(
    pair: tuple[ShrunkGaussian, ShrunkGaussian], bags: Sequence[SeenBag]
) -> list[NDArray[np.float64]]:
    """Return the distances `(1, 2)` of training bags from the Gaussians that were fitted on them."""
    of_bags = pair[0].distances(torch.from_numpy(np.stack([bag.embedding for bag in bags]))).double().numpy()
    means = [pair[1].distances(torch.from_numpy(bag.tiles)).numpy().mean(dtype=np.float64) for bag in bags]
    return [np.array([each]) for each in zip(of_bags, means, strict=True)]
