"""A folder laid out like /opt/ml, and SageMaker's training toolkit started in it as in a container."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from milpath.sagemaker.jobs.job_configs import job_overrides
from milpath.sagemaker.jobs.job_settings import JobSettings
from milpath.sagemaker.jobs.source_archive import write_source
from milpath.sagemaker.jobs.training_request import training_request

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
    for name in ("input/config", "input/data", "model", "output/data", "checkpoints", "code"):
        (base / name).mkdir(parents=True)
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
    names = {}
    for channel, folder in (channels or {}).items():
        shutil.copytree(folder, base / "input" / "data" / channel)
        names[channel] = {
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
    write(base / "input/config/inputdataconfig.json", names)


def lay_out_config(
    base: Path, hyperparameters: Mapping[str, str], hosts: Sequence[str], host: str, interface: str
) -> None:
    """Write hyperparameters, all as strings like the service does, and the hosts of the job."""
    write(base / "input/config/hyperparameters.json", dict(hyperparameters))
    group = "homogeneousCluster"
    resources = {
        "current_host": host,
        "hosts": list(hosts),
        "current_group_name": group,
        "current_instance_type": INSTANCE_TYPE,
        "instance_groups": [{"instance_group_name": group, "instance_type": INSTANCE_TYPE, "hosts": list(hosts)}],
        "network_interface_name": interface,
    }
    write(base / "input/config/resourceconfig.json", resources)


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def environment(base: Path, toolkit: Path, job_name: str = "job-1", **more: str) -> dict[str, str]:
    """Return the environment variables of a container."""
    return {
        "PATH": f"{toolkit}/bin:{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin",
        "HOME": os.environ["HOME"],
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "TRUE",
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_TRAINING_MODULE": "sagemaker_pytorch_container.training:main",
        "TRAINING_JOB_NAME": job_name,
        "MILPATH_CHECKPOINTS_DIR": str(base / "checkpoints"),
        "MILPATH_STORES_DIR": str(base.parent / "stores"),
        **more,
    }


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
