"""Worker process that cuts slides: reports that it is ready, then reads one `SlideJob` per line and answers in JSON.

A damaged slide can crash or hang its own process without affecting other slides. The process is started as a program,
not forked, so that it neither imports torch nor inherits the memory of its parent, and it receives nothing but text.
"""

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from milpath.tiling.bag_files import write_slide_bag
from milpath.tiling.slide_job import READY, OutputError, SlideJob

# Memory limit for a decoder misled by a corrupt file: far above what cutting needs, far below what a machine has.
_MAX_ADDRESS_SPACE = 8 << 30


def main() -> None:
    """Cut slides until there are no more."""
    serve(lambda job, _: {"num_tiles": write_slide_bag(job).num_tiles})


def serve(work: Callable[[SlideJob, BinaryIO], dict[str, Any]]) -> None:
    """Process jobs until there are no more.

    Args:
        work: Does a job and returns what is known about the finished slide; it may send bytes before.
    """
    answers = _take_stdout()
    # The parent handles interrupts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_ADDRESS_SPACE, hard))
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    answers.write(READY)
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(_answer(SlideJob.from_json(line), answers, work)).encode() + b"\n")
        answers.flush()


def _answer(job: SlideJob, answers: BinaryIO, work: Callable[[SlideJob, BinaryIO], dict[str, Any]]) -> dict[str, Any]:
    """Do a job.

    Returns:
        What is known about a finished slide and `peak_memory` (bytes), `error` of a slide that cannot be cut, or `stop`
        if no output can be written.
    """
    try:
        found = work(job, answers)
    except OutputError as error:
        return {"stop": str(error)}
    except MemoryError:
        return {"error": "it needs more memory than a worker may use: it is damaged, or stored in too large segments"}
    except Exception as error:  # One slide of ten thousand must not stop the others; it is reported.
        known = isinstance(error, ValueError | OSError)
        return {"error": str(error) if known else f"{type(error).__name__}: {error}"}
    return found | {"peak_memory": peak_memory()}


def peak_memory() -> int:
    """Return the peak memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not ru_maxrss: on Linux it starts with the memory of the parent process.
        return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _take_stdout() -> BinaryIO:
    """Return a file only for answers; anything that libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main()
