"""Preparation of a training job: compose and check the training, upload its source, build the request."""

import inspect
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from milpath.config.module_loading import collecting_later
from milpath.config.own_files import own_files, own_names
from milpath.sagemaker.account.image_end import chosen_image
from milpath.sagemaker.jobs.aws_account import (
    open_account,
    require_bucket,
    require_objects,
    require_role,
    upload,
)
from milpath.sagemaker.jobs.job_configs import compose_job, own_config_dirs
from milpath.sagemaker.jobs.job_loggers import packages_of_loggers, with_mlflow
from milpath.sagemaker.jobs.job_settings import JobSettings
from milpath.sagemaker.jobs.source_archive import write_source
from milpath.sagemaker.jobs.training_request import training_request

_HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


@dataclass(frozen=True)
class Job:
    """A request for a training job, and the account that sends it (None if it is not sent)."""

    request: dict[str, Any]
    region: str
    account: Any


def prepare_job(settings: JobSettings, *, offline: bool = False) -> Job:
    """Check a training and upload its source; called inside a command, whose overrides are those of the training.

    Args:
        settings: Settings of the job.
        offline: If true, AWS is not contacted: nothing is checked there or uploaded.

    Returns:
        The job.

    Raises:
        ValueError: If the training or the account is not ready, before anything is charged.
    """
    settings.require_training()
    training, overrides = _checked_training(settings)
    settings = with_mlflow(settings, training)
    role = require_role(settings.role)
    account = None
    if offline:
        if settings.region is None:
            raise ValueError("dry_run does not contact AWS, so it needs sagemaker.region=eu-central-1 (or yours)")
        region = settings.region
    else:
        account = open_account(settings.region)
        region = account.region_name
        require_bucket(account, str(settings.bucket))
        for address in filter(None, (settings.training, settings.testing)):
            require_objects(account, address)
    image = chosen_image(
        settings.image,
        "training",
        region=region,
        version=settings.image_version,
        python=settings.image_python,
        instance_type=settings.instance_type,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.tar.gz"
        digest = _write(path, training, overrides, settings)
        source = f"{settings.address}/source/{digest}/source.tar.gz"
        if account is not None:
            upload(account, path, source)
    run_id = f"{settings.job_name}-{datetime.now(UTC):%Y%m%d%H%M%S}"
    request = training_request(settings, region=region, role=role, image=image, source=source, run_id=run_id)
    return Job(request, region, account)


def write_job_source(path: Path, settings: JobSettings) -> str:
    """Check a training and write its source; called inside a command, whose overrides are those of the training.

    Args:
        path: Output path, `.tar.gz`.
        settings: Settings of the job.

    Returns:
        A digest of the content.

    Raises:
        ValueError: If the training cannot be composed.
    """
    return _write(path, *_checked_training(settings), settings)


def _checked_training(settings: JobSettings) -> tuple[DictConfig, list[str]]:
    """Return the training as the job will compose it, and its overrides, after all checks that need no account."""
    training, overrides = compose_job()
    # Imported here so that the commands start without torch.
    with collecting_later():
        from milpath.runs.chosen_parts.encoder_choice import refuse_unfit_encoder
        from milpath.runs.chosen_parts.unused_options import refuse_unused

    check_targets(training)
    refuse_unused(training)
    refuse_unfit_encoder(training)
    _require_same_backend(str(overrides), settings)
    return training, overrides


def _write(path: Path, training: DictConfig, overrides: list[str], settings: JobSettings) -> str:
    """Write the source of a checked training."""
    further = packages_of_loggers(training)
    return write_source(path, overrides, own_config_dirs(), settings.requirements, _own_code(training), further=further)


def _own_code(training: DictConfig) -> dict[str, bytes]:
    """Return the files of the user's own classes that a training names, with what these import."""
    folder = Path.cwd()
    names = own_names(OmegaConf.to_container(training, resolve=True), folder)
    return own_files([name.rpartition(".")[0] for name in names], folder)


def _require_same_backend(words: str, settings: JobSettings) -> None:
    """Refuse a trainer that needs another launcher than that of the job."""
    if "trainer=sagemaker_smddp" in words and settings.distribution != "smddp":
        raise ValueError(
            f"trainer=sagemaker_smddp needs the SMDDP launcher, but sagemaker.distribution={settings.distribution}; "
            "add sagemaker=smddp, or use trainer=sagemaker"
        )


def check_targets(config: DictConfig) -> None:
    """Import every `_target_` of a configuration and compare its keys with the signature.

    The keys of `data` may belong to the source or to the data module.

    Args:
        config: Root of the `train` command.

    Raises:
        ValueError: If a name does not exist or an argument is unknown; the message names the key.
    """
    from milpath.data.datamodule import BagDataModule

    options = set(inspect.signature(BagDataModule).parameters) - {"source"}
    content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    _check_entry(content, "", options)


def _check_entry(node: Any, path: str, data_options: set[str]) -> None:
    """Check one entry and all below it."""
    if isinstance(node, list):
        for position, item in enumerate(node):
            _check_entry(item, f"{path}[{position}]", data_options)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        _check_entry(value, f"{path}.{key}" if path else str(key), data_options)
    if (target := node.get("_target_")) is None:
        return
    try:
        found = get_object(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}._target_={target} does not exist ({error})") from None
    try:
        parameters = inspect.signature(found).parameters
    except ValueError:
        # Some classes implemented in C have no signature.
        return
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    allowed = set(parameters) | (data_options if path == "data" else set())
    for key in node:
        if key not in allowed and key not in _HYDRA_KEYS:
            raise ValueError(f"{path}.{key} is not an argument of {target}; it has {', '.join(sorted(allowed))}")
        if key in parameters and isinstance(node[key], str) and _is_number(parameters[key].annotation):
            raise ValueError(f"{path}.{key}={node[key]} must be a number")


def _is_number(annotation: Any) -> bool:
    """Return whether an argument accepts numbers (or None) but no strings."""
    kinds = set(get_args(annotation)) or {annotation}
    return bool(kinds & {int, float}) and kinds <= {int, float, bool, NoneType}
