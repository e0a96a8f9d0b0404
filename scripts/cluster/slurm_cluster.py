"""A real SLURM of two nodes in network namespaces, with one pretended GPU each. Needs root, slurm and munge."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from two_hosts import inside, two_hosts, wait_until

NODES = ("node-1", "node-2")
# cred_expire is also how long SLURM waits before it starts a requeued job again (120 s unless set).
_CONFIGURATION = """
ClusterName=check
SlurmctldHost=node-1
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=500000,batch_sched_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=20
OverTimeLimit=0
ReturnToService=2
MpiDefault=none
GresTypes=gpu
NodeName=node-[1-2] CPUs=2 RealMemory=1000 Gres=gpu:1
PartitionName=spare Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace_seconds}
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


@dataclass(frozen=True)
class Slurm:
    """A running cluster.

    Attributes:
        folder: Its files.
        space: The namespace in which its commands run.
    """

    folder: Path
    space: str

    def command(self, *words: str, **variables: str) -> str:
        """Run a command of SLURM on the first node; returns what it prints."""
        environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), **variables}
        done = subprocess.run(
            inside(self.space, NODES[0], *words), env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def job(self, number: str) -> Mapping[str, str]:
        """Return what SLURM says of a job: JobState, Restarts, ExitCode and others."""
        words = self.command("scontrol", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)


@contextmanager
def slurm_cluster(folder: Path, grace_seconds: int = 60) -> Iterator[Slurm]:
    """Start a controller and the daemons of two nodes, and stop them at the end.

    Args:
        folder: An empty folder for their files.
        grace_seconds: How long a preempted job keeps its nodes (GraceTime).
    """
    (folder / "state").mkdir(parents=True)
    (folder / "slurm.conf").write_text(_CONFIGURATION.format(folder=folder, grace_seconds=grace_seconds))
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
    (folder / "cgroup.conf").write_text(
        f"CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nCgroupMountpoint={folder}/no-cgroup\n"
    )
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    daemons: list[subprocess.Popen[bytes]] = []
    with two_hosts(NODES, number=78) as spaces, (folder / "daemons.log").open("wb") as log:

        def start(*words: str) -> None:
            daemons.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log))

        try:
            # fmt: off
            start(shutil.which("munged") or "/usr/sbin/munged", "--foreground", "--force", f"--key-file={key}",
                  f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid",
                  f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed")
            # fmt: on
            wait_until((folder / "munge.socket").exists, 20, "munged listens")
            start(*inside(spaces[0], NODES[0], "/usr/sbin/slurmctld", "-D", "-i"))
            for space, node in zip(spaces, NODES, strict=True):
                start(*inside(space, node, "/usr/sbin/slurmd", "-D", "-N", node))
            cluster = Slurm(folder, spaces[0])
            wait_until(lambda: _idle(cluster), 60, "both nodes of SLURM are idle")
            try:
                yield cluster
            finally:
                cluster.command("scancel", "--partition=spare")
                wait_until(lambda: _idle(cluster), 60, "the jobs that are left end")
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
            for daemon in reversed(daemons):
                try:
                    daemon.wait(20)
                except subprocess.TimeoutExpired:
                    daemon.kill()


def _idle(cluster: Slurm) -> bool:
    try:
        return cluster.command("sinfo", "--noheader", "--format=%D %t", "--partition=spare") == "2 idle"
    except RuntimeError:
        return False
