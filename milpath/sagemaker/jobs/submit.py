"""From the request for a training job to the objects of the SageMaker SDK that send it."""

from typing import Any

from milpath.sagemaker.jobs.aws_account import sdk


def model_trainer(request: dict[str, Any], session: Any) -> Any:
    """Return the SDK's `ModelTrainer` that sends a request as it is.

    No `source_code` is given to it: with one, the SDK replaces the image's entry point by one that knows no SMDDP.

    Args:
        request: What `training_request` returned.
        session: A session of the SDK.
    """
    configs = sdk("sagemaker.core.training.configs")
    algorithm, resources = request["AlgorithmSpecification"], request["ResourceConfig"]
    stopping, output, network = request["StoppingCondition"], request["OutputDataConfig"], request.get("VpcConfig", {})
    trainer = sdk("sagemaker.train.model_trainer").ModelTrainer(
        sagemaker_session=session,
        base_job_name=request["TrainingJobName"],
        role=request["RoleArn"],
        training_image=algorithm["TrainingImage"],
        training_input_mode=algorithm["TrainingInputMode"],
        hyperparameters=dict(request["HyperParameters"]),
        compute=configs.Compute(
            instance_type=resources["InstanceType"],
            instance_count=resources["InstanceCount"],
            volume_size_in_gb=resources["VolumeSizeInGB"],
            keep_alive_period_in_seconds=resources.get("KeepAlivePeriodInSeconds"),
            volume_kms_key_id=resources.get("VolumeKmsKeyId"),
            enable_managed_spot_training=request["EnableManagedSpotTraining"],
        ),
        stopping_condition=configs.StoppingCondition(
            max_runtime_in_seconds=stopping["MaxRuntimeInSeconds"],
            max_wait_time_in_seconds=stopping.get("MaxWaitTimeInSeconds"),
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
        ),
        environment=request.get("Environment"),
        tags=[configs.Tag(key=tag["Key"], value=tag["Value"]) for tag in request.get("Tags", [])] or None,
    )
    if algorithm["MetricDefinitions"]:
        trainer.with_metric_definitions(
            [configs.MetricDefinition(name=m["Name"], regex=m["Regex"]) for m in algorithm["MetricDefinitions"]]
        )
    return trainer


def channels(request: dict[str, Any]) -> list[Any]:
    """Return the data channels of a request as objects of the SDK."""
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
