"""Pictures of attention during training: the same few validation bags, drawn after each epoch."""

from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image

from milpath.data.datamodule import BagDataModule
from milpath.data.splits.label_cells import text_of_label
from milpath.drawing.montage import draw_montage
from milpath.drawing.picture_frame import stacked
from milpath.drawing.warning_strip import with_warning
from milpath.drawing.weight_bars import draw_weights
from milpath.inference.pictures.tile_pixels import tile_pixels
from milpath.inference.predict_bags import BagPrediction, predict_bags
from milpath.metrics.attention_quality import attention_entropy
from milpath.records.data_warning import warning_in_words
from milpath.targets import NumericTarget
from milpath.training.classifier import MILClassifier

TAG = "val/attention"
CELL_SIZE = 64


class AttentionMontages(Callback):
    """Log a picture of a few validation bags to TensorBoard and Weights & Biases after each validation epoch.

    The bags are the same in every epoch: sorted by name, alternating between classes. Equal weights show as the same dull
    colour everywhere, a collapse to one tile as one bright tile among dark ones; the title gives the entropy. Bags of
    features are drawn as bars.

    Each bag takes one forward pass in evaluation mode, on rank 0 only. No random numbers are drawn, so losses do not
    change.

    Args:
        num_bags: Number of bags drawn, at least 1.
        num_tiles: Number of tiles shown per bag, those with the highest weight.
    """

    def __init__(self, num_bags: int = 4, num_tiles: int = 16) -> None:
        if num_bags < 1 or num_tiles < 1:
            raise ValueError(f"num_bags={num_bags} and num_tiles={num_tiles} must be at least 1")
        self.num_bags = num_bags
        self.num_tiles = num_tiles

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        datamodule = getattr(trainer, "datamodule", None)
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger | WandbLogger)]
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not (fitting and trainer.is_global_zero and loggers) or not isinstance(datamodule, BagDataModule):
            return
        assert isinstance(pl_module, MILClassifier)
        picture = self.draw(pl_module, datamodule)
        for logger in loggers:
            _send(logger, picture, trainer.global_step)

    def draw(self, classifier: MILClassifier, datamodule: BagDataModule) -> Image.Image:
        """Return a picture of the bags, stacked vertically."""
        chosen = choose_bags(datamodule, self.num_bags)
        bags = predict_bags(
            classifier.network, datamodule.store, classifier.target,
            indices=list(chosen), batch_size=1, device=classifier.device,
        )  # fmt: skip
        picture = stacked([self._draw_bag(bag, chosen[bag.position], datamodule) for bag in bags])
        return with_warning(picture, warning_in_words(classifier.warning))

    def _draw_bag(self, bag: BagPrediction, label: Any, datamodule: BagDataModule) -> Image.Image:
        store = datamodule.tile_store
        where = store.tile_slice(bag.position)
        weights = bag.attention
        said = _said(bag, label, datamodule)
        title = f"{bag.bag_id} · {said} · {in_words(weights)}"
        labels = store.labels_of_tiles(where)
        labels = None if labels is None or (labels < 0).all() else labels
        pixels = tile_pixels(store, bag.position, {})
        if pixels is None:
            return draw_weights(weights, title=title, tile_labels=labels)
        return draw_montage(
            pixels, weights, title=title, columns=8, num_shown=self.num_tiles,
            tile_labels=labels, cell_size=CELL_SIZE,
        )  # fmt: skip


def _said(bag: BagPrediction, label: Any, datamodule: BagDataModule) -> str:
    """Return label and prediction of a bag as text."""
    target = datamodule.fitted_target
    if isinstance(target, NumericTarget):
        predicted = ", ".join(f"{name} {text}" for name, text in target.say(bag.probabilities.astype(np.float64)))
        return f"{text_of_label(label)}, predicted {predicted}"
    return f"{datamodule.class_names[label]} {bag.probabilities[label]:.2f}"


def choose_bags(datamodule: BagDataModule, count: int) -> dict[int, Any]:
    """Return store position and label of the drawn bags: sorted by name, alternating between classes."""
    bags = datamodule.label_frame
    bags = bags[bags["split"] == "val"].sort_values("bag_id")
    turn = bags.groupby("label").cumcount()
    chosen = bags.assign(turn=turn).sort_values(["turn", "label"], kind="stable").head(count)
    return dict(zip(chosen["index"].tolist(), chosen["label"].tolist(), strict=True))


def in_words(weights: np.ndarray) -> str:
    """Return the entropy of attention as text, defined as in `val/attention_entropy`.

    Example:
        >>> in_words(np.array([0.25, 0.25, 0.25, 0.25])), in_words(np.array([1.0, 0.0]))
        ('entropy 1.00', 'entropy 0.00')
    """
    return f"entropy {attention_entropy(weights):.2f}"


def _send(logger: Logger, picture: Image.Image, step: int) -> None:
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(TAG, np.asarray(picture), step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(TAG, [picture], step)
