import re

import botocore.session
import pytest
from botocore.validate import validate_parameters

from milpath.sagemaker.jobs.job_settings import JobSettings
from milpath.sagemaker.jobs.training_request import metric_definition, training_request

ROLE = "arn:aws:iam::123456789012:role/Trainer"
PLACE = {
    "region": "eu-central-1",
    "role": ROLE,
    "image": "registry/pytorch-training:2.10.0-gpu-py313",
    "source": "s3://slides/milpath/source/0123/source.tar.gz",
    "run_id": "milpath-20260101000000",
}
GIVEN = {"bucket": "slides", "training": "s3://slides/panda"}


def request(**settings):
    return training_request(JobSettings(**GIVEN | settings), **PLACE)


def require_valid(body):
    """Compare with the shapes of the service itself, as botocore does before it sends."""
    shape = (
        botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateTrainingJob").input_shape
    )
    validate_parameters(body, shape)


def test_the_smallest_request_is_whole():
    body = request()
    require_valid(body)
    assert body == {
        "TrainingJobName": "milpath",
        "RoleArn": ROLE,
        "AlgorithmSpecification": {
            "TrainingImage": "registry/pytorch-training:2.10.0-gpu-py313",
            "TrainingInputMode": "File",
            "MetricDefinitions": [],
        },
        "HyperParameters": {
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": "s3://slides/milpath/source/0123/source.tar.gz",
            "sagemaker_region": "eu-central-1",
            "sagemaker_container_log_level": "20",
            "sagemaker_torch_distributed_enabled": "true",
        },
        "InputDataConfig": [
            {
                "ChannelName": "training",
                "InputMode": "File",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": "s3://slides/panda",
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
        ],
        "OutputDataConfig": {"S3OutputPath": "s3://slides/milpath/output", "CompressionType": "GZIP"},
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 100},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        "CheckpointConfig": {
            "S3Uri": "s3://slides/milpath/checkpoints/milpath-20260101000000",
            "LocalPath": "/opt/ml/checkpoints",
        },
        "EnableManagedSpotTraining": False,
    }


def test_spot_instances_may_wait_twice_as_long_as_they_run():
    body = request(spot=True, max_run_seconds=3600)
    require_valid(body)
    assert body["EnableManagedSpotTraining"] is True
    assert body["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}
    body = request(spot=True, max_run_seconds=3600, max_wait_seconds=3601)
    assert body["StoppingCondition"]["MaxWaitTimeInSeconds"] == 3601


def test_smddp_is_asked_for_in_the_words_of_the_toolkit():
    body = request(distribution="smddp", instance_type="ml.p4d.24xlarge", instance_count=2, mpi_options="-x NAME")
    require_valid(body)
    parameters = body["HyperParameters"]
    assert parameters["sagemaker_distributed_dataparallel_enabled"] == "true"
    assert parameters["sagemaker_instance_type"] == "ml.p4d.24xlarge"
    assert parameters["sagemaker_distributed_dataparallel_custom_mpi_options"] == "-x NAME"
    assert "sagemaker_torch_distributed_enabled" not in parameters


def test_every_other_setting_has_its_field():
    body = request(
        testing="s3://slides/radboud",
        input_mode="FastFile",
        output="s3://results/here",
        checkpoints="s3://results/checkpoints",
        processes_per_instance=4,
        keep_alive_seconds=600,
        kms_key="key-1",
        tags={"project": "milpath"},
        environment={"NCCL_DEBUG": "WARN"},
        subnets=["subnet-1"],
        security_group_ids=["sg-1"],
        encrypt_traffic=True,
        metrics=["val/auroc"],
    )
    require_valid(body)
    assert [channel["ChannelName"] for channel in body["InputDataConfig"]] == ["training", "testing"]
    assert {channel["InputMode"] for channel in body["InputDataConfig"]} == {"FastFile"}
    assert body["OutputDataConfig"]["S3OutputPath"] == "s3://results/here"
    assert body["OutputDataConfig"]["KmsKeyId"] == "key-1"
    assert body["CheckpointConfig"]["S3Uri"] == "s3://results/checkpoints"
    assert body["HyperParameters"]["sagemaker_mpi_num_of_processes_per_host"] == "4"
    assert body["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 600
    assert body["ResourceConfig"]["VolumeKmsKeyId"] == "key-1"
    assert body["Tags"] == [{"Key": "project", "Value": "milpath"}]
    assert body["Environment"] == {"NCCL_DEBUG": "WARN"}
    assert body["VpcConfig"] == {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    assert body["EnableInterContainerTrafficEncryption"] is True
    assert body["AlgorithmSpecification"]["MetricDefinitions"] == [metric_definition("val/auroc")]


@pytest.mark.parametrize("number", ["0.912", "1", "1e-05", "-3.5", "1.25E+02"])
def test_a_metric_is_found_in_the_line_of_its_epoch(number):
    line = f"[1,mpirank:0,algo-1]<stdout>:epoch=2 train/loss=7.5 val/auroc={number} val/auroc_macro=5"
    assert re.search(metric_definition("val/auroc")["Regex"], line)[1] == number


def test_a_job_that_finds_no_capacity_tries_other_instances_and_starts_again():
    body = request(other_instance_types=["ml.g5.2xlarge"], retries=3, max_pending_seconds=7200, compress_output=False)
    require_valid(body)
    resources = body["ResourceConfig"]
    assert "InstanceType" not in resources  # the service takes one of the two
    assert resources["InstancePreferences"] == [{"InstanceType": "ml.g5.xlarge"}, {"InstanceType": "ml.g5.2xlarge"}]
    assert resources["InstanceCount"] == 1
    assert body["RetryStrategy"] == {"MaximumRetryAttempts": 3}
    assert body["StoppingCondition"]["MaxPendingTimeInSeconds"] == 7200
    assert body["OutputDataConfig"]["CompressionType"] == "NONE"
