"""What all tests share."""

import importlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# One thread a process, also of the commands that tests start: two processes on two cores are faster than two threads each,
# and sums come out equal to the last bit whichever process makes them.
os.environ["OMP_NUM_THREADS"] = "1"

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; a run without it must fail, or nobody would see that half the tests did not run."""
    folder = Path(os.environ.get("MILPATH_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.fail(
            f"no test data at {folder}; set MILPATH_SHARED_DATA to the folder with panda_pixels, ucsb_breast, ..."
        )
    return folder


@pytest.fixture
def run_here(monkeypatch, capfd) -> Callable[..., tuple[int, str]]:
    """Run the `main` of a command in this process; returns exit status and what it printed to stderr."""

    def run(module: str, *words: str, cwd: Path) -> tuple[int, str]:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", [module, *words])
        capfd.readouterr()
        try:
            importlib.import_module(module).main()
        except SystemExit as stop:
            return int(stop.code or 0), capfd.readouterr().err
        except ValueError as error:  # a job of a sweep raises, and Hydra tells
            return 1, str(error)
        finally:
            _close_log_files()
        return 0, capfd.readouterr().err

    return run


def _close_log_files() -> None:
    """Take away the log files that Hydra opened: a process of a user ends with its command, this one goes on."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, logging.FileHandler)]:
        handler.close()
        root.removeHandler(handler)
