"""How every command starts: Hydra composes its configuration, and a user's mistake is one line, not a stack trace."""

import errno
import logging
import math
import os
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
from omegaconf.errors import OmegaConfBaseException

from milpath.config.interruption import interruptible
from milpath.config.kept_configuration import check_command_line
from milpath.config.roots import CONFIG_DIR
from milpath.records.error_text import one_line_of
from milpath.records.folder_lock import HOLDER_FILE, LOCK_FILE, FolderLock

# What a person can mend: the message says how. Anything else is a fault of the library and shows where it happened.
USER_ERRORS = (
    ValueError,
    OSError,  # a file that is missing or in the way, a full disk, a folder that cannot be written to
    FloatingPointError,
    ImportError,
    OmegaConfBaseException,
    HydraException,  # a command that composes another one: launch does the training
)

_MAKE_ROOM = "make room, and run the same command again"
_WAYS_OUT = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EFBIG: _MAKE_ROOM,
    errno.EROFS: "give a folder that you may write to",
}


def command(config_name: str, *, after_stop: str = "") -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Return a decorator that makes a function of a configuration a command.

    Args:
        config_name: Root configuration in `CONFIG_DIR`, without `.yaml`.
        after_stop: How the user goes on after Ctrl+C or SIGTERM.

    Returns:
        A decorator; the decorated function takes no argument, reads the command line and exits with 1 after an error, 130
        after SIGINT, 143 after SIGTERM.
        `HYDRA_FULL_ERROR=1` shows the stack trace.
    """

    def decorate(function: Callable[[DictConfig], Any]) -> Callable[[], None]:
        failed: list[str] = []  # jobs of a plain sweep, which goes on with the others

        @wraps(function)
        def run(config: DictConfig) -> Any:
            quieten_frameworks()
            try:
                require_mandatory(config)
                require_finite_numbers(config)
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
            try:
                check_command_line()
            except ValueError as error:
                sys.stderr.write(one_line(error) + "\n")
                sys.exit(1)
            with interruptible(after_stop):
                composed()
            if failed:
                sys.stderr.write(f"{len(failed)} of the runs of this sweep failed; the first: {failed[0]}\n")
                sys.exit(1)

        return main

    return decorate


def _remove_empty_run(folder: Path) -> None:
    """Delete the folder that Hydra made for a run that never began: nothing in it but the log, which was shown as well."""
    if folder == Path.cwd() or not folder.is_dir() or not _holds_logs_alone(folder):
        return
    with suppress(ValueError, OSError), FolderLock(folder):  # another process may have just begun there
        if _holds_logs_alone(folder):
            shutil.rmtree(folder)


def _holds_logs_alone(folder: Path) -> bool:
    """Return whether a folder holds no file but logs and the lock."""
    files = list(folder.rglob("*"))
    return bool(files) and all(file.suffix == ".log" or file.name in (LOCK_FILE, HOLDER_FILE) for file in files)


class RunFolder(hydra.experimental.callback.Callback):
    """Make the folder of a run before Hydra does, which would answer a full or read-only disk with a stack trace."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the folder of a run."""
        self._make(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the folder of a sweep."""
        self._make(Path(config.hydra.sweep.dir))

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(prefix=".", dir=folder):  # a folder that exists may be read-only
                pass
        except OSError as error:
            error.filename = error.filename and str(folder)  # not a name that nobody gave
            sys.stderr.write(one_line(error) + "\n")
            sys.exit(1)


def one_line(error: Exception) -> str:
    """Return what a person reads of an error: its name and message, without the tail that OmegaConf adds.

    Names of slides and classes come from other people: control characters in them are shown as escapes.
    """
    if isinstance(error, OSError) and error.errno in _WAYS_OUT:
        where = f" to {error.filename}" if error.filename else ""
        return one_line_of(f"{type(error).__name__}: cannot write{where} ({error.strerror}); {_WAYS_OUT[error.errno]}")
    return f"{type(error).__name__}: {one_line_of(str(error).split(chr(10) + '    full_key')[0])}"


def quieten_frameworks() -> None:
    """Drop what the framework says about itself; what concerns the user's data still comes."""
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a stack trace a line
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
    warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")  # no validation split
    # What this library logs is the value of all processes already: tests/test_ddp.py compares it with one process.
    warnings.filterwarnings("ignore", message=r"It is recommended to use `self\.log\('(train|val)/")
    # A run that goes on; anything else in the folder was refused before.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging interval")


def own_config_dirs(hydra_config: DictConfig) -> list[str]:
    """Return the folders with configuration of the user's own (`--config-dir`, `hydra.searchpath`), as addresses."""
    sources = hydra_config.runtime.config_sources
    own = [source for source in sources if "command-line" in source.provider or "searchpath" in source.provider]
    return [f"{source.schema}://{source.path}" for source in own if source.schema != "structured"]


def is_sweep() -> bool:
    """Return whether this process runs a job of a Hydra multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _is_plain_sweep() -> bool:
    """Return whether the sweep runs its jobs one after the other in this process and nothing else looks at their errors."""
    hydra_config = HydraConfig.get()
    return (
        hydra_config.launcher._target_.endswith(".BasicLauncher")
        and hydra_config.sweeper._target_.endswith(".BasicSweeper")
        and not hydra_config.callbacks
    )


def refuse_distributed_sweep(config: DictConfig) -> None:
    """Stop a sweep over several processes: each of them would start the whole sweep again.

    Args:
        config: Of one training of the sweep.

    Raises:
        ValueError: If it takes more than one process.
    """
    devices = config.trainer.get("devices", 1)
    if devices not in (1, "1") or config.trainer.get("num_nodes", 1) != 1:
        raise ValueError(
            f"a sweep (-m) cannot train with trainer.devices={devices}: each process would start the sweep anew; "
            "sweep with trainer.devices=1, or start the runs one by one"
        )


def require_mandatory(config: DictConfig) -> None:
    """Name every key that has to be given and was not."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        words = " ".join(f"{key}=..." for key in missing)
        raise ValueError(f"{', '.join(missing)} must be given: add {words} to the command")


def require_finite_numbers(config: DictConfig) -> None:
    """Refuse NaN and infinity anywhere in a configuration: no option means either, and NaN passes most range checks.

    Example:
        >>> require_finite_numbers(OmegaConf.create({"optimizer": {"lr": 1e-3, "betas": [0.9, float("nan")]}}))
        Traceback (most recent call last):
        ValueError: optimizer.betas[1]=nan is not a finite number; give another value
    """
    if found := _first_non_finite(OmegaConf.to_container(config), ""):
        raise ValueError(f"{found} is not a finite number; give another value")


def _first_non_finite(value: Any, key: str) -> str | None:
    """Return `key=value` of the first number that is not finite; None where all are."""
    if isinstance(value, dict):
        found = (_first_non_finite(item, f"{key}.{name}" if key else str(name)) for name, item in value.items())
    elif isinstance(value, list):
        found = (_first_non_finite(item, f"{key}[{number}]") for number, item in enumerate(value))
    else:
        return f"{key}={value}" if isinstance(value, float) and not math.isfinite(value) else None
    return next((item for item in found if item), None)
