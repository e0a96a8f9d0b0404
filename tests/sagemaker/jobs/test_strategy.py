import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lightning.pytorch.strategies import DDPStrategy

from milpath.sagemaker.jobs import strategy
from tests.slow_clients import free_port

JOB = Path(__file__).parents[1] / "smddp_job.py"
STANDIN = Path(__file__).parents[1] / "standin"
ENABLED = '{"sagemaker_distributed_dataparallel_enabled": true}'


def start_job(num_processes, **variables):
    """Start one process a rank as a launcher does and return what each of them found."""
    shared = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared["PYTHONPATH"] = os.pathsep.join(map(str, (STANDIN, *sys.path)))
    processes = []
    for rank in range(num_processes):
        ranks = {}
        if num_processes > 1:
            ranks = {"RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": 1}
        environment = os.environ | shared | {name: str(value) for name, value in (ranks | variables).items()}
        command = [sys.executable, str(JOB), str(rank), str(num_processes)]
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    found = []
    for process in processes:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
        found.append(json.loads(output.split("FOUND ")[1]))
    return found


@pytest.mark.slow
def test_two_processes_on_smddp_train_as_one():
    alone = start_job(1)[0]
    pair = start_job(2, SM_FRAMEWORK_PARAMS=ENABLED, SM_CURRENT_INSTANCE_TYPE="ml.p4d.24xlarge")
    for rank, found in enumerate(pair):
        assert (found["strategy"], found["backend"]) == ("SMDDPStrategy", "smddp")
        assert (found["node_rank"], found["num_nodes"]) == (rank, 2)
        assert found["weights"] == pair[0]["weights"]
        assert found["weights"] == pytest.approx(alone["weights"], abs=1e-6)
        assert found["loss"] == pytest.approx(alone["loss"], abs=1e-6)
        assert (found["float"], found["int"], found["sum"]) == (0.5, 1, 1.0)
        assert found["objects"] == [0, 1]
        # The stand-in is worth something only while it refuses what the real backend refuses.
        assert (found["new_group"], found["avg"], found["gather"]) == ("refused", "refused", "refused")


@pytest.fixture
def two_ranks(monkeypatch):
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("SM_FRAMEWORK_PARAMS", raising=False)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "smdistributed"]:
        del sys.modules[name]


def test_without_smddp_processes_fall_back_and_one_line_says_why(two_ranks, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    assert type(strategy.choose_strategy()) is DDPStrategy
    monkeypatch.setenv("SM_FRAMEWORK_PARAMS", ENABLED)
    assert type(strategy.choose_strategy()) is DDPStrategy
    asked, missing = caplog.messages
    assert asked.startswith("2 processes communicate with ")
    assert asked.endswith("the job was not submitted with the SMDDP launcher")
    assert missing.endswith("this image has no SMDDP library")


def test_an_instance_that_smddp_refuses_falls_back_too(two_ranks, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.syspath_prepend(str(STANDIN))
    monkeypatch.setenv("SM_FRAMEWORK_PARAMS", ENABLED)
    monkeypatch.setenv("SAGEMAKER_INSTANCE_TYPE", "ml.p5.48xlarge")
    assert type(strategy.choose_strategy()) is DDPStrategy
    assert "refuses this instance (instance type ml.p5.48xlarge is not supported by SMDDP)" in caplog.text


def test_only_the_first_rank_says_why(two_ranks, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("RANK", "1")
    strategy.choose_strategy()
    assert caplog.messages == []


def test_smddp_that_is_demanded_and_missing_is_an_error(two_ranks, monkeypatch):
    with pytest.raises(ValueError, match=r"was not submitted with the SMDDP launcher; submit with sagemaker=smddp"):
        strategy.choose_strategy(require_smddp=True)
    monkeypatch.setenv("SM_FRAMEWORK_PARAMS", ENABLED)
    with pytest.raises(ValueError, match="this image has no SMDDP library"):
        strategy.choose_strategy(require_smddp=True)


def test_one_process_needs_no_strategy(monkeypatch):
    for name in ("RANK", "OMPI_COMM_WORLD_RANK", "SM_FRAMEWORK_PARAMS"):
        monkeypatch.delenv(name, raising=False)
    assert strategy.choose_strategy() == "auto"
