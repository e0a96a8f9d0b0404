"""Prediction of whole splits with a trained classifier, each bag exactly once."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision, Precision

from milpath.data.datamodule import BagDataModule
from milpath.records.prediction_table import Predictions
from milpath.records.predictions.possible_cells import LABEL_PREFIX
from milpath.targets import NumericTarget, Target
from milpath.training.classifier import MILClassifier
from milpath.training.embedding_probe import EmbeddingProbe
from milpath.training.predicted_bag import PredictedBag


def predict_splits(
    trainer: Trainer,
    classifier: MILClassifier,
    datamodule: BagDataModule,
    splits: Iterable[str],
    probe: EmbeddingProbe | None = None,
) -> Predictions:
    """Predict every bag of some splits in evaluation mode, with any number of processes.

    A Trainer of mixed precision predicts in single precision, as the checkpoint is used everywhere else: threshold,
    temperature, prediction sets and the model of familiar slides are fitted on what `milpath predict` computes.

    Args:
        trainer: Any Trainer; the bags are distributed over its processes.
        classifier: The classifier; dropout and augmentation are off.
        datamodule: The data, after `setup`.
        splits: Names of splits ("train", "val", "test"), in the order of the result.
        probe: What looks at the embeddings of these bags, split by split; `None` for nothing.

    Returns:
        The predictions, on every process, in the order of the splits and their bags.

    Raises:
        RuntimeError: If a bag was predicted twice or not at all.
    """
    parts = []
    classifier.probe = probe
    for split in splits:
        with _single_precision(trainer):
            outputs = trainer.predict(classifier, dataloaders=datamodule.dataloader(split))
        rows = _rows_of(cast(list[list[PredictedBag]], outputs or []), datamodule, split)
        if probe is not None:
            probe.see(split, [row.seen for row in rows if row.seen is not None])
        parts.append(_collect(rows, datamodule, split, classifier.target))
    classifier.probe = None
    return Predictions(
        bag_ids=[bag_id for part in parts for bag_id in part.bag_ids],
        splits=[split for part in parts for split in part.splits],
        labels=np.concatenate([part.labels for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        attention=[weights for part in parts for weights in part.attention],
        class_names=list(classifier.class_names),
        logits=np.concatenate([cast(np.ndarray, part.logits) for part in parts]),
        maps={name: [values for part in parts for values in part.maps[name]] for name in parts[0].maps},
        each=_stacked([row for part in parts for row in (part.each if part.each is not None else [None])]),
        agreement=_stacked(
            [row for part in parts for row in (part.agreement if part.agreement is not None else [None])]
        ),
        unfamiliarity=None if probe is None else probe.table(),
        **columns_of(classifier.target),
    )


@contextmanager
def _single_precision(trainer: Trainer) -> Iterator[None]:
    """Within this context a Trainer of mixed precision computes in single precision."""
    strategy = trainer.strategy
    mixed = strategy.precision_plugin
    if isinstance(mixed, MixedPrecision):
        strategy.precision_plugin = Precision()
    try:
        yield
    finally:
        strategy.precision_plugin = mixed


def columns_of(target: Target) -> dict[str, Any]:
    """Return the columns of labels and predictions as arguments of `Predictions`; none with classes."""
    if not isinstance(target, NumericTarget):
        return {}
    labels = tuple(f"{LABEL_PREFIX}{name}" for name in target.label_columns)
    return {"label_columns": labels, "answer_columns": target.answer_columns}


def _rows_of(outputs: list[list[PredictedBag]], datamodule: BagDataModule, split: str) -> list[PredictedBag]:
    """Gather the predictions of all processes, in the order of the split."""
    rows = [bag for batch in outputs for bag in batch]
    if dist.is_available() and dist.is_initialized():
        gathered: list[list[PredictedBag]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(gathered, rows)
        rows = [row for part in gathered for row in part]
    by_id = {row.bag_id: row for row in rows}
    expected = datamodule.bag_ids(split)
    if len(by_id) != len(rows) or set(by_id) != set(expected):
        raise RuntimeError(
            f"split {split!r} has {len(expected)} bags, but got {len(rows)} predictions of {len(by_id)} bags"
        )
    return [by_id[bag_id] for bag_id in expected]


def _collect(ordered: list[PredictedBag], datamodule: BagDataModule, split: str, target: Target) -> Predictions:
    """Return the predictions of a split."""
    return Predictions(
        bag_ids=[row.bag_id for row in ordered],
        splits=[split] * len(ordered),
        labels=datamodule.labels(split),
        probabilities=np.stack([row.probabilities for row in ordered]),
        attention=[row.attention for row in ordered],
        class_names=list(datamodule.class_names),
        logits=np.stack([row.logits for row in ordered]),
        maps={name: [row.maps[name] for row in ordered] for name in ordered[0].maps},
        each=_stacked([row.each for row in ordered]),
        agreement=_stacked([row.agreement for row in ordered]),
        **columns_of(target),
    )


def _stacked(rows: list[Any]) -> np.ndarray | None:
    """Return the values of all bags; `None` if they have none."""
    return None if any(row is None for row in rows) else np.stack(rows)
