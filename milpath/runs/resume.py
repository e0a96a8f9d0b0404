"""Where a run goes on, and when it must not."""

import json
import logging
from pathlib import Path

from milpath.models.checkpoint import read_archive
from milpath.models.finite import require_finite_weights
from milpath.models.weights_digest import require_sealed
from milpath.records.atomic_files import remove_partial_files
from milpath.runs.earlier_run import identity_in_checkpoint, identity_in_folder, require_same_run
from milpath.runs.result_files import Metrics
from milpath.runs.run_identity import RunIdentity

_log = logging.getLogger(__name__)


def checkpoint_to_resume(resume_from: str | None, run_dir: Path, identity: RunIdentity) -> Path | None:
    """Return the checkpoint to go on from, after a look at what the folder and the checkpoint hold.

    Args:
        resume_from: None, "auto" (`newest_whole` of this run if there is one) or the path of a checkpoint.
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
        if resume_from != "auto":  # those were looked at already
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
        return newest_whole(last.parent)
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
    """Refuse a file from which training cannot go on: not a checkpoint, code inside, damaged, weights alone or not finite.

    Raises:
        ValueError: With one line that says which of these it is.
    """
    try:
        content = read_archive(path)
    except ValueError as error:
        reason = str(error).removeprefix(str(path)).strip(": ")
        raise ValueError(f"{path} is not a checkpoint of milpath to go on from: {reason}") from None
    if not isinstance(content, dict) or not {"loops", "optimizer_states", "milpath", "state_dict"} <= set(content):
        raise ValueError(f"{path} holds no state of training; resume from the checkpoints/last.ckpt of a run")
    require_sealed(content, path)
    try:
        require_finite_weights(content["state_dict"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
