"""Callback that says in one line if attention collapsed or the last weights are far from the best of the training."""

import logging
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from typing_extensions import override

_log = logging.getLogger(__name__)
_LOSS, _ENTROPY = "train/loss", "val/attention_entropy"
# Epochs in a row that attention must stay at an end, at least; of longer trainings, the last third.
_LEAST_EPOCHS = 5
# Entropy relative to equal weights.
ONE_TILE, EQUAL = 0.01, 0.995
# Share of what the loss fell, which it may rise again. Batches of few bags vary by a tenth.
_RISE = 0.25
# Multiple of a best loss near 0, which it may rise to if that is more than this share of the first loss.
_MULTIPLE, _SHARE = 30, 0.01


class CollapseWarning(Callback):
    """Warn at the end of a training about what it can show only there; it changes nothing.

    - Attention stayed on one tile of each validation bag, or equal for all tiles.
    - The mean loss of the last epoch is far above that of the best epoch, and the last weights are used: there is neither a
      monitor nor an average.

    Trainings without validation, and those that never learned, are judged by the weights that are tested
    (`milpath.training.tested_weights`).

    What it compares is kept in checkpoints, so that a resumed training is judged as a whole.

    Args:
        name: Name of the training in the message, such as its folder.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._losses: list[float] = []
        self._entropies: list[float] = []
        self._trainer: Trainer | None = None
        self._before: object = None

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and (value := trainer.callback_metrics.get(_ENTROPY)) is not None:
            self._entropies.append(float(value))

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The mean loss of an epoch is known after the callbacks' on_train_epoch_end.
        self._note_loss(trainer)
        self._trainer, self._before = trainer, trainer.callback_metrics.get(_LOSS)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._note_loss(trainer)
        if not trainer.is_global_zero:
            return
        # With a monitor the best epoch is used, whichever is the last; an average hardly follows a late step.
        last_is_used = not any(
            isinstance(callback, WeightAveraging)
            or (isinstance(callback, ModelCheckpoint) and callback.monitor is not None)
            for callback in trainer.callbacks  # type: ignore[attr-defined]
        )
        learned = getattr(pl_module.network, "learns_attention", True)
        attention, loss = (
            of_attention(self._entropies) if learned else None,
            of_loss(self._losses) if last_is_used else None,
        )
        for found in (attention, loss):
            if found:
                _log.warning("%s: %s", self.name, found)

    @override
    def state_dict(self) -> dict[str, Any]:
        value = None if self._trainer is None else self._trainer.callback_metrics.get(_LOSS)
        # A checkpoint of the end of an epoch holds the loss of this epoch as well, which has replaced the one before.
        ended = [] if value is None or value is self._before else [float(value)]
        return {"losses": [*self._losses, *ended], "entropies": list(self._entropies)}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._losses, self._entropies = list(state_dict["losses"]), list(state_dict["entropies"])

    def _note_loss(self, trainer: Trainer) -> None:
        """Keep the loss of each finished epoch once."""
        value = trainer.callback_metrics.get(_LOSS)
        if value is not None and len(self._losses) < trainer.current_epoch:
            self._losses.append(float(value))


def of_attention(entropies: Sequence[float]) -> str | None:
    """Return what is wrong with attention, `None` for nothing.

    Args:
        entropies: Mean entropy of validation attention after each epoch, relative to equal weights, in [0, 1].

    Example:
        >>> of_attention([0.9, 0.6, 0.4, 0.3, 0.3])
        >>> of_attention([0.5, 0.002, 0.001, 0.001, 0.001, 0.001]).split(":")[0]
        'attention was on one tile of each validation bag in the last 5 epochs'
    """
    count = max(_LEAST_EPOCHS, len(entropies) // 3)
    last = entropies[-count:]
    if len(last) < count or not any(entropies):  # bags of one tile
        return None
    if max(last) < ONE_TILE:
        return (
            f"attention was on one tile of each validation bag in the last {count} epochs: the others do not count; lower "
            "optimizer.lr, set optimizer.weight_decay, or callbacks=averaged_weights"
        )
    if min(last) > EQUAL:
        return (
            f"attention was equal for all tiles in the last {count} epochs: the network is a plain mean of tiles; train "
            "longer, raise optimizer.lr, or compare with model=embedding_pool_mil model.pooling=mean"
        )
    return None


def of_loss(losses: Sequence[float]) -> str | None:
    """Return what is wrong with the end of the training, `None` for nothing.

    Args:
        losses: Mean training loss of each epoch.

    Example:
        >>> of_loss([0.7, 0.3, 0.1, 0.12])
        >>> of_loss([0.7, 0.3, 0.1, 0.4]).split(",")[0]
        'train/loss ended at 0.4'
    """
    if len(losses) < 2:
        return None
    best, last = min(losses), losses[-1]
    far = last - best > _RISE * (max(losses[0], last) - best) or last > max(_MULTIPLE * best, _SHARE * losses[0])
    if not far or losses[0] <= best:
        return None
    return (
        f"train/loss ended at {losses[-1]:.3g}, far above its best, {best:.3g} in epoch {losses.index(best) + 1}, and the "
        "last weights are used: lower optimizer.lr, set scheduler=cosine, or average them with "
        "callbacks=no_validation_averaged"
    )
