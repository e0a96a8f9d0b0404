"""What `Trainer.predict` returns for each bag."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from milpath.data.loading.bag import BagBatch
from milpath.models.averaged_network import of_networks
from milpath.models.finite import finite_bags, require_finite_answers
from milpath.models.tile_maps import tile_maps
from milpath.training.embedding_probe import SeenBag

if TYPE_CHECKING:
    from milpath.training.classifier import MILClassifier


class PredictedBag(NamedTuple):
    """The prediction of a bag by `Trainer.predict`, in NumPy arrays without padding.

    Attributes:
        bag_id: Name of the bag; `datamodule.split_frame()` says which split it is in.
        label: Class index, or `(columns,)` numbers of a target without classes.
        probabilities: `(classes,)` float32, sums to 1; or `(columns,)`, the numbers of a target without classes.
        logits: `(outputs,)` float32, from which probabilities at any temperature can be computed.
        attention: `(tiles,)` float32 in the order of the store, sums to 1.
        maps: Name to `(tiles,)` of a network with attention or contributions per class; see `milpath.models.tile_maps`.
        each: `(networks, columns)`, what each network of an average predicts; `None` of one network.
        agreement: How far the attention of the networks of an average agrees (see `of_networks`); `None` of one network.
        seen: What a probe of the classifier saw of the embeddings; `None` without one.
    """

    bag_id: str
    label: int | NDArray[np.floating]
    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    attention: NDArray[np.float32]
    maps: Mapping[str, NDArray[np.float32]]
    each: NDArray[np.floating] | None = None
    agreement: float | None = None
    seen: SeenBag | None = None


def predict_batch(classifier: "MILClassifier", batch: BagBatch) -> list[PredictedBag]:
    """Return the prediction of each bag of a batch, on the CPU and without padding.

    Raises:
        ValueError: If the output of a bag is not finite, with its name.
    """
    seen: list[SeenBag] = []
    if classifier.probe is None:
        output = classifier(batch.tiles, batch.network_mask)
    else:
        tiles = batch.tiles.to(next(classifier.network.parameters()).dtype)
        output, seen = classifier.probe.answer(classifier.network, tiles, batch.network_mask)
    target = classifier.target
    answers = target.answers(output.logits.float())
    require_finite_answers(finite_bags(output, answers).tolist(), batch.bag_ids, classifier.network)
    names = target.map_names(classifier.class_names)
    maps = {name: _as_float32(values) for name, values in tile_maps(output, names, classifier.class_names).items()}
    logits, attention = _as_float32(output.logits), _as_float32(output.attention)
    probabilities, labels = answers.cpu().numpy(), batch.labels.cpu().numpy()
    folds = of_networks(output)
    each, agreement = folds["each"], folds["agreement"]
    return [
        PredictedBag(
            bag_id,
            int(labels[row]) if labels.ndim == 1 else labels[row],
            probabilities[row],
            logits[row],
            attention[row, :length].copy(),
            {name: values[row, :length].copy() for name, values in maps.items()},
            None if each is None else each[row].numpy(),
            None if agreement is None else float(agreement[row]),
            seen[row] if seen else None,
        )
        for row, (bag_id, length) in enumerate(zip(batch.bag_ids, batch.mask.sum(1).tolist(), strict=True))
    ]


def _as_float32(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array
