"""What a cluster's operators start: the manifest against the operator's schema, and the processes that training counts."""

import json
import os
import warnings
from pathlib import Path

import jsonschema
import pytest
import yaml

from milpath.runs.build_trainer import build_trainer
from milpath.search.composition import compose_training
from scripts.cluster.operator_contract import pods_of, refusals

REPOSITORY = Path(__file__).parents[1]
MANIFEST = REPOSITORY / "scripts/cluster/pytorchjob.yaml"
SCHEMA = Path(__file__).parent / "kubeflow/pytorchjobs-1.8.1.json"


@pytest.fixture
def job():
    return yaml.safe_load(MANIFEST.read_text())


def closed(schema):
    """Return the schema as `kubectl` applies it: fields that it does not name are mistakes."""
    if isinstance(schema, list):
        return [closed(value) for value in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        schema.setdefault("additionalProperties", False)
    return schema


def mistakes(job):
    validator = jsonschema.Draft7Validator(closed(json.loads(SCHEMA.read_text())))
    return [error.message for error in validator.iter_errors(job)] + list(refusals(job))


def test_the_operator_takes_the_manifest(job):
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    assert mistakes(job) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "nprocPerNode"), 4),
        (("spec", "runPolicy", "backOffLimit"), 3),
        (("spec", "pytorchReplicaSpecs", "Worker", "template", "spec", "containers", 0, "comand"), ["torchrun"]),
        (("spec", "pytorchReplicaSpecs", "Worker", "template", "spec", "containers", 0, "env", 0, "value"), 1),
        (("spec", "pytorchReplicaSpecs", "Worker", "template", "spec", "containers", 0, "name"), "train"),
        (("spec", "pytorchReplicaSpecs", "Worker", "restartPolicy"), "OnFail"),
        (("spec", "pytorchReplicaSpecs", "Master", "replicas"), 2),
        (("metadata", "name"), "Mil_path"),
    ],
)
def test_a_mistake_in_the_manifest_is_found(job, path, value):
    place = job
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert len(mistakes(job)) >= 1


def test_every_pod_gets_the_variables_of_the_rendezvous(job):
    job["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"] = 2
    pods = pods_of(job)
    assert [pod.name for pod in pods] == ["milpath-master-0", "milpath-worker-0", "milpath-worker-1"]
    assert dict(pods[2].environment) == {
        "OMP_NUM_THREADS": "1",
        "MILPATH_STORES_DIR": "/shared/stores",
        "PYTHONUNBUFFERED": "1",
        "MASTER_ADDR": "milpath-master-0",
        "MASTER_PORT": "23456",
        "PET_MASTER_ADDR": "milpath-master-0",
        "PET_MASTER_PORT": "23456",
        "WORLD_SIZE": "12",
        "RANK": "2",
        "PET_NODE_RANK": "2",
        "PET_NPROC_PER_NODE": "4",
        "PET_NNODES": "3",
    }
    assert pods[2].command[:3] == ("torchrun", "-m", "milpath.train")


def test_the_manifest_names_no_account_and_trains_what_there_is(job):
    assert not any(word in MANIFEST.read_text() for word in ("amazonaws.com/ml", ".dkr.ecr.", "arn:", "s3://"))
    command = pods_of(job)[0].command
    config = compose_training(list(command[3:]))
    assert config.resume_from == "auto"
    assert config.trainer.strategy == "ddp"


def test_nothing_is_said_of_srun_where_slurm_is_installed_and_not_used(tmp_path, monkeypatch):
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    config = compose_training(["data=synthetic", "trainer.accelerator=cpu", "logger=none", f"paths.run_dir={tmp_path}"])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        build_trainer(config)
    assert [str(warning.message) for warning in said] == []


@pytest.mark.parametrize(
    ("variables", "processes"),
    [
        ({}, ("auto", 1)),
        ({"LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "3"}, (4, 3)),
        ({"SLURM_NNODES": "2"}, ("auto", 2)),
        # torchrun started in a SLURM job: what it says holds.
        ({"LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "1", "SLURM_NNODES": "2"}, (4, 1)),
    ],
)
def test_ddp_counts_the_processes_that_its_launcher_started(variables, processes, monkeypatch):
    for name in ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "SLURM_NNODES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = compose_training(["data=synthetic", "trainer=ddp"])
    assert (config.trainer.devices, config.trainer.num_nodes) == processes
