import botocore.session
import pytest
from botocore.validate import validate_parameters

from milpath.sagemaker.jobs.job_settings import JobSettings
from milpath.sagemaker.processing.processing_request import (
    CODE_DIR,
    SLIDES_DIR,
    Input,
    Output,
    processing_request,
)
from milpath.sagemaker.processing.slide_rate import describe_cost

ROLE = "arn:aws:iam::123456789012:role/Trainer"
PLACE = {
    "name": "milpath-20260101000000",
    "role": ROLE,
    "image": "registry/pytorch-training:2.10.0-cpu-py313",
    "inputs": [
        Input("code", "s3://slides/cutting/code/", CODE_DIR),
        Input("slides", "s3://slides/cutting/manifest.json", SLIDES_DIR, manifest=True, shared_out=True),
    ],
    "outputs": [
        Output("parts", "/opt/ml/processing/cut/store/parts", "s3://slides/cutting/parts", continuous=True),
        Output("store", "/opt/ml/processing/output", "s3://slides/store"),
    ],
    "environment": {"MILPATH_PHASE": "cut"},
    "num_instances": 4,
}


def request(**settings):
    words = {"bucket": "slides", "instance_type": "ml.c6i.4xlarge", "volume_size_gb": 500} | settings
    body = processing_request(JobSettings(**words), **PLACE)
    service = botocore.session.get_session().get_service_model("sagemaker")
    validate_parameters(body, service.operation_model("CreateProcessingJob").input_shape)
    return body


def test_the_request_field_by_field():
    body = request(tags={"project": "milpath"})
    (start,) = body["AppSpecification"].pop("ContainerArguments")
    assert len(start) <= 256  # longest argument that the service takes
    assert f"tar -xzf {CODE_DIR}/source.tar.gz" in start
    assert start.endswith("exec python3 process.py")
    assert body == {
        "ProcessingJobName": "milpath-20260101000000",
        "RoleArn": ROLE,
        "AppSpecification": {
            "ImageUri": "registry/pytorch-training:2.10.0-cpu-py313",
            "ContainerEntrypoint": ["/bin/bash", "-c"],
        },
        "ProcessingInputs": [
            {
                "InputName": "code",
                "S3Input": {
                    "S3Uri": "s3://slides/cutting/code/",
                    "LocalPath": "/opt/ml/processing/input/code",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                    "S3DataDistributionType": "FullyReplicated",
                },
            },
            {
                "InputName": "slides",
                "S3Input": {
                    "S3Uri": "s3://slides/cutting/manifest.json",
                    "LocalPath": "/opt/ml/processing/input/slides",
                    "S3DataType": "ManifestFile",
                    "S3InputMode": "File",
                    "S3DataDistributionType": "ShardedByS3Key",
                },
            },
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "parts",
                    "S3Output": {
                        "S3Uri": "s3://slides/cutting/parts",
                        "LocalPath": "/opt/ml/processing/cut/store/parts",
                        "S3UploadMode": "Continuous",
                    },
                },
                {
                    "OutputName": "store",
                    "S3Output": {
                        "S3Uri": "s3://slides/store",
                        "LocalPath": "/opt/ml/processing/output",
                        "S3UploadMode": "EndOfJob",
                    },
                },
            ]
        },
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 4, "InstanceType": "ml.c6i.4xlarge", "VolumeSizeInGB": 500}
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        "Environment": {"MILPATH_PHASE": "cut"},
        "Tags": [{"Key": "project", "Value": "milpath"}],
    }


def test_a_hospital_has_its_own_network_and_keys():
    body = request(
        subnets=["subnet-1"],
        security_group_ids=["sg-1"],
        encrypt_traffic=True,
        isolate=True,
        image="own",
        kms_key="key-1",
    )
    assert body["NetworkConfig"] == {
        "EnableInterContainerTrafficEncryption": True,
        "EnableNetworkIsolation": True,
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
    }
    assert body["ProcessingOutputConfig"]["KmsKeyId"] == "key-1"
    assert body["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] == "key-1"


def test_other_instances_are_tried_if_there_is_no_capacity():
    cluster = request(other_instance_types=["ml.c7i.4xlarge"])["ProcessingResources"]["ClusterConfig"]
    assert cluster["InstancePreferences"] == [{"InstanceType": "ml.c6i.4xlarge"}, {"InstanceType": "ml.c7i.4xlarge"}]
    assert ("InstanceType" in cluster, cluster["InstanceCount"]) == (False, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spot": True}, "sagemaker.spot=True is only for training jobs"),
        ({"keep_alive_seconds": 60}, "sagemaker.keep_alive_seconds=60 is only for training jobs"),
        ({"input_mode": "FastFile"}, "sagemaker.input_mode=FastFile is only for training jobs; Processing copies"),
        ({"retries": 2}, "sagemaker.retries=2 is only for training jobs"),
        ({"processes_per_instance": 4}, "sagemaker.processes_per_instance=4 is only for training jobs"),
        ({"max_run_seconds": 777_601}, "exceeds the nine days"),
        ({"environment": {"LONG": "x" * 257}}, "sagemaker.environment.LONG has 257 characters"),
    ],
)
def test_what_processing_does_not_have_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        request(**settings)


def test_cost_comes_from_what_was_measured_and_given_only():
    assert describe_cost(0.5, 0.7, "tile") == (
        "1,000 slides: about 0.39 (0.56 instance hours at 0.5 slides/s, and start and copying of slides on top, "
        "at 0.7 per hour)"
    )
    assert "give price_per_hour=NUMBER for the cost" in describe_cost(0.5, None, "tile")
    assert "cost unknown" in describe_cost(None, 0.7, "extract")
    assert "give slides_per_second=NUMBER" in describe_cost(None, 0.7, "tile")
    for words in ((0, 1.0), (-1.0, 1.0), (float("nan"), 1.0), (1.0, 0.0)):
        with pytest.raises(ValueError, match="must be above 0"):
            describe_cost(*words, "tile")
