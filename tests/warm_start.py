"""Start commands from a process that has loaded the packages they need: the imports of a training take three seconds of CPU.

A command that is started here is a process of its own with its signals, memory and exit status, and runs what
`python -m milpath.NAME` runs; milpath itself is imported anew. Tests of the start (its time, what it loads, what it sends) and
the processes that a command starts use a new interpreter.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

# Nothing that starts a thread: it would be missing in the forked process.
PACKAGES = (
    "torch",
    "torchvision",
    "lightning.pytorch",
    "timm",
    "hydra",
    "scipy.stats",
    "matplotlib.figure",
    "PIL.Image",
)
REQUEST_SIZE = 1 << 17
NUMBER_SIZE = 12  # of a process, or an exit status


class WarmCommand:
    """A running command, with the methods of `subprocess.Popen` that tests use.

    Args:
        name: Of the command: `train`.
        words: Its options.
        cwd: Its folder.
        stdout: An open file; by default nobody listens.
        stderr: An open file; by default a pipe that `communicate` reads.
        environment: Its environment; by default that of the test.
        new_session: Whether it leads a session and a process group of its own.
    """

    def __init__(
        self, name: str, words: Sequence[str], cwd: Path, *, stdout: IO | None = None, stderr: IO | None = None,
        environment: Mapping[str, str] | None = None, new_session: bool = False,
    ) -> None:  # fmt: skip
        self.args = [sys.executable, "-m", f"milpath.{name}", *words]
        self.returncode: int | None = None
        self.status, status = os.pipe()
        self.said, pipe = (None, None) if stderr is not None else os.pipe()
        request = {"args": self.args, "cwd": str(cwd), "new_session": new_session}
        request["environment"] = dict(os.environ if environment is None else environment)
        with Path(os.devnull).open("wb") as nobody:
            files = [stdout.fileno() if stdout else nobody.fileno(), stderr.fileno() if stderr else pipe, status]
            socket.send_fds(server(), [json.dumps(request).encode()], files)
        os.close(status)
        if pipe is not None:
            os.close(pipe)
        self.pid = int(os.read(self.status, NUMBER_SIZE))

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self._ended_within(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; returns the exit status."""
        if (status := self._ended_within(timeout)) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def communicate(self, timeout: float) -> tuple[None, str]:
        """Read what it says on stderr until everybody has closed it, and wait for its end."""
        deadline, parts = time.monotonic() + timeout, []
        while self.said is not None:
            if not select.select([self.said], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            if part := os.read(self.said, 1 << 16):
                parts.append(part)
            else:
                os.close(self.said)
                self.said = None
        self.wait(max(deadline - time.monotonic(), 0))
        return None, b"".join(parts).decode()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _ended_within(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self.status], [], [], seconds)[0]:
            self.returncode = int(os.read(self.status, NUMBER_SIZE))
            os.close(self.status)
        return self.returncode


def completed(name: str, *words: str, cwd: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` does."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = WarmCommand(name, words, cwd, stdout=stdout, stderr=stderr, environment=environment)
        process.wait()
        said = []
        for file in (stdout, stderr):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess(process.args, process.wait(), *said)


@cache
def server() -> socket.socket:
    """Start the process that starts commands, once per process of pytest; returns the socket that takes requests."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    code = f"from tests.warm_start import serve; serve({theirs.fileno()})"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        pass_fds=[theirs.fileno()],
        cwd=Path(__file__).parent.parent,
        start_new_session=True,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve(descriptor: int) -> None:
    """Start a process for each request, and tell how it ended, until nobody can send requests any more.

    Args:
        descriptor: Of the socket. A request comes with three files: stdout, stderr, and one for the id of the process and later
            its exit status.
    """
    for name in PACKAGES:
        with contextlib.suppress(ModuleNotFoundError):  # an extra
            importlib.import_module(name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, (
        "a thread would be missing in the processes that are started"
    )
    gc.collect()
    gc.freeze()
    requests = socket.socket(fileno=descriptor)
    running: dict[int, tuple[int, int]] = {}  # file that becomes readable at the end: process and where to tell it
    while True:
        for readable in select.select([requests, *running], [], [])[0]:
            if readable is not requests:
                pid, status = running.pop(readable)
                os.close(readable)
                tell(status, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(status)
                continue
            content, files, _, _ = socket.recv_fds(requests, REQUEST_SIZE, 3)
            if not content:
                return
            if (pid := os.fork()) == 0:
                requests.detach()
                become(json.loads(content), files)
                return
            running[os.pidfd_open(pid)] = pid, files[2]
            for file in files[:2]:
                os.close(file)


def tell(descriptor: int, number: int) -> None:
    """Write a number for a test, which may have ended."""
    with contextlib.suppress(BrokenPipeError):
        os.write(descriptor, b"%*d" % (NUMBER_SIZE, number))


def become(request: dict, files: Sequence[int]) -> None:
    """Turn this process into the command of a request."""
    if request["new_session"]:
        os.setsid()
    nobody = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nobody, *files[:2])):
        os.dup2(file, number)
    os.chdir(request["cwd"])
    tell(files[2], os.getpid())
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    sys.orig_argv = request["args"]
    sys.argv = request["args"][1:2] + request["args"][3:]
    sys.path[0] = request["cwd"]
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    runpy._run_module_as_main(request["args"][2])
