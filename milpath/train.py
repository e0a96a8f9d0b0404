"""Train a network: `python -m milpath.train [experiment=NAME] [group=option] [key=value]`."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from milpath.command import command, is_sweep, refuse_distributed_sweep
from milpath.records.atomic_files import write_json, write_text

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from milpath.training.results import Metrics


def run(config: DictConfig) -> "Metrics":
    """Train, test the best checkpoint and write the run folder.

    Args:
        config: The composed root of the `train` command.

    Returns:
        Split to metric to value, as in `metrics.json`.
    """
    # Not before: who asks for help or mistypes a word waits for Hydra alone.
    from milpath.build import build_trainer
    from milpath.records.folder_lock import FolderLock
    from milpath.training.wandb_run import own_wandb_run

    run_dir = Path(config.paths.run_dir)
    if is_sweep():
        refuse_distributed_sweep(config)
    # Lightning knows which of the processes that it, torchrun, SLURM or MPI started is the first: that one holds the lock.
    trainer = build_trainer(config)
    with FolderLock(run_dir) if trainer.is_global_zero else nullcontext(), own_wandb_run():
        return _train(config, trainer, run_dir)


def _train(config: DictConfig, trainer: "Trainer", run_dir: Path) -> "Metrics":
    """Train in a folder that no other process works on."""
    from lightning.pytorch import seed_everything

    from milpath.build import build_classifier, build_datamodule
    from milpath.finish import finish_run
    from milpath.provenance import record_run
    from milpath.training.choice import require_monitored
    from milpath.training.earlier_run import IDENTITY_FILE
    from milpath.training.resume import checkpoint_to_resume, finished_trial, resume_path
    from milpath.training.run_identity import IdentityInCheckpoint, identity_of

    resume_path(config.resume_from, run_dir)  # before the data, which may take their time
    seed_everything(config.seed, workers=True, verbose=False)
    datamodule = build_datamodule(config.data)
    datamodule.setup("fit")
    require_monitored(config.callbacks, datamodule)
    identity = identity_of(config, datamodule, trainer.world_size)
    if (metrics := finished_trial(run_dir, identity)) is not None:
        return metrics
    checkpoint = checkpoint_to_resume(config.resume_from, run_dir, identity)
    classifier = build_classifier(config, datamodule)
    trainer.callbacks.append(IdentityInCheckpoint(identity))  # type: ignore[attr-defined]
    if trainer.is_global_zero:
        # First of all files: from here on the folder says whose it is.
        write_json(run_dir / IDENTITY_FILE, identity.as_record())
        record_run(config, run_dir, datamodule.description)
        write_text(run_dir / "splits.csv", datamodule.split_frame().to_csv(index=False))
    if config.compile:
        classifier.network.compile()
    trainer.fit(classifier, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    return finish_run(config, trainer, classifier, datamodule, run_dir)


@command("train")
def main(config: DictConfig) -> float | None:
    """Run the command; a sweep reads the monitored metric from what it returns."""
    # Processes that Lightning starts compose the configuration again; the folder is the one Hydra gave the first.
    config.paths.run_dir = HydraConfig.get().runtime.output_dir
    try:
        metrics = run(config)
    except (KeyboardInterrupt, SystemExit) as stop:
        if not is_sweep():
            stop.add_note(f"go on with run_name={config.run_name} resume_from=auto")
        raise
    split, name = config.monitor.split("/")
    return metrics.get(split, {}).get(name)


if __name__ == "__main__":
    main()
