"""The body of `CreateProcessingJob`, as a pure function of the settings of a job."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from milpath.sagemaker.jobs.job_settings import JobSettings

# Folders of the container.
ROOT = "/opt/ml/processing"
CODE_DIR = f"{ROOT}/input/code"
SLIDES_DIR = f"{ROOT}/input/slides"
EARLIER_DIR = f"{ROOT}/input/earlier"
FILES_DIR = f"{ROOT}/input/files"
PROGRAM = "process.py"
# Of the slides that an instance has; then folders relative to `ROOT`.
LISTING_FILE = "slides.json"
WORK, PARTS, CHUNKS, OUTPUT = "work", "work/store/parts", "work/chunks", "output"
# Of one argument of the container and of the value of an environment variable.
_MAX_TEXT = 256
_MAX_SECONDS = 777_600
# An own image sets MILPATH_IMAGE: what the job needs is already installed.
_START = (
    f"mkdir -p /tmp/code && tar -xzf {CODE_DIR}/source.tar.gz -C /tmp/code && cd /tmp/code && "
    '{ [ -n "$MILPATH_IMAGE" ] || python3 -m pip install -q -r requirements.txt; } && '
    f"exec python3 {PROGRAM}"
)


class Input(NamedTuple):
    """Objects that every instance, or with `shared_out` one of them, finds in a folder.

    Attributes:
        name: Name of the input.
        address: Folder in S3, object, or manifest file.
        folder: Folder of the container.
        manifest: Whether the address is that of a manifest file.
        shared_out: Whether each object goes to one instance only.
    """

    name: str
    address: str
    folder: str
    manifest: bool = False
    shared_out: bool = False


class Output(NamedTuple):
    """A folder of the container that is copied to S3.

    Attributes:
        name: Name of the output.
        folder: Folder of the container.
        address: Folder in S3.
        continuous: Whether files are copied while the job runs, so that they survive its end by force.
    """

    name: str
    folder: str
    address: str
    continuous: bool = False


def processing_request(
    settings: JobSettings,
    *,
    name: str,
    role: str,
    image: str,
    inputs: Sequence[Input],
    outputs: Sequence[Output],
    environment: Mapping[str, str],
    num_instances: int,
) -> dict[str, Any]:
    """Return the body of `CreateProcessingJob`.

    Args:
        settings: Resources of the job.
        name: Name of the job, with its timestamp.
        role: ARN of the role that the job assumes.
        image: Address of the image.
        inputs: What the container reads.
        outputs: What is copied to S3.
        environment: Variables of the program, beside those of the settings.
        num_instances: Number of instances.

    Raises:
        ValueError: If a setting does not exist in Processing, or exceeds its limits.

    References:
        Amazon SageMaker API Reference, CreateProcessingJob.
    """
    _require_processing(settings)
    variables = {key: str(value) for key, value in {**(settings.environment or {}), **environment}.items()}
    for key, value in variables.items():
        if len(value) > _MAX_TEXT:
            raise ValueError(
                f"sagemaker.environment.{key} has {len(value)} characters; Processing takes at most {_MAX_TEXT}"
            )
    cluster: dict[str, Any] = {
        "InstanceCount": num_instances,
        "InstanceType": settings.instance_type,
        "VolumeSizeInGB": settings.volume_size_gb,
    }
    if settings.other_instance_types:
        del cluster["InstanceType"]
        cluster["InstancePreferences"] = [{"InstanceType": item} for item in settings.instance_types]
    request: dict[str, Any] = {
        "ProcessingJobName": name,
        "RoleArn": role,
        "AppSpecification": {
            "ImageUri": image,
            "ContainerEntrypoint": ["/bin/bash", "-c"],
            "ContainerArguments": [_START],
        },
        "ProcessingInputs": [_input(item) for item in inputs],
        "ProcessingOutputConfig": {"Outputs": [_output(item) for item in outputs]},
        "ProcessingResources": {"ClusterConfig": cluster},
        "StoppingCondition": {"MaxRuntimeInSeconds": settings.max_run_seconds},
        "Environment": variables,
    }
    if settings.kms_key:
        request["ProcessingOutputConfig"]["KmsKeyId"] = settings.kms_key
        cluster["VolumeKmsKeyId"] = settings.kms_key
    network: dict[str, Any] = {}
    if settings.encrypt_traffic:
        network["EnableInterContainerTrafficEncryption"] = True
    if settings.isolate:
        network["EnableNetworkIsolation"] = True
    if settings.subnets:
        network["VpcConfig"] = {
            "SecurityGroupIds": list(settings.security_group_ids),
            "Subnets": list(settings.subnets),
        }
    if network:
        request["NetworkConfig"] = network
    if settings.tags:
        request["Tags"] = [{"Key": key, "Value": str(value)} for key, value in settings.tags.items()]
    return request


def _require_processing(settings: JobSettings) -> None:
    """Refuse what a training job has and a Processing job does not, rather than leave it out silently."""
    for key, value in (
        ("spot", settings.spot),
        ("keep_alive_seconds", settings.keep_alive_seconds),
        ("checkpoints", settings.checkpoints),
        ("retries", settings.retries),
        ("max_pending_seconds", settings.max_pending_seconds),
        ("processes_per_instance", settings.processes_per_instance),
    ):
        if value:
            raise ValueError(f"sagemaker.{key}={value} is only for training jobs; Processing has none: remove it")
    if settings.input_mode != "File":
        raise ValueError(
            f"sagemaker.input_mode={settings.input_mode} is only for training jobs; Processing copies the slides of an "
            "instance to its disk before it starts: remove it"
        )
    if settings.max_run_seconds > _MAX_SECONDS:
        raise ValueError(
            f"sagemaker.max_run_seconds={settings.max_run_seconds} exceeds the nine days ({_MAX_SECONDS}) of Processing"
        )


def _input(item: Input) -> dict[str, Any]:
    return {
        "InputName": item.name,
        "S3Input": {
            "S3Uri": item.address,
            "LocalPath": item.folder,
            "S3DataType": "ManifestFile" if item.manifest else "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "ShardedByS3Key" if item.shared_out else "FullyReplicated",
        },
    }


def _output(item: Output) -> dict[str, Any]:
    return {
        "OutputName": item.name,
        "S3Output": {
            "S3Uri": item.address,
            "LocalPath": item.folder,
            "S3UploadMode": "Continuous" if item.continuous else "EndOfJob",
        },
    }
