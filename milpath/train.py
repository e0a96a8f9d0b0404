"""Train a network: `python -m milpath.train [experiment=NAME] [group=option] [key=value]`."""

from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from milpath.command import command, is_sweep, refuse_distributed_sweep

if TYPE_CHECKING:
    from milpath.training.results import Metrics


def run(config: DictConfig) -> "Metrics":
    """Train, test the best checkpoint and write the run folder.

    Args:
        config: The composed root of the `train` command.

    Returns:
        Split to metric to value, as in `metrics.json`.
    """
    # Not before: who asks for help or mistypes a word waits for Hydra alone.
    from lightning.pytorch import seed_everything

    from milpath.build import build_classifier, build_datamodule, build_trainer
    from milpath.finish import finish_run
    from milpath.provenance import record_run
    from milpath.records.atomic_files import write_text
    from milpath.training.choice import require_monitored
    from milpath.training.resume import require_trainer_state, resume_path

    run_dir = Path(config.paths.run_dir)
    checkpoint = resume_path(config.resume_from, run_dir / "checkpoints")
    if checkpoint is not None:
        require_trainer_state(checkpoint)
    if is_sweep():
        refuse_distributed_sweep(config)
    seed_everything(config.seed, workers=True, verbose=False)

    datamodule = build_datamodule(config.data)
    datamodule.setup("fit")
    require_monitored(config.callbacks, datamodule)
    classifier = build_classifier(config, datamodule)
    trainer = build_trainer(config)
    if trainer.is_global_zero:
        record_run(config, run_dir, datamodule.description)
        write_text(run_dir / "splits.csv", datamodule.split_frame().to_csv(index=False))
    if config.compile:
        classifier.network.compile()
    trainer.fit(classifier, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    return finish_run(config, trainer, classifier, datamodule, run_dir)


@command("train")
def main(config: DictConfig) -> float | None:
    """Run the command; a sweep reads the monitored metric from what it returns."""
    from milpath.training.resume import finished_trial

    # Processes that Lightning starts compose the configuration again; the folder is the one Hydra gave the first.
    config.paths.run_dir = HydraConfig.get().runtime.output_dir
    try:
        metrics = finished_trial(Path(config.paths.run_dir)) or run(config)
    except (KeyboardInterrupt, SystemExit) as stop:
        if not is_sweep():
            stop.add_note(f"go on with run_name={config.run_name} resume_from=auto")
        raise
    split, name = config.monitor.split("/")
    return metrics.get(split, {}).get(name)


if __name__ == "__main__":
    main()
