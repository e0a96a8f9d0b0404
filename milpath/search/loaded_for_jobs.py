"""Loads what the trainings of a table need. Only the process from which they are forked imports this module.

Like a job, it leaves SIGINT to the command that started it.
"""

import signal
from importlib import import_module

from milpath.config.module_loading import collecting_later

signal.signal(signal.SIGINT, signal.SIG_IGN)
with collecting_later():
    import_module("milpath.table")
