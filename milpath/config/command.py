"""The decorator of every command: Hydra composes the configuration, and user errors print one line, not a traceback."""

import errno
import logging
import math
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import hydra
import hydra.experimental.callback
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from milpath.config.command_help import help_text
from milpath.config.command_line import flags_first, literal_overrides
from milpath.config.composition_errors import errors_raised, explain, with_booleans
from milpath.config.folder_names import check_run_folder, check_working_folder
from milpath.config.interruption import interruptible
from milpath.config.kept_configuration import check_command_line
from milpath.config.option_ranges import require_ranges
from milpath.config.roots import CONFIG_DIR
from milpath.config.run_mode import composed_once
from milpath.records.atomic_files import require_folder
from milpath.records.error_text import one_line_of
from milpath.records.folder_lock import HOLDER_FILE, LOCK_FILE, FolderLock

# Errors a user can fix; the message says how. Anything else is a bug in the library and keeps its traceback.
USER_ERRORS = (
    ValueError,
    OSError,  # a missing file, a file in the way, a full disk, a read-only folder
    FloatingPointError,
    ImportError,
    OmegaConfBaseException,
    HydraException,  # raised by a command that composes another one: sagemaker.launch composes a training
)

_MAKE_ROOM = "free some disk space and run the same command again"
_WAYS_OUT = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EFBIG: _MAKE_ROOM,
    errno.EROFS: "give a writable folder",
}


def command(
    config_name: str, *, after_stop: str = "", output: str = ""
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Return a decorator that turns a function of a configuration into a command.

    Args:
        config_name: Root configuration in `CONFIG_DIR`, without `.yaml`.
        after_stop: How to continue after Ctrl+C or SIGTERM.
        output: Option that names an output folder, which is checked before any work.

    Returns:
        A decorator. The decorated function takes no arguments, reads the command line and exits with status 1 on an error,
        130 on SIGINT and 143 on SIGTERM. `HYDRA_FULL_ERROR=1` shows the traceback.
    """
    # As in the list of commands: sagemaker.launch, check-data.
    name = re.sub("^sagemaker_", "sagemaker.", config_name).replace("_", "-")

    def decorate(function: Callable[[DictConfig], Any]) -> Callable[[], None]:
        failed: list[str] = []  # failed jobs of a plain sweep, which continues with the others
        typed: list[str] = []

        @wraps(function)
        def run(config: DictConfig) -> Any:
            quieten_frameworks()
            sys.argv[1:] = typed  # what the record of a run shows, and what Lightning starts its other processes with
            try:
                require_mandatory(config)
                require_finite_numbers(config)
                require_ranges(config)
                if output:
                    require_folder(Path(config[output]), f"{output}={config[output]}")
                return function(config)
            except USER_ERRORS as error:
                if os.environ.get("HYDRA_FULL_ERROR") == "1" or (is_sweep() and not _is_plain_sweep()):
                    raise
                if is_sweep():
                    folder = HydraConfig.get().runtime.output_dir
                    failed.append(f"{folder}: {one_line(error)}")
                    sys.stderr.write(failed[-1] + "\n")
                    return None
                logging.shutdown()
                _remove_empty_run(Path(HydraConfig.get().runtime.output_dir))
                sys.stderr.write(one_line(error) + "\n")
                sys.exit(1)

        composed: Callable[[], None] = hydra.main(
            version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name
        )(run)

        @wraps(function)
        def main() -> None:
            failed.clear()
            typed[:] = sys.argv[1:]
            if {"-h", "--help"} & set(typed):
                sys.stdout.write(help_text(name, typed))
                return
            try:
                words = with_booleans(literal_overrides(flags_first(typed)), name)
                check_command_line()
                check_working_folder(typed)
            except ValueError as error:
                sys.stderr.write(one_line(error) + "\n")
                sys.exit(1)
            sys.argv[1:] = words
            try:
                with interruptible(after_stop), errors_raised(), composed_once():
                    composed()
            except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
                # The function of the command has handled its own errors: what arrives here is of the command line.
                if os.environ.get("HYDRA_FULL_ERROR") == "1":
                    raise
                sys.stderr.write(explain(error, name, words) + "\n")
                sys.exit(1)
            finally:
                sys.argv[1:] = typed
            if failed:
                sys.stderr.write(f"failed runs in this sweep: {len(failed)}; first: {failed[0]}\n")
                sys.exit(1)

        return main

    return decorate


def _remove_empty_run(folder: Path) -> None:
    """Delete the folder Hydra made for a run that never started, if it holds only the log, which was also printed."""
    if folder == Path.cwd() or not folder.is_dir() or not _holds_logs_alone(folder):
        return
    with suppress(ValueError, OSError), FolderLock(folder):  # another process may have just started a run there
        if _holds_logs_alone(folder):
            shutil.rmtree(folder)


def _holds_logs_alone(folder: Path) -> bool:
    """Return whether a folder holds only logs and the lock."""
    files = list(folder.rglob("*"))
    return bool(files) and all(file.suffix == ".log" or file.name in (LOCK_FILE, HOLDER_FILE) for file in files)


class RunFolder(hydra.experimental.callback.Callback):
    """Create the run folder before Hydra does, which would fail with a traceback on a full or read-only disk."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Create the folder of a run."""
        self._make(config, Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Create the folder of a sweep."""
        self._make(config, Path(config.hydra.sweep.dir))

    def _make(self, config: DictConfig, folder: Path) -> None:
        try:
            check_run_folder(config, folder)
            require_folder(folder, f"the run folder {folder}")
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(prefix=".", dir=folder):  # an existing folder may be read-only
                pass
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.filename:
                error.filename = str(folder)  # instead of the name of the temporary file
            sys.stderr.write(one_line(error) + "\n")
            sys.exit(1)


def one_line(error: Exception) -> str:
    """Return the name and message of an error in one line, without the lines OmegaConf appends.

    Names of slides and classes are untrusted: control characters in them are escaped.
    """
    if isinstance(error, PermissionError) and error.filename:
        return one_line_of(
            f"{type(error).__name__}: no access to {error.filename} ({error.strerror}); give a file or folder that you may "
            "use, or change its permissions"
        )
    if isinstance(error, OSError) and error.errno in _WAYS_OUT:
        where = f" to {error.filename}" if error.filename else ""
        return one_line_of(f"{type(error).__name__}: cannot write{where} ({error.strerror}); {_WAYS_OUT[error.errno]}")
    return f"{type(error).__name__}: {one_line_of(str(error).split(chr(10) + '    full_key')[0])}"


def quieten_frameworks() -> None:
    """Silence messages of the frameworks about themselves; those about the user's data are kept."""
    logging.raiseExceptions = False  # an unwritable log must not print one traceback per line
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    # A hint on every machine that has SLURM, such as a login node.
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system but is not used")
    # "SLURM auto-requeueing enabled", which StopOnSignal replaces.
    logging.getLogger("lightning.pytorch.trainer.connectors.signal_connector").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
    warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")  # no validation split
    # The logged values are already reduced over all processes: tests/test_ddp.py compares them with a single process.
    warnings.filterwarnings("ignore", message=r"It is recommended to use `self\.log\('(train|val)/")
    # Expected for a resumed run; anything else in the folder has been refused before.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging interval")


def own_config_dirs(hydra_config: Any) -> list[str]:
    """Return the user's own configuration folders (`--config-dir`, `hydra.searchpath`), as addresses."""
    sources = hydra_config.runtime.config_sources
    own = [source for source in sources if "command-line" in source.provider or "searchpath" in source.provider]
    return [f"{source.schema}://{source.path}" for source in own if source.schema != "structured"]


def is_sweep() -> bool:
    """Return whether this process runs a job of a Hydra multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _is_plain_sweep() -> bool:
    """Return whether the sweep runs its jobs sequentially in this process and no callback handles their errors."""
    hydra_config = HydraConfig.get()
    return (
        hydra_config.launcher._target_.endswith(".BasicLauncher")
        and hydra_config.sweeper._target_.endswith(".BasicSweeper")
        and all(str(entry.get("_target_", "")).endswith(".RunFolder") for entry in hydra_config.callbacks.values())
    )


def refuse_distributed_sweep(config: DictConfig) -> None:
    """Refuse a sweep with distributed training: each process would relaunch the whole sweep.

    Args:
        config: The configuration of one training of the sweep.

    Raises:
        ValueError: If it uses more than one process.
    """
    devices = config.trainer.get("devices", 1)
    if devices not in (1, "1") or config.trainer.get("num_nodes", 1) != 1:
        raise ValueError(
            f"a sweep (-m) cannot train with trainer.devices={devices}: each process would relaunch the sweep; "
            "use trainer.devices=1, or start the runs one by one"
        )


def require_mandatory(config: DictConfig) -> None:
    """Refuse a configuration with missing mandatory keys, and list them."""
    try:
        missing = sorted(OmegaConf.missing_keys(config))
    except InterpolationKeyError as error:
        raise ValueError(
            f"{error.full_key} has ${{ in its value, which is read as the name of another setting, and there is none of "
            "that name; give another value"
        ) from None
    # The table of slides names the files of a study that has no other labels (`milpath.runs.slides_as_labels`).
    missing = [key for key in missing if key != "data.labels" or not config.data.get("slides")]
    if missing:
        words = " ".join(f"{key}=..." for key in missing)
        raise ValueError(f"{', '.join(missing)} must be given: add {words} to the command")


def require_finite_numbers(config: DictConfig) -> None:
    """Refuse NaN and infinity anywhere in a configuration: no option accepts them, and NaN passes most range checks.

    Example:
        >>> require_finite_numbers(OmegaConf.create({"optimizer": {"lr": 1e-3, "betas": [0.9, float("nan")]}}))
        Traceback (most recent call last):
        ValueError: optimizer.betas[1]=nan is not a finite number; give another value
    """
    if found := _first_non_finite(OmegaConf.to_container(config), ""):
        raise ValueError(f"{found} is not a finite number; give another value")


def _first_non_finite(value: Any, key: str) -> str | None:
    """Return `key=value` of the first number that is not finite, or None if all are."""
    if isinstance(value, dict):
        found = (_first_non_finite(item, f"{key}.{name}" if key else str(name)) for name, item in value.items())
    elif isinstance(value, list):
        found = (_first_non_finite(item, f"{key}[{number}]") for number, item in enumerate(value))
    else:
        return f"{key}={value}" if isinstance(value, float) and not math.isfinite(value) else None
    return next((item for item in found if item), None)
