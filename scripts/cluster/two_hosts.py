"""Two hosts on one machine: network namespaces that are connected by a cable. Needs root and iproute2."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def two_hosts(names: Sequence[str], number: int) -> Iterator[list[str]]:
    """Create two hosts that reach each other by their names, and delete them at the end.

    Args:
        names: Their names.
        number: Third number of their addresses, 10.79.NUMBER.1 and 10.79.NUMBER.2.

    Yields:
        The names of the namespaces, for `inside`.
    """
    spaces = [f"milpath-{name}" for name in names]
    hosts = "127.0.0.1 localhost\n" + "".join(
        f"10.79.{number}.{place} {name}\n" for place, name in enumerate(names, start=1)
    )
    try:
        for space in spaces:
            _sh(f"ip netns add {space}; mkdir -p /etc/netns/{space}")
            Path(f"/etc/netns/{space}/hosts").write_text(hosts)
        _sh(f"ip link add milpath{number}a type veth peer name milpath{number}b")
        for place, (space, end) in enumerate(zip(spaces, "ab", strict=True), start=1):
            _sh(
                f"ip link set milpath{number}{end} netns {space}; ip -n {space} link set milpath{number}{end} name eth0"
            )
            _sh(f"ip -n {space} addr add 10.79.{number}.{place}/24 dev eth0")
            _sh(f"ip -n {space} link set eth0 up; ip -n {space} link set lo up")
        yield spaces
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], check=False)
            subprocess.run(["rm", "-r", f"/etc/netns/{space}"], check=False)


def inside(space: str, name: str, *command: str, container: bool = False) -> list[str]:
    """Return the words that start a command on a host, which has its own network and host name.

    Args:
        space: The namespace of its network.
        name: Its name.
        command: The command.
        container: Whether it becomes process 1 of a container: its own processes, all of which end when it does.
    """
    own = ["--uts", "--pid", "--fork", "--kill-child", "--mount-proc"] if container else ["--uts"]
    script = 'hostname "$0"; exec "$@"'
    return ["ip", "netns", "exec", space, "unshare", *own, "bash", "-c", script, name, *command]


def wait_until(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until something is true.

    Raises:
        TimeoutError: If it is not after so many seconds.
    """
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


def _sh(command: str) -> None:
    subprocess.run(["bash", "-e", "-c", command], check=True)
