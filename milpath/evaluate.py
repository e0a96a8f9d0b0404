"""Test a checkpoint: `python -m milpath.evaluate checkpoint=PATH [data=NAME data.key=value]`."""

from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from milpath.command import command

if TYPE_CHECKING:
    from milpath.data.datamodule import BagDataModule
    from milpath.models.checkpoint import Card
    from milpath.training.results import Metrics


def run(config: DictConfig) -> "Metrics":
    """Predict the splits of a data set with a checkpoint and write a run folder as training does.

    Args:
        config: The composed root of the `evaluate` command.

    Returns:
        Split to metric to value, as in `metrics.json`.

    Raises:
        ValueError: If the checkpoint tells other classes apart than the data have, or the data have none of the splits.
    """
    # Not before: who asks for help or mistypes a word waits for Hydra alone.
    from lightning.pytorch import seed_everything

    from milpath.build import build_trainer
    from milpath.finish import write_run
    from milpath.models import load_network
    from milpath.models.checkpoint import load_card
    from milpath.provenance import record_run
    from milpath.records.atomic_files import write_text
    from milpath.training.classifier import MILClassifier
    from milpath.training.prediction import predict_splits

    run_dir = Path(config.paths.run_dir)
    if (run_dir / "metrics.json").exists() and not config.overwrite:
        raise FileExistsError(f"{run_dir} holds results already; give another run_name, or overwrite=true")
    seed_everything(config.seed, workers=True, verbose=False)
    card = load_card(config.checkpoint)
    datamodule = _build_datamodule(config, card)
    datamodule.setup("test")
    _require_same_task(card, datamodule, config.checkpoint)
    splits = [split for split in config.splits if split in datamodule.splits]
    if not splits:
        raise ValueError(
            f"the data have the splits {', '.join(datamodule.splits)}; splits={list(config.splits)} has none"
        )

    classifier = MILClassifier(
        load_network(config.checkpoint),
        class_names=card.class_names,
        task=card.task,
    )
    trainer = build_trainer(config)
    predictions = predict_splits(trainer, classifier, datamodule, splits)
    if not trainer.is_global_zero:
        return {}
    record_run(config, run_dir, datamodule.description)
    write_text(run_dir / "splits.csv", datamodule.split_frame().to_csv(index=False))
    return write_run(run_dir, predictions, datamodule, card, report=config.report)


def _build_datamodule(config: DictConfig, card: "Card") -> "BagDataModule":
    """Return the data asked for, else those of the run that wrote the checkpoint; where stores lie is said here."""
    from milpath.build import build_datamodule, build_described_datamodule

    if config.data:
        return build_datamodule(config.data)
    try:
        return build_described_datamodule(card.data, stores_dir=str(config.paths.stores_dir))
    except ValueError as error:
        raise ValueError(f"{config.checkpoint} {error}") from None


def _require_same_task(card: "Card", datamodule: "BagDataModule", checkpoint: str) -> None:
    """Refuse to compare a network with labels it was not trained for."""
    found = (datamodule.task, tuple(datamodule.class_names))
    if found != (card.task, tuple(card.class_names)):
        raise ValueError(
            f"{checkpoint} was trained for {card.task} {', '.join(card.class_names)}, but the data have "
            f"{found[0]} {', '.join(found[1])}; set data.target, data.task or data.class_names"
        )


@command("evaluate")
def main(config: DictConfig) -> None:
    """Run the command."""
    config.paths.run_dir = HydraConfig.get().runtime.output_dir
    run(config)


if __name__ == "__main__":
    main()
