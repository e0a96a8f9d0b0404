"""The three requests that create an endpoint, as a pure function of its settings, and what it can serve."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from milpath.sagemaker.endpoint.request_limits import MEBIBYTE, Limits

MODES = ("instance", "serverless", "async")
_OF_INSTANCES = ("instance_type", "instance_count", "start_seconds")
_OF_SERVERLESS = ("memory_size_mb", "max_concurrency")


@dataclass
class DeployConfig:
    """Root keys of `python -m milpath.sagemaker.deploy`; each is explained in `configs/sagemaker_deploy.yaml`."""

    archive: str | None = None
    model_package: str | None = None
    allow_unapproved: bool = False
    endpoint: str = "milpath"
    mode: str = "instance"
    instance_type: str = "ml.m5.xlarge"
    instance_count: int = 1
    start_seconds: int | None = None
    autoscale: bool | None = None
    min_instances: int | None = None
    max_instances: int | None = None
    backlog_per_instance: float = 5
    requests_per_minute: float = 60
    memory_size_mb: int = 4096
    max_concurrency: int = 5
    image: str | None = None
    image_version: str = "2.6.0"
    image_python: str = "py312"
    region: str | None = None
    role: str | None = None
    bucket: str | None = None
    prefix: str = "milpath"
    s3_prefixes: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    subnets: list[str] = field(default_factory=list)
    security_group_ids: list[str] = field(default_factory=list)
    isolate: bool = False
    kms_key: str | None = None
    wait: bool = True
    dry_run: bool = False


def require_used(settings: DeployConfig) -> None:
    """Refuse options that change nothing in this mode, or without autoscaling: the endpoint would be charged without them.

    Args:
        settings: Settings of the endpoint.

    Raises:
        ValueError: With the option, and what it belongs to.
    """
    if bool(settings.subnets) != bool(settings.security_group_ids):
        raise ValueError("subnets and security_group_ids put the endpoint into a VPC together: give both or neither")
    defaults, mode = DeployConfig(), settings.mode
    unused = {name: "mode=instance and mode=async" for name in _OF_INSTANCES if mode == "serverless"}
    unused |= {name: "mode=serverless" for name in _OF_SERVERLESS if mode != "serverless"}
    if mode != "async":
        unused["backlog_per_instance"] = "mode=async"
    if mode != "instance":
        unused["requests_per_minute"] = "mode=instance"
    if mode == "serverless" or not (mode == "async" if settings.autoscale is None else settings.autoscale):
        scaled = ("min_instances", "max_instances", "backlog_per_instance", "requests_per_minute")
        unused = dict.fromkeys(scaled, "autoscale=true") | unused
    for name, owner in unused.items():
        if (value := getattr(settings, name)) != getattr(defaults, name):
            without = "" if owner == "autoscale=true" else f" and changes nothing with mode={mode}"
            raise ValueError(f"{name}={value} is for {owner}{without}; leave it out, or give what it is for")


def endpoint_requests(
    settings: DeployConfig, *, role: str, image: str | None, model: str | None, suffix: str
) -> dict[str, dict[str, Any]]:
    """Return the bodies of `CreateModel`, `CreateEndpointConfig` and `CreateEndpoint`, in this order.

    Args:
        settings: Settings of the endpoint.
        role: ARN of the role that the endpoint assumes.
        image: Address of the serving image; `None` for that of the model package.
        model: Address of `model.tar.gz` in S3; `None` for that of the model package.
        suffix: Distinguishes model and configuration from those of earlier deployments.

    Raises:
        ValueError: If the mode is unknown or a setting it needs is missing.

    References:
        Amazon SageMaker API Reference, CreateModel, CreateEndpointConfig, CreateEndpoint.
    """
    if settings.mode not in MODES:
        raise ValueError(f"mode={settings.mode} must be one of {', '.join(MODES)}")
    if settings.mode == "serverless" and settings.memory_size_mb not in range(1024, 6145, 1024):
        raise ValueError(f"memory_size_mb={settings.memory_size_mb} must be 1024, 2048, 3072, 4096, 5120 or 6144")
    if settings.start_seconds is not None and not 60 <= settings.start_seconds <= 3600:
        raise ValueError(f"start_seconds={settings.start_seconds} must be between 60 and 3600")
    if settings.mode == "async" and not settings.bucket:
        raise ValueError("mode=async writes its responses to S3: add bucket=NAME")
    name = f"{settings.endpoint}-{suffix}"
    variant: dict[str, Any] = {"VariantName": "AllTraffic", "ModelName": name}
    if settings.mode == "serverless":
        variant["ServerlessConfig"] = {
            "MemorySizeInMB": settings.memory_size_mb,
            "MaxConcurrency": settings.max_concurrency,
        }
    else:
        variant |= {"InstanceType": settings.instance_type, "InitialInstanceCount": settings.instance_count}
        variant["InitialVariantWeight"] = 1.0
        if settings.start_seconds is not None:
            variant["ModelDataDownloadTimeoutInSeconds"] = settings.start_seconds
            variant["ContainerStartupHealthCheckTimeoutInSeconds"] = settings.start_seconds
    create_model: dict[str, Any] = {
        "ModelName": name,
        "ExecutionRoleArn": role,
        "PrimaryContainer": _container(settings, image, model),
    }
    if settings.subnets:
        create_model["VpcConfig"] = {
            "Subnets": list(settings.subnets),
            "SecurityGroupIds": list(settings.security_group_ids),
        }
    if settings.isolate:
        create_model["EnableNetworkIsolation"] = True
    create_config: dict[str, Any] = {"EndpointConfigName": name, "ProductionVariants": [variant]}
    if settings.mode == "async":
        output = f"s3://{settings.bucket}/{settings.prefix}/answers/{settings.endpoint}"
        create_config["AsyncInferenceConfig"] = {
            "OutputConfig": {"S3OutputPath": output, "S3FailurePath": f"{output}/failures"}
        }
    if settings.kms_key:
        create_config["KmsKeyId"] = settings.kms_key
    create_endpoint: dict[str, Any] = {"EndpointName": settings.endpoint, "EndpointConfigName": name}
    requests = {
        "create_model": create_model,
        "create_endpoint_config": create_config,
        "create_endpoint": create_endpoint,
    }
    if settings.tags:
        for body in requests.values():
            body["Tags"] = [{"Key": key, "Value": str(value)} for key, value in settings.tags.items()]
    return requests


def _container(settings: DeployConfig, image: str | None, model: str | None) -> dict[str, Any]:
    """Return the container: an image with an archive, or a model package, which has both."""
    what = {"Image": image, **model_data(model)} if model else {"ModelPackageName": settings.model_package}
    return what | {"Environment": serving_environment(settings)}


def model_data(model: str) -> dict[str, Any]:
    """Return where the model is: an archive, or a folder that a job with `compress_output=false` wrote."""
    if not model.endswith("/"):
        return {"ModelDataUrl": model}
    return {"ModelDataSource": {"S3DataSource": {"S3Uri": model, "S3DataType": "S3Prefix", "CompressionType": "None"}}}


def serving_environment(settings: DeployConfig) -> dict[str, str]:
    """Return the environment variables of the container: location of the code and limits."""
    limit = Limits.max_reference_bytes if settings.mode == "async" else Limits.max_body_bytes
    # TorchServe has its own limit; set it slightly above SageMaker's.
    server_limit = str(limit + MEBIBYTE)
    environment = {
        "SAGEMAKER_PROGRAM": "inference.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        "TS_MAX_REQUEST_SIZE": server_limit,
        "TS_MAX_RESPONSE_SIZE": server_limit,
        "MILPATH_MAX_BODY_BYTES": str(limit),
    }
    if settings.s3_prefixes:
        environment["MILPATH_S3_PREFIXES"] = ",".join(settings.s3_prefixes)
    return environment | {name: str(value) for name, value in settings.environment.items()}


def require_one_checkpoint(checkpoint: object) -> None:
    """Refuse the average of several folds, which an endpoint cannot serve.

    Raises:
        ValueError: If it is a list, or the folder of a table.
    """
    if isinstance(checkpoint, str) and not Path(checkpoint).is_dir():
        return
    raise ValueError(
        f"checkpoint={checkpoint}: an endpoint serves one network, not the average of several; give the best.ckpt of one run"
    )
