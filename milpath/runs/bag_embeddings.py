"""One embedding per bag: the mean of stored features, or what a trained network makes of the bag."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from milpath.config.own_parts import import_own_parts
from milpath.models.averaged_network import AveragedNetwork
from milpath.models.checkpoint import load_network
from milpath.models.familiarity.embeddings import embed, pooled, unit

if TYPE_CHECKING:
    from milpath.data.datamodule import BagDataModule


def embeddings_of(
    datamodule: "BagDataModule", rows: NDArray[np.int64], checkpoint: str | None = None, parts: list[str] | None = None
) -> tuple[NDArray[np.float32], str] | None:
    """Return the embeddings of bags and whose they are; `None` for tiles without a checkpoint.

    Args:
        datamodule: The data, after `setup`.
        rows: Positions of the bags in the store.
        checkpoint: A trained network; its embedding is the mean of the tiles by attention, of length 1. `None` takes the
            plain mean of stored features.
        parts: The user's own classes in the checkpoint.

    Returns:
        `(bags, dim)` in the order of `rows`, and words for a sentence.

    Raises:
        ValueError: If the network has no embeddings, or takes other tiles.
    """
    if checkpoint is not None:
        return _of_network(datamodule, checkpoint, parts or []), f"the embeddings of {checkpoint}"
    store = datamodule.tile_store
    if len(store.tile_shape) != 1:
        return None
    means = np.empty((len(rows), store.tile_shape[0]), np.float32)
    for place, index in enumerate(rows):
        means[place] = store.read(int(index)).mean(axis=0, dtype=np.float64)
    return means, "the mean features"


def _of_network(datamodule: "BagDataModule", checkpoint: str, parts: list[str]) -> NDArray[np.float32]:
    """Return the embeddings of a network, `(bags, dim)`, in the order of the data's table."""
    own = import_own_parts(parts)
    network = load_network(checkpoint, own.networks, own.encoders)
    if isinstance(network, AveragedNetwork):
        raise ValueError(
            f"{checkpoint} is an average of folds, which have no embedding in common; give best.ckpt of one"
        )
    found: dict[str, NDArray[np.float32]] = {}
    with torch.inference_mode():
        for batch in datamodule.predict_dataloader():
            ready = batch.to("cpu")
            output, hidden = embed(network, ready.tiles, ready.network_mask)
            if hidden is None:
                raise ValueError(f"{checkpoint} has no embeddings of tiles; give that of a MILNetwork")
            found |= dict(zip(ready.bag_ids, unit(pooled(output, hidden)).numpy(), strict=True))
    return np.stack([found[str(name)] for name in datamodule.label_frame["bag_id"]])
