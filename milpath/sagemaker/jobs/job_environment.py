"""Rank and world size of a process in a SageMaker job.

These environment variables are set by the launcher and differ between processes, so they cannot be in a configuration
file; only this module reads them.
"""

import json
import os
from typing import Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from typing_extensions import override

_SMDDP_SWITCHES = ("sagemaker_distributed_dataparallel_enabled", "sagemaker_pytorch_ddp_enabled")


class SageMakerEnvironment(ClusterEnvironment):
    """Read ranks from torchrun (`RANK`, ...) or, if these are missing, from Open MPI (`OMPI_COMM_WORLD_RANK`, ...).

    Lightning's own environments place every process of an SMDDP job on node 0; here the node is derived from the rank:
    `node_rank = rank // processes per host`.

    Example:
        >>> os.environ.update(RANK="3", LOCAL_RANK="1", WORLD_SIZE="4", LOCAL_WORLD_SIZE="2")
        >>> environment = SageMakerEnvironment()
        >>> environment.node_rank(), environment.local_rank()
        (1, 1)
        >>> for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"): del os.environ[name]
    """

    @property
    @override
    def creates_processes_externally(self) -> bool:
        return True

    @property
    @override
    def main_address(self) -> str:
        return os.environ.get("MASTER_ADDR") or sorted(hosts())[0]

    @property
    @override
    def main_port(self) -> int:
        return int(os.environ.get("MASTER_PORT", "7777"))

    @staticmethod
    @override
    def detect() -> bool:
        return _first("RANK", "OMPI_COMM_WORLD_RANK") is not None

    @override
    def world_size(self) -> int:
        return _number("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE")

    @override
    def set_world_size(self, size: int) -> None:
        # Set by the launcher.
        pass

    @override
    def global_rank(self) -> int:
        return _number("RANK", "OMPI_COMM_WORLD_RANK")

    @override
    def set_global_rank(self, rank: int) -> None:
        # Set by the launcher.
        pass

    @override
    def local_rank(self) -> int:
        return _number("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")

    @override
    def node_rank(self) -> int:
        return self.global_rank() // num_devices()


def hosts() -> list[str]:
    """Return the names of the job's hosts; outside of a job, only localhost."""
    names: list[str] = json.loads(os.environ.get("SM_HOSTS", '["localhost"]'))
    return names


def num_devices() -> int:
    """Return the number of processes per host, one per device."""
    return int(_first("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE") or 1)


def num_nodes() -> int:
    """Return the number of hosts."""
    return int(_first("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE") or 1) // num_devices()


def smddp_enabled() -> bool:
    """Return whether the job was submitted with SageMaker's data-parallel launcher."""
    switches: dict[str, Any] = json.loads(os.environ.get("SM_FRAMEWORK_PARAMS") or "{}")
    return any(switches.get(name) for name in _SMDDP_SWITCHES)


def name_instance_type() -> None:
    """Set the variable from which SMDDP reads the instance type, which SageMaker only sets with several hosts."""
    if instance_type := os.environ.get("SM_CURRENT_INSTANCE_TYPE"):
        os.environ.setdefault("SAGEMAKER_INSTANCE_TYPE", instance_type)


def _first(*names: str) -> str | None:
    """Return the value of the first variable that is set."""
    return next((os.environ[name] for name in names if name in os.environ), None)


def _number(*names: str) -> int:
    """Return the value of the first variable that is set, as a number."""
    value = _first(*names)
    if value is None:
        raise ValueError(f"none of {', '.join(names)} is set; start the processes with torchrun or mpirun")
    return int(value)
