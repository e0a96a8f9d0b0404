"""Processes for the trainings of a table that run at the same time, forked from one that has loaded the libraries.

To load torch and Lightning takes five seconds, as long as five trainings on a small data set. On Linux they are loaded once
for all of these processes, by one that reads no data and asks for no GPU, while the command loads its own.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from milpath.data.loading.threads import JOBS


def prepare_processes(words: Sequence[str]) -> None:
    """Begin to load the libraries, if the command line of a table asks for several jobs; returns at once."""
    given = [word.removeprefix("jobs=") for word in words if word.startswith("jobs=")]
    if given and given[-1].isdecimal() and int(given[-1]) > 1 and _can_fork():
        _start_loading()


def process_pool(jobs: int) -> ProcessPoolExecutor:
    """Return a pool of so many processes, which share the cores and have the environment of this process.

    They ignore SIGINT, which this process handles, and exit when it does.
    """
    # Never forked from this process: they would inherit locks held by threads that do not exist in them.
    if _can_fork():
        _start_loading()
    context = multiprocessing.get_context("forkserver" if _can_fork() else "spawn")
    environment = os.environ | {JOBS: str(jobs)}
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(environment,))


def _can_fork() -> bool:
    """Return whether the platform forks processes reliably."""
    return sys.platform == "linux"


def _start_loading() -> None:
    """Start the process that is forked, unless it runs."""
    multiprocessing.set_forkserver_preload(["milpath.search.loaded_for_jobs"])
    # This copy of the package, whatever the working folder holds.
    paths = [str(Path(__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    with _environment({"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}):
        multiprocessing.forkserver.ensure_running()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment for a while."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        _replace_environment(before)


def _replace_environment(values: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


def _begin(environment: Mapping[str, str]) -> None:
    """Begin a process of a pool."""
    _replace_environment(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
