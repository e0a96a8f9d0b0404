"""`MILClassifier`, the LightningModule that trains any network with `forward(tiles, mask) -> MILOutput`."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.nn import Module, Parameter
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from milpath.data.loading.bag import BagBatch
from milpath.metrics.attention_quality import attention_entropy
from milpath.models.checkpoint import Card, card_to_dict, describe_network
from milpath.models.finite import describe_non_finite_weights, finite_bags, require_finite_answers
from milpath.models.network import MILNetwork
from milpath.models.output import MILOutput
from milpath.models.weights_digest import require_sealed, sealed
from milpath.targets import Target, target_named
from milpath.training.embedding_probe import EmbeddingProbe
from milpath.training.epoch_means import EpochMeans
from milpath.training.predicted_bag import PredictedBag, predict_batch
from milpath.training.split_metrics import SplitMetrics, of_all_processes

# Advice when training diverges; no checkpoint is written after that, so the last one, if there is one, is finite.
_MEANS = "milpath_epoch_means"  # key in a checkpoint
_WAY_OUT = (
    "no checkpoint has it. A run keeps its settings when it goes on: train another run_name with a lower optimizer.lr, "
    "trainer.gradient_clip_val=1.0 or trainer.precision=32-true"
)

# Parts of a checkpoint that determine how training resumes and that no migration of Lightning changes.
_OF_THE_RUN = ("milpath", "state_dict", "optimizer_states", "lr_schedulers")
AuxiliaryLoss = Callable[[Module, Tensor, Tensor, MILOutput, Tensor], Tensor]


class MILClassifier(LightningModule):
    """Train a multiple-instance network with the loss and the metrics of its task.

    The loss is that of the target (`milpath.targets`), computed from logits in float32, regardless of the precision of the
    network. The loss of a step is the mean over the bags of all processes, so n processes with batch size b train as one
    process with batch size n*b, also when the last batches are uneven.

    Args:
        network: A network of `milpath.models`.
        class_names: Names of the classes, in label order.
        task: The target or its name; one without classes must be fitted on the training split.
        optimizer: Factory of the optimizer, called with the parameters; None for Adam with learning rate 1e-4 and weight
            decay 5e-4.
        scheduler: Factory of the learning-rate scheduler (stepped each epoch), called with the optimizer; None for a
            constant learning rate.
        auxiliary_loss: An additional loss `(network, embeddings, mask, output, labels) -> scalar`, or None.
        class_weights: Weight of the loss of each class; None for equal weights.
        encoder: Card of the encoder that made the features, stored likewise.
        tiling: Tiling options, stored in the checkpoint so that slides are tiled for prediction as for training.
        data: The configuration of the data, stored in the checkpoint so that `evaluate` finds them.
        warning: What the data say against themselves, stored likewise (see `milpath.models.checkpoint.Card`).

    Attributes:
        probe: What looks at the embeddings of the bags that are predicted; `None` for nothing.
    """

    class_weights: Tensor

    def __init__(
        self,
        network: Module,
        *,
        class_names: Sequence[str],
        task: str | Target,
        optimizer: Callable[[Iterable[Parameter]], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        auxiliary_loss: AuxiliaryLoss | None = None,
        class_weights: Sequence[float] | None = None,
        threshold: float = 0.5,
        tiling: dict[str, Any] | None = None,
        encoder: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        warning: str = "",
    ) -> None:
        super().__init__()
        self.network = network
        self.class_names = tuple(class_names)
        self.target = target_named(task)
        self.task = self.target.name
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.auxiliary_loss = auxiliary_loss
        self.tiling = tiling or {}
        self.encoder = encoder or {}
        self.data = data or {}
        self.warning = warning
        self.probe: EmbeddingProbe | None = None
        weights = torch.tensor(list(class_weights) if class_weights is not None else [1.0] * len(self.class_names))
        if not bool((torch.isfinite(weights) & (weights >= 0)).all()):
            raise ValueError(f"class_weights must be finite and at least 0, got {weights.tolist()}")
        self._weighs_classes = class_weights is not None
        # Not persistent: the weights depend on the data of this run and are not part of the network.
        self.register_buffer("class_weights", weights, persistent=False)
        if not self.target.has_classes and (class_weights is not None or auxiliary_loss is not None):
            option = "class_weights=none" if class_weights is not None else "auxiliary_loss=none"
            raise ValueError(f"a {self.task} task has no classes; set {option}")
        self.val_metrics = SplitMetrics(self.target)
        self._means = EpochMeans()
        self._unchecked: tuple[int | None, list[str], Tensor] | None = None
        self._answered: list[tuple[list[str], Tensor]] = []
        self._first: tuple[Parameter, ...] = ()  # of the network, while an epoch lasts

    def forward(self, tiles: Tensor, mask: Tensor | None = None) -> MILOutput:
        """Return the output of the network."""
        output: MILOutput = self.network(self._as_weights(tiles), mask)
        return output

    def setup(self, stage: str) -> None:
        strategy = self.trainer.strategy
        if isinstance(strategy, DDPStrategy):
            # Parts that only an auxiliary loss trains get no gradient without it, or only from bags with some labels; DDP
            # must not wait for them.
            partial = hasattr(self.network, "instance_layers") or bool(getattr(self.network, "auxiliary_parts", ()))
            strategy._ddp_kwargs.setdefault("find_unused_parameters", partial)

    def training_step(self, batch: BagBatch, batch_idx: int) -> Tensor:
        losses = self._bag_losses(batch)
        loss = (total := losses.sum()) / batch.global_size
        if (world_size := self.trainer.world_size) > 1:
            loss = loss * world_size
        if loss.device.type == "cpu":
            self._require_finite(None, batch.bag_ids, loss.detach())
        else:
            # Reading a value from the GPU synchronizes; the loss of the previous step is already available.
            self._check_finite()
            self._unchecked = (self.global_step, batch.bag_ids, loss.detach())
        self._means.add("train/loss", total.detach(), len(losses))
        return loss

    def on_train_start(self) -> None:
        self._unchecked = None
        self._answered.clear()

    def on_train_epoch_start(self) -> None:
        self._first = (next(self.network.parameters()),)

    def validation_step(self, batch: BagBatch, batch_idx: int) -> None:
        output = self(batch.tiles, batch.network_mask)
        logits, num_bags = output.logits.float(), len(batch.bag_ids)
        answers = self.target.answers(logits)
        self._answered.append((batch.bag_ids, finite_bags(output, answers)))
        self.val_metrics.update(answers, batch.labels, logits)
        if not self.target.over_batch:
            self._means.add("val/loss", self.target.losses(logits, batch.labels).sum(), num_bags)
        attention = output.attention.float().cpu().numpy()
        lengths = batch.mask.sum(1).tolist()
        entropies = [attention_entropy(weights[:length]) for weights, length in zip(attention, lengths, strict=True)]
        self._means.add("val/attention_entropy", logits.new_tensor(sum(entropies)), num_bags)

    def predict_step(self, batch: BagBatch, batch_idx: int) -> list[PredictedBag]:
        """Return the prediction of each bag of a batch; `Trainer.predict` returns a list of these lists."""
        return predict_batch(self, batch)

    def on_train_epoch_end(self) -> None:
        self._first = ()
        self._check_finite()
        self._log_means("train/")

    def on_validation_start(self) -> None:
        self._check_finite()

    def on_validation_epoch_end(self) -> None:
        self._require_finite_validation()
        self._log_means("val/")
        values = self.val_metrics.compute()
        self.val_metrics.reset()
        # Lightning refuses None; undefined metrics are left out, and the data module has logged why.
        self.log_dict({f"val/{name}": value for name, value in values.items() if value is not None}, prog_bar=False)

    def configure_optimizers(self) -> Any:
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer = (self.make_optimizer or default_optimizer)(parameters)
        if self.make_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.make_scheduler(optimizer)}

    def card(self) -> Card:
        """Return the card that is stored in checkpoints of this classifier."""
        return Card(
            network=describe_network(self.network),
            class_names=self.class_names,
            task=self.task,
            tiling=self.tiling,
            encoder=self.encoder,
            data=self.data,
            warning=self.warning,
            target_state=self.target.state(),
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._check_finite()
        if (found := describe_non_finite_weights(checkpoint["state_dict"])) is not None:
            raise FloatingPointError(f"{found} after {self._where()}; {_WAY_OUT}")
        checkpoint["milpath"] = card_to_dict(self.card())
        if self._trainer is not None and (means := self._means.state(self._sum)):
            checkpoint[_MEANS] = means
        # Lightning calls this hook last, so nothing is added to the checkpoint afterwards. Only rank 0 writes it.
        if self._trainer is None or self.trainer.is_global_zero:
            checkpoint.update(sealed(checkpoint))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "milpath" in checkpoint:
            # Another version of Lightning may have migrated its own parts before this hook.
            require_sealed(checkpoint, "the checkpoint", _OF_THE_RUN)
        first = self._trainer is None or self.trainer.is_global_zero
        self._means.load(checkpoint.get(_MEANS) or {}, self.device, first=first)

    def _bag_losses(self, batch: BagBatch) -> Tensor:
        """Return the weighted loss of each bag, `(bags,)`; an auxiliary loss is added to each."""
        if self.auxiliary_loss is None:
            output, extra = self(batch.tiles, batch.network_mask), None
        else:
            network = cast(MILNetwork, self.network)  # an auxiliary loss needs the embeddings
            embeddings = network.encode(self._as_weights(batch.tiles), batch.network_mask)
            output = network.aggregate(embeddings, batch.network_mask)
            extra = self.auxiliary_loss(self.network, embeddings, batch.mask, output, batch.labels)
        logits, labels = output.logits.float(), batch.labels
        members = getattr(output, "member_logits", None)
        parts = [logits] if members is None else [part.float() for part in members.unbind(1)]
        if self.target.over_batch:
            gathered = [of_all_processes(part, labels) for part in parts]
            parts, (logits, labels) = [part for part, _ in gathered], gathered[0]
        each = [self.target.losses(part, labels) for part in parts]
        losses = torch.stack(each).mean(0) if len(each) > 1 else each[0]
        if self._weighs_classes:
            losses = self.class_weights[labels] * losses
        if extra is not None:
            losses = losses + extra
        # An infinite logit of the correct sign has loss 0; 0 * inf is NaN, which stops the run.
        every_logit = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return losses + 0 * every_logit.detach().sum(1)

    def _as_weights(self, tiles: Tensor) -> Tensor:
        """Return tiles in the dtype of the weights, which precision=bf16-true or 64-true changes."""
        return tiles.to(next(iter(self._first or self.network.parameters())).dtype)

    def _check_finite(self) -> None:
        """Raise an error, before a checkpoint is written, if the loss of the last step was not finite."""
        unchecked, self._unchecked = self._unchecked, None
        if unchecked is not None:
            self._require_finite(*unchecked)

    def _require_finite(self, step: int | None, bag_ids: list[str], loss: Tensor) -> None:
        """Raise an error if the loss of a step, by default of this one, is not finite."""
        if not math.isfinite(value := loss.item()):
            raise FloatingPointError(
                f"train/loss is {value} at {self._where(step)}, bags {', '.join(map(repr, bag_ids))}; {_WAY_OUT}"
            )

    def _require_finite_validation(self) -> None:
        """Raise an error, before metrics are computed and a checkpoint is chosen, if an output was not finite."""
        answered, self._answered = self._answered, []
        # One synchronization with the device per epoch.
        finite = torch.cat([flags for _, flags in answered]).tolist() if answered else []
        bag_ids = [bag_id for names, _ in answered for bag_id in names]
        try:
            require_finite_answers(finite, bag_ids, self.network)
        except ValueError as error:
            raise FloatingPointError(f"validation at {self._where()}: {error}; {_WAY_OUT}") from None

    def _where(self, step: int | None = None) -> str:
        """Return epoch, step and learning rate for an error message."""
        rates = {f"{group['lr']:g}" for optimizer in self.trainer.optimizers for group in optimizer.param_groups}
        step = self.global_step if step is None else step
        return f"epoch {self.current_epoch}, step {step}" + (f", lr {', '.join(sorted(rates))}" if rates else "")

    def _sum(self, values: Tensor) -> Tensor:
        return cast(Tensor, self.trainer.strategy.reduce(values, reduce_op="sum"))

    def _log_means(self, prefix: str) -> None:
        """Log the means of the epoch over the bags of all processes."""
        means = self._means.take(prefix, self._sum)
        for name, mean in means.items():
            if not torch.isfinite(mean):
                raise FloatingPointError(f"{name} is {mean.item()} at {self._where()}; {_WAY_OUT}")
            if prefix != "train/":
                self.log(name, mean, prog_bar=True)
        if prefix == "train/" and means:
            # The Trainer would log them after the checkpoint of the epoch, and a kill between the two would lose them.
            row = {name: mean.item() for name, mean in means.items()}
            # As `log` would, which takes longer than a step of a small network.
            self.trainer.callback_metrics.update(means)
            self.trainer.progress_bar_metrics.update(row)
            for logger in self.loggers:
                logger.log_metrics(row | {"epoch": self.current_epoch}, step=self.global_step - 1)
                logger.save()


def default_optimizer(parameters: Iterable[Parameter]) -> Optimizer:
    """Return Adam with the values of `optimizer=adam`, which are those of the paper."""
    return Adam(parameters, lr=1e-4, weight_decay=5e-4)
