"""How tests run commands as a user does."""

import os
import subprocess
import sys
from pathlib import Path

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


def milpath(command: str, *words: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `python -m milpath.<command>` in a folder; one thread, so that tests may run side by side."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    result = subprocess.run(
        [sys.executable, "-m", f"milpath.{command}", *words], cwd=cwd, env=environment, capture_output=True, text=True
    )
    if check:
        assert result.returncode == 0, result.stderr[-3000:]
    return result
