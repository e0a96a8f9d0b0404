"""What the loggers of a training need inside a job: packages, and the address of MLflow."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from milpath.sagemaker.jobs.job_settings import JobSettings

# `mlflow-skinny` is the client without the server and its packages, which a container has no use for.
_PACKAGES = {
    "milpath.training.mlflow_log.MLflowLog": ("mlflow-skinny", "sagemaker-mlflow"),
    "lightning.pytorch.loggers.MLFlowLogger": ("mlflow-skinny", "sagemaker-mlflow"),
    "lightning.pytorch.loggers.WandbLogger": ("wandb",),
}
_VARIABLE = "MLFLOW_TRACKING_URI"


def packages_of_loggers(training: DictConfig) -> list[str]:
    """Return the packages that the loggers of a training need beside those of every job.

    Args:
        training: Root of the `train` command.
    """
    names = [name for _, entry in _entries(training) for name in _PACKAGES.get(entry["_target_"], ())]
    return list(dict.fromkeys(names))


def with_mlflow(settings: JobSettings, training: DictConfig) -> JobSettings:
    """Return the settings of a job whose training finds MLflow where this machine does.

    The address is resolved inside the job, where the environment is another: without this, a training would log to a
    database in its container.

    Args:
        settings: Settings of the job.
        training: Root of the `train` command.

    Raises:
        ValueError: If the container cannot reach MLflow, or would write a database that is lost with it.
    """
    for key, entry in _entries(training):
        if "mlflow" not in entry["_target_"].lower():
            continue
        from milpath.training.mlflow_log import is_here  # loads Lightning

        place = str(entry.get("tracking_uri"))
        given = settings.environment or {}
        if is_here(str(given.get(_VARIABLE, place))):
            raise ValueError(
                f"logger.{key}.tracking_uri is a database in the container of the job, which is lost with it; export "
                f"{_VARIABLE}=arn:aws:sagemaker:eu-central-1:123456789012:mlflow-app/NAME, or give another logger"
            )
        if settings.isolate:
            raise ValueError(
                f"sagemaker.isolate=true leaves the container without a network, so that logger.{key} cannot reach MLflow; "
                "use logger=csv, whose table is among the results"
            )
        settings = replace(settings, environment={_VARIABLE: place} | dict(given))
    return settings


def _entries(training: DictConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the loggers of a training by their key."""
    content: Any = OmegaConf.to_container(training.logger, resolve=True) if training.get("logger") else {}
    for key, entry in content.items():
        if entry and "_target_" in entry:
            yield str(key), entry
