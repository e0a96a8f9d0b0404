"""Processes for the trainings of a table that run at the same time, forked from one that has loaded the libraries.

To load torch and Lightning takes five seconds, as long as five trainings on a small data set. On Linux they are loaded once
for all of these processes, by one that reads no data and asks for no GPU, while the command loads its own.
"""

import json
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from milpath.data.loading.threads import JOBS, num_cores

# JSON for `loaded_for_jobs`: the folder of this package, the process of the command, and variables to restore.
LOADING = "MILPATH_LOADING"


def prepare_processes(words: Sequence[str]) -> None:
    """Begin to load the libraries, if the command line of a table asks for several jobs; returns at once.

    Not for `--help` and the like, and not on a single core, of which it would take half from the command.
    """
    given = [word.removeprefix("jobs=") for word in words if word.startswith("jobs=")]
    several = bool(given) and given[-1].isdecimal() and int(given[-1]) > 1
    if several and not any(word.startswith("-") for word in words) and num_cores() > 1 and _can_fork():
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
    folder = str(Path(__file__).resolve().parents[2])
    # The process would look for modules in the working folder first, which may hold another copy of this package.
    values = {"PYTHONSAFEPATH": "1"}
    if _comes_before_the_standard_library(folder):
        values["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    before = {name: os.environ.get(name) for name in values}
    values[LOADING] = json.dumps({"folder": folder, "environment": before, "command": os.getpid()})
    multiprocessing.resource_tracker.ensure_running()  # unblocks SIGINT when it starts
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # also in the new process, until it ignores it
    os.environ.update(values)
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        del os.environ[LOADING]
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _comes_before_the_standard_library(folder: str) -> bool:
    """Return whether modules of a folder shadow those of Python, as those of a checkout that is not installed do."""
    paths = [Path(path).resolve() for path in sys.path]
    own, standard = Path(folder), Path(os.__file__).resolve().parent
    return own in paths and (standard not in paths or paths.index(own) < paths.index(standard))


def _begin(environment: Mapping[str, str]) -> None:
    """Begin a process of a pool."""
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
