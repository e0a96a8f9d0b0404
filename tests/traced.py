"""Commands under strace: every address that a process or one of its children turns to."""

import ipaddress
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

# A resolver of names that is asked over a socket of its own.
RESOLVER = "io.systemd.Resolve"
ADDRESS = re.compile(
    r'sin_port=htons\((\d+)\), sin_addr=inet_addr\("([^"]+)"\)|sin6_port=htons\((\d+)\).*?inet_pton\(AF_INET6, "([^"]+)"'
)


def tracer(log: Path) -> list[str]:
    """Return the words before a command line that write what it sends, and to whom, to a file.

    The command stays a child of the caller (`-D`), and calls of no interest run at full speed (`--seccomp-bpf`).
    """
    if shutil.which("strace") is None:
        if os.environ.get("CI"):
            pytest.fail("no strace: install it (Debian: apt-get install strace)")
        pytest.skip("left out: no strace on this machine; install it (Debian: apt-get install strace)")
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    return ["strace", "-D", "-f", "--seccomp-bpf", "-s", "0", "-e", "signal=none", "-e", calls, "-o", str(log)]


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a user who has set nothing: no variable switches telemetry off or says that tests run."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"HOME": str(home), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def addresses(log: Path, pid: int) -> list[tuple[str, int]]:
    """Return the addresses and ports that a traced process, which has ended, and its children turned to.

    Args:
        log: What strace wrote; it is complete when the end of the process is in it.
        pid: Of the process.
    """
    deadline = time.monotonic() + 30
    while not re.search(rf"^{pid} +\+\+\+ (exited|killed)", log.read_text(errors="replace"), re.M):
        assert time.monotonic() < deadline, "strace did not see the end of the command"
        time.sleep(0.05)
    return [address for line in log.read_text(errors="replace").splitlines() for address in of_line(line)]


def of_line(line: str) -> list[tuple[str, int]]:
    """Return the addresses in a line of strace."""
    if RESOLVER in line:
        return [(RESOLVER, 53)]
    return [(found[2] or found[4], int(found[1] or found[3])) for found in ADDRESS.finditer(line)]


def outside(found: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return what is not this machine, and every look-up of a name, even one that a server on this machine answers."""
    return [(host, port) for host, port in found if port == 53 or not is_loopback(host)]


def is_loopback(host: str) -> bool:
    address = ipaddress.ip_address(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
