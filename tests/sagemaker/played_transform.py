"""Plays Batch Transform: each object of the manifest is one request to the functions that AWS's toolkit calls."""

import io
import json
import tarfile

from milpath.sagemaker.inference import input_fn, model_fn, output_fn, predict_fn
from milpath.sagemaker.jobs.aws_account import split_address


class Context:
    """What the toolkit passes to the last function."""

    status = 200

    def set_response_status(self, code, phrase):
        self.status = code


def play(account, request, folder, monkeypatch, lost=()):
    """Write an answer for each object, except for requests that fail and for lost ones."""
    s3 = account.s3
    (model,) = [body for body in account.requests("CreateModel") if body["ModelName"] == request["ModelName"]]
    container = model["PrimaryContainer"]
    bucket, key = split_address(container["ModelDataUrl"])
    with tarfile.open(fileobj=io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read())) as archive:
        archive.extractall(folder / "model", filter="data")
    source = request["TransformInput"]
    bucket, key = split_address(source["DataSource"]["S3DataSource"]["S3Uri"])
    first, *paths = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    bucket, prefix = split_address(first["prefix"])
    target, output = split_address(request["TransformOutput"]["S3OutputPath"])
    with monkeypatch.context() as patched:
        for name, value in container["Environment"].items():
            patched.setenv(name, value)
        network = model_fn(str(folder / "model"))
        for path in paths:
            body = s3.get_object(Bucket=bucket, Key=prefix + path)["Body"].read()
            assert len(body) <= request["MaxPayloadInMB"] * 2**20
            context = Context()
            answer, _ = output_fn(
                predict_fn(input_fn(body, source["ContentType"]), network),
                request["TransformOutput"]["Accept"],
                context,
            )
            if context.status == 200 and path not in lost:
                s3.put_object(Bucket=target, Key=f"{output}/{prefix}{path}.out", Body=answer)
