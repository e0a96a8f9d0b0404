from datetime import UTC, datetime

import botocore.session
import pytest
from botocore.validate import validate_parameters

from milpath.sagemaker.jobs.job_settings import JobSettings
from milpath.sagemaker.processing.slide_listing import S3Slide
from milpath.sagemaker.scoring.transform_request import model_request, transform_request

ROLE = "arn:aws:iam::123456789012:role/Trainer"
BAGS = [S3Slide(f"{name}.npy", size, datetime(2026, 1, 1, tzinfo=UTC)) for name, size in (("a", 10), ("b", 3 << 20))]
PLACE = {
    "name": "job-1", "model": "milpath-work", "manifest": "s3://slides/w/manifest.json", "output": "s3://slides/w/answers",
    "suffix": ".npy", "bags": BAGS,
}  # fmt: skip


def require_valid(body, operation):
    service = botocore.session.get_session().get_service_model("sagemaker")
    validate_parameters(body, service.operation_model(operation).input_shape)


def settings(**words):
    return JobSettings(**{"bucket": "slides", "instance_type": "ml.m5.xlarge"} | words)


def test_the_request_of_a_batch_field_by_field():
    body = transform_request(settings(instance_count=9, kms_key="key-1", tags={"project": "milpath"}), **PLACE)
    require_valid(body, "CreateTransformJob")
    assert body == {
        "TransformJobName": "job-1",
        "ModelName": "milpath-work",
        "MaxConcurrentTransforms": 1,
        "MaxPayloadInMB": 3,
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": 3600, "InvocationsMaxRetries": 1},
        "BatchStrategy": "SingleRecord",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": "s3://slides/w/manifest.json"}},
            "ContentType": "application/x-npy",
            "CompressionType": "None",
            "SplitType": "None",
        },
        "TransformOutput": {
            "S3OutputPath": "s3://slides/w/answers",
            "Accept": "application/json",
            "AssembleWith": "None",
            "KmsKeyId": "key-1",
        },
        # No more instances than bags.
        "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeKmsKeyId": "key-1"},
        "Tags": [{"Key": "project", "Value": "milpath"}],
    }


def test_the_model_of_a_batch_takes_large_bodies_and_answers_refusals():
    body = model_request(
        settings(subnets=["subnet-1"], security_group_ids=["sg-1"], isolate=True, image="own"),
        name="milpath-work", role=ROLE, image="registry/image:1", model="s3://slides/w/model.tar.gz",
    )  # fmt: skip
    require_valid(body, "CreateModel")
    assert body["ModelName"] == "milpath-work"
    assert body["EnableNetworkIsolation"] is True
    assert body["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    environment = body["PrimaryContainer"]["Environment"]
    assert environment["MILPATH_BATCH"] == "1"
    assert int(environment["MILPATH_MAX_BODY_BYTES"]) > 100 * 2**20
    assert environment["TS_MAX_REQUEST_SIZE"] == environment["MILPATH_MAX_BODY_BYTES"]
    assert len(environment) <= 16  # the service takes no more in a batch


def test_an_object_above_the_limit_is_named_with_the_other_way():
    large = [*BAGS, S3Slide("c.npy", (100 << 20) + 1, BAGS[0].modified)]
    with pytest.raises(ValueError, match=r"c.npy has 101 MB, .*\(1 object of 3 are larger\); upload these slides"):
        transform_request(settings(), **PLACE | {"bags": large})
    with pytest.raises(ValueError, match="sagemaker.spot=True does not exist in Batch Transform"):
        transform_request(settings(spot=True), **PLACE)
