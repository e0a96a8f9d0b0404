"""The full SageMaker loop with only the account mocked: launch, train, deploy, score, delete."""

import contextlib
import json
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer
from toolkit_job import SMALL, lay_out_config, run, write

from milpath.sagemaker import delete, deploy, launch, score

ROLE = "arn:aws:iam::123456789012:role/Trainer"
REGION = "us-east-1"


def loop(folder, slides, toolkit, monkeypatch):
    """Return the test metrics computed through the endpoint, and those written by the job.

    Args:
        folder: Scratch folder.
        slides: Folder with `tiles` and `train.csv`.
        toolkit: Environment with SageMaker's toolkits.
        monkeypatch: The pytest fixture, for environment variables and command lines.
    """
    account = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    account.start()
    url = "http://{}:{}".format(*account.get_host_and_port())
    variables = {"AWS_ENDPOINT_URL": url, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
    variables |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    mocked = Account(boto3.Session(region_name=REGION))
    try:
        mocked.s3.create_bucket(Bucket="slides")
        for path in sorted(slides.rglob("*")):
            if path.is_file():
                mocked.s3.upload_file(str(path), "slides", f"panda/{path.relative_to(slides)}")
        data = [word for word in SMALL if word.startswith("data.") and "slides" not in word]
        data += ["data=panda_tiles", "data.tiles=${paths.data_dir}/tiles", "data.labels=${paths.data_dir}/train.csv"]
        training = [*data, *(word for word in SMALL if not word.startswith("data"))]
        given = ["sagemaker.bucket=slides", "sagemaker.training=s3://slides/panda", f"sagemaker.role={ROLE}"]
        command(monkeypatch, launch, *training, *given, "sagemaker.processes_per_instance=2")
        base = folder / "ml"
        job = mocked.run_job(base, toolkit, variables | {"S3_ENDPOINT_URL": url})
        expected = json.loads((base / "output/data/metrics.json").read_text())["test"]

        archive = f"archive={job['ModelArtifacts']['S3ModelArtifacts']}"
        command(monkeypatch, deploy, archive, "endpoint=slides", "bucket=slides", f"role={ROLE}")
        with mocked.serve("slides", folder / "serving", toolkit) as address:
            monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", address)
            folders = [f"paths.data_dir={slides}", f"paths.stores_dir={folder}/stores", f"paths.runs_dir={folder}/runs"]
            command(monkeypatch, score, "endpoint=slides", *data, *folders, "run_name=scored")
        found = json.loads((folder / "runs/scored/metrics.json").read_text())["test"]
        command(monkeypatch, delete, "endpoint=slides")
        assert mocked.sagemaker.list_endpoints()["Endpoints"] == []
    finally:
        account.stop()
    return found, expected


class Account:
    """Local stand-in for SageMaker's handling of jobs and endpoints."""

    def __init__(self, session):
        self.s3 = session.client("s3")
        self.sagemaker = session.client("sagemaker")

    def run_job(self, base, toolkit, variables):
        """Run the newest recorded job and upload its outputs."""
        name = self.sagemaker.list_training_jobs()["TrainingJobSummaries"][0]["TrainingJobName"]
        job = self.sagemaker.describe_training_job(TrainingJobName=name)
        for part in ("input/config", "model", "output/data", "checkpoints", "code"):
            (base / part).mkdir(parents=True)
        names = {}
        for channel in job["InputDataConfig"]:
            folder = base / "input/data" / channel["ChannelName"]
            self.download(channel["DataSource"]["S3DataSource"]["S3Uri"], folder)
            names[channel["ChannelName"]] = {
                "TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"
            }  # fmt: skip
        write(base / "input/config/inputdataconfig.json", names)
        lay_out_config(base, job["HyperParameters"], ["localhost"], "localhost", "lo")
        status, log = run(base, toolkit, job_name=name, **variables)
        assert status == 0, log[-3000:]
        with tarfile.open(base / "model.tar.gz", "w:gz") as file:
            file.add(base / "model", arcname=".")
        bucket, _, key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
        self.s3.upload_file(str(base / "model.tar.gz"), bucket, key)
        return job

    @contextlib.contextmanager
    def serve(self, endpoint, base, toolkit):
        """Serve the model of an endpoint with the handlers of SageMaker's toolkit."""
        config = self.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
        variant = self.sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"][0]
        container = self.sagemaker.describe_model(ModelName=variant["ModelName"])["PrimaryContainer"]
        bucket, _, key = container["ModelDataUrl"].removeprefix("s3://").partition("/")
        (base / "model").mkdir(parents=True)
        self.s3.download_file(bucket, key, str(base / "model.tar.gz"))
        with tarfile.open(base / "model.tar.gz") as file:
            file.extractall(base / "model", filter="data")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = subprocess.Popen(
            [str(toolkit / "bin/python"), str(Path(__file__).with_name("serving_chain.py")), str(base), str(port)],
            env={
                "PATH": f"{toolkit}/bin:/usr/bin:/bin", "OMP_NUM_THREADS": "1", "SAGEMAKER_BASE_DIR": str(base),
                **container["Environment"], "SAGEMAKER_SUBMIT_DIRECTORY": str(base / "model/code"),
            },
        )  # fmt: skip
        try:
            yield wait_for(f"http://127.0.0.1:{port}", server)
        finally:
            server.terminate()
            server.wait()

    def download(self, address, folder):
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page["Contents"]:
                path = folder / found["Key"].removeprefix(prefix).lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                self.s3.download_file(bucket, found["Key"], str(path))


def wait_for(address, server):
    """Return the address once it responds."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/ping", timeout=2).close()
            return address
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the server did not start")


def command(monkeypatch, module, *words):
    """Run a command in this process as from a shell."""
    monkeypatch.setattr(sys, "argv", [module.__name__, *words])
    module.main()
