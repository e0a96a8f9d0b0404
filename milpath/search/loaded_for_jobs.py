"""Loads what the trainings of a table need. Only the process from which they are forked imports this module."""

import json
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from milpath.config.module_loading import collecting_later
from milpath.search.job_processes import LOADING

_LOOK_SECONDS = 0.25


def _load() -> None:
    asked = json.loads(os.environ.pop(LOADING, "{}"))
    if not asked:  # imported by something else
        return
    for name, value in asked["environment"].items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    if Path(__file__).resolve().parents[2] != Path(asked["folder"]):  # another copy, which jobs must not have
        for name in [name for name in sys.modules if name.partition(".")[0] == "milpath"]:
            del sys.modules[name]
        return
    # An interrupt is for the command. While modules are imported, nobody else sees that it has ended.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

    def look(*_: object) -> None:
        if os.getppid() != asked["command"]:
            os._exit(1)

    alarm = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)
    try:
        # A module that cannot be imported is imported again by the jobs, which say why.
        with suppress(Exception), collecting_later():
            import_module("milpath.search.compared_methods")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        signal.signal(signal.SIGINT, interrupt)


_load()
