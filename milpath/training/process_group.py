"""The end of the process group of a distributed training."""

import atexit

import torch.distributed as dist


def leave_at_exit() -> None:
    """Leave the process group, if there is one, before the interpreter is taken down.

    Threads of gloo may still hold tensors of the last collective then; they abort a process that has finished its work, with
    "terminate called without an active exception". Lightning does the same for NCCL alone.
    """
    atexit.unregister(_leave)  # once, however many trainings a process has
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
