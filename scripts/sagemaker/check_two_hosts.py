"""Two hosts in network namespaces, two processes each, with SageMaker's real toolkit. Started by check_two_hosts.sh."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toolkit_job import SMALL, environment, lay_out, run

HERE = Path(__file__).resolve().parent
STANDIN = HERE.parents[1] / "tests" / "sagemaker" / "standin"
TOOLKIT = Path(os.environ["SAGEMAKER_TOOLKIT"])
HOSTS = ("algo-1", "algo-2")
WORDS = [*SMALL, "+callbacks.digest._target_=rank_digest.RankDigest"]


def sh(command):
    subprocess.run(command, shell=True, check=True)


@pytest.fixture(scope="module")
def network():
    """Two namespaces connected by a veth pair."""
    assert not Path("/opt/ml").exists()
    for name in HOSTS:
        sh(f"ip netns add {name}; mkdir -p /etc/netns/{name}")
        hosts = "127.0.0.1 localhost\n10.77.0.1 algo-1\n10.77.0.2 algo-2\n"
        Path(f"/etc/netns/{name}/hosts").write_text(hosts)
    sh("ip link add cable1 type veth peer name cable2")
    for number, name in enumerate(HOSTS, start=1):
        sh(f"ip link set cable{number} netns {name}; ip -n {name} link set cable{number} name eth0")
        sh(
            f"ip -n {name} addr add 10.77.0.{number}/24 dev eth0; ip -n {name} link set eth0 up; ip -n {name} link set lo up"
        )
    yield
    sh("rmdir /opt/ml")
    for name in HOSTS:
        sh(f"ip netns del {name}; rm -r /etc/netns/{name}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def alone(folder):
    """One process that takes the bags of all four processes in each step."""
    base = folder / "alone"
    words = [word for word in WORDS if "batch_size" not in word] + ["data.batch_size=8"]
    lay_out(base, words, processes_per_instance=1)
    status, log = run(base, TOOLKIT, PYTHONPATH=str(HERE))
    assert status == 0, log[-3000:]
    return base


def machine(folder, number, words, **settings):
    """Set up a host and start it."""
    name = HOSTS[number]
    own = folder / name
    shutil.rmtree(own, ignore_errors=True)
    (own / "ssh").mkdir(parents=True)
    (own / "environment").touch()
    for file in (folder / "keys").iterdir():
        shutil.copy(file, own / "ssh")
        (own / "ssh" / file.name).chmod(0o600)
    (own / "ssh").chmod(0o700)
    # The launcher preloads a library that looks for the host name only there.
    mount = Path("/opt/ml")
    words = [word for word in words if "batch_size" not in word] + ["data.batch_size=2"]
    lay_out(own / "ml", words, hosts=HOSTS, host=name, interface="eth0", processes_per_instance=2, **settings)
    # Paths in the hyperparameters are those inside the namespace.
    hyperparameters = own / "ml/input/config/hyperparameters.json"
    hyperparameters.write_text(hyperparameters.read_text().replace(str(own / "ml"), str(mount)))
    variables = environment(
        mount, TOOLKIT, PYTHONPATH=f"{STANDIN}:{HERE}", MILPATH_STORES_DIR=str(own / "stores"),
        SM_CURRENT_INSTANCE_TYPE="ml.p4d.24xlarge", GLOO_SOCKET_IFNAME="eth0",
    )  # fmt: skip
    variables["PATH"] = f"{STANDIN}/bin:{variables['PATH']}"
    command = ["ip", "netns", "exec", name, "unshare", "--mount", "--pid", "--uts", "--fork", "--mount-proc"]
    command += [str(HERE / "host.sh"), name, str(own), str(mount), "env", "-i"]
    command += [f"{key}={value}" for key, value in variables.items()]
    return subprocess.Popen(
        [*command, str(TOOLKIT / "bin/train")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def keys(folder):
    """SSH keys shared by the hosts of a job."""
    path = folder / "keys"
    path.mkdir()
    sh(f"ssh-keygen -q -t rsa -N '' -f {path}/id_rsa; cp {path}/id_rsa.pub {path}/authorized_keys")
    (path / "config").write_text("Host *\n  StrictHostKeyChecking no\n  LogLevel ERROR\n")


@pytest.mark.parametrize(
    ("launcher", "strategy"), [("torchrun", "DDPStrategy"), ("smddp", "SMDDPStrategy")], ids=["torchrun", "smddp"]
)
def test_two_hosts_train_as_one_process(network, keys, folder, alone, launcher, strategy):
    words = [*WORDS, "trainer=sagemaker_smddp"] if launcher == "smddp" else WORDS
    machines = [machine(folder, number, words, distribution=launcher) for number in (0, 1)]
    logs = [process.communicate(timeout=400)[0] for process in machines]
    (folder / f"{launcher}.log").write_text("\n=====\n".join(logs))
    assert [process.returncode for process in machines] == [0, 0], logs[0][-3000:]
    found = re.findall(r"DIGEST (\S+) (\w+) (\w+)", "".join(logs))
    assert sorted(place for place, _, _ in found) == ["0.0/4", "0.1/4", "1.0/4", "1.1/4"]
    assert {name for _, name, _ in found} == {strategy}
    assert len({digest for _, _, digest in found}) == 1, found
    ours, theirs = folder / "algo-1" / "ml", alone
    expected = torch.load(theirs / "checkpoints/job-1/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    weights = torch.load(ours / "checkpoints/job-1/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, atol=1e-5, rtol=1e-5)
    metrics, wished = (json.loads((base / "output/data/metrics.json").read_text()) for base in (ours, theirs))
    for split, values in wished.items():
        assert metrics[split] == pytest.approx(values, abs=1e-5)
    assert (ours / "model/network.pt").is_file()
    assert not (folder / "algo-2/ml/model/network.pt").exists()
