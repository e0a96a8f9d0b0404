"""The program of a SageMaker job: train as `milpath.train` does, resume after interruptions, write the job's outputs.

The toolkit starts `train.py` of the source archive, which calls `main`. Its arguments are the hyperparameters.
"""

import json
import logging
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch.distributed as dist
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from milpath import evaluate, train
from milpath.config.command import one_line
from milpath.config.command_line import override
from milpath.config.interruption import interruptible
from milpath.config.own_files import own_names
from milpath.config.roots import CONFIG_DIR
from milpath.records.folder_lock import HOLDER_FILE, LOCK_FILE
from milpath.runs.result_files import Metrics
from milpath.runs.resume import newest_whole
from milpath.sagemaker.jobs.hyperparameters import overrides_of
from milpath.sagemaker.jobs.job_configs import override_key
from milpath.sagemaker.jobs.model_archive import write_model_dir
from milpath.sagemaker.jobs.source_archive import JOB_FILE

_MAX_FAILURE = 1024
_log = logging.getLogger(__name__)


def run(arguments: Sequence[str], code_dir: Path) -> Metrics:
    """Train, test, and write the folders that SageMaker copies to S3.

    Args:
        arguments: Hyperparameters as passed by the toolkit.
        code_dir: Folder of the unpacked source archive.

    Returns:
        Split to metric to value; empty on all ranks but 0. With a `testing` channel, the split "testing" is the
        independent test set.
    """
    overrides, search_path = job_words(arguments, code_dir)
    config = compose_words("train", [*overrides, *search_path])
    paths = config.paths
    if config.resume_from == "auto":
        checkpoint = whole_checkpoint(Path(paths.run_dir) / "checkpoints")
        config.resume_from = None if checkpoint is None else str(checkpoint)
    metrics = train.run(config)
    if dist.is_available() and dist.is_initialized():
        # Everything that follows runs on rank 0 only.
        dist.destroy_process_group()
    if not metrics:
        return {}
    checkpoint = _best_checkpoint(Path(paths.run_dir))
    parts = _own_parts(config, code_dir)
    write_model_dir(checkpoint, Path(paths.model_dir), parts=parts, parts_dir=code_dir)
    if paths.testing_dir is not None:
        words = [*overrides, override("paths.data_dir", paths.testing_dir), "data.num_folds=1", *search_path]
        found = evaluate.run(_testing_config(compose_words("train", words), checkpoint, parts))
        metrics = metrics | {"testing": found["test"]}
    ignored = shutil.ignore_patterns("checkpoints", LOCK_FILE, HOLDER_FILE)
    shutil.copytree(paths.run_dir, paths.output_dir, ignore=ignored, dirs_exist_ok=True)
    return metrics


def job_words(arguments: Sequence[str], code_dir: Path) -> tuple[list[str], list[str]]:
    """Return the overrides of the training, and those that add the user's own configuration folders.

    A hyperparameter replaces the override with the same key.
    """
    job = json.loads((code_dir / JOB_FILE).read_text(encoding="utf-8"))
    hyperparameters = overrides_of(arguments)
    replaced = {override_key(word) for word in hyperparameters}
    words = [word for word in job["overrides"] if override_key(word) not in replaced]
    folders = [f"file://{code_dir / name}" for name in job["config_dirs"]]
    return [*words, *hyperparameters], [override("hydra.searchpath", folders)] if folders else []


def compose_words(name: str, words: list[str]) -> DictConfig:
    """Compose a root configuration with some overrides."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose(name, words)


def main(code_dir: Path) -> None:
    """Run the job; an error is written to the file that SageMaker shows as the failure reason."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
    with interruptible("the job resumes from its last checkpoint when restarted"):
        try:
            run(sys.argv[1:], code_dir)
        except Exception as error:
            _write_failure(error)
            raise


def _best_checkpoint(run_dir: Path) -> Path:
    """Return the checkpoint that was tested."""
    for name in ("best.ckpt", "last.ckpt"):
        if (path := run_dir / "checkpoints" / name).is_file():
            return path
    raise FileNotFoundError(f"{run_dir}/checkpoints is empty, so there is no network to save; use callbacks=default")


def _own_parts(config: DictConfig, code_dir: Path) -> list[str]:
    """Return the names of the user's own network, encoder and target, whose files came with the job."""
    model, target = (OmegaConf.to_container(config[key]) if config[key] else None for key in ("model", "target"))
    return list(dict.fromkeys([*own_names(model, code_dir), *own_names(target, code_dir)]))


def _testing_config(training: DictConfig, checkpoint: Path, parts: Sequence[str]) -> DictConfig:
    """Return the configuration that tests a checkpoint on every bag of the testing channel."""
    words = [override("checkpoint", checkpoint), override("parts", list(parts)), "run_name=testing", "splits=[test]"]
    config = compose_words("evaluate", [*words, "overwrite=true"])
    config.data = cast(dict[str, Any], OmegaConf.to_container(training.data, resolve=True))
    config.paths.run_dir = f"{training.paths.run_dir}/testing"
    # The launcher's environment variables refer to processes that have ended.
    environment = {"_target_": "lightning.pytorch.plugins.environments.LightningEnvironment"}
    OmegaConf.update(config, "trainer.plugins", environment, force_add=True)
    OmegaConf.update(config, "trainer.enable_progress_bar", False)
    return config


def _write_failure(error: Exception) -> None:
    """Write the first error of the job's processes; SageMaker shows the first 1,024 characters."""
    text = one_line(error)[:_MAX_FAILURE]
    path = Path(OmegaConf.load(CONFIG_DIR / "paths" / "sagemaker.yaml").failure_path)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as reason:
        _log.warning("%s: %s", path, reason)


def whole_checkpoint(folder: Path) -> Path | None:
    """Return `last.ckpt` if it is intact, otherwise the newest intact checkpoint, or None if there is none.

    An instance may be lost while SageMaker copies a file, and nobody is there to give another run name: without an intact
    checkpoint the run starts over. Damaged files are never deleted; if they are in the way, they are renamed.

    Args:
        folder: Folder of the run's checkpoints.
    """
    try:
        return newest_whole(folder)
    except (ValueError, FileNotFoundError) as error:  # another process of the job may have renamed them just now
        _log.warning("%s; the run starts over, the files are kept as *.damaged", str(error).rpartition(";")[0])
    for path in folder.glob("*.ckpt"):
        with suppress(FileNotFoundError):
            path.replace(path.with_name(f"{path.name}.damaged"))
    return None
