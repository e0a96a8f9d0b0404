"""Autoscaling of an endpoint, down to no instance at all for an asynchronous one: requests as pure functions."""

from typing import Any

from milpath.sagemaker.jobs.endpoint_request import DeployConfig

VARIANT = "AllTraffic"
_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
# Seconds without work after which instances are taken away, and between two steps up.
COOLDOWN_IN, COOLDOWN_OUT = 600, 300
# Seconds between looks at a backlog without any instance, and how many of them start the first.
WAKE_PERIOD, WAKE_PERIODS = 60, 2


def resource_of(endpoint: str) -> dict[str, str]:
    """Return what names the instances of an endpoint in Application Auto Scaling."""
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}",
        "ScalableDimension": _DIMENSION,
    }


def wake_up_alarm(endpoint: str) -> str:
    """Return the name of the alarm that starts the first instance."""
    return f"{endpoint}-wake-up"


def scales(settings: DeployConfig) -> bool:
    """Return whether an endpoint is scaled: an asynchronous one unless that is turned off, others if wanted.

    Raises:
        ValueError: If it cannot be scaled as wanted; the message says what to type.
    """
    wanted = settings.mode == "async" if settings.autoscale is None else settings.autoscale
    if not wanted:
        return False
    if settings.mode == "serverless":
        raise ValueError("autoscale=true is for mode=instance and mode=async; serverless endpoints scale by themselves")
    low, high = limits_of(settings)
    if low == 0 and settings.mode == "instance":
        raise ValueError("min_instances=0 is for mode=async: requests of mode=instance cannot wait for an instance")
    if not 0 <= low <= high or high < 1:
        raise ValueError(f"min_instances={low} must be at least 0 and at most max_instances={high}")
    if not settings.wait:
        raise ValueError(
            "an endpoint is scaled once it is in service: remove wait=false, or add autoscale=false and pay for its "
            "instances until it is deleted"
        )
    for name in ("backlog_per_instance", "requests_per_minute"):
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name}={getattr(settings, name)} must be above 0")
    return True


def limits_of(settings: DeployConfig) -> tuple[int, int]:
    """Return the smallest and the largest number of instances."""
    low = settings.min_instances
    if low is None:
        low = 0 if settings.mode == "async" else 1
    return low, settings.instance_count if settings.max_instances is None else settings.max_instances


def scaling_requests(settings: DeployConfig) -> dict[str, dict[str, Any]]:
    """Return the bodies of `RegisterScalableTarget` and of one or two `PutScalingPolicy`, by a name of their own.

    Args:
        settings: Settings of the endpoint.

    References:
        AWS, Autoscale an asynchronous endpoint: target tracking of ApproximateBacklogSizePerInstance, and a step policy on
        HasBacklogWithoutCapacity, without which an endpoint without instances waits for several requests.
    """
    resource = resource_of(settings.endpoint)
    low, high = limits_of(settings)
    tracking: dict[str, Any] = {"ScaleInCooldown": COOLDOWN_IN, "ScaleOutCooldown": COOLDOWN_OUT}
    if settings.mode == "async":
        tracking["TargetValue"] = float(settings.backlog_per_instance)
        tracking["CustomizedMetricSpecification"] = {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": settings.endpoint}],
            "Statistic": "Average",
        }
    else:
        tracking["TargetValue"] = float(settings.requests_per_minute)
        tracking["PredefinedMetricSpecification"] = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    requests: dict[str, dict[str, Any]] = {
        "target": resource | {"MinCapacity": low, "MaxCapacity": high},
        "track": resource
        | {
            "PolicyName": f"{settings.endpoint}-track",
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": tracking,
        },
    }
    if low == 0:
        requests["wake"] = resource | {
            "PolicyName": f"{settings.endpoint}-wake-up",
            "PolicyType": "StepScaling",
            "StepScalingPolicyConfiguration": {
                "AdjustmentType": "ChangeInCapacity",
                "MetricAggregationType": "Average",
                "Cooldown": COOLDOWN_OUT,
                "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
            },
        }
    return requests


def alarm_request(endpoint: str, policy_arn: str) -> dict[str, Any]:
    """Return the body of `PutMetricAlarm` that starts the first instance when a request waits and there is none.

    Args:
        endpoint: Name of the endpoint.
        policy_arn: ARN of the step policy.
    """
    return {
        "AlarmName": wake_up_alarm(endpoint),
        "MetricName": "HasBacklogWithoutCapacity",
        "Namespace": "AWS/SageMaker",
        "Statistic": "Average",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
        "Period": WAKE_PERIOD,
        "EvaluationPeriods": WAKE_PERIODS,
        "DatapointsToAlarm": WAKE_PERIODS,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "missing",
        "AlarmActions": [policy_arn],
    }


def bill_note(settings: DeployConfig) -> str:
    """Return one line on what the endpoint costs from now on."""
    if settings.mode == "serverless":
        return "charged by the millisecond of use, nothing while idle; the model in S3 is charged until it is deleted"
    each = f"{settings.instance_type} by the second, used or not"
    if not scales(settings):
        return f"charged UNTIL IT IS DELETED: {settings.instance_count} x {each}"
    low, high = limits_of(settings)
    if low == 0:
        minutes, wake = COOLDOWN_IN // 60, WAKE_PERIOD * WAKE_PERIODS // 60
        return (
            f"charged for 0 to {high} x {each}: to none about {minutes} minutes after the last request; the first request "
            f"then waits for the alarm ({wake} minutes) and the start of an instance (several minutes more)"
        )
    return f"charged UNTIL IT IS DELETED: {low} to {high} x {each}"
