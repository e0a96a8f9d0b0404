"""The request of a training job, and the SageMaker SDK objects that send it."""

import re
import shutil
from pathlib import Path
from typing import Any

from milpath.sagemaker.jobs.aws_account import sdk
from milpath.sagemaker.jobs.job_settings import JobSettings

CHECKPOINT_DIR = "/opt/ml/checkpoints"
PROGRAM = "train.py"
_NUMBER = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"


def training_request(
    settings: JobSettings, *, region: str, role: str, image: str, source: str, run_id: str
) -> dict[str, Any]:
    """Return the body of `CreateTrainingJob`.

    The image's own entry point, SageMaker's training toolkit, starts the job: it unpacks the source, installs the
    requirements in it and runs `train.py` with torchrun or SMDDP, depending on the hyperparameters.

    Args:
        settings: Settings of the job.
        region: AWS region.
        role: ARN of the role that the job assumes.
        image: Address of the training image.
        source: Address of the source archive in S3.
        run_id: Distinguishes the checkpoints of this submission from those of others.

    Returns:
        The request in the format of the API; `TrainingJobName` is the name before the SDK appends a timestamp.

    References:
        Amazon SageMaker API Reference, CreateTrainingJob.
    """
    settings.require_training()
    request: dict[str, Any] = {
        "TrainingJobName": settings.job_name,
        "RoleArn": role,
        "AlgorithmSpecification": {
            "TrainingImage": image,
            "TrainingInputMode": settings.input_mode,
            "MetricDefinitions": [metric_definition(name) for name in settings.metrics],
        },
        "HyperParameters": _hyperparameters(settings, region, source),
        "InputDataConfig": channels(settings),
        "OutputDataConfig": {
            "S3OutputPath": settings.output or f"{settings.address}/output",
            "CompressionType": "GZIP" if settings.compress_output else "NONE",
        },
        "ResourceConfig": {
            "InstanceType": settings.instance_type,
            "InstanceCount": settings.instance_count,
            "VolumeSizeInGB": settings.volume_size_gb,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": settings.max_run_seconds},
        "CheckpointConfig": {
            "S3Uri": settings.checkpoints or f"{settings.address}/checkpoints/{run_id}",
            "LocalPath": CHECKPOINT_DIR,
        },
        "EnableManagedSpotTraining": settings.spot,
    }
    if settings.other_instance_types:
        del request["ResourceConfig"]["InstanceType"]
        request["ResourceConfig"]["InstancePreferences"] = [{"InstanceType": name} for name in settings.instance_types]
    if settings.retries:
        request["RetryStrategy"] = {"MaximumRetryAttempts": settings.retries}
    if settings.max_pending_seconds:
        request["StoppingCondition"]["MaxPendingTimeInSeconds"] = settings.max_pending_seconds
    if settings.spot:
        wait = settings.max_wait_seconds or 2 * settings.max_run_seconds
        request["StoppingCondition"]["MaxWaitTimeInSeconds"] = wait
    if settings.keep_alive_seconds:
        request["ResourceConfig"]["KeepAlivePeriodInSeconds"] = settings.keep_alive_seconds
    if settings.kms_key:
        request["OutputDataConfig"]["KmsKeyId"] = settings.kms_key
        request["ResourceConfig"]["VolumeKmsKeyId"] = settings.kms_key
    if settings.tags:
        request["Tags"] = [{"Key": key, "Value": str(value)} for key, value in settings.tags.items()]
    if settings.environment:
        request["Environment"] = {name: str(value) for name, value in settings.environment.items()}
    if settings.subnets:
        request["VpcConfig"] = {
            "SecurityGroupIds": list(settings.security_group_ids),
            "Subnets": list(settings.subnets),
        }
    if settings.encrypt_traffic:
        request["EnableInterContainerTrafficEncryption"] = True
    if settings.isolate:
        request["EnableNetworkIsolation"] = True
    return request


def channels(settings: JobSettings) -> list[dict[str, Any]]:
    """Return the data channels of a job: `training`, and `testing` if given."""
    addresses = {"training": settings.training, "testing": settings.testing}
    return [
        {
            "ChannelName": name,
            "InputMode": settings.input_mode,
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": address,
                    "S3DataDistributionType": "FullyReplicated",
                }
            },
        }
        for name, address in addresses.items()
        if address is not None
    ]


def metric_definition(name: str) -> dict[str, str]:
    """Return the metric definition with which SageMaker parses a metric from the output of a job.

    Example:
        >>> import re
        >>> definition = metric_definition("val/auroc")
        >>> definition["Name"], re.search(definition["Regex"], "epoch=3 train/loss=0.4 val/auroc=9.1e-01")[1]
        ('val:auroc', '9.1e-01')
    """
    return {"Name": name.replace("/", ":"), "Regex": rf"\b{re.escape(name)}={_NUMBER}"}


def _hyperparameters(settings: JobSettings, region: str, source: str) -> dict[str, str]:
    """Return the hyperparameters read by SageMaker's training toolkit; values are strings, as the API requires."""
    parameters = {
        "sagemaker_program": PROGRAM,
        "sagemaker_submit_directory": source,
        "sagemaker_region": region,
        "sagemaker_container_log_level": "20",
    }
    if settings.distribution == "smddp":
        parameters["sagemaker_distributed_dataparallel_enabled"] = "true"
        parameters["sagemaker_instance_type"] = settings.instance_type
        if settings.mpi_options:
            parameters["sagemaker_distributed_dataparallel_custom_mpi_options"] = settings.mpi_options
    else:
        parameters["sagemaker_torch_distributed_enabled"] = "true"
    if settings.processes_per_instance:
        parameters["sagemaker_mpi_num_of_processes_per_host"] = str(settings.processes_per_instance)
    return parameters


def model_trainer(request: dict[str, Any], session: Any, *, local: bool = False) -> Any:
    """Return the SDK's `ModelTrainer` that sends a request unchanged.

    It gets no `source_code`, because the SDK would then replace the image's entry point with one that lacks SMDDP support.

    Args:
        request: Result of `training_request`.
        session: A session of the SDK.
        local: Whether the job runs in its container on this machine.
    """
    configs = sdk("sagemaker.core.training.configs")
    algorithm, resources = request["AlgorithmSpecification"], request["ResourceConfig"]
    stopping, output, network = request["StoppingCondition"], request["OutputDataConfig"], request.get("VpcConfig", {})
    module = sdk("sagemaker.train.model_trainer")
    trainer = module.ModelTrainer(
        training_mode=module.Mode.LOCAL_CONTAINER if local else module.Mode.SAGEMAKER_TRAINING_JOB,
        **({"local_container_root": str(_local_folder())} if local else {}),
        sagemaker_session=session,
        base_job_name=request["TrainingJobName"],
        role=request["RoleArn"],
        training_image=algorithm["TrainingImage"],
        training_input_mode=algorithm["TrainingInputMode"],
        hyperparameters=dict(request["HyperParameters"]),
        compute=configs.Compute(
            instance_type=_local_type() if local else resources.get("InstanceType"),
            instance_preferences=_preferences(resources),
            instance_count=resources["InstanceCount"],
            volume_size_in_gb=resources["VolumeSizeInGB"],
            keep_alive_period_in_seconds=resources.get("KeepAlivePeriodInSeconds"),
            volume_kms_key_id=resources.get("VolumeKmsKeyId"),
            enable_managed_spot_training=request["EnableManagedSpotTraining"],
        ),
        stopping_condition=configs.StoppingCondition(
            max_runtime_in_seconds=stopping["MaxRuntimeInSeconds"],
            max_wait_time_in_seconds=stopping.get("MaxWaitTimeInSeconds"),
            max_pending_time_in_seconds=stopping.get("MaxPendingTimeInSeconds"),
        ),
        output_data_config=configs.OutputDataConfig(
            s3_output_path=output["S3OutputPath"],
            kms_key_id=output.get("KmsKeyId"),
            compression_type=output["CompressionType"],
        ),
        checkpoint_config=configs.CheckpointConfig(
            s3_uri=request["CheckpointConfig"]["S3Uri"], local_path=request["CheckpointConfig"]["LocalPath"]
        ),
        networking=configs.Networking(
            subnets=network.get("Subnets"),
            security_group_ids=network.get("SecurityGroupIds"),
            enable_inter_container_traffic_encryption=request.get("EnableInterContainerTrafficEncryption"),
            enable_network_isolation=request.get("EnableNetworkIsolation"),
        ),
        environment=request.get("Environment"),
        tags=[configs.Tag(key=tag["Key"], value=tag["Value"]) for tag in request.get("Tags", [])] or None,
    )
    if "RetryStrategy" in request:
        attempts = request["RetryStrategy"]["MaximumRetryAttempts"]
        trainer.with_retry_strategy(configs.RetryStrategy(maximum_retry_attempts=attempts))
    if algorithm["MetricDefinitions"]:
        trainer.with_metric_definitions(
            [configs.MetricDefinition(name=m["Name"], regex=m["Regex"]) for m in algorithm["MetricDefinitions"]]
        )
    return trainer


def _local_folder() -> Path:
    """Return the folder of the container's files, which the SDK would otherwise scatter in the working folder."""
    folder = Path("rehearsal/container").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _local_type() -> str:
    """Return the SDK's word for this machine."""
    return "local_gpu" if shutil.which("nvidia-smi") else "local_cpu"


def _preferences(resources: dict[str, Any]) -> list[Any] | None:
    """Return the instance types that are tried in turn, as SDK objects; `None` if there is only one."""
    if "InstancePreferences" not in resources:
        return None
    kind = sdk("sagemaker.core.shapes").InstancePreference
    return [
        kind(instance_type=item["InstanceType"], training_plan_arns=None) for item in resources["InstancePreferences"]
    ]


def sdk_channels(request: dict[str, Any]) -> list[Any]:
    """Return the data channels of a request as SDK objects."""
    configs = sdk("sagemaker.core.training.configs")
    found = []
    for channel in request["InputDataConfig"]:
        source = channel["DataSource"]["S3DataSource"]
        found.append(
            configs.Channel(
                channel_name=channel["ChannelName"],
                input_mode=channel["InputMode"],
                data_source=configs.DataSource(
                    s3_data_source=configs.S3DataSource(
                        s3_data_type=source["S3DataType"],
                        s3_uri=source["S3Uri"],
                        s3_data_distribution_type=source["S3DataDistributionType"],
                    )
                ),
            )
        )
    return found
