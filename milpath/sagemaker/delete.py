"""Delete an endpoint with its scaling, configuration and models: `python -m milpath.sagemaker.delete endpoint=NAME`."""

import sys
from typing import Any

from omegaconf import DictConfig

from milpath.config.command import command
from milpath.sagemaker.jobs.aws_account import explained, open_account
from milpath.sagemaker.jobs.endpoint_scaling import resource_of, wake_up_alarm
from milpath.sagemaker.jobs.job_configs import DELETE


def run(config: DictConfig) -> list[str]:
    """Delete an endpoint, its configuration and its models; objects in S3 are kept.

    Args:
        config: The composed root of the `sagemaker_delete` command.

    Returns:
        The deleted resources.

    Raises:
        ValueError: If the endpoint does not exist.
    """
    account = open_account(config.region)
    client = account.client("sagemaker")
    with explained(f"find the endpoint {config.endpoint}"):
        name = client.describe_endpoint(EndpointName=config.endpoint)["EndpointConfigName"]
        variants = client.describe_endpoint_config(EndpointConfigName=name)["ProductionVariants"]
    deleted = _stop_scaling(account, config.endpoint)
    with explained(f"delete the endpoint {config.endpoint}"):
        client.delete_endpoint(EndpointName=config.endpoint)
        deleted.append(f"endpoint {config.endpoint}")
        client.delete_endpoint_config(EndpointConfigName=name)
        deleted.append(f"endpoint configuration {name}")
        for variant in variants:
            client.delete_model(ModelName=variant["ModelName"])
            deleted.append(f"model {variant['ModelName']}")
    sys.stdout.write("".join(f"deleted {item}\n" for item in deleted))
    return deleted


def _stop_scaling(account: Any, endpoint: str) -> list[str]:
    """Remove the scalable target with its policies and alarms, which would outlive the endpoint."""
    client, resource = account.client("application-autoscaling"), resource_of(endpoint)
    deleted = []
    with explained(f"stop the scaling of {endpoint}"):
        known = {"ServiceNamespace": resource["ServiceNamespace"], "ResourceIds": [resource["ResourceId"]]}
        if client.describe_scalable_targets(**known)["ScalableTargets"]:
            # Its policies go with it; the alarm of the step policy is this library's own.
            client.deregister_scalable_target(**resource)
            deleted.append(f"scaling of {endpoint}")
            account.client("cloudwatch").delete_alarms(AlarmNames=[wake_up_alarm(endpoint)])
            deleted.append(f"alarm {wake_up_alarm(endpoint)}")
    return deleted


@command(DELETE)
def main(config: DictConfig) -> None:
    """Run the command."""
    run(config)


if __name__ == "__main__":
    main()
