"""What all tests share."""

import gc
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# One thread a process, also of the commands that tests start: two processes on two cores are faster than two threads each,
# and sums come out equal to the last bit whichever process makes them.
os.environ["OMP_NUM_THREADS"] = "1"

from tests.bag_stores import make_store, open_store, synthetic_folder
from tests.commands import here
from tests.drawn_data import draw_breast_images, draw_panda, draw_scan
from tests.evaluated_runs import binary, binary_run, draw_outcomes, make_run, nominal, ordinal
from tests.real_data import RealData

# Where pytest runs the tests itself, torch was loaded before and has not read the variable.
torch.set_num_threads(1)

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
# What a file imports in order to run commands, train, start processes, compose configurations (a sixth of a second each), ask a
# mocked AWS or open a browser.
STARTS = re.compile(
    r"^\s*(?:from|import) (?:subprocess|multiprocessing|lightning|moto|nbclient|hydra|tests\.commands|tests\.warm_start|tests\.browser"
    r"|tests\.sagemaker\.conftest|milpath\.train|milpath import (?:predict|encoders)|milpath\.search\.(?:cross_validation|composition)"
    r"|milpath\.tiling\.(?:slide_bags|worker_pool)|milpath\.encoding\.extract_features|milpath\.viewer\.upload_answer)\b",
    re.M,
)

# A busy machine may take long for an example now and then; in continuous integration these are Hypothesis's own settings.
settings.register_profile("busy machine", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

# Seconds of CPU of the longest files, rounded; the Makefile has xdist keep this order (--no-loadscope-reorder).
LONG_FILES = {
    "test_numeric_targets.py": 130, "test_experiments.py": 90, "config/test_interruption.py": 90, "test_ddp.py": 80, "test_extract.py": 70,
    "test_documentation.py": 60, "test_kills.py": 60, "test_notebook.py": 60, "test_no_outside_connections.py": 60, "test_main.py": 50,
    "test_ddp_ends.py": 40, "test_cohort_of_known_truth.py": 40, "runs/test_resume.py": 40, "search/test_search_callback.py": 30,
    "test_configs.py": 30, "viewer/test_page_in_browser.py": 30, "test_requirements.py": 30, "models/test_contract.py": 30,
    "test_train.py": 25, "sagemaker/test_rehearse.py": 20, "test_ddp_odd_paths.py": 20,
}  # fmt: skip


@cache
def starts_a_command(path: Path) -> bool:
    """Whether a test file runs commands, trains, starts processes, composes configurations or opens a browser: its imports say so."""
    return path.suffix == ".py" and STARTS.search(path.read_text(encoding="utf-8")) is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `command` what `make test-fast` leaves out beside the slow tests, and begin with the longest files.

    A file is run by one process: a long one that starts last leaves the others without work.
    """
    for item in items:
        if "run_here" in getattr(item, "fixturenames", ()) or starts_a_command(item.path):
            item.add_marker("command")
    items.sort(key=lambda item: -LONG_FILES.get(item.nodeid.partition("::")[0].removeprefix("tests/"), 0))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


def pytest_sessionstart() -> None:
    """Pause the garbage collector while all tests are imported."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what tests and packages have loaded out of later collections: it stays until the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)  # a composed configuration makes ten thousand objects
    gc.enable()


@pytest.fixture(scope="session")
def shared_data() -> RealData:
    """Real data: `shared_data / "mnist"` is the folder of one set, or the test is skipped; `tests/drawn_data.py` draws some."""
    return RealData.of_the_environment()


@pytest.fixture(scope="session", params=["drawn", "real"])
def panda_folder(request, tmp_path_factory) -> Path:
    """Two slides, one with a mask, and their labels: drawn, and the real ones of PANDA where they are at hand."""
    if request.param == "real":
        return request.getfixturevalue("shared_data") / "panda_pixels"
    return draw_panda(tmp_path_factory.mktemp("panda") / "panda_pixels")


@pytest.fixture(scope="session", params=["drawn", "real"])
def breast_folder(request, tmp_path_factory) -> Path:
    """Breast images with a label and the microarray of each: drawn, and the real ones where they are at hand."""
    if request.param == "real":
        return request.getfixturevalue("shared_data") / "ucsb_breast"
    return draw_breast_images(tmp_path_factory.mktemp("breast") / "ucsb_breast")


@pytest.fixture(scope="session", params=["drawn", "real"])
def scan(request, tmp_path_factory) -> Path:
    """A scan in Aperio's form: drawn, and a real one where it is at hand."""
    if request.param == "real":
        return request.getfixturevalue("shared_data") / "slides" / "CMU-1-Small-Region.svs"
    return draw_scan(tmp_path_factory.mktemp("scan") / "drawn.svs")


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
