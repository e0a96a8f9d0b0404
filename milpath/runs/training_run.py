"""One training run from its configuration: data, network, Trainer and run folder."""

import logging
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from milpath.config.command import is_sweep, refuse_distributed_sweep
from milpath.config.module_loading import collecting_later
from milpath.config.option_ranges import require_ranges
from milpath.records.atomic_files import write_json, write_text

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from milpath.runs.result_files import Metrics

_log = logging.getLogger(__name__)


def run(config: DictConfig, checkpoint_seconds: float = 0.0) -> "Metrics":
    """Train, test the best checkpoint and write the run folder.

    Args:
        config: The composed root of the `train` command.
        checkpoint_seconds: Least time between two checkpoints to resume from; 0 writes one after every epoch.

    Returns:
        Split to metric to value, as in `metrics.json`.
    """
    # Imported here so that --help and mistyped overrides need only Hydra, not torch.
    with collecting_later():
        from milpath.records.folder_lock import FolderLock
        from milpath.runs.build_trainer import build_trainer
        from milpath.runs.chosen_parts.unused_options import refuse_unused
        from milpath.slides.slide_files import require_slides_dir
        from milpath.training.wandb_run import own_wandb_run

    require_ranges(config)  # of a table or a job, which no command line has checked
    refuse_unused(config)
    require_slides_dir(config.get("slides_dir"))
    run_dir = Path(config.paths.run_dir)
    if is_sweep():
        refuse_distributed_sweep(config)
    # Lightning knows the rank, whether it, torchrun, SLURM or MPI started the processes; rank 0 holds the lock.
    trainer = build_trainer(config, checkpoint_seconds)
    with FolderLock(run_dir) if trainer.is_global_zero else nullcontext(), own_wandb_run():
        return _train(config, trainer, run_dir)


def _train(config: DictConfig, trainer: "Trainer", run_dir: Path) -> "Metrics":
    """Train in a run folder that this process has locked."""
    from lightning.pytorch import seed_everything

    from milpath.checks.training_check import check_for_training
    from milpath.records.data_warning import joined, warning_in_words
    from milpath.records.provenance import record_end, record_run
    from milpath.reports.pictures import slides_of_report
    from milpath.reports.run_folder import IDENTITY_FILE
    from milpath.runs.build import build_classifier, build_training_data
    from milpath.runs.build_trainer import refused_in_one_line
    from milpath.runs.chosen_parts.encoder_choice import let_encoder_follow, refuse_unfit_encoder
    from milpath.runs.chosen_parts.stain_choice import write_stain_target
    from milpath.runs.chosen_parts.unused_options import refuse_unused_decision, say_unused
    from milpath.runs.monitor import require_first_validation, require_monitored, require_some_batches
    from milpath.runs.results import finish_run
    from milpath.runs.resume import checkpoint_to_resume, finished_trial, resume_path
    from milpath.runs.run_identity import IdentityInCheckpoint, identity_of
    from milpath.training.mlflow_log import log_settings, send_runs
    from milpath.training.steps.step_threads import use_threads_of_fit

    started = time.monotonic()
    resume_path(config.resume_from, run_dir)  # fails early: setting up the data may take a while
    seed_everything(config.seed, workers=True, verbose=False)
    refuse_unfit_encoder(config)
    datamodule = build_training_data(config)
    datamodule.setup("fit")
    slides_of_report(datamodule.tile_store, config.get("slides_dir"))  # refused now rather than after the training
    let_encoder_follow(config.model, datamodule.tile_shape)
    require_some_batches(trainer, datamodule)
    require_monitored(config.callbacks, datamodule)
    require_first_validation(trainer, datamodule)
    refuse_unused_decision(config, datamodule)
    identity = identity_of(config, datamodule, trainer.world_size)
    if (metrics := finished_trial(run_dir, identity)) is not None:
        return metrics
    checkpoint = checkpoint_to_resume(config.resume_from, run_dir, identity)
    classifier = build_classifier(config, datamodule)
    if trainer.strategy.root_device.type == "cpu":
        use_threads_of_fit(classifier, datamodule, trainer.num_devices)
    trainer.callbacks.append(IdentityInCheckpoint(identity))  # type: ignore[attr-defined]
    smoke_run = bool(config.trainer.get("fast_dev_run"))
    if trainer.is_global_zero and not smoke_run:
        # Written first: from here on the folder belongs to this run.
        write_json(run_dir / IDENTITY_FILE, identity.as_record())
        log_settings(trainer.loggers, identity.settings)
        say_unused(config)
        checked = check_for_training(datamodule)
        (_log.warning if checked.is_warning else _log.info)("%s", checked.line)
        datamodule.leak = checked.leak
        said = joined([warning_in_words(datamodule.warning, datamodule.warning), checked.leak])
        description = datamodule.description | {"check": checked.line} | ({"warning": said} if said else {})
        record_run(config, run_dir, description)
        write_text(run_dir / "splits.csv", datamodule.splits_table().to_csv(index=False))
        write_stain_target(classifier.network, run_dir)
    if config.compile:
        from milpath.models.stains import StainNormalisation

        for part in classifier.network.modules():
            if isinstance(part, StainNormalisation):
                part.stay_uncompiled()
        classifier.network.compile()
    with refused_in_one_line():
        trainer.fit(classifier, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    if smoke_run:
        _log.warning("a few batches ran without an error (trainer.fast_dev_run); nothing is predicted, tested or kept")
        return {}
    metrics = finish_run(config, trainer, classifier, datamodule, run_dir)
    if trainer.is_global_zero:
        record_end(run_dir, time.monotonic() - started, resumed=checkpoint is not None)
        send_runs(trainer.loggers, run_dir, metrics)
    return metrics
