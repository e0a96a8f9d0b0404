"""Resources of a SageMaker job: the keys of the `sagemaker` configuration group."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

DISTRIBUTIONS = ("torchrun", "smddp")
INPUT_MODES = ("File", "FastFile")
MODES = ("service", "local")
SMDDP_INSTANCE_TYPES = ("ml.p4d.24xlarge", "ml.p4de.24xlarge")
# Limits of the service.
MAX_INSTANCE_TYPES, MAX_RETRIES, PENDING_SECONDS = 5, 30, (1800, 2_419_200)
_INSTANCE_TYPE = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9-]+")
_JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,39}")


@dataclass(frozen=True)
class JobSettings:
    """Settings of a training job; each key is explained in `configs/sagemaker/default.yaml`.

    Raises:
        ValueError: If a value is missing or SageMaker would refuse it; the message says what to type.

    Example:
        >>> JobSettings(bucket="slides", training="s3://slides/panda", instance_count=2, distribution="smddp")
        Traceback (most recent call last):
        ValueError: sagemaker.distribution=smddp runs on ml.p4d.24xlarge or ml.p4de.24xlarge, not on ml.g5.xlarge
    """

    bucket: str | None = None
    training: str | None = None
    testing: str | None = None
    region: str | None = None
    role: str | None = None
    prefix: str = "milpath"
    job_name: str = "milpath"
    image: str | None = None
    image_version: str = "2.10.0"
    image_python: str = "py313"
    requirements: str | None = None
    instance_type: str = "ml.g5.xlarge"
    other_instance_types: Sequence[str] = ()
    instance_count: int = 1
    volume_size_gb: int = 100
    distribution: str = "torchrun"
    processes_per_instance: int | None = None
    mpi_options: str | None = None
    mode: str = "service"
    input_mode: str = "File"
    output: str | None = None
    checkpoints: str | None = None
    spot: bool = False
    max_run_seconds: int = 86_400
    max_wait_seconds: int | None = None
    keep_alive_seconds: int | None = None
    retries: int = 0
    max_pending_seconds: int | None = None
    compress_output: bool = True
    metrics: Sequence[str] = ()
    tags: dict[str, str] | None = None
    environment: dict[str, str] | None = None
    subnets: Sequence[str] = ()
    security_group_ids: Sequence[str] = ()
    encrypt_traffic: bool = False
    isolate: bool = False
    kms_key: str | None = None
    private: bool = False

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type in (int, int | None) and value is not None and type(value) is not int:
                raise ValueError(f"sagemaker.{item.name}={value} must be an integer")
            if item.type == dict[str, str] | None and value is not None and not isinstance(value, dict):
                raise ValueError(f"sagemaker.{item.name}={value} must be a mapping, {{NAME: VALUE}}")
        for key, names in (
            ("instance_type", [self.instance_type]),
            ("other_instance_types", self.other_instance_types),
        ):
            for name in names:
                _require(
                    _INSTANCE_TYPE.fullmatch(str(name)) is not None,
                    f"sagemaker.{key}={name} is not an instance type such as ml.g5.xlarge",
                )
        self._require_sensible_capacity()
        _require(bool(self.bucket), "sagemaker.bucket must be given: the S3 bucket for code, checkpoints and results")
        for name in ("training", "testing", "output", "checkpoints"):
            uri = getattr(self, name)
            _require(
                uri is None or _is_s3(uri), f"sagemaker.{name}={uri} is not an address of the form s3://bucket/folder"
            )
        _require(
            bool(_JOB_NAME.fullmatch(self.job_name)),
            f"sagemaker.job_name={self.job_name} must be 1 to 40 letters, digits and hyphens; a timestamp is appended",
        )
        _require_one_of("distribution", self.distribution, DISTRIBUTIONS)
        _require_one_of("input_mode", self.input_mode, INPUT_MODES)
        _require_one_of("mode", self.mode, MODES)
        _require(
            self.mode == "service" or not (self.spot or self.other_instance_types),
            "sagemaker.mode=local runs on this machine, which has neither spot nor other instances: remove them",
        )
        for name in ("instance_count", "volume_size_gb", "max_run_seconds"):
            _require(getattr(self, name) >= 1, f"sagemaker.{name}={getattr(self, name)} must be at least 1")
        if self.distribution == "smddp":
            known = " or ".join(SMDDP_INSTANCE_TYPES)
            _require(
                self.instance_type in SMDDP_INSTANCE_TYPES,
                f"sagemaker.distribution=smddp runs on {known}, not on {self.instance_type}",
            )
        _require(
            self.distribution == "smddp" or self.mpi_options is None,
            f"sagemaker.mpi_options={self.mpi_options} is for sagemaker.distribution=smddp, not for {self.distribution}: "
            "remove it",
        )
        _require(
            self.spot or self.max_wait_seconds is None,
            "sagemaker.max_wait_seconds is only for spot instances: add sagemaker.spot=true, or remove it",
        )
        _require(
            self.max_wait_seconds is None or self.max_wait_seconds >= self.max_run_seconds,
            f"sagemaker.max_wait_seconds={self.max_wait_seconds} includes the run and must be at least "
            f"sagemaker.max_run_seconds={self.max_run_seconds}",
        )
        _require(
            not (self.spot and self.keep_alive_seconds),
            "sagemaker.keep_alive_seconds (a warm pool) and sagemaker.spot=true are mutually exclusive: choose one",
        )
        _require(
            bool(self.subnets) == bool(self.security_group_ids),
            "sagemaker.subnets and sagemaker.security_group_ids must be given together: give both or neither",
        )
        for name in ("subnets", "security_group_ids", "kms_key", "image", "encrypt_traffic", "isolate"):
            _require(
                not self.private or bool(getattr(self, name)),
                f"sagemaker.private=true (sagemaker=hospital) needs sagemaker.{name}; give it",
            )
        _require(
            not self.isolate or bool(self.image),
            "sagemaker.isolate=true leaves the container without a network, so that nothing can be installed in it: add "
            "sagemaker.image=ADDRESS of an image that holds milpath (scripts/sagemaker/Dockerfile.train)",
        )

    @property
    def instance_types(self) -> list[str]:
        """Instance types in the order in which they are tried."""
        return [self.instance_type, *self.other_instance_types]

    def _require_sensible_capacity(self) -> None:
        """Refuse what the service refuses of a job that waits for capacity."""
        types = self.instance_types
        _require(
            len(set(types)) == len(types) <= MAX_INSTANCE_TYPES,
            f"sagemaker.other_instance_types={list(self.other_instance_types)} must be up to {MAX_INSTANCE_TYPES - 1} types "
            f"other than sagemaker.instance_type={self.instance_type}",
        )
        _require(
            not (self.spot and self.other_instance_types),
            "sagemaker.other_instance_types and sagemaker.spot=true are mutually exclusive: choose one",
        )
        _require(
            0 <= self.retries <= MAX_RETRIES, f"sagemaker.retries={self.retries} must be between 0 and {MAX_RETRIES}"
        )
        low, high = PENDING_SECONDS
        _require(
            self.max_pending_seconds is None or low <= self.max_pending_seconds <= high,
            f"sagemaker.max_pending_seconds={self.max_pending_seconds} must be between {low} and {high}",
        )

    def require_service(self, command: str) -> None:
        """Refuse a job on this machine where there is none: it would run, and be charged, at the service.

        Args:
            command: The command that has no such job.

        Raises:
            ValueError: If `mode` is not "service".
        """
        _require(
            self.mode == "service",
            f"sagemaker.mode={self.mode} is for launch; {command} submits its jobs to the service: remove it",
        )

    def require_training(self) -> None:
        """Refuse a training without data.

        Raises:
            ValueError: With the key to give.
        """
        _require(
            bool(self.training), "sagemaker.training must be given: the S3 folder with the data, s3://bucket/folder"
        )

    @property
    def address(self) -> str:
        """The folder of this library in the bucket."""
        return f"s3://{self.bucket}/{self.prefix.strip('/')}"

    @classmethod
    def of(cls, content: dict[str, Any]) -> "JobSettings":
        """Return the settings of a configuration.

        Raises:
            ValueError: If it has an unknown key.
        """
        names = [item.name for item in fields(cls)]
        for key in content:
            _require(key in names, f"sagemaker.{key} is unknown; the keys are {', '.join(names)}")
        return cls(**content)


def require_s3(key: str, address: str) -> None:
    """Refuse what is not a folder in S3.

    Raises:
        ValueError: With the key.
    """
    _require(_is_s3(address), f"{key}={address} is not an address of the form s3://bucket/folder")


def _is_s3(uri: str) -> bool:
    """Return whether this is an address in S3."""
    return re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", uri) is not None


def _require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise an error with the allowed values unless the value is one of them."""
    _require(value in allowed, f"sagemaker.{name}={value} must be one of {', '.join(allowed)}")


def _require(condition: bool, message: str) -> None:
    """Raise an error with this message unless the condition holds."""
    if not condition:
        raise ValueError(message)
