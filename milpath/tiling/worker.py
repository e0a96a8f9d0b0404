"""A process that cuts slides: says that it is ready, then reads a `SlideJob` a line and answers a line of JSON.

A process of its own is what a damaged slide may crash or hang without harm to the others. It is started as a program, not
forked, so it holds neither torch nor the memory of its parent, and it takes nothing from the parent but text.
"""

import json
import logging
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

from milpath.tiling.bag_files import write_slide_bag
from milpath.tiling.slide_job import READY, OutputError, SlideJob

# What a decoder that was lied to may ask for. Far above what cutting takes, far below what stops a machine.
_MAX_ADDRESS_SPACE = 8 << 30


def main() -> None:
    """Answer jobs until there are no more."""
    answers = _take_stdout()
    # The parent decides what an interrupt means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_ADDRESS_SPACE, hard))
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    answers.write(READY.decode())
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(answer(SlideJob.from_json(line))) + "\n")
        answers.flush()


def answer(job: SlideJob) -> dict[str, Any]:
    """Do a job.

    Returns:
        `num_tiles` and `peak_memory` (bytes) of a finished slide, `error` of a slide that cannot be cut, or `stop` where no
        slide can be written.
    """
    try:
        record = write_slide_bag(job)
    except OutputError as error:
        return {"stop": str(error)}
    except MemoryError:
        return {"error": "it needs more memory than a worker may take: it is damaged, or stored in too large pieces"}
    except Exception as error:  # Whatever one slide of ten thousand does, it is named and the others go on.
        known = isinstance(error, ValueError | OSError)
        return {"error": str(error) if known else f"{type(error).__name__}: {error}"}
    return {"num_tiles": record.num_tiles, "peak_memory": peak_memory()}


def peak_memory() -> int:
    """Return the largest memory this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not ru_maxrss: in Linux it begins with the memory of the process that started this one.
        return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _take_stdout() -> TextIO:
    """Return a file for answers alone: what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main()
