"""Where a run goes on, and when it must not."""

import json
import logging
from pathlib import Path

from milpath.models.checkpoint import read_archive
from milpath.models.finite import require_finite_weights
from milpath.models.weights_digest import require_sealed
from milpath.records.atomic_files import remove_partial_files
from milpath.training.results import Metrics

_log = logging.getLogger(__name__)


def resume_path(resume_from: str | None, checkpoints_dir: Path) -> Path | None:
    """Return the checkpoint to go on from, None to start anew.

    Args:
        resume_from: None, "auto" (`newest_whole` of this run if there is one) or the path of a checkpoint.
        checkpoints_dir: Folder of this run's checkpoints.

    Raises:
        FileExistsError: If the folder holds a run and `resume_from` is None: its checkpoints would be overwritten.
        FileNotFoundError: If the path does not exist.
        ValueError: If the checkpoint holds weights only, so that training cannot go on from it.
    """
    last = checkpoints_dir / "last.ckpt"
    if resume_from is None:
        if last.exists():
            raise FileExistsError(
                f"{checkpoints_dir.parent} holds a run already; give another run_name, or resume_from=auto to go on"
            )
        return None
    if resume_from == "auto":
        return newest_whole(checkpoints_dir)
    path = Path(resume_from)
    if not path.is_file():
        raise FileNotFoundError(f"resume_from={path} does not exist; give the path of a last.ckpt, or auto")
    return path


def newest_whole(checkpoints_dir: Path) -> Path | None:
    """Return `last.ckpt`, or where it is broken or missing the newest checkpoint that training can go on from.

    What a killed run left half written is deleted; broken checkpoints stay, and the log names them.

    Args:
        checkpoints_dir: Folder of a run's checkpoints; it may be missing.

    Returns:
        None if there is no checkpoint at all.

    Raises:
        ValueError: If there are checkpoints, and training can go on from none of them.
    """
    remove_partial_files(checkpoints_dir)
    paths = sorted(checkpoints_dir.glob("*.ckpt"), key=lambda path: (path.name == "last.ckpt", path.stat().st_mtime))
    broken = []
    while paths:
        path = paths.pop()
        try:
            require_trainer_state(path)
        except ValueError as error:
            broken.append(str(error).partition(";")[0])
            continue
        if broken:
            _log.warning("%s; going on from %s instead", "; ".join(broken), path.name)
        return path
    if broken:
        raise ValueError(
            f"no checkpoint to go on from in {checkpoints_dir}: {'; '.join(broken)}; give another run_name to start anew"
        )
    return None


def finished_trial(run_dir: Path) -> Metrics | None:
    """Return the metrics of a trial of a search that is done; None for a run that is to be trained.

    The folder of a trial, and no other, is named by what the trial is: what lies in it is the answer to this configuration.
    """
    path = run_dir / "metrics.json"
    if not ((run_dir / "trial.json").is_file() and path.is_file()):
        return None
    metrics: Metrics = json.loads(path.read_text(encoding="utf-8"))
    return metrics


def require_trainer_state(path: Path) -> None:
    """Refuse a file from which training cannot go on: not a checkpoint, code inside, damaged, weights alone or not finite.

    Raises:
        ValueError: With one line that says which of these it is.
    """
    try:
        content = read_archive(path)
    except ValueError as error:
        reason = str(error).removeprefix(str(path)).strip(": ")
        raise ValueError(f"{path} is not a checkpoint of milpath to go on from: {reason}") from None
    if not isinstance(content, dict) or not {"loops", "optimizer_states", "milpath"} <= set(content):
        raise ValueError(f"{path} holds no state of training; resume from the checkpoints/last.ckpt of a run")
    require_sealed(content, path)
    try:
        require_finite_weights(content["state_dict"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
