import botocore.session
import pytest
from botocore.validate import validate_parameters

from milpath.sagemaker.jobs.endpoint_request import DeployConfig
from milpath.sagemaker.jobs.endpoint_scaling import alarm_request, bill_note, scales, scaling_requests

RESOURCE = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/milpath/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}


def requests(**settings):
    config = DeployConfig(archive="x", **settings)
    assert scales(config)
    found = scaling_requests(config)
    service = botocore.session.get_session().get_service_model("application-autoscaling")
    for name, body in found.items():
        operation = "RegisterScalableTarget" if name == "target" else "PutScalingPolicy"
        validate_parameters(body, service.operation_model(operation).input_shape)
    return found


def test_an_asynchronous_endpoint_tracks_its_backlog_and_wakes_up_from_zero():
    found = requests(mode="async", instance_count=2, backlog_per_instance=3)
    assert found["target"] == RESOURCE | {"MinCapacity": 0, "MaxCapacity": 2}
    assert found["track"] == RESOURCE | {
        "PolicyName": "milpath-track",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": 3.0,
            "CustomizedMetricSpecification": {
                "MetricName": "ApproximateBacklogSizePerInstance",
                "Namespace": "AWS/SageMaker",
                "Dimensions": [{"Name": "EndpointName", "Value": "milpath"}],
                "Statistic": "Average",
            },
            "ScaleInCooldown": 600,
            "ScaleOutCooldown": 300,
        },
    }
    assert found["wake"] == RESOURCE | {
        "PolicyName": "milpath-wake-up",
        "PolicyType": "StepScaling",
        "StepScalingPolicyConfiguration": {
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": 300,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
        },
    }


def test_the_alarm_starts_the_first_instance():
    body = alarm_request("milpath", "arn:aws:autoscaling:1")
    shape = botocore.session.get_session().get_service_model("cloudwatch").operation_model("PutMetricAlarm").input_shape
    validate_parameters(body, shape)
    assert (body["MetricName"], body["Threshold"], body["ComparisonOperator"]) == (
        "HasBacklogWithoutCapacity", 1.0, "GreaterThanOrEqualToThreshold",
    )  # fmt: skip
    assert body["AlarmActions"] == ["arn:aws:autoscaling:1"]


def test_an_endpoint_of_instances_tracks_its_requests():
    found = requests(autoscale=True, max_instances=4, requests_per_minute=30)
    assert list(found) == ["target", "track"]
    assert (found["target"]["MinCapacity"], found["target"]["MaxCapacity"]) == (1, 4)
    tracking = found["track"]["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["TargetValue"] == 30.0
    metric = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    assert tracking["PredefinedMetricSpecification"] == metric


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "serverless", "autoscale": True}, "serverless endpoints scale by themselves"),
        ({"autoscale": True, "min_instances": 0}, "min_instances=0 is for mode=async"),
        ({"mode": "async", "min_instances": 3}, "min_instances=3 must be at least 0 and at most max_instances=1"),
        ({"mode": "async", "max_instances": 0}, "at most max_instances=0"),
        ({"mode": "async", "wait": False}, "remove wait=false, or add autoscale=false"),
        ({"mode": "async", "backlog_per_instance": 0}, "backlog_per_instance=0 must be above 0"),
    ],
)
def test_what_cannot_be_scaled_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        scales(DeployConfig(archive="x", **settings))


def test_the_bill_is_said_for_every_mode():
    assert bill_note(DeployConfig(archive="x", mode="serverless")).startswith("charged by the millisecond of use")
    assert bill_note(DeployConfig(archive="x")).startswith("charged UNTIL IT IS DELETED: 1 x ml.m5.xlarge")
    assert "UNTIL IT IS DELETED" in bill_note(DeployConfig(archive="x", mode="async", autoscale=False))
    assert bill_note(DeployConfig(archive="x", mode="async", instance_count=2)).startswith("charged for 0 to 2 x")
    assert "1 to 3 x" in bill_note(DeployConfig(archive="x", autoscale=True, max_instances=3))
