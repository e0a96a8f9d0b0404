"""Create an endpoint: `python -m milpath.sagemaker.deploy archive=model.tar.gz role=... bucket=... [mode=serverless]`.

Instead of the archive, `model_package=ARN` deploys what was registered and approved.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from milpath.config.command import command
from milpath.sagemaker.account.image_end import chosen_image, say_end
from milpath.sagemaker.jobs.aws_account import (
    explained,
    open_account,
    require_bucket,
    require_objects,
    require_role,
    upload,
)
from milpath.sagemaker.jobs.endpoint_request import DeployConfig, endpoint_requests, require_used
from milpath.sagemaker.jobs.endpoint_scaling import alarm_request, bill_note, limits_of, scales, scaling_requests
from milpath.sagemaker.jobs.job_configs import DEPLOY
from milpath.sagemaker.registry.approved_package import approved_package, region_of_package


def run(config: DictConfig) -> dict[str, dict[str, Any]]:
    """Upload a local model if needed, and create model, endpoint configuration and endpoint.

    Args:
        config: The composed root of the `sagemaker_deploy` command.

    Returns:
        The requests that were sent, or would be sent without `dry_run`.

    Raises:
        ValueError: If the account is not ready or the endpoint cannot be created.
    """
    settings = cast(DeployConfig, OmegaConf.to_object(config))
    require_used(settings)
    role = require_role(settings.role, "role")
    suffix = f"{datetime.now(UTC):%Y%m%d%H%M%S}"
    model, image = _model_address(settings, suffix), None
    account, region = _account(settings)
    if model is not None:
        image = chosen_image(
            settings.image,
            "inference",
            region=region,
            version=settings.image_version,
            python=settings.image_python,
            instance_type="ml.m5.xlarge" if settings.mode == "serverless" else settings.instance_type,
        )
    elif account is not None:
        package = approved_package(account, str(settings.model_package), allow_unapproved=settings.allow_unapproved)
        say_end(package.image)
        sys.stdout.write(f"{settings.model_package} is {package.approval}\n")
    requests = endpoint_requests(settings, role=role, image=image, model=model, suffix=suffix)
    scaling = scaling_requests(settings) if scales(settings) else {}
    if account is None:
        if model is None:
            sys.stderr.write("dry_run does not contact AWS: whether the package is approved was not looked up\n")
        sys.stdout.write(json.dumps(requests | ({"scaling": scaling} if scaling else {}), indent=2) + "\n")
        sys.stderr.write(f"{bill_note(settings)}\n")
        return requests
    if model is not None:
        if model == settings.archive:
            require_objects(account, model)
        else:
            require_bucket(account, str(settings.bucket))
            upload(account, Path(str(settings.archive)), model)
    _create(account.client("sagemaker"), settings, requests)
    if scaling:
        _scale(account, settings, scaling)
    return requests


def _scale(account: Any, settings: DeployConfig, requests: dict[str, dict[str, Any]]) -> None:
    """Scale an endpoint that is in service; if that fails, it stays, and so does its price, which the message says."""
    client = account.client("application-autoscaling")
    try:
        with explained(f"scale the endpoint {settings.endpoint}"):
            client.register_scalable_target(**requests["target"])
            client.put_scaling_policy(**requests["track"])
            if "wake" in requests:
                arn = client.put_scaling_policy(**requests["wake"])["PolicyARN"]
                account.client("cloudwatch").put_metric_alarm(**alarm_request(settings.endpoint, arn))
    except ValueError as error:
        raise ValueError(
            f"{error}; the endpoint is in service and charged until it is deleted: "
            f"python -m milpath.sagemaker.delete endpoint={settings.endpoint}"
        ) from None
    low, high = limits_of(settings)
    sys.stdout.write(f"scales between {low} and {high} x {settings.instance_type}\n")


def _account(settings: DeployConfig) -> tuple[Any, str]:
    """Return the session, which is `None` for a dry run, and the region: that of a model package is in its name."""
    region = settings.region
    if settings.model_package:
        region = region_of_package(settings.model_package)
        if settings.region not in (None, region):
            raise ValueError(f"model_package={settings.model_package} is in {region}, not in region={settings.region}")
    if not settings.dry_run:
        account = open_account(region)
        return account, account.region_name
    if region is None:
        raise ValueError("dry_run does not contact AWS, so it needs region=eu-central-1 (or yours)")
    return None, region


def _model_address(settings: DeployConfig, suffix: str) -> str | None:
    """Return the address of the model in S3; `None` for a model package, which has its own."""
    if (settings.archive is None) == (settings.model_package is None):
        raise ValueError("give one of archive=model.tar.gz (or its address in S3) and model_package=ARN")
    if settings.archive is None:
        if settings.image is not None:
            raise ValueError("image is for archive; a model package has the image that it was registered with")
        return None
    if settings.archive.startswith("s3://"):
        return settings.archive
    if not Path(settings.archive).is_file():
        raise FileNotFoundError(f"archive={settings.archive} does not exist; run: python -m milpath.sagemaker.package")
    if not settings.bucket:
        raise ValueError(f"archive={settings.archive} is a local file to upload: add bucket=NAME")
    return f"s3://{settings.bucket}/{settings.prefix}/models/{settings.endpoint}-{suffix}/model.tar.gz"


def _create(client: Any, settings: DeployConfig, requests: dict[str, dict[str, Any]]) -> None:
    """Create all three resources and wait; if one fails, those already created are deleted."""
    from botocore.exceptions import WaiterError

    name = requests["create_model"]["ModelName"]
    undo = []
    try:
        with explained(f"create the endpoint {settings.endpoint}"):
            client.create_model(**requests["create_model"])
            undo.append(lambda: client.delete_model(ModelName=name))
            client.create_endpoint_config(**requests["create_endpoint_config"])
            undo.append(lambda: client.delete_endpoint_config(EndpointConfigName=name))
            client.create_endpoint(**requests["create_endpoint"])
    except ValueError:
        for step in reversed(undo):
            step()
        raise
    sys.stdout.write(
        f"creating endpoint {settings.endpoint} ({settings.mode})\n"
        f"score:  python -m milpath.sagemaker.score endpoint={settings.endpoint} data=NAME\n"
        f"delete: python -m milpath.sagemaker.delete endpoint={settings.endpoint}\n"
        f"cost:   {bill_note(settings)}\n"
    )
    if not settings.wait:
        return
    try:
        client.get_waiter("endpoint_in_service").wait(EndpointName=settings.endpoint)
    except WaiterError:
        found = client.describe_endpoint(EndpointName=settings.endpoint)
        raise ValueError(
            f"endpoint {settings.endpoint} is {found['EndpointStatus']}: {found.get('FailureReason', 'unknown reason')}; "
            f"run: python -m milpath.sagemaker.delete endpoint={settings.endpoint}"
        ) from None
    sys.stdout.write(f"endpoint {settings.endpoint} is in service\n")


@command(DEPLOY)
def main(config: DictConfig) -> None:
    """Run the command."""
    run(config)


if __name__ == "__main__":
    main()
