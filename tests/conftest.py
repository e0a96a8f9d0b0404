"""What all tests share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# One thread a process, also of the commands that tests start: two processes on two cores are faster than two threads each,
# and sums come out equal to the last bit whichever process makes them.
os.environ["OMP_NUM_THREADS"] = "1"

from tests.bag_stores import make_store, open_store, synthetic_folder
from tests.commands import here
from tests.evaluated_runs import binary, binary_run, draw_outcomes, make_run, nominal, ordinal

# Fixtures of every folder: stores of bags, and runs that look like those of a network.
__all__ = [
    "binary",
    "binary_run",
    "draw_outcomes",
    "make_run",
    "make_store",
    "nominal",
    "open_store",
    "ordinal",
    "synthetic_folder",
]

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
def run_here(capfd) -> Callable[..., tuple[int, str]]:
    """Run the `main` of a command in this process; returns exit status and what it printed to stderr."""

    def run(module: str, *words: str, cwd: Path) -> tuple[int, str]:
        capfd.readouterr()
        try:
            status = here(module, *words, cwd=cwd)
        except ValueError as error:  # a job of a sweep raises, and Hydra tells
            return 1, str(error)
        return status, capfd.readouterr().err

    return run
