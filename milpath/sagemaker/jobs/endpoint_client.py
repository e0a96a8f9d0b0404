"""Client of an endpoint, with retries while it is busy."""

import json
import time
import uuid
from typing import Any

from milpath.models.card import Card, card_from_dict
from milpath.sagemaker.endpoint.request_limits import DESCRIBE, MEBIBYTE
from milpath.sagemaker.jobs.aws_account import split_address

NPY, JSON = "application/x-npy", "application/json"
# Limit of SageMaker for the body of a real-time request.
MAX_BODY_BYTES = 6 * MEBIBYTE
_NOT_READY = ("ModelNotReadyException", "ModelNotReady")


class EndpointClient:
    """Send bags to one endpoint.

    botocore retries throttling and service errors with exponential backoff; a model that is not ready yet, such as on the
    cold start of a serverless endpoint, is retried until the timeout.

    Args:
        account: A boto3 session.
        endpoint: Name of the endpoint.
        s3_prefix: `s3://bucket/folder/` for bodies above the size limit, and for all bodies of an asynchronous endpoint.
        asynchronous: Whether the endpoint writes its responses to S3.
        timeout_seconds: Timeout of one response.
    """

    def __init__(
        self,
        account: Any,
        endpoint: str,
        s3_prefix: str | None = None,
        asynchronous: bool = False,
        timeout_seconds: float = 600,
    ) -> None:
        from botocore.config import Config

        if asynchronous and s3_prefix is None:
            raise ValueError("an asynchronous endpoint reads from S3: add s3_prefix=s3://bucket/folder/")
        patient = Config(retries={"mode": "standard", "max_attempts": 10}, max_pool_connections=64, read_timeout=90)
        self.client = account.client("sagemaker-runtime", config=patient)
        self.s3 = account.client("s3", config=patient)
        self.endpoint = endpoint
        self.s3_prefix = s3_prefix
        self.asynchronous = asynchronous
        self.timeout_seconds = timeout_seconds

    def ask(self, body: bytes, name: str, kind: str = NPY) -> dict[str, Any]:
        """Return the response for one bag.

        Args:
            body: A `.npy` file, or JSON.
            name: Name of the bag, for error messages.
            kind: Content type of the body.

        Raises:
            ValueError: If the endpoint refuses the bag, or does not exist.
            TimeoutError: If there is no response in time.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = json.loads((self._ask_later if self.asynchronous else self._ask_now)(body, kind))
        except ClientError as error:
            found = error.response["Error"]
            raise ValueError(f"bag {name!r}: {found['Code']}: {' '.join(found['Message'].split())[:300]}") from None
        except BotoCoreError as error:
            raise ValueError(f"bag {name!r}: {' '.join(str(error).split())}") from None
        return answer

    def card(self) -> Card | None:
        """Return the card of the network without its data; `None` if the endpoint runs a version that does not tell it.

        Raises:
            ValueError: If the endpoint does not exist, or its answer is no card.
            TimeoutError: If there is no response in time.
        """
        try:
            answer = self.ask(json.dumps(DESCRIBE).encode(), "(card)", JSON)
        except ValueError as error:
            if "none of npy" in str(error):
                return None
            raise
        return card_from_dict(answer["card"])

    def _ask_now(self, body: bytes, kind: str) -> bytes:
        """Send a body, by reference if it is too large, and return the response."""
        from botocore.exceptions import ClientError

        if len(body) > MAX_BODY_BYTES:
            if self.s3_prefix is None:
                raise ValueError(
                    f"a bag of {len(body) / 1e6:.1f} MB exceeds the 6 MiB that an endpoint accepts: add "
                    "s3_prefix=s3://bucket/folder/ and deploy with s3_prefixes=[s3://bucket/folder/]"
                )
            body, kind = json.dumps({"s3_uri": self._put(body, kind), "content_type": kind}).encode(), JSON
        deadline = time.monotonic() + self.timeout_seconds
        while True:
            try:
                answer = self.client.invoke_endpoint(
                    EndpointName=self.endpoint, Body=body, ContentType=kind, Accept=JSON
                )
                found: bytes = answer["Body"].read()
                return found
            except ClientError as error:
                if error.response["Error"]["Code"] not in _NOT_READY or time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def _ask_later(self, body: bytes, kind: str) -> bytes:
        """Send the address of a body and wait for the response or the failure to appear in S3."""
        receipt = self.client.invoke_endpoint_async(
            EndpointName=self.endpoint, InputLocation=self._put(body, kind), ContentType=kind, Accept=JSON
        )
        deadline = time.monotonic() + self.timeout_seconds
        while time.monotonic() < deadline:
            if (answer := self._get(receipt["OutputLocation"])) is not None:
                return answer
            if failure := self._get(receipt.get("FailureLocation")):
                raise ValueError(f"the endpoint failed: {failure.decode(errors='replace')[:300]}")
            time.sleep(0.5)
        raise TimeoutError(f"no response at {receipt['OutputLocation']} within {self.timeout_seconds:.0f} s")

    def _put(self, body: bytes, kind: str) -> str:
        """Write a body below the prefix and return its address."""
        address = f"{str(self.s3_prefix).rstrip('/')}/{uuid.uuid4().hex}.{kind.rpartition('-')[2].rpartition('/')[2]}"
        bucket, key = split_address(address)
        self.s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=kind)
        return address

    def _get(self, address: str | None) -> bytes | None:
        """Return an object, or None if it does not exist yet."""
        if address is None:
            return None
        bucket, key = split_address(address)
        try:
            found: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None
        return found
