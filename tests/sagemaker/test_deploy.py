import json

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.validate import validate_parameters

from milpath.sagemaker import delete, deploy
from milpath.sagemaker.jobs.endpoint_request import DeployConfig, endpoint_requests, require_used
from tests.sagemaker.conftest import REGION, ROLE

PLACE = {"role": ROLE, "image": "registry/image:1", "model": "s3://slides/model.tar.gz", "suffix": "1"}
GIVEN = ["bucket=slides", f"role={ROLE}"]


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "model.tar.gz"
    path.write_bytes(b"archive")
    return path


def requests(**settings):
    found = endpoint_requests(DeployConfig(archive="x", **settings), **PLACE)
    service = botocore.session.get_session().get_service_model("sagemaker")
    for name, body in found.items():
        operation = "".join(word.title() for word in name.split("_"))
        validate_parameters(body, service.operation_model(operation).input_shape)
    return found


def test_the_requests_of_an_endpoint_that_is_always_on():
    found = requests()
    assert list(found) == ["create_model", "create_endpoint_config", "create_endpoint"]
    container = found["create_model"]["PrimaryContainer"]
    assert (container["Image"], container["ModelDataUrl"]) == ("registry/image:1", "s3://slides/model.tar.gz")
    assert container["Environment"] == {
        "SAGEMAKER_PROGRAM": "inference.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        "TS_MAX_REQUEST_SIZE": "7340032",
        "TS_MAX_RESPONSE_SIZE": "7340032",
        "MILPATH_MAX_BODY_BYTES": "6291456",
    }
    (variant,) = found["create_endpoint_config"]["ProductionVariants"]
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.m5.xlarge", 1)
    assert found["create_endpoint"] == {"EndpointName": "milpath", "EndpointConfigName": "milpath-1"}


def test_a_serverless_endpoint_has_memory_in_place_of_machines():
    (variant,) = requests(mode="serverless", memory_size_mb=3072)["create_endpoint_config"]["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 3072, "MaxConcurrency": 5}
    assert "InstanceType" not in variant


def test_an_asynchronous_endpoint_answers_into_s3_and_takes_more():
    found = requests(mode="async", bucket="slides")
    output = found["create_endpoint_config"]["AsyncInferenceConfig"]["OutputConfig"]
    assert output["S3OutputPath"] == "s3://slides/milpath/answers/milpath"
    assert found["create_model"]["PrimaryContainer"]["Environment"]["MILPATH_MAX_BODY_BYTES"] == str(256 * 2**20)


def test_every_other_setting_has_its_field():
    found = requests(
        s3_prefixes=["s3://a/", "s3://b/"],
        tags={"team": "x"},
        environment={"MILPATH_MAX_TILES": "9"},
        subnets=["subnet-1"],
        security_group_ids=["sg-1"],
        kms_key="key-1",
    )
    environment = found["create_model"]["PrimaryContainer"]["Environment"]
    assert (environment["MILPATH_S3_PREFIXES"], environment["MILPATH_MAX_TILES"]) == ("s3://a/,s3://b/", "9")
    assert found["create_model"]["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert found["create_endpoint_config"]["KmsKeyId"] == "key-1"
    assert all(body["Tags"] == [{"Key": "team", "Value": "x"}] for body in found.values())


def test_a_large_model_is_a_folder_and_has_time_to_load():
    found = endpoint_requests(
        DeployConfig(archive="x", start_seconds=1800), **PLACE | {"model": "s3://slides/output/job/output/model/"}
    )
    shape = botocore.session.get_session().get_service_model("sagemaker")
    validate_parameters(found["create_model"], shape.operation_model("CreateModel").input_shape)
    container = found["create_model"]["PrimaryContainer"]
    assert container["ModelDataSource"] == {
        "S3DataSource": {
            "S3Uri": "s3://slides/output/job/output/model/", "S3DataType": "S3Prefix", "CompressionType": "None",
        }
    }  # fmt: skip
    assert "ModelDataUrl" not in container
    (variant,) = found["create_endpoint_config"]["ProductionVariants"]
    assert (
        variant["ModelDataDownloadTimeoutInSeconds"] == variant["ContainerStartupHealthCheckTimeoutInSeconds"] == 1800
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "always"}, "mode=always must be one of instance, serverless, async"),
        ({"mode": "serverless", "memory_size_mb": 5000}, "memory_size_mb=5000 must be 1024"),
        ({"mode": "async"}, "add bucket=NAME"),
        ({"start_seconds": 30}, "start_seconds=30 must be between 60 and 3600"),
    ],
)
def test_a_wrong_mode_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        requests(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"security_group_ids": ["sg-1"]}, "subnets and security_group_ids put the endpoint into a VPC together"),
        ({"mode": "serverless", "instance_type": "ml.g5.xlarge"}, "is for mode=instance and mode=async and changes"),
        (
            {"mode": "serverless", "start_seconds": 600},
            "start_seconds=600 is for mode=instance and mode=async and chan",
        ),
        ({"memory_size_mb": 6144}, "memory_size_mb=6144 is for mode=serverless and changes nothing with mode=instance"),
        ({"max_instances": 3}, "max_instances=3 is for autoscale=true; leave it out, or give what it is for"),
        ({"mode": "async", "autoscale": False, "min_instances": 1}, "min_instances=1 is for autoscale=true"),
        (
            {"autoscale": True, "backlog_per_instance": 2},
            "backlog_per_instance=2 is for mode=async and changes nothing",
        ),
        ({"requests_per_minute": 600}, "requests_per_minute=600 is for autoscale=true"),
    ],
)
def test_what_a_mode_does_not_have_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        require_used(DeployConfig(**settings))


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"subnets": ["subnet-1"], "security_group_ids": ["sg-1"]}, {"start_seconds": 600, "instance_count": 2},
        {"mode": "serverless", "memory_size_mb": 6144, "max_concurrency": 9}, {"autoscale": True, "max_instances": 3},
        {"autoscale": True, "requests_per_minute": 600}, {"mode": "async", "backlog_per_instance": 2, "max_instances": 3},
    ],
)  # fmt: skip
def test_what_a_mode_has_is_taken(settings):
    require_used(DeployConfig(**settings))


def test_an_endpoint_is_made_scored_by_name_and_removed_without_a_rest(account, command, archive):
    status, output, errors = command(deploy, f"archive={archive}", *GIVEN)
    assert (status, errors) == (0, "")
    assert "endpoint milpath is in service" in output
    (body,) = account.requests("CreateModel")
    assert body["PrimaryContainer"]["Image"].endswith("pytorch-inference:2.6.0-cpu-py312")
    key = body["PrimaryContainer"]["ModelDataUrl"].removeprefix("s3://slides/")
    assert account.s3.get_object(Bucket="slides", Key=key)["Body"].read() == b"archive"
    status, output, errors = command(delete, "endpoint=milpath")
    assert (status, errors) == (0, "")
    assert output.count("deleted") == 3
    assert account.sagemaker.list_endpoints()["Endpoints"] == []
    assert account.sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert account.sagemaker.list_models()["Models"] == []


def test_dry_run_shows_the_requests(account, command, archive):
    status, shown, errors = command(deploy, f"archive={archive}", *GIVEN, "dry_run=true", f"region={REGION}")
    assert (status, errors.count("\n"), account.sent) == (0, 1, [])
    assert list(json.loads(shown)) == ["create_model", "create_endpoint_config", "create_endpoint"]


def test_a_refused_endpoint_leaves_nothing_behind(account, command, archive):
    def refuse(**_):
        answer = {"Error": {"Code": "ValidationException", "Message": "Cannot create already existing endpoint"}}
        raise ClientError(answer, "CreateEndpoint")

    account.events.register("provide-client-params.sagemaker.CreateEndpoint", refuse)
    status, _, errors = command(deploy, f"archive={archive}", *GIVEN)
    assert status == 1
    assert "could not create the endpoint milpath: ValidationException: Cannot create already existing" in errors
    assert account.requests("CreateEndpointConfig")
    assert account.sagemaker.list_models()["Models"] == []
    assert account.sagemaker.list_endpoint_configs()["EndpointConfigs"] == []


def test_an_asynchronous_endpoint_scales_to_zero_and_is_removed_with_its_alarm(account, command, archive):
    scaling = boto3.client("application-autoscaling", REGION)
    alarms = boto3.client("cloudwatch", REGION)
    status, output, errors = command(deploy, f"archive={archive}", *GIVEN, "mode=async", "max_instances=3")
    assert (status, errors) == (0, "")
    assert "scales between 0 and 3 x ml.m5.xlarge" in output
    assert (
        "to none about 10 minutes after the last request; the first request then waits for the alarm (2 min" in output
    )
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (target["ResourceId"], target["MinCapacity"]) == ("endpoint/milpath/variant/AllTraffic", 0)
    policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert {policy["PolicyType"] for policy in policies} == {"TargetTrackingScaling", "StepScaling"}
    (alarm,) = [item for item in alarms.describe_alarms()["MetricAlarms"] if item["AlarmName"] == "milpath-wake-up"]
    (step,) = [policy["PolicyARN"] for policy in policies if policy["PolicyType"] == "StepScaling"]
    assert alarm["AlarmActions"] == [step]
    status, output, errors = command(delete, "endpoint=milpath")
    assert (status, errors, output.count("deleted")) == (0, "", 5)
    assert scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []
    assert [
        item["AlarmName"] for item in alarms.describe_alarms()["MetricAlarms"] if "wake-up" in item["AlarmName"]
    ] == []


def test_an_endpoint_that_is_always_on_says_what_it_costs(account, command, archive):
    status, output, _ = command(deploy, f"archive={archive}", *GIVEN, "instance_count=2")
    assert status == 0
    assert "charged UNTIL IT IS DELETED: 2 x ml.m5.xlarge by the second, used or not" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["archive=missing.tar.gz"], "archive=missing.tar.gz does not exist; run: python -m milpath.sagemaker.package"),
        (["archive=s3://slides/none.tar.gz"], "there is no object under s3://slides/none.tar.gz"),
        (["archive=s3://slides/panda", "role=null"], "no role was given; add role=arn"),
        (["archive=s3://slides/panda", "image_version=1"], "AWS has no PyTorch inference image 1"),
    ],
)
def test_a_mistake_is_one_line(account, command, words, message):
    kept = [word for word in GIVEN if word.split("=")[0] != words[-1].split("=")[0]]
    status, _, errors = command(deploy, *kept, *words)
    assert status == 1
    assert message in errors
    assert account.requests("CreateModel") == []


def test_an_endpoint_that_is_not_there_cannot_be_deleted(account, command):
    status, _, errors = command(delete, "endpoint=nowhere")
    assert status == 1
    assert "could not find the endpoint nowhere: " in errors
