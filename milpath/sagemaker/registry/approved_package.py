"""A model package that is to be deployed: approved, whole, and still the archive that was approved."""

import re
from typing import Any, NamedTuple

from milpath.sagemaker.jobs.aws_account import explained, split_address
from milpath.sagemaker.registry.package_request import ARCHIVE_ETAG

_ARN = re.compile(r"arn:aws[a-z-]*:sagemaker:([a-z0-9-]+):\d{12}:model-package/[a-zA-Z0-9-]{1,63}(/\d{1,9})?")


class Package(NamedTuple):
    """What `deploy` needs to know of a package.

    Attributes:
        image: Address of its serving image.
        approval: "Approved", "Rejected", "PendingManualApproval", or "without approval".
    """

    image: str
    approval: str


def region_of_package(arn: str) -> str:
    """Return the region of a package.

    Raises:
        ValueError: If this is not the ARN of a package.
    """
    if (found := _ARN.fullmatch(arn)) is None:
        raise ValueError(
            f"model_package={arn} is not an ARN of the form "
            "arn:aws:sagemaker:eu-central-1:123456789012:model-package/GROUP/VERSION, which register prints"
        )
    return found[1]


def approved_package(account: Any, arn: str, *, allow_unapproved: bool) -> Package:
    """Return a package after checking that it may be deployed.

    Args:
        account: A boto3 session in the region of the package.
        arn: ARN of the package.
        allow_unapproved: Whether one that nobody approved, or that was rejected, is deployed all the same.

    Raises:
        ValueError: If it does not exist, is not approved or not complete, or if its archive is not the one that was
            registered.
    """
    with explained(f"describe {arn}"):
        found = account.client("sagemaker").describe_model_package(ModelPackageName=arn)
    approval = found.get("ModelApprovalStatus") or "without approval"
    if approval != "Approved" and not allow_unapproved:
        raise ValueError(
            f"model_package={arn} is {approval}, and only what is Approved is deployed; run: aws sagemaker "
            f"update-model-package --model-package-arn {arn} --model-approval-status Approved, or add allow_unapproved=true"
        )
    if (status := found["ModelPackageStatus"]) != "Completed":
        raise ValueError(f"model_package={arn} is {status}, not Completed; register the run again")
    (container, *others) = found.get("InferenceSpecification", {}).get("Containers") or [{}]
    if others or "Image" not in container:
        raise ValueError(f"model_package={arn} must have one container with an image, as those of register have")
    _require_same_archive(account, container, found.get("CustomerMetadataProperties", {}), arn)
    return Package(container["Image"], approval)


def _require_same_archive(account: Any, container: dict[str, Any], properties: dict[str, str], arn: str) -> None:
    """Refuse an archive that was overwritten in S3 after it was registered: nobody approved that one."""
    registered, address = properties.get(ARCHIVE_ETAG), container.get("ModelDataUrl")
    if registered is None or address is None:
        return
    if (now := etag_of(account, address)) != registered:
        raise ValueError(
            f"{address} is not the archive that was registered as {arn} (its ETag is {now}, not {registered}): it was "
            "overwritten; register the run again"
        )


def etag_of(account: Any, address: str) -> str:
    """Return what S3 calls the version of an object; equal content that is uploaded in the same way has the same.

    Raises:
        ValueError: If the object does not exist or cannot be read.
    """
    bucket, key = split_address(address)
    with explained(f"read {address}"):
        answer = account.client("s3").head_object(Bucket=bucket, Key=key)
    return str(answer["ETag"]).strip('"')
