"""Where a job that was interrupted goes on."""

import logging
from pathlib import Path

from milpath.runs.resume import require_trainer_state

_log = logging.getLogger(__name__)


def whole_checkpoint(folder: Path) -> Path | None:
    """Return `last.ckpt` if it can be read to its end, else the newest checkpoint that can, None if there is none.

    A machine may be lost while SageMaker copies a file: what is not whole is removed, so that the run can write it anew.
    Every process of a job comes to the same answer, since nothing is written before all have looked.

    Args:
        folder: Where the run keeps its checkpoints.
    """
    found = []
    for path in folder.glob("*.ckpt"):
        try:
            require_trainer_state(path)
            found.append((path.name == "last.ckpt", path.stat().st_mtime, path))
        except ValueError as error:
            _log.warning("%s; it is removed", error)
            path.unlink(missing_ok=True)
    return max(found)[2] if found else None
