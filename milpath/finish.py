"""The end of every run: test the best checkpoint, and leave numbers, predictions and a page that a person reads."""

from pathlib import Path

from lightning.pytorch import Trainer
from omegaconf import DictConfig
from rich.console import Console

from milpath.data.datamodule import BagDataModule
from milpath.data.predictions import Predictions
from milpath.models import load_network
from milpath.models.checkpoint import Card
from milpath.reports.tables import summary_table
from milpath.training.classifier import MILClassifier
from milpath.training.prediction import predict_splits
from milpath.training.results import Metrics, write_results


def finish_run(
    config: DictConfig, trainer: Trainer, classifier: MILClassifier, datamodule: BagDataModule, run_dir: Path
) -> Metrics:
    """Predict all splits with the best network of a run and write its results.

    Args:
        config: Root of the `train` command.
        trainer: The Trainer that trained.
        classifier: The classifier; its weights become those of `checkpoints/best.ckpt`.
        datamodule: The data of the run.
        run_dir: The folder of the run.

    Returns:
        Split to metric to value, as in `metrics.json`.
    """
    best = run_dir / "checkpoints" / "best.ckpt"
    if best.exists():
        classifier.network.load_state_dict(load_network(best).state_dict())
    predictions = predict_splits(trainer, classifier, datamodule, datamodule.splits)
    if not trainer.is_global_zero:
        return {}
    return write_run(config, run_dir, predictions, datamodule, classifier.card())


def write_run(
    config: DictConfig, run_dir: Path, predictions: Predictions, datamodule: BagDataModule, card: Card
) -> Metrics:
    """Write metrics, predictions and report of a run, and print its table.

    Args:
        config: Root of the `train` or the `evaluate` command.
        run_dir: The folder of the run.
        predictions: Of every split that counts.
        datamodule: Where the bags, their pictures and their providers come from.
        card: What the network was trained for.
    """
    metrics = write_results(run_dir, predictions, card.task, card.threshold)
    Console().print(summary_table(metrics, title=str(run_dir)))
    return metrics
