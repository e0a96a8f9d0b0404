"""Distributed strategies of SageMaker jobs: SMDDP, or DDP with NCCL or gloo."""

import importlib.util
import logging
from typing import Any

import torch
from lightning.fabric.utilities.distributed import _init_dist_connection
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import Tensor
from typing_extensions import override

from milpath.sagemaker.jobs.job_environment import SageMakerEnvironment, name_instance_type, smddp_enabled
from milpath.training.process_group import leave_at_exit

_log = logging.getLogger(__name__)
_LIBRARY = "smdistributed.dataparallel.torch.torch_smddp"


class SMDDPStrategy(DDPStrategy):
    """Distributed data parallel training on SageMaker's `smddp` backend.

    The backend does not support a second process group and only guarantees SUM, so means are computed as divided sums.
    Import the backend first: `import_smddp()`.

    Args:
        backend: Name of the process group's backend.
        arguments: Arguments of Lightning's DDPStrategy.

    References:
        Amazon SageMaker AI Developer Guide, "SageMaker AI distributed data parallelism library", supported collectives.
    """

    def __init__(self, backend: str = "smddp", **arguments: Any) -> None:
        arguments.setdefault("cluster_environment", SageMakerEnvironment())
        super().__init__(process_group_backend=backend, **arguments)

    @override
    def setup_distributed(self) -> None:
        # As in the parent, but without `device_id`, with which torch may create further process groups.
        self.set_world_ranks()
        assert self.cluster_environment is not None
        _init_dist_connection(self.cluster_environment, self._get_process_group_backend(), timeout=self._timeout)
        leave_at_exit()

    @override
    def reduce(self, tensor: Tensor | Any, group: Any | None = None, reduce_op: Any = "mean") -> Tensor:
        if isinstance(tensor, Tensor) and isinstance(reduce_op, str) and reduce_op.lower() in ("mean", "avg"):
            total = super().reduce(tensor, group, reduce_op="sum")
            return total.div_(self.world_size) if total.is_floating_point() else total.copy_(total / self.world_size)
        return super().reduce(tensor, group, reduce_op)


def choose_strategy(require_smddp: bool = False) -> Strategy | str:
    """Return SMDDP if the job requested it and it can be imported, otherwise DDP with NCCL (gloo without GPUs).

    The reason for a fallback is logged.

    Args:
        require_smddp: Whether anything but SMDDP is an error.

    Returns:
        A strategy, or "auto" if no launcher started several processes.

    Raises:
        ValueError: If SMDDP is required but not available.
    """
    reason = _why_not_smddp()
    if reason is None:
        return SMDDPStrategy()
    if require_smddp:
        raise ValueError(
            f"trainer=sagemaker_smddp, but {reason}; submit with sagemaker=smddp on ml.p4d.24xlarge or "
            "ml.p4de.24xlarge, or use trainer=sagemaker"
        )
    environment = SageMakerEnvironment()
    if not environment.detect() or environment.world_size() == 1:
        return "auto"
    backend = "NCCL" if torch.cuda.is_available() else "gloo"
    if environment.global_rank() == 0:
        _log.info("%d processes communicate with %s: %s", environment.world_size(), backend, reason)
    return DDPStrategy(cluster_environment=environment)


def import_smddp() -> str | None:
    """Import SageMaker's backend; return why it cannot be used, or None if it can."""
    try:
        if importlib.util.find_spec(_LIBRARY) is None:
            return "this image has no SMDDP library"
    except ModuleNotFoundError:
        return "this image has no SMDDP library"
    name_instance_type()
    try:
        importlib.import_module(_LIBRARY)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        # The library refuses unknown instance types on import.
        return f"the SMDDP library refuses this instance ({' '.join(str(error).split())[:200]})"
    return None


def _why_not_smddp() -> str | None:
    """Return why SMDDP cannot be used, or None if it can."""
    if not smddp_enabled():
        return "the job was not submitted with the SMDDP launcher"
    if not SageMakerEnvironment.detect():
        return "no launcher started this process"
    return import_smddp()
