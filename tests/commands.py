"""How tests run commands as a user does."""

import importlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.warm_start import completed

# A run of seconds: few small slides, a narrow network.
SMALL_RUN = [
    "data=synthetic",
    "data.num_slides=24",
    "data.tile_size=32",
    "data.num_tiles=4",
    "data.batch_size=4",
    "model.encoder.embedding_dim=16",
    "trainer.accelerator=cpu",
    "logger=csv",
    "callbacks.progress=null",
    "report=false",
]

# 23 bags and batches of 3: neither divides by 2 or 3 processes, and the test split has 2 bags, fewer than 3 processes.
# Without dropout and augmentation all is determined.
DETERMINED_RUN = [
    *SMALL_RUN,
    "data.num_slides=23",
    "data.num_folds=11",
    "data.augmentation=none",
    "model.encoder.dropout=0.0",
    "optimizer=sgd",
    "optimizer.lr=0.01",
    "trainer.max_epochs=2",
    "callbacks.early_stopping=null",
]
DDP = ["trainer=ddp", "trainer.accelerator=cpu"]


def milpath(command: str, *words: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `python -m milpath.<command>` in a folder, in a process that has the packages of others loaded."""
    result = completed(command, *words, cwd=cwd, environment={**os.environ, "COLUMNS": "200"})
    if check:
        assert result.returncode == 0, result.stderr[-3000:]
    return result


def here(module: str, *words: str, cwd: Path) -> int:
    """Run the `main` of a command in this process, which has its imports already; returns the exit status."""
    with pytest.MonkeyPatch.context() as patch, logging_as_before():
        patch.chdir(cwd)
        patch.setattr(sys, "argv", [module, *words])
        try:
            importlib.import_module(module).main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


@contextmanager
def logging_as_before() -> Iterator[None]:
    """Take away what Hydra sets up for logging: a process of a user ends with its command, this one goes on."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
