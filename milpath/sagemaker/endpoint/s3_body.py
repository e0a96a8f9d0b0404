"""Bodies that are too large to send: an address in S3 in place of them."""

from milpath.sagemaker.endpoint.bad_request import BadRequestError
from milpath.sagemaker.endpoint.request_limits import Limits


def fetch(address: object, limits: Limits) -> tuple[bytes, str]:
    """Return an object of S3 and its content type.

    Args:
        address: `s3://bucket/key`, below one of the prefixes that the endpoint was started with.
        limits: Prefixes and the largest object.

    Raises:
        BadRequestError: If the address may not be followed, or nothing can be read there.
    """
    prefixes = [prefix.strip() for prefix in limits.s3_prefixes.split(",") if prefix.strip()]
    if not prefixes:
        raise BadRequestError("this endpoint follows no references; deploy it with s3_prefixes=s3://bucket/folder/")
    if not isinstance(address, str) or not address.startswith(tuple(prefixes)) or ".." in address:
        raise BadRequestError(f"s3_uri must lie under {' or '.join(prefixes)}", 403)
    bucket, _, key = address.removeprefix("s3://").partition("/")
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = boto3.client("s3").get_object(Bucket=bucket, Key=key)
        if answer["ContentLength"] > limits.max_reference_bytes:
            raise BadRequestError(f"{address} holds more than {limits.max_reference_bytes} bytes", 413)
        return answer["Body"].read(), answer.get("ContentType", "")
    except (ClientError, BotoCoreError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        raise BadRequestError(
            f"{address} cannot be read ({code}); the endpoint's role needs s3:GetObject on it"
        ) from None
