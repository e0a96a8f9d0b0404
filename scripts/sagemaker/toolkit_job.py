"""A folder laid out like /opt/ml, and SageMaker's training toolkit started in it as in a container."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from milpath.sagemaker.jobs.job_configs import job_overrides
from milpath.sagemaker.jobs.job_settings import JobSettings
from milpath.sagemaker.jobs.source_archive import write_source
from milpath.sagemaker.jobs.training_request import training_request
from milpath.sagemaker.rehearsal import ml_folder
from milpath.sagemaker.rehearsal.ml_folder import make_folders, write_channels, write_config

INSTANCE_TYPE = "ml.p4d.24xlarge"
# A run of a few seconds: few small slides, a narrow network without dropout.
SMALL = (
    "data=synthetic",
    "data.num_slides=25",
    "data.num_tiles=4",
    "data.tile_size=32",
    "data.num_folds=3",
    "data.stratify_by=[]",
    "data.augmentation=none",
    "data.batch_size=4",
    "model.encoder.tile_size=32",
    "model.encoder.embedding_dim=16",
    "model.encoder.dropout=0",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=3",
    "optimizer.lr=0.001",
    "logger=csv",
    "report=false",
)


def lay_out(
    base: Path,
    words: Sequence[str],
    *,
    hosts: Sequence[str] = ("localhost",),
    host: str = "localhost",
    interface: str = "lo",
    hyperparameters: Mapping[str, str] | None = None,
    channels: Mapping[str, Path] | None = None,
    **settings: Any,
) -> None:
    """Write the files SageMaker provides to a container: configuration, channels, source."""
    shutil.rmtree(base, ignore_errors=True)
    make_folders(base)
    write_source(base / "source.tar.gz", job_overrides(words))
    job = JobSettings(
        bucket="slides",
        training="s3://slides/panda",
        instance_type=INSTANCE_TYPE,
        **settings,
    )
    request = training_request(
        job, region="eu-central-1", role="role", image="image", source=str(base / "source.tar.gz"), run_id="1"
    )
    lay_out_config(base, {**request["HyperParameters"], **(hyperparameters or {})}, hosts, host, interface)
    for channel, folder in (channels or {}).items():
        shutil.copytree(folder, base / "input" / "data" / channel)
    write_channels(base, list(channels or {}))


def lay_out_config(
    base: Path, hyperparameters: Mapping[str, str], hosts: Sequence[str], host: str, interface: str
) -> None:
    """Write hyperparameters, all as strings like the service does, and the hosts of the job."""
    write_config(base, hyperparameters, INSTANCE_TYPE, hosts=hosts, host=host, interface=interface)


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def environment(base: Path, toolkit: Path, job_name: str = "job-1", **more: str) -> dict[str, str]:
    """Return the environment variables of a container."""
    return ml_folder.environment(base, toolkit / "bin", job_name, **more)


def start(base: Path, toolkit: Path, **more: str) -> subprocess.Popen[str]:
    """Start the container's entry point in its own process group."""
    return subprocess.Popen(
        [str(toolkit / "bin" / "train")],
        env=environment(base, toolkit, **more),
        cwd=base,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(base: Path, toolkit: Path, **more: str) -> tuple[int, str]:
    """Run a job to its end; returns exit status and log."""
    process = start(base, toolkit, **more)
    log, _ = process.communicate(timeout=540)
    return process.returncode, log
