"""Instances of a Processing job as processes with folders of their own. Started by check_processing.sh."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from milpath.sagemaker import process
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_bags import build_slide_store
from tests.pyramids import tissue, write_pyramid
from tests.sagemaker.conftest import REGION, ROLE, account, command  # noqa: F401
from tests.sagemaker.played_processing import copy_out, keys, lay_out

NAMES = ["d", "b", "c", "a"]
MOUNT = (
    'mkdir -p /opt/ml /tmp/code && mount --bind "$1" /opt/ml && mount -t tmpfs tmpfs /tmp/code && shift && exec "$@"'
)


def run_job(s3, request, folder):
    """Start every instance of a job at once, with the command and the variables of the request."""
    count = request["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
    hosts = [f"algo-{number + 1}" for number in range(count)]
    specification, running = request["AppSpecification"], []
    for number, host in enumerate(hosts):
        base = folder / request["ProcessingJobName"] / host
        (base / "config").mkdir(parents=True)
        (base / "config/resourceconfig.json").write_text(json.dumps({"current_host": host, "hosts": hosts}))
        lay_out(s3, request, base / "processing", number, count)
        words = [*specification["ContainerEntrypoint"], *specification["ContainerArguments"]]
        variables = request["Environment"] | {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": os.environ["HOME"], "MILPATH_IMAGE": "1",
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        line = ["unshare", "--mount", "/bin/bash", "-c", MOUNT, "mount", str(base), *words]
        running.append(
            subprocess.Popen(line, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    logs = [process_.communicate(timeout=400)[0] for process_ in running]
    for host, log, process_ in zip(hosts, logs, running, strict=True):
        base = folder / request["ProcessingJobName"] / host
        copy_out(s3, request, base / "processing", ["Continuous", "EndOfJob"])
        message = base / "output/message"
        assert process_.returncode == 0, (log[-3000:], message.read_text() if message.exists() else "")
    return logs


@pytest.fixture
def slides(account, tmp_path):  # noqa: F811
    folder = tmp_path / "in"
    for seed, name in enumerate(NAMES):
        write_pyramid(folder / f"{name}.tiff", tissue(60 + seed, 50, seed))
        account.s3.upload_file(str(folder / f"{name}.tiff"), "slides", f"in/{name}.tiff")
    return folder


def test_two_instances_write_the_store_of_one_process(account, command, slides, monkeypatch, tmp_path):  # noqa: F811
    expected = tmp_path / "expected"
    build_slide_store(slides, expected, TileOptions(tile_size=32, num_tiles=4), num_workers=1)
    logs = []
    monkeypatch.setattr(process, "wait_for_job", lambda _, request: logs.extend(run_job(account.s3, request, tmp_path)))
    words = ["sagemaker.bucket=slides", f"sagemaker.role={ROLE}", "slides=s3://slides/in", "output=s3://slides/out"]
    words += ["options={tile_size: 32, num_tiles: 4, num_workers: 1}", "sagemaker.instance_count=2", "wait=true"]
    status, output, errors = command(process, *words, f"sagemaker.region={REGION}")
    assert status == 0, (output, errors, logs)
    assert "algo-1 of 2: 2 slides of 4" in logs[0]
    assert "algo-2 of 2: 2 slides of 4" in logs[1]
    assert len(logs) == 3
    for key in keys(account.s3, "slides", "out/"):
        body = account.s3.get_object(Bucket="slides", Key=key)["Body"].read()
        name = key.removeprefix("out/")
        if not name.endswith((".jpg", "store.lock")):
            assert body == (expected / name).read_bytes(), name
    assert {"out/tiles.npy", "out/store.json", "out/bags.csv"} <= set(keys(account.s3, "slides", "out/"))
