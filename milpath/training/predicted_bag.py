"""What `Trainer.predict` returns for each bag."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from milpath.data.loading.bag import BagBatch
from milpath.models.output import MILOutput
from milpath.models.tile_maps import tile_maps


class PredictedBag(NamedTuple):
    """The prediction of a bag by `Trainer.predict`, in NumPy arrays without padding.

    Attributes:
        bag_id: Name of the bag; `datamodule.split_frame()` says which split it is in.
        label: Class index, or `(columns,)` numbers of a target without classes.
        probabilities: `(classes,)` float32, sums to 1; or `(columns,)`, the numbers of a target without classes.
        logits: `(outputs,)` float32, from which probabilities at any temperature can be computed.
        attention: `(tiles,)` float32 in the order of the store, sums to 1.
        maps: Name to `(tiles,)` of a network with attention or contributions per class; see `milpath.models.tile_maps`.
    """

    bag_id: str
    label: int | NDArray[np.floating]
    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    attention: NDArray[np.float32]
    maps: Mapping[str, NDArray[np.float32]]


def predicted_bags(
    batch: BagBatch, output: MILOutput, answers: Tensor, map_names: Sequence[str], class_names: Sequence[str]
) -> list[PredictedBag]:
    """Return the prediction of each bag of a batch, on the CPU and without padding.

    Args:
        batch: The bags.
        output: Of the network for the batch.
        answers: `(bags, columns)`, the probabilities of classes or the numbers of a target without.
        map_names: Names of the maps of a network that has them.
        class_names: Names of the classes.
    """
    maps = {name: _as_float32(values) for name, values in tile_maps(output, map_names, class_names).items()}
    logits, attention = _as_float32(output.logits), _as_float32(output.attention)
    probabilities, labels = answers.cpu().numpy(), batch.labels.cpu().numpy()
    return [
        PredictedBag(
            bag_id,
            int(labels[row]) if labels.ndim == 1 else labels[row],
            probabilities[row],
            logits[row],
            attention[row, :length].copy(),
            {name: values[row, :length].copy() for name, values in maps.items()},
        )
        for row, (bag_id, length) in enumerate(zip(batch.bag_ids, batch.mask.sum(1).tolist(), strict=True))
    ]


def _as_float32(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array
