"""Resuming a run: which checkpoint to continue from, and when to refuse."""

import logging
from pathlib import Path
from typing import cast

from milpath.models.checkpoint import read_archive
from milpath.models.finite import require_finite_weights
from milpath.models.weights_digest import require_sealed
from milpath.records.atomic_files import remove_partial_files
from milpath.records.plain_values import read_mapping
from milpath.runs.earlier_run import identity_in_checkpoint, identity_in_folder, require_same_run
from milpath.runs.result_files import Metrics
from milpath.runs.run_identity import RunIdentity

_log = logging.getLogger(__name__)
# Without the version of Lightning its migration of old checkpoints fails.
_TRAINER_STATE = {"loops", "optimizer_states", "milpath", "state_dict", "pytorch-lightning_version"}


def checkpoint_to_resume(resume_from: str | None, run_dir: Path, identity: RunIdentity) -> Path | None:
    """Return the checkpoint to resume from, after checking that folder and checkpoint belong to the same run.

    Args:
        resume_from: None, "auto" (`newest_whole` of this run, if any) or the path of a checkpoint.
        run_dir: The folder of the run.
        identity: Identity of the requested run.

    Returns:
        A checkpoint of the same run; None to start from scratch.

    Raises:
        FileExistsError: If the folder holds a run and `resume_from` is None: its files would be overwritten.
        FileNotFoundError: If the path does not exist.
        ValueError: If the folder or the checkpoint holds another run, or training cannot resume from the checkpoint.
    """
    checkpoint = resume_path(resume_from, run_dir)
    if checkpoint is not None and resume_from != "auto":  # `newest_whole` has already checked these
        require_trainer_state(checkpoint)
    before, done = identity_in_folder(run_dir), _done(checkpoint)
    continued = None if before is None else require_same_run(before, identity, run_dir, done)
    if checkpoint is not None:
        trained = identity_in_checkpoint(checkpoint)
        if trained is None:
            _log.warning("%s has no record of its data and settings; they are not compared", checkpoint)
        else:
            continued = require_same_run(trained, identity, checkpoint, done) or continued
            if not trained.contents:
                _log.warning("%s has no record of its tiles and labels; they are not compared", checkpoint)
    if continued:
        _log.info("%s is continued: %s", run_dir, continued)
    return checkpoint


def _done(checkpoint: Path | None) -> dict[str, int]:
    """Return the epochs and steps that a run has done, the last ones perhaps in part."""
    if checkpoint is None:
        return {"trainer.max_epochs": 0, "trainer.max_steps": 0}
    content = read_archive(checkpoint)
    try:
        epochs = content["loops"]["fit_loop"]["epoch_progress"]["current"]["started"]
        return {"trainer.max_epochs": int(epochs), "trainer.max_steps": int(content["global_step"])}
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{checkpoint} does not say how many epochs and steps are done; give another run_name to start over"
        ) from None


def resume_path(resume_from: str | None, run_dir: Path) -> Path | None:
    """Return the checkpoint that `resume_from` refers to, or None to start from scratch.

    Raises:
        FileExistsError: If the folder holds a run and `resume_from` is None.
        FileNotFoundError: If the path does not exist.
    """
    last = run_dir / "checkpoints" / "last.ckpt"
    if resume_from is None:
        if any(path.exists() for path in (last, last.with_name("best.ckpt"), run_dir / "metrics.json")):
            raise FileExistsError(
                f"{run_dir} already holds a run; give another run_name, or resume_from=auto to continue it"
            )
        return None
    if resume_from == "auto":
        return newest_whole(last.parent)
    path = Path(resume_from)
    if not path.is_file():
        raise FileNotFoundError(f"resume_from={path} does not exist; give the path of a last.ckpt, or auto")
    return path


def newest_whole(checkpoints_dir: Path) -> Path | None:
    """Return `last.ckpt` or, if it is broken or missing, the newest checkpoint that training can resume from.

    Partial files of a killed run are deleted; broken checkpoints are kept and named in the log.

    Args:
        checkpoints_dir: Folder of a run's checkpoints; it may be missing.

    Returns:
        None if there are no checkpoints.

    Raises:
        ValueError: If there are checkpoints, but training cannot resume from any of them.
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
            _log.warning("%s; resuming from %s instead", "; ".join(broken), path.name)
        return path
    if broken:
        raise ValueError(
            f"no checkpoint to resume from in {checkpoints_dir}: {'; '.join(broken)}; give another run_name to start over"
        )
    return None


def finished_trial(run_dir: Path, identity: RunIdentity) -> Metrics | None:
    """Return the metrics of a finished trial of a search, or None for a run that has to be trained.

    Only the folder of a trial is named after its configuration. Its results are reused only if the data and all other
    settings are unchanged.

    Raises:
        ValueError: If the folder holds another run.
    """
    path = run_dir / "metrics.json"
    if not ((run_dir / "trial.json").is_file() and path.is_file()):
        return None
    before = identity_in_folder(run_dir)
    if before is not None and require_same_run(before, identity, run_dir):
        return None  # continued, for example with more epochs
    return cast(Metrics, read_mapping(path, only_shown=True))


def require_trainer_state(path: Path) -> None:
    """Refuse a file that training cannot resume from: not a checkpoint, with code, damaged, only weights, not finite.

    Raises:
        ValueError: With the reason in one line.
    """
    try:
        content = read_archive(path)
    except ValueError as error:
        reason = str(error).removeprefix(str(path)).strip(": ")
        raise ValueError(f"{path} is not a milpath checkpoint to resume from: {reason}") from None
    if not isinstance(content, dict) or not set(content) >= _TRAINER_STATE:
        raise ValueError(f"{path} holds no training state; resume from the checkpoints/last.ckpt of a run")
    require_sealed(content, path)
    try:
        require_finite_weights(content["state_dict"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
