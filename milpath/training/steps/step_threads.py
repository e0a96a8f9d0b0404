"""Number of threads for a training on a CPU: many for large steps, one for small ones."""

import os
from collections.abc import Mapping

import torch
from threadpoolctl import threadpool_limits

from milpath.data.datamodule import BagDataModule
from milpath.data.loading.threads import JOBS, num_cores

# Below, the threads of a step spend more time waiting for each other than they save, many times more if another process
# uses a core: a step of half a billion operations takes about 10 ms on one core.
_SMALL_STEP = 5e8
# Whoever sets one of them has chosen.
_CHOSEN = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_CHOSEN_FOR_NUMPY = "OPENBLAS_NUM_THREADS"


def threads_of_step(operations: float, cores: int) -> int:
    """Return the number of threads for steps of some floating-point operations.

    Example:
        >>> threads_of_step(1e8, cores=16), threads_of_step(1e10, cores=16)
        (1, 16)
    """
    return 1 if operations < _SMALL_STEP else max(1, cores)


def operations_of_step(module: torch.nn.Module, datamodule: BagDataModule) -> float:
    """Return the floating-point operations of a training step on bags of features: six for each weight and tile.

    Two forward, four backward (Kaplan et al. 2020, section 2.1). Infinite for tiles of pixels, whose steps are never small.

    Args:
        module: The network.
        datamodule: Its data, set up.
    """
    store = datamodule.store
    if len(store.tile_shape) != 1:
        return float("inf")
    tiles = float(store.num_tiles.mean())
    if datamodule.max_tiles:
        tiles = min(tiles, datamodule.max_tiles)
    return 6.0 * sum(weight.numel() for weight in module.parameters()) * tiles * datamodule.batch_size


def use_threads_of_fit(
    module: torch.nn.Module,
    datamodule: BagDataModule,
    num_processes: int = 1,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Set the threads of torch and numpy in this process for a training on a CPU, unless the user has chosen their number.

    The threads in which numpy and scipy multiply small matrices wait for each other as those of torch do. Another number
    of threads may change the last bit of a result, so `provenance.json` records it.

    Args:
        module: The network.
        datamodule: Its data, set up.
        num_processes: Processes of this training on this machine, which share its cores.
        environment: Where the user's choice and the number of trainings of a table are looked up.
    """
    if not any(environment.get(name) for name in _CHOSEN):
        cores = num_cores() // (num_processes * int(environment.get(JOBS) or 1))
        threads = threads_of_step(operations_of_step(module, datamodule), cores)
        torch.set_num_threads(threads)
        if not environment.get(_CHOSEN_FOR_NUMPY):
            threadpool_limits(threads, user_api="blas")
