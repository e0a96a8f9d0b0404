"""Delete an endpoint with its configuration and models: `python -m milpath.sagemaker.delete endpoint=NAME`."""

import sys

from omegaconf import DictConfig

from milpath.config.command import command
from milpath.sagemaker.jobs.aws_account import explained, open_account
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
    client = open_account(config.region).client("sagemaker")
    with explained(f"find the endpoint {config.endpoint}"):
        name = client.describe_endpoint(EndpointName=config.endpoint)["EndpointConfigName"]
        variants = client.describe_endpoint_config(EndpointConfigName=name)["ProductionVariants"]
    deleted = []
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


@command(DELETE)
def main(config: DictConfig) -> None:
    """Run the command."""
    run(config)


if __name__ == "__main__":
    main()
