"""The AWS account of jobs and endpoints: session, role, buckets, S3 objects, addresses of AWS images."""

import importlib
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+")
_SDK_CONFIG = "SAGEMAKER_USER_CONFIG_OVERRIDE"


def open_account(region: str | None) -> Any:
    """Return a boto3 session with credentials and a region.

    Raises:
        ValueError: If either is missing.
        ImportError: If the extra is not installed.
    """
    require_extra()
    from botocore.exceptions import ProfileNotFound

    try:
        account = boto3_session(region)
    except ProfileNotFound as error:
        raise ValueError(f"{error}; run: aws configure") from None
    if account.region_name is None:
        raise ValueError("no AWS region is known; add sagemaker.region=eu-central-1 (or yours), or run: aws configure")
    if account.get_credentials() is None:
        raise ValueError(
            "no AWS credentials were found; run: aws configure, or aws sso login, or export AWS_PROFILE=NAME"
        )
    return account


def boto3_session(region: str | None) -> Any:
    """Return a session with the credentials of this machine."""
    import boto3

    return boto3.Session(region_name=region)


def open_sdk(account: Any, bucket: str) -> Any:
    """Return a session of the SageMaker SDK with its telemetry turned off."""
    # Parts of the SDK open their own clients, in another region if this variable is missing.
    os.environ.setdefault("AWS_DEFAULT_REGION", account.region_name)
    return sdk("sagemaker.core.helper.session_helper").Session(boto_session=account, default_bucket=bucket)


def sdk(module: str) -> Any:
    """Import a module of the SageMaker SDK, which takes seconds, without its warnings."""
    require_extra()
    _prepare_sdk()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def _prepare_sdk() -> None:
    """Set environment variables that the SDK reads on import; those set by the user are kept."""
    own = Path.home() / ".config" / "sagemaker" / "config.yaml"
    if not own.exists():
        os.environ.setdefault(_SDK_CONFIG, str(Path(__file__).with_name("telemetry_off.yaml")))
    # The check needs an additional permission (iam:SimulatePrincipalPolicy); the service checks the role anyway.
    os.environ.setdefault("SAGEMAKER_VALIDATE_ROLE", "false")


def require_extra() -> None:
    """Stop unless the SageMaker SDK is installed.

    Raises:
        ImportError: With the command that installs it.
    """
    try:
        import boto3  # noqa: F401
    except ImportError:
        raise ImportError("this command needs the SageMaker SDK; run: pip install 'milpath[sagemaker]'") from None


def require_role(role: str | None, key: str = "sagemaker.role") -> str:
    """Return the role after checking that it is an ARN.

    Args:
        role: ARN, or None if none was given.
        key: The key that sets it, for the error message.

    Raises:
        ValueError: If it is missing or not an ARN.
    """
    if role is None:
        raise ValueError(
            f"no role was given; add {key}=arn:aws:iam::ACCOUNT:role/NAME, or export SAGEMAKER_ROLE "
            "(milpath sagemaker policy who=role prints its permissions)"
        )
    if not _ROLE.fullmatch(role):
        raise ValueError(f"{key}={role} is not an ARN of the form arn:aws:iam::123456789012:role/NAME")
    return role


def require_bucket(account: Any, bucket: str) -> None:
    """Check that a bucket exists, is accessible and is in the region of the job.

    Raises:
        ValueError: If it is not.
    """
    from botocore.exceptions import ClientError

    with explained("access the bucket"):
        try:
            found = account.client("s3").head_bucket(Bucket=bucket)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in ("404", "NoSuchBucket"):
                raise ValueError(
                    f"bucket {bucket} does not exist; run: aws s3 mb s3://{bucket} --region {account.region_name}"
                ) from None
            if code in ("403", "AccessDenied"):
                raise ValueError(
                    f"bucket {bucket} belongs to another account or cannot be read with these credentials"
                ) from None
            raise
    region = found.get("BucketRegion", account.region_name)
    if region != account.region_name:
        raise ValueError(
            f"bucket {bucket} is in {region}, but the job would run in {account.region_name}; "
            f"add sagemaker.region={region}, or use another bucket"
        )


def require_objects(account: Any, address: str) -> None:
    """Check that there is an object under an address in S3.

    Raises:
        ValueError: If there is none.
    """
    bucket, key = split_address(address)
    with explained(f"list {address}"):
        found = account.client("s3").list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    if not found.get("KeyCount"):
        raise ValueError(f"there is no object under {address}; run: aws s3 cp --recursive FOLDER {address}")


def upload(account: Any, path: Path, address: str) -> None:
    """Upload a file to an address in S3, with the bucket's default encryption."""
    bucket, key = split_address(address)
    with explained(f"write {address}"):
        account.client("s3").upload_file(str(path), bucket, key)


def split_address(address: str) -> tuple[str, str]:
    """Return bucket and key of an address.

    Example:
        >>> split_address("s3://slides/panda/train")
        ('slides', 'panda/train')
    """
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not address.startswith("s3://") or not bucket:
        raise ValueError(f"{address} is not an address of the form s3://bucket/key")
    return bucket, key


@contextmanager
def explained(action: str) -> Iterator[None]:
    """Turn errors of AWS into one line that names the attempted action.

    Args:
        action: The action inside the block, to follow "could not".
    """
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        answer = error.response.get("Error", {})
        raise ValueError(f"could not {action}: {answer.get('Code')}: {answer.get('Message')}") from None
    except (BotoCoreError, S3UploadFailedError) as error:
        raise ValueError(f"could not {action}: {' '.join(str(error).split())}") from None


def image_address(scope: str, *, region: str, version: str, python: str, instance_type: str) -> str:
    """Return the address of an AWS PyTorch image.

    Args:
        scope: "training" or "inference".
        region: AWS region.
        version: PyTorch version, "2.10.0".
        python: Python version of the image, "py313".
        instance_type: Determines whether the image is the one for GPUs.

    Raises:
        ValueError: If the SDK does not know such an image.
    """
    try:
        address: str = sdk("sagemaker.core.image_uris").retrieve(
            "pytorch",
            region=region,
            version=version,
            py_version=python,
            instance_type=instance_type,
            image_scope=scope,
        )
    except (ValueError, KeyError) as error:
        # The SDK lists every version since 0.4; only show the last few.
        text = " ".join(str(error).split())
        known = text.split("version(s): ")
        if len(known) == 2:
            text = f"{known[0].split('. You may')[0]}; known: {', '.join(known[1].rstrip('.').split(', ')[-8:])}"
        raise ValueError(
            f"AWS has no PyTorch {scope} image {version} {python} for {instance_type} in {region} ({text[:300]}); set "
            "image_version and image_python, or image=ADDRESS of your own image"
        ) from None
    return address
