"""Stands in for SageMaker's proprietary backend: gloo underneath, and every limit that its documentation names.

Amazon's guide: all_reduce, broadcast, reduce, all_gather and barrier are supported; no other collective, no second
process group, no other backend beside it, no `device_ids`; unknown instance types are refused while it is imported.
"""

import functools
import os

import torch.distributed as dist
from torch.distributed import distributed_c10d

INSTANCE_TYPES = ("ml.p4d.24xlarge", "ml.p4de.24xlarge")
FORBIDDEN = (
    "new_group",
    "all_gather_into_tensor",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "all_to_all",
    "all_to_all_single",
    "gather",
    "scatter",
    "send",
    "recv",
    "isend",
    "irecv",
)

OPERATIONS = (dist.ReduceOp, dist.ReduceOp.RedOpType)

if os.environ.get("SAGEMAKER_INSTANCE_TYPE") not in INSTANCE_TYPES:
    raise RuntimeError(f"instance type {os.environ.get('SAGEMAKER_INSTANCE_TYPE')} is not supported by SMDDP")


def _is_smddp() -> bool:
    return dist.is_initialized() and dist.get_backend() == "smddp"


def _forbid(name: str) -> None:
    original = getattr(distributed_c10d, name)

    @functools.wraps(original)
    def wrapped(*args, **kwargs):
        if _is_smddp():
            raise RuntimeError(f"smddp does not support torch.distributed.{name}()")
        return original(*args, **kwargs)

    setattr(dist, name, wrapped)
    setattr(distributed_c10d, name, wrapped)


def _sum_only(name: str) -> None:
    original = getattr(distributed_c10d, name)

    @functools.wraps(original)
    def wrapped(*args, **kwargs):
        operations = [value for value in (*args, *kwargs.values()) if isinstance(value, OPERATIONS)]
        if _is_smddp() and any(operation == dist.ReduceOp.AVG for operation in operations):
            raise RuntimeError(f"smddp does not support ReduceOp.AVG in torch.distributed.{name}()")
        return original(*args, **kwargs)

    setattr(dist, name, wrapped)
    setattr(distributed_c10d, name, wrapped)


def _plain_barrier(original):
    @functools.wraps(original)
    def wrapped(*args, **kwargs):
        if _is_smddp() and kwargs.get("device_ids") is not None:
            raise RuntimeError("smddp takes no device_ids in torch.distributed.barrier()")
        return original(*args, **kwargs)

    return wrapped


def _no_device_id(original):
    @functools.wraps(original)
    def wrapped(*args, **kwargs):
        if "smddp" in (*args, kwargs.get("backend")) and kwargs.get("device_id") is not None:
            raise RuntimeError("smddp takes no device_id in torch.distributed.init_process_group()")
        return original(*args, **kwargs)

    return wrapped


dist.Backend.register_backend(
    "smddp",
    lambda store, rank, size, timeout: dist.ProcessGroupGloo(store, rank, size, timeout),
    devices=["cpu", "cuda"],
)
for _name in FORBIDDEN:
    _forbid(_name)
for _name in ("all_reduce", "reduce"):
    _sum_only(_name)
dist.barrier = distributed_c10d.barrier = _plain_barrier(distributed_c10d.barrier)
dist.init_process_group = distributed_c10d.init_process_group = _no_device_id(distributed_c10d.init_process_group)
