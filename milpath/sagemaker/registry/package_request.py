"""The requests that register a network, as pure functions of its files and settings."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from milpath.sagemaker.jobs.endpoint_request import DeployConfig, model_data, serving_environment

APPROVALS = {"PendingManualApproval": "PendingReview", "Approved": "Approved", "Rejected": "Draft"}
# Keys of the metadata of a package that `deploy` reads again.
ARCHIVE_ETAG = "archive_etag"
_GROUP = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_MAX_PROPERTIES, _MAX_PROPERTY = 50, 256
# What the service takes in a value of the metadata.
_UNTAKEN = re.compile(r"[^\w .:/=+\-@]")


@dataclass
class RegisterConfig:
    """Root keys of `python -m milpath.sagemaker.register`; each is explained in `configs/sagemaker_register.yaml`."""

    run: str = MISSING
    archive: str | None = None
    parts: list[str] = field(default_factory=list)
    group: str = "milpath"
    approval: str = "PendingManualApproval"
    description: str | None = None
    image: str | None = None
    image_version: str = "2.6.0"
    image_python: str = "py312"
    instance_type: str = "ml.m5.xlarge"
    region: str | None = None
    bucket: str | None = None
    prefix: str = "milpath"
    tags: dict[str, str] = field(default_factory=dict)
    kms_key: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Registered:
    """What is registered.

    Attributes:
        archive: Address of the model archive, or the folder of a job without compression.
        archive_sha256: Digest of the archive; `None` for a folder.
        archive_etag: What S3 calls the version of the archive; `None` for a folder, or in a dry run.
        metrics: Split to metric to value.
        metrics_address: Address of `metrics.json`.
        metrics_sha256: Its digest.
        identity: Settings and digests of the data of the run.
        commit: Commit of the code that trained, or `None`.
        creator: The library with its version.
        task: Target of the network.
        card: Content of the model card.
    """

    archive: str
    archive_sha256: str | None
    archive_etag: str | None
    metrics: Mapping[str, Mapping[str, float | None]]
    metrics_address: str
    metrics_sha256: str
    identity: Mapping[str, Any]
    commit: str | None
    creator: str
    task: str
    card: str


def require_settings(settings: RegisterConfig) -> None:
    """Refuse what the service would refuse, before anything is uploaded.

    Raises:
        ValueError: With the key and what to type.
    """
    if _GROUP.fullmatch(settings.group) is None:
        raise ValueError(f"group={settings.group} must be 1 to 63 letters, digits and single hyphens between them")
    if settings.approval not in APPROVALS:
        raise ValueError(f"approval={settings.approval} must be one of {', '.join(APPROVALS)}")
    if not settings.bucket:
        raise ValueError("bucket must be given: the S3 bucket for metrics.json and a local archive, bucket=NAME")


def group_request(settings: RegisterConfig) -> dict[str, Any]:
    """Return the body of `CreateModelPackageGroup`.

    Args:
        settings: Settings of the registration.

    References:
        Amazon SageMaker API Reference, CreateModelPackageGroup.
    """
    request: dict[str, Any] = {
        "ModelPackageGroupName": settings.group,
        "ModelPackageGroupDescription": "Networks of milpath; one version for each registered run",
    }
    if settings.tags:
        request["Tags"] = [{"Key": key, "Value": str(value)} for key, value in settings.tags.items()]
    return request


def package_request(settings: RegisterConfig, registered: Registered, image: str) -> dict[str, Any]:
    """Return the body of `CreateModelPackage`: a new version in its group.

    It has no tags: the service refuses them for a version, which has those of its group.

    Args:
        settings: Settings of the registration.
        registered: What is registered.
        image: Address of the serving image.

    References:
        Amazon SageMaker API Reference, CreateModelPackage.
    """
    # Imported here because they load torch, which the settings of every other command do not need.
    from milpath.sagemaker.endpoint.request_body import CONTENT_TYPES
    from milpath.sagemaker.endpoint.response import JSON, NPZ

    container: dict[str, Any] = {
        "Image": image,
        **model_data(registered.archive),
        "Environment": serving_environment(DeployConfig()),
    }
    if settings.image is None:
        container |= {"Framework": "PYTORCH", "FrameworkVersion": settings.image_version}
    request: dict[str, Any] = {
        "ModelPackageGroupName": settings.group,
        "ModelPackageDescription": (settings.description or _description(registered))[:1024],
        "InferenceSpecification": {
            "Containers": [container],
            "SupportedContentTypes": list(CONTENT_TYPES),
            "SupportedResponseMIMETypes": [JSON, NPZ],
        },
        "ModelApprovalStatus": settings.approval,
        "ModelMetrics": {
            "ModelQuality": {
                "Statistics": {
                    "ContentType": "application/json",
                    "ContentDigest": f"sha256:{registered.metrics_sha256}",
                    "S3Uri": registered.metrics_address,
                }
            }
        },
        "MetadataProperties": {"GeneratedBy": registered.creator},
        "CustomerMetadataProperties": _properties(registered),
        "ModelCard": {"ModelCardContent": registered.card, "ModelCardStatus": APPROVALS[settings.approval]},
    }
    if registered.commit:
        request["MetadataProperties"]["CommitId"] = registered.commit
    if settings.kms_key:
        request["SecurityConfig"] = {"KmsKeyId": settings.kms_key}
    return request


def _properties(registered: Registered) -> dict[str, str]:
    """Return what can be searched for and compared: digests of archive and data, task, and metrics of val and test."""
    known = {
        "milpath": registered.creator,
        "task": registered.task,
        "run_identity_sha256": registered.identity["digest"],
        **registered.identity["contents"],
        "archive_sha256": registered.archive_sha256,
        ARCHIVE_ETAG: registered.archive_etag,
    }
    numbers = {
        f"{split}/{name}": f"{value:.6g}"
        for split in ("test", "val")
        for name, value in registered.metrics.get(split, {}).items()
        if value is not None
    }
    # The metrics of many classes do not fit; all of them are in metrics.json and in the card.
    taken = [(name, str(value)) for name, value in (known | numbers).items() if value is not None][:_MAX_PROPERTIES]
    return {_UNTAKEN.sub("-", name)[:128]: _UNTAKEN.sub("-", value)[:_MAX_PROPERTY] for name, value in taken}


def _description(registered: Registered) -> str:
    """Return the version in a line: the first metric of the test split, or of validation."""
    for split in ("test", "val"):
        for name, value in registered.metrics.get(split, {}).items():
            if value is not None:
                return f"{registered.task}, {name} {value:.4f} on the {split} split, {registered.creator}"
    return f"{registered.task}, {registered.creator}"
