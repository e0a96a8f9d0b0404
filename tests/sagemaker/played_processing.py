"""Plays Processing: lays out the folders of each instance from S3, runs the program in them, and copies its outputs back."""

import io
import json
import tarfile
from contextlib import contextmanager
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra

from milpath.sagemaker.jobs.aws_account import split_address
from milpath.sagemaker.processing.processing_entry import start
from milpath.sagemaker.processing.processing_request import ROOT
from tests.commands import logging_as_before


def below(root, local_path):
    return root / Path(local_path).relative_to(ROOT)


def keys(s3, bucket, prefix):
    return [item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def lay_out(s3, request, root, number, count):
    """Write the inputs of one instance, as the service does."""
    for item in request["ProcessingInputs"]:
        source = item["S3Input"]
        bucket, prefix = split_address(source["S3Uri"])
        if source["S3DataType"] == "ManifestFile":
            first, *paths = json.loads(s3.get_object(Bucket=bucket, Key=prefix)["Body"].read())
            bucket, prefix = split_address(first["prefix"])
            found = [prefix + path for path in paths]
        else:
            found = keys(s3, bucket, prefix)
            prefix = prefix if prefix.endswith("/") else f"{prefix.rpartition('/')[0]}/"
        assert found, f"the service refuses an input without objects: {source}"
        if source["S3DataDistributionType"] == "ShardedByS3Key":
            found = found[number::count]
        for key in found:
            path = below(root, source["LocalPath"]) / key.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, key, str(path))
    for output in request["ProcessingOutputConfig"]["Outputs"]:
        below(root, output["S3Output"]["LocalPath"]).mkdir(parents=True, exist_ok=True)


def copy_out(s3, request, root, kinds):
    """Copy the outputs of these upload modes to S3."""
    for output in request["ProcessingOutputConfig"]["Outputs"]:
        target = output["S3Output"]
        if target["S3UploadMode"] in kinds:
            bucket, key = split_address(target["S3Uri"])
            folder = below(root, target["LocalPath"])
            for path in folder.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    s3.upload_file(str(path), bucket, f"{key}/{path.relative_to(folder).as_posix()}")


@contextmanager
def another_process():
    """Set aside the configuration of the command that waits for the job."""
    mine = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with logging_as_before():
            yield
    finally:
        GlobalHydra.instance().clear()
        GlobalHydra.instance().hydra = mine


@contextmanager
def parts_that_stay(monkeypatch):
    """The service has copied the unfinished work before the program removes it after the merge."""
    with monkeypatch.context() as patched:
        patched.setattr("milpath.tiling.slide_parts.SlideParts.remove", lambda self: None)
        yield


def play(s3, request, folder, monkeypatch, stop_after=None):
    """Run a job to its end; `stop_after` instances are done before the others are lost."""
    count = request["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
    hosts = [f"algo-{number + 1}" for number in range(count)]
    for number, host in enumerate(hosts[:stop_after]):
        root = folder / request["ProcessingJobName"] / host / "processing"
        lay_out(s3, request, root, number, count)
        source = (root / "input/code/source.tar.gz").read_bytes()
        with tarfile.open(fileobj=io.BytesIO(source)) as archive:
            words = json.loads(archive.extractfile("job.json").read())["overrides"]
            assert "process.py" in archive.getnames()
        variables = request["Environment"]
        words = [word.replace(f"{ROOT}/", f"{root}/") for word in words]
        with another_process(), parts_that_stay(monkeypatch):
            try:
                start(words, variables["MILPATH_COMMAND"], variables["MILPATH_PHASE"], root, f"{host} of {count}")
            finally:
                copy_out(s3, request, root, ["Continuous"])
        copy_out(s3, request, root, ["EndOfJob"])
