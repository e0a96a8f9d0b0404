"""Predictions of a batch of bags by a classifier, on the CPU and without padding."""

from typing import TYPE_CHECKING, NotRequired, TypedDict

from torch import Tensor

from milpath.data.loading.bag import BagBatch
from milpath.models.averaged_network import of_networks
from milpath.models.finite import finite_bags, require_finite_answers
from milpath.models.tile_maps import tile_maps
from milpath.training.embedding_probe import SeenBag

if TYPE_CHECKING:
    from milpath.training.classifier import MILClassifier


class BagPredictions(TypedDict):
    """Predictions of a batch: on the CPU, one entry per bag, attention and maps (see `tile_maps`) without padding.

    Of an average over networks also what each predicts, and how far their attention agrees (see `of_networks`).
    """

    bag_ids: list[str]
    labels: Tensor
    logits: Tensor
    probabilities: Tensor
    attention: list[Tensor]
    maps: dict[str, list[Tensor]]
    each: Tensor | None
    agreement: Tensor | None
    seen: NotRequired[list[SeenBag]]


def predict_batch(classifier: "MILClassifier", batch: BagBatch) -> BagPredictions:
    """Return the predictions of a batch; with a probe of the classifier also what it sees of the embeddings.

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
    lengths, names = batch.mask.sum(1).tolist(), target.map_names(classifier.class_names)

    def unpadded(values: Tensor) -> list[Tensor]:
        return [row[:length].clone() for row, length in zip(values.float().cpu(), lengths, strict=True)]

    of_folds = of_networks(output)
    found = BagPredictions(
        bag_ids=list(batch.bag_ids),
        labels=batch.labels.cpu(),
        logits=output.logits.float().cpu(),
        probabilities=answers.cpu(),
        attention=unpadded(output.attention),
        maps={name: unpadded(values) for name, values in tile_maps(output, names, classifier.class_names).items()},
        each=of_folds["each"],
        agreement=of_folds["agreement"],
    )
    if seen:
        found["seen"] = seen
    return found
