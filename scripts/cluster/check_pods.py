"""scripts/cluster/pytorchjob.yaml with two hosts as pods: killed, evicted, restarted. Started by check_clusters.sh.

The operator and the kubelet are stood in for: the pods have the environment and the command of `operator_contract`, and a
container that fails is started again, sooner than a kubelet would (10 s at first, then twice as long each time).
"""

import copy
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from operator_contract import Pod, pods_of
from small_training import SLOW, SMALL, epochs_done, require_equal_runs
from two_hosts import inside, two_hosts, wait_until

HERE = Path(__file__).resolve().parent
MANIFEST = yaml.safe_load((HERE / "pytorchjob.yaml").read_text())


class Container:
    """The container of a pod on a host of its own: started again after each failure, as restartPolicy OnFailure says."""

    def __init__(self, pod: Pod, space: str, folder: Path, delay: float) -> None:
        assert pod.restart_policy == "OnFailure"
        self.pod, self.space, self.folder, self.delay = pod, space, folder, delay
        self.statuses: list[int] = []
        self.num_starts = 10
        self.process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        variables = {
            **self.pod.environment,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PYTHONPATH": f"{HERE.parents[1]}:{HERE}",
            "MILPATH_STORES_DIR": str(self.folder / "stores"),
        }
        while not self.statuses or (self.statuses[-1] != 0 and len(self.statuses) < self.num_starts):
            if self.statuses:
                time.sleep(self.delay)
            with (self.folder / f"{self.pod.name}.log").open("ab") as log:
                self.process = subprocess.Popen(
                    inside(self.space, self.pod.name, *self.pod.command, container=True),
                    env=variables, cwd=self.folder, stdout=log, stderr=log,
                )  # fmt: skip
                self.statuses.append(self.process.wait())

    def evict(self) -> None:
        """Send SIGTERM to the first process of the container, which is torchrun, as before a pod is deleted."""
        assert self.process is not None
        pid = self.process.pid
        (first,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)

    def kill(self) -> None:
        """Kill all processes of the container at once, as when its node is lost."""
        assert self.process is not None
        self.process.kill()

    def stop(self) -> None:
        """End the container for good."""
        self.num_starts = 0
        if not self.done:
            self.kill()
            self._thread.join(20)

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()


@contextmanager
def started(folder: Path, spaces, name: str, *words: str, delays=(1.0, 1.0)) -> Iterator[list[Container]]:
    """Start the pods of the manifest with a training of this check."""
    job = copy.deepcopy(MANIFEST)
    job["spec"]["nprocPerNode"] = "1"
    replicas = job["spec"]["pytorchReplicaSpecs"]
    for replica in replicas.values():
        container = replica["template"]["spec"]["containers"][0]
        kept = [word for word in container["args"] if word.startswith(("trainer=", "resume_from="))]
        container["args"] = [*kept, *SMALL, *words, f"run_name={name}"]
    containers = [
        Container(pod, space, folder, delay) for pod, space, delay in zip(pods_of(job), spaces, delays, strict=True)
    ]
    try:
        yield containers
    finally:
        for container in containers:
            container.stop()


def finish(containers: list[Container], folder: Path) -> None:
    wait_until(lambda: all(container.done for container in containers), 400, "both pods end")
    logs = [(folder / f"{container.pod.name}.log").read_text()[-2000:] for container in containers]
    assert [container.statuses[-1] for container in containers] == [0, 0], "\n=====\n".join(logs)


@pytest.fixture(scope="module")
def spaces():
    with two_hosts([pod.name for pod in pods_of(MANIFEST)], number=77) as spaces:
        yield spaces


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def uninterrupted(spaces, folder):
    with started(folder, spaces, "whole") as containers:
        finish(containers, folder)
    assert [len(container.statuses) for container in containers] == [1, 1]
    return folder / "runs" / "whole"


@pytest.mark.parametrize("number", [0, 1], ids=["master", "worker"])
@pytest.mark.parametrize("way", ["kill", "evict"])
def test_the_training_goes_on_where_a_pod_was(spaces, folder, uninterrupted, number, way):
    name = f"{way}_{number}"
    # The one that was hit comes back first or last: the other may not have noticed, or wait for it.
    delays = (1.0, 8.0) if way == "kill" else (8.0, 1.0)
    with started(folder, spaces, name, *SLOW, delays=delays) as containers:
        wait_until(lambda: epochs_done(folder / "runs" / name) >= 2, 300, "two epochs")
        getattr(containers[number], way)()
        finish(containers, folder)
    assert min(len(container.statuses) for container in containers) >= 2
    require_equal_runs(folder / "runs" / name, uninterrupted)
