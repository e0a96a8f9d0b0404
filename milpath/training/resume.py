"""Where a run goes on, and when it must not."""

import json
import logging
import pickle
from pathlib import Path

import torch

from milpath.training.earlier_run import identity_in_checkpoint, identity_in_folder, require_same_run
from milpath.training.results import Metrics
from milpath.training.run_identity import RunIdentity

_log = logging.getLogger(__name__)


def checkpoint_to_resume(resume_from: str | None, run_dir: Path, identity: RunIdentity) -> Path | None:
    """Return the checkpoint to go on from, after a look at what the folder and the checkpoint hold.

    Args:
        resume_from: None, "auto" (`last.ckpt` of this run if there is one) or the path of a checkpoint.
        run_dir: The folder of the run.
        identity: Of the run that is asked for.

    Returns:
        A checkpoint of this same run; None to start anew.

    Raises:
        FileExistsError: If the folder holds a run and `resume_from` is None: its files would be overwritten.
        FileNotFoundError: If the path does not exist.
        ValueError: If the folder or the checkpoint holds another run, or training cannot go on from the checkpoint.
    """
    checkpoint = resume_path(resume_from, run_dir)
    before = identity_in_folder(run_dir)
    continued = None if before is None else require_same_run(before, identity, run_dir)
    if checkpoint is not None:
        require_trainer_state(checkpoint)
        trained = identity_in_checkpoint(checkpoint)
        if trained is None:
            _log.warning("%s does not say which data and settings it was trained with: nothing is compared", checkpoint)
        else:
            continued = require_same_run(trained, identity, checkpoint) or continued
            if not trained.contents:
                _log.warning("%s does not say which tiles and labels it was trained with", checkpoint)
    if continued:
        _log.info("%s is continued: %s", run_dir, continued)
    return checkpoint


def resume_path(resume_from: str | None, run_dir: Path) -> Path | None:
    """Return where `resume_from` points, None to start anew.

    Raises:
        FileExistsError: If the folder holds a run and `resume_from` is None.
        FileNotFoundError: If the path does not exist.
    """
    last = run_dir / "checkpoints" / "last.ckpt"
    if resume_from is None:
        if any(path.exists() for path in (last, last.with_name("best.ckpt"), run_dir / "metrics.json")):
            raise FileExistsError(f"{run_dir} holds a run already; give another run_name, or resume_from=auto to go on")
        return None
    if resume_from == "auto":
        return last if last.exists() else None
    path = Path(resume_from)
    if not path.is_file():
        raise FileNotFoundError(f"resume_from={path} does not exist; give the path of a last.ckpt, or auto")
    return path


def finished_trial(run_dir: Path, identity: RunIdentity) -> Metrics | None:
    """Return the metrics of a trial of a search that is done; None for a run that is to be trained.

    The folder of a trial, and no other, is named by what the trial is, and what lies in it is the answer only if the data
    and everything else are what they were.

    Raises:
        ValueError: If the folder holds another run.
    """
    path = run_dir / "metrics.json"
    if not ((run_dir / "trial.json").is_file() and path.is_file()):
        return None
    before = identity_in_folder(run_dir)
    if before is not None and require_same_run(before, identity, run_dir):
        return None  # it is continued
    metrics: Metrics = json.loads(path.read_text(encoding="utf-8"))
    return metrics


def require_trainer_state(path: Path) -> None:
    """Refuse a file from which training cannot go on: not a checkpoint, code inside, weights alone.

    Raises:
        ValueError: With one line that says which of these it is.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a checkpoint of milpath ({type(error).__name__}); give a last.ckpt") from None
    if not isinstance(content, dict) or not {"loops", "optimizer_states", "milpath"} <= set(content):
        raise ValueError(f"{path} holds no state of training; resume from the checkpoints/last.ckpt of a run")
