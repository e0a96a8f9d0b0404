"""The bodies of `CreateModel` and `CreateTransformJob`, as pure functions of the settings of a job."""

from collections.abc import Sequence
from typing import Any

from milpath.records.error_text import counted
from milpath.sagemaker.endpoint.request_limits import MEBIBYTE
from milpath.sagemaker.jobs.endpoint_request import DeployConfig, endpoint_requests
from milpath.sagemaker.jobs.job_settings import JobSettings
from milpath.sagemaker.processing.slide_listing import S3Slide

# Suffix of the objects to the content type of the serving container.
CONTENT_TYPES = {".npy": "application/x-npy", ".zip": "application/zip"}
# Largest payload of Batch Transform; the number of concurrent requests times the payload must not exceed it, either.
MAX_PAYLOAD_MB = 100
_MAX_TILES = 1_000_000


def model_request(settings: JobSettings, *, name: str, role: str, image: str, model: str) -> dict[str, Any]:
    """Return the body of `CreateModel` for a batch: larger bodies than an endpoint, refusals as answers with a reason.

    Args:
        settings: Network, keys and tags.
        name: Name of the model.
        role: ARN of the role that the container assumes.
        image: Address of the serving image.
        model: Address of `model.tar.gz`.
    """
    limit = str((MAX_PAYLOAD_MB + 1) * MEBIBYTE)
    environment = {
        "MILPATH_BATCH": "1",
        "MILPATH_MAX_BODY_BYTES": limit,
        "MILPATH_MAX_DECODED_BYTES": str(16 * MAX_PAYLOAD_MB * MEBIBYTE),
        "MILPATH_MAX_TILES": str(_MAX_TILES),
        "TS_MAX_REQUEST_SIZE": limit,
        "TS_MAX_RESPONSE_SIZE": limit,
    } | (settings.environment or {})
    deploy = DeployConfig(
        archive=model, endpoint=name, environment=environment, tags=dict(settings.tags or {}),
        subnets=list(settings.subnets), security_group_ids=list(settings.security_group_ids), isolate=settings.isolate,
    )  # fmt: skip
    request = endpoint_requests(deploy, role=role, image=image, model=model, suffix="")["create_model"]
    return request | {"ModelName": name}


def transform_request(
    settings: JobSettings, *, name: str, model: str, manifest: str, output: str, suffix: str, bags: Sequence[S3Slide]
) -> dict[str, Any]:
    """Return the body of `CreateTransformJob`: one request per object, one answer beside the others in `output`.

    Args:
        settings: Resources.
        name: Name of the job.
        model: Name of the model.
        manifest: Address of the file that names the objects.
        output: Folder of the answers in S3.
        suffix: `.npy` or `.zip`.
        bags: The objects.

    Raises:
        ValueError: If an object is larger than a payload may be.

    References:
        Amazon SageMaker API Reference, CreateTransformJob.
    """
    largest = max(bags, key=lambda bag: bag.size)
    megabytes = -(-largest.size // MEBIBYTE)
    if megabytes > MAX_PAYLOAD_MB:
        raise ValueError(
            f"{largest.path} has {megabytes} MB, and Batch Transform sends at most {MAX_PAYLOAD_MB} MB at once "
            f"({counted(sum(bag.size > MAX_PAYLOAD_MB * MEBIBYTE for bag in bags), 'object')} of {len(bags):,} are larger); "
            "upload these slides, or their features as .h5: both are predicted by a Processing job"
        )
    for key in ("spot", "keep_alive_seconds", "other_instance_types", "retries", "max_pending_seconds"):
        if value := getattr(settings, key):
            raise ValueError(f"sagemaker.{key}={value} does not exist in Batch Transform: remove it")
    resources: dict[str, Any] = {
        "InstanceType": settings.instance_type,
        "InstanceCount": min(settings.instance_count, len(bags)),
    }
    request: dict[str, Any] = {
        "TransformJobName": name,
        "ModelName": model,
        "MaxConcurrentTransforms": 1,
        "MaxPayloadInMB": max(1, megabytes),
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": 3600, "InvocationsMaxRetries": 1},
        "BatchStrategy": "SingleRecord",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": manifest}},
            "ContentType": CONTENT_TYPES[suffix],
            "CompressionType": "None",
            "SplitType": "None",
        },
        "TransformOutput": {"S3OutputPath": output, "Accept": "application/json", "AssembleWith": "None"},
        "TransformResources": resources,
    }
    if settings.kms_key:
        request["TransformOutput"]["KmsKeyId"] = settings.kms_key
        resources["VolumeKmsKeyId"] = settings.kms_key
    if settings.tags:
        request["Tags"] = [{"Key": key, "Value": str(value)} for key, value in settings.tags.items()]
    return request
