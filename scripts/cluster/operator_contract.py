"""What Kubeflow's training operator makes of a PyTorchJob: its pods, their environment, and what it refuses.

Written after the operator's sources, releases 1.7.0, 1.8.1 and 1.9.0, which agree in all of this: `setPodEnv` and
`GetMasterEnvVarGenerator` (pkg/controller.v1/pytorch), `SetDefaults_PyTorchJob` (pkg/apis/kubeflow.org/v1) and the rules
of the validating webhook.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Job = Mapping[str, Any]
CONTAINER, PORT_NAME, PORT = "pytorch", "pytorchjob-port", 23456


@dataclass(frozen=True)
class Pod:
    """A pod as the operator creates it.

    Attributes:
        name: Its name, which is also its host name and that of its headless service.
        environment: The variables of its container, those of the manifest first.
        command: Command and arguments of its container, with `$(NAME)` replaced as Kubernetes does.
        restart_policy: Whether its container is started again.
    """

    name: str
    environment: Mapping[str, str]
    command: tuple[str, ...]
    restart_policy: str


def pods_of(job: Job) -> list[Pod]:
    """Return the pods of a job without an elastic policy, the master first."""
    spec = job["spec"]
    replicas = spec["pytorchReplicaSpecs"]
    name = job["metadata"]["name"]
    num_pods = sum(replica.get("replicas", 1) for replica in replicas.values())
    processes = str(spec.get("nprocPerNode", "auto"))
    world_size = num_pods * (int(processes) if processes.isdigit() else 1)
    port = str(_port(_container(replicas["Master"])))
    pods = []
    for kind in ("Master", "Worker"):
        replica = replicas.get(kind, {"replicas": 0})
        for index in range(replica.get("replicas", 1)):
            rank = str(index + (kind == "Worker"))
            container = _container(replica)
            environment = {variable["name"]: variable["value"] for variable in container.get("env", [])}
            environment |= {"PYTHONUNBUFFERED": "1"}
            environment |= {f"{prefix}MASTER_PORT": port for prefix in ("", "PET_")}
            environment |= {f"{prefix}MASTER_ADDR": f"{name}-master-0" for prefix in ("", "PET_")}
            environment |= {"WORLD_SIZE": str(world_size), "RANK": rank, "PET_NODE_RANK": rank}
            environment |= {"PET_NPROC_PER_NODE": processes, "PET_NNODES": str(num_pods)}
            words = [*container["command"], *container.get("args", [])]
            pods.append(
                Pod(
                    f"{name}-{kind.lower()}-{index}",
                    environment,
                    tuple(_expanded(word, environment) for word in words),
                    replica.get("restartPolicy", "OnFailure"),
                )
            )
    return pods


def refusals(job: Job) -> Iterator[str]:
    """Yield what the operator's webhook would refuse of a job, beyond the schema of its fields."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", job["metadata"]["name"]):
        yield "metadata.name is no DNS label"
    replicas = job["spec"]["pytorchReplicaSpecs"]
    for kind, replica in replicas.items():
        if kind not in ("Master", "Worker"):
            yield f"{kind} is neither Master nor Worker"
        if kind == "Master" and replica.get("replicas", 1) != 1:
            yield "Master.replicas is not 1"
        if replica.get("replicas", 1) < 1:
            yield f"{kind}.replicas is less than 1"
        if replica.get("restartPolicy", "OnFailure") not in ("Always", "OnFailure", "Never", "ExitCode"):
            yield f"{kind}.restartPolicy is unknown"
        containers = replica["template"]["spec"]["containers"]
        if CONTAINER not in [container["name"] for container in containers]:
            yield f"{kind} has no container named {CONTAINER}"
        if not all(container.get("image") for container in containers):
            yield f"{kind} has a container without an image"


def _container(replica: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the container that trains."""
    containers = replica["template"]["spec"]["containers"]
    return next(container for container in containers if container["name"] == CONTAINER)


def _port(container: Mapping[str, Any]) -> int:
    """Return the port of the rendezvous, the operator's own unless the manifest names one."""
    ports = {port.get("name"): port["containerPort"] for port in container.get("ports", [])}
    return int(ports.get(PORT_NAME, PORT))


def _expanded(word: str, environment: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the value of a variable of the container; unknown ones stay."""
    return re.sub(r"\$\((\w+)\)", lambda found: environment.get(found[1], found[0]), word)
