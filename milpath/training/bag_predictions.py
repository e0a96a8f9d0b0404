"""What a classifier predicts of a batch of bags."""

from typing import TypedDict

from torch import Tensor


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
