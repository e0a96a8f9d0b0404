"""From the options of a command to the jobs that it submits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from milpath.config.command_line import override
from milpath.sagemaker.account.image_end import chosen_image
from milpath.sagemaker.jobs.aws_account import open_account, require_role
from milpath.sagemaker.jobs.job_configs import settings_of
from milpath.sagemaker.jobs.job_settings import require_s3
from milpath.sagemaker.processing.processing_job import SlideJobs, default_name
from milpath.slides.tiling_options import OPTION_NAMES, TileOptions, require_used

_MEANT_BY_THE_JOB = "it is set by the job itself, or not possible in one"
_OWN_OPTIONS = ("slides", "output", "shard", "overwrite", "masks", "hydra")
# The last AWS image that serves; see configs/sagemaker_deploy.yaml.
_SERVING = ("2.6.0", "py312")


def jobs_of(
    config: DictConfig,
    command: str,
    files: Mapping[str, str] | None = None,
    refused: Mapping[str, str] | None = None,
    *,
    batch: bool = False,
) -> tuple[SlideJobs, str]:
    """Return the jobs of a configuration, and `on_error` of the command.

    Args:
        config: Root of `process` or `transform`.
        command: `tile`, `extract` or `predict`.
        files: Further options whose value is a file.
        refused: Further options that are not possible, with the reason.
        batch: Whether the image is the serving image.

    Raises:
        ValueError: If an option is unknown or not possible, or a setting of the job is missing.
        FileNotFoundError: If a file does not exist.
    """
    require_s3("slides", config.slides)
    require_s3("output", config.output)
    settings = settings_of(config)
    settings.require_service("process" if command in ("tile", "extract") else "transform")
    role = require_role(settings.role)
    given = {key: str(value) for key, value in _mapping(config, "files").items()}
    options = _mapping(config, "options")
    reasons = dict.fromkeys(_OWN_OPTIONS, _MEANT_BY_THE_JOB) | dict(refused or {})
    if own := [key for key in (*options, *given) if key in reasons]:
        raise ValueError(f"options: {own[0]} is refused: {reasons[own[0]]}; remove it")
    given = {**given, **(files or {})}
    for key, value in given.items():
        if not value.startswith("s3://") and not Path(value).is_file():
            raise FileNotFoundError(f"files.{key}={value} does not exist; give a local file, or an object in S3")
    words = [override(key, value) for key, value in options.items()]
    on_error = _checked(command, [*words, *(override(key, value) for key, value in given.items())])
    region = settings.region if config.dry_run else open_account(settings.region).region_name
    if region is None:
        raise ValueError("dry_run does not contact AWS, so it needs sagemaker.region=eu-central-1 (or yours)")
    version, python = _SERVING if batch else (settings.image_version, settings.image_python)
    image = chosen_image(
        config.serving_image if batch else settings.image,
        "inference" if batch else "training",
        region=region,
        version=version,
        python=python,
        instance_type=settings.instance_type,
    )
    output = config.output.rstrip("/")
    name = config.name or default_name(command, output)
    return SlideJobs(settings, command, words, given, config.slides.rstrip("/"), output, name, role, image), on_error


def _mapping(config: DictConfig, key: str) -> dict[str, Any]:
    """Return options that were given as `{name: value}`."""
    found = config[key]
    if found is not None and not isinstance(found, DictConfig):
        raise ValueError(f"{key}={found} must be a mapping, '{key}={{NAME: VALUE}}'")
    return {} if found is None else cast(dict[str, Any], OmegaConf.to_container(found, resolve=True))


def _checked(name: str, words: list[str]) -> str:
    """Compose the command as the job will, to catch mistyped options before submission; return `on_error`."""
    try:
        found = compose(name, [*words, "slides=slides", "output=output"])
    except HydraException as error:
        raise ValueError(f"options: {str(error).splitlines()[0]}") from None
    if name == "tile":
        require_used(TileOptions(**{key: found[key] for key in OPTION_NAMES}))
    return str(found.on_error)
