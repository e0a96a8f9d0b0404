"""Root schemas of the SageMaker commands, and the command line of a training inside a job."""

from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, cast

from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, OmegaConf

from milpath.config.roots import TrainOverrides
from milpath.sagemaker.jobs.endpoint_request import DeployConfig
from milpath.sagemaker.jobs.job_settings import JobSettings
from milpath.sagemaker.registry.package_request import RegisterConfig

# Defaults of every job, unless overridden on the command line.
JOB_DEFAULTS = {
    "trainer": "sagemaker",
    "paths": "sagemaker",
    "resume_from": "auto",
    "run_name": "${oc.env:TRAINING_JOB_NAME,local}",
}
# One line per epoch instead of a progress bar: SageMaker parses metrics from the output of a job.
_PROGRESS = "++callbacks.progress._target_=milpath.sagemaker.jobs.epoch_line.EpochLine"
_LAUNCH_KEYS = ("sagemaker", "dry_run", "wait", "tune", "rehearse", "hydra")

# Names of the root configurations.
LAUNCH, TUNE, PACKAGE = "sagemaker_launch", "sagemaker_tune", "sagemaker_package"
DEPLOY, DELETE, SCORE = "sagemaker_deploy", "sagemaker_delete", "sagemaker_score"
PROCESS, TRANSFORM, POLICY = "sagemaker_process", "sagemaker_transform", "sagemaker_policy"
REHEARSE, REGISTER = "sagemaker_rehearse", "sagemaker_register"

LaunchConfig = make_dataclass(
    "LaunchConfig",
    [("dry_run", bool, field(default=False)), ("wait", bool, field(default=False))],
    bases=(TrainOverrides,),
)
TuneConfig = make_dataclass("TuneConfig", [("tune", Any, field(default=MISSING))], bases=(LaunchConfig,))
RehearseConfig = make_dataclass("RehearseConfig", [("rehearse", Any, field(default=MISSING))], bases=(TrainOverrides,))


@dataclass
class PackageConfig:
    """Root keys of `python -m milpath.sagemaker.package`."""

    checkpoint: Any = MISSING
    output: str = "model.tar.gz"
    include_encoder: bool = False
    encoder_weights_path: str | None = None
    parts: list[str] = field(default_factory=list)
    paths: Any = field(default_factory=lambda: {"weights_dir": None})


@dataclass
class DeleteConfig:
    """Root keys of `python -m milpath.sagemaker.delete`."""

    endpoint: str = MISSING
    region: str | None = None


@dataclass
class ScoreConfig:
    """Root keys of `python -m milpath.sagemaker.score`."""

    endpoint: str = MISSING
    data: Any = MISSING
    splits: list[str] = field(default_factory=lambda: ["test"])
    in_flight: int = 4
    s3_prefix: str | None = None
    asynchronous: bool = False
    timeout_seconds: int = 600
    region: str | None = None
    paths: Any = MISSING
    run_name: str = MISSING
    seed: int = 0


@dataclass
class SlidesConfig:
    """Root keys that the commands over slides in S3 share."""

    slides: str = MISSING
    output: str = MISSING
    options: Any = None
    files: Any = None
    name: str | None = None
    slides_per_second: float | None = None
    price_per_hour: float | None = None
    sagemaker: Any = None
    wait: bool = False
    dry_run: bool = False


@dataclass
class ProcessConfig(SlidesConfig):
    """Root keys of `python -m milpath.sagemaker.process`."""

    command: str = "tile"


@dataclass
class TransformConfig(SlidesConfig):
    """Root keys of `python -m milpath.sagemaker.transform`."""

    checkpoint: str = MISSING
    inputs: str | None = None
    serving_image: str | None = None
    on_error: str = "fail"


@dataclass
class PolicyConfig:
    """Root keys of `python -m milpath.sagemaker.policy`."""

    who: str = "person"
    commands: list[str] = field(default_factory=list)
    region: str | None = None
    role: str | None = None
    bucket: str | None = None
    prefix: str = "milpath"
    name: str = "milpath"
    read: list[str] = field(default_factory=list)
    write: list[str] = field(default_factory=list)
    kms_key: str | None = None
    repositories: list[str] = field(default_factory=list)
    private_network: bool = False
    mlflow: str | None = None
    file: str | None = None


_store = ConfigStore.instance()
_store.store(name=f"{LAUNCH}_schema", node=LaunchConfig)
_store.store(name=f"{TUNE}_schema", node=TuneConfig)
_store.store(name=f"{REHEARSE}_schema", node=RehearseConfig)
_store.store(name=f"{PACKAGE}_schema", node=PackageConfig)
_store.store(name=f"{DEPLOY}_schema", node=DeployConfig)
_store.store(name=f"{REGISTER}_schema", node=RegisterConfig)
_store.store(name=f"{DELETE}_schema", node=DeleteConfig)
_store.store(name=f"{SCORE}_schema", node=ScoreConfig)
_store.store(name=f"{PROCESS}_schema", node=ProcessConfig)
_store.store(name=f"{TRANSFORM}_schema", node=TransformConfig)
_store.store(name=f"{POLICY}_schema", node=PolicyConfig)


def settings_of(config: DictConfig) -> JobSettings:
    """Return the checked `sagemaker` group of a configuration."""
    return JobSettings.of(cast(dict[str, Any], OmegaConf.to_container(config.sagemaker, resolve=True)))


def job_overrides(words: Sequence[str]) -> list[str]:
    """Return the command line of `milpath.train` inside a job.

    Args:
        words: Overrides of `launch`; those that only concern SageMaker are left out.

    Example:
        >>> job_overrides(["experiment=panda_attention", "trainer=sagemaker_smddp", "sagemaker.spot=true"])[-2:]
        ['experiment=panda_attention', 'trainer=sagemaker_smddp']
    """
    kept = [word for word in words if override_key(word).split(".")[0].split("@")[0] not in _LAUNCH_KEYS]
    given = {override_key(word) for word in kept}
    defaults = [f"{key}={value}" for key, value in JOB_DEFAULTS.items() if key not in given]
    return [*defaults, _PROGRESS, *kept]


def compose_job() -> tuple[DictConfig, list[str]]:
    """Compose the training as the job will, to catch mistyped keys before submission.

    Returns:
        The configuration of the training, and the overrides that produce it.
    """
    overrides = job_overrides(command_line())
    return compose("train", overrides), overrides


def command_line() -> list[str]:
    """Return the overrides of the running command as typed: `${paths.data_dir}` is resolved inside the job."""
    words: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return [str(word) for word in words]


def own_config_dirs() -> list[Path]:
    """Return the configuration folders that the user added on the command line."""
    sources = HydraConfig.get().runtime.config_sources
    return [Path(source.path) for source in sources if source.provider == "command-line" and source.schema == "file"]


def override_key(word: str) -> str:
    """Return the key of an override: `a.b` for `++a.b=1`."""
    return word.lstrip("+~").partition("=")[0]
