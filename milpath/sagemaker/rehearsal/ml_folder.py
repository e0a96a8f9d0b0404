"""A folder laid out like `/opt/ml`, and the environment in which a training container starts.

References:
    sagemaker-training 5.1.4, which reads these files (`SAGEMAKER_BASE_DIR` moves the folder).
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_CHANNEL = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
_GROUP = "homogeneousCluster"


def make_folders(base: Path, *, keep_checkpoints: bool = False) -> None:
    """Make the folders of a container that starts, empty except for the checkpoints that it may resume from.

    Args:
        base: The folder; what earlier jobs left in it is deleted.
        keep_checkpoints: Whether checkpoints stay, as when the service restarts a job.
    """
    for name in ("input", "model", "output", "code", *([] if keep_checkpoints else ["checkpoints"])):
        shutil.rmtree(base / name, ignore_errors=True)
    for name in ("input/config", "input/data", "model", "output/data", "checkpoints", "code"):
        (base / name).mkdir(parents=True, exist_ok=True)


def write_config(
    base: Path,
    hyperparameters: Mapping[str, str],
    instance_type: str,
    *,
    hosts: Sequence[str] = ("localhost",),
    host: str = "localhost",
    interface: str = "lo",
) -> None:
    """Write the hyperparameters, all as strings like the service does, and the hosts of a job.

    Args:
        base: The folder.
        hyperparameters: From the request.
        instance_type: Of every host.
        hosts: Names of all hosts.
        host: Name of this one.
        interface: Network interface between them.
    """
    _write(base / "input/config/hyperparameters.json", dict(hyperparameters))
    resources = {
        "current_host": host,
        "hosts": list(hosts),
        "current_group_name": _GROUP,
        "current_instance_type": instance_type,
        "instance_groups": [{"instance_group_name": _GROUP, "instance_type": instance_type, "hosts": list(hosts)}],
        "network_interface_name": interface,
    }
    _write(base / "input/config/resourceconfig.json", resources)


def link_channels(base: Path, channels: Mapping[str, Path]) -> None:
    """Show local folders as the data channels of a job, without copying them.

    Args:
        base: The folder.
        channels: Name of a channel to its folder.

    Raises:
        FileNotFoundError: If a folder does not exist.
    """
    for name, folder in channels.items():
        if not folder.is_dir():
            raise FileNotFoundError(f"rehearse.{name}={folder} is not a folder; give the folder that you will upload")
        (base / "input/data" / name).symlink_to(folder.resolve())
    write_channels(base, list(channels))


def write_channels(base: Path, names: Sequence[str]) -> None:
    """Write which channels there are."""
    _write(base / "input/config/inputdataconfig.json", dict.fromkeys(names, _CHANNEL))


def environment(base: Path, programs: Path, job_name: str, **more: str) -> dict[str, str]:
    """Return the environment variables of a container.

    Args:
        base: The folder.
        programs: Folder of the programs of the environment, such as `train` of the toolkit.
        job_name: Name of the job.
        more: Further variables.
    """
    return {
        "PATH": f"{programs}:{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin",
        "HOME": os.environ["HOME"],
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONUNBUFFERED": "TRUE",
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_TRAINING_MODULE": "sagemaker_pytorch_container.training:main",
        "TRAINING_JOB_NAME": job_name,
        "MILPATH_CHECKPOINTS_DIR": str(base / "checkpoints"),
        "MILPATH_STORES_DIR": str(base.parent / "stores"),
        **more,
    }


def without_toolkit(base: Path, channels: Sequence[str]) -> dict[str, str]:
    """Return the variables that the toolkit sets for the program of a job, for a start without it.

    Args:
        base: The folder.
        channels: Names of the channels.
    """
    names = {f"SM_CHANNEL_{name.upper()}": str(base / "input/data" / name) for name in channels}
    return names | {
        "SM_MODEL_DIR": str(base / "model"),
        "SM_OUTPUT_DATA_DIR": str(base / "output/data"),
        "SM_OUTPUT_DIR": str(base / "output"),
        "SM_HOSTS": '["localhost"]',
    }


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
