"""Checks milpath jobs with SageMaker's real toolkits. Started by check_toolkit.sh."""

import base64
import contextlib
import io
import json
import os
import pickle
import random
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
import loop
from toolkit_job import SMALL, lay_out, run, start

from milpath.sagemaker.endpoint.handlers import Endpoint
from milpath.sagemaker.jobs.training_request import metric_definition

LONG = [word for word in SMALL if "max_epochs" not in word] + ["trainer.max_epochs=30"]
TOOLKIT = Path(os.environ["SAGEMAKER_TOOLKIT"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("jobs")


def weights(base):
    content = torch.load(base / "checkpoints/job-1/checkpoints/last.ckpt", weights_only=True)
    return content["state_dict"]


def metrics(base):
    return json.loads((base / "output/data/metrics.json").read_text())


def logged(log, name):
    """Return the metrics SageMaker would parse from the log."""
    return [float(value) for value in re.findall(metric_definition(name)["Regex"], log)]


@pytest.fixture(scope="module")
def one(folder):
    """One process, eight bags per step."""
    base = folder / "one"
    lay_out(base, SMALL, processes_per_instance=1, hyperparameters={"data__batch_size": "8"})
    status, log = run(base, TOOLKIT)
    assert status == 0, log[-3000:]
    return base, log


def test_a_job_leaves_network_results_and_success(one):
    base, log = one
    assert (base / "output/success").exists()
    assert not (base / "output/failure").exists()
    assert (base / "model/network.pt").is_file()
    assert (base / "model/code/inference.py").is_file()
    assert {"metrics.json", "predictions.csv", "config.yaml", "provenance.json", "splits.csv"} <= {
        path.name for path in (base / "output/data").iterdir()
    }
    assert not (base / "output/data/checkpoints").exists()
    for name in ("train/loss", "val/loss", "val/auroc"):
        assert len(logged(log, name)) == 3, name


def test_hyperparameters_reach_the_training(one):
    assert "batch_size: 8" in (one[0] / "output/data/config.yaml").read_text()


def test_two_processes_train_as_one(folder, one):
    base = folder / "two"
    lay_out(base, SMALL, processes_per_instance=2)
    status, log = run(base, TOOLKIT)
    assert status == 0, log[-3000:]
    for name, value in weights(one[0]).items():
        torch.testing.assert_close(weights(base)[name], value, atol=1e-5, rtol=1e-5)
    for split, values in metrics(one[0]).items():
        assert metrics(base)[split] == pytest.approx(values, abs=1e-5)
    assert logged(log, "train/loss") == pytest.approx(logged(one[1], "train/loss"), abs=1e-5)
    assert "2 processes communicate with gloo: the job was not submitted with the SMDDP launcher" in log


@pytest.mark.parametrize(
    ("words", "hyperparameters", "message"),
    [
        ([], {"optimizer__lrr": "1"}, "Could not override 'optimizer.lrr'"),
        (["data.num_folds=30"], {}, "fewer than data.num_folds=30"),
        (
            ["trainer=sagemaker_smddp"],
            {},
            "trainer=sagemaker_smddp, but the job was not submitted with the SMDDP launcher",
        ),
    ],
)
def test_a_failure_is_one_line_where_sagemaker_shows_it(folder, words, hyperparameters, message):
    base = folder / "failure"
    lay_out(base, [*SMALL, *words], processes_per_instance=2, hyperparameters=hyperparameters)
    started = time.monotonic()
    status, _ = run(base, TOOLKIT)
    assert status == 1
    assert time.monotonic() - started < 60
    reason = (base / "output/failure").read_text()
    assert message in reason
    assert "\n" not in reason
    assert len(reason) <= 1024
    assert not (base / "output/success").exists()
    assert not (base / "model/network.pt").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_job_that_is_killed_while_it_trains_ends_as_if_it_had_not_been(folder, processes):
    whole, base = folder / f"whole_{processes}", folder / f"killed_{processes}"
    for path in (whole, base):
        lay_out(path, LONG, processes_per_instance=processes)
    status, log = run(whole, TOOLKIT)
    assert status == 0, log[-3000:]
    seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(10**6)))
    chance = random.Random(seed)
    kills = []
    while True:
        process = start(base, TOOLKIT)
        # The first line of an epoch shows that training runs; kill at a random moment after it, three times.
        last, log = "", []
        for line in process.stdout:
            log.append(line)
            if (found := re.search(r"epoch=\d+ ", line)) and len(kills) < 3:
                last = found[0]
                threading.Timer(chance.uniform(0, 1.5), end_container, (base,)).start()
                break
        log += process.stdout
        status = process.wait()
        process.stdout.close()
        if status == 0:
            break
        assert last, "".join(log)[-3000:]
        kills.append(next(iter(reversed(re.findall(r"epoch=\d+ ", "".join(log)))), last))
        time.sleep(1)
    print(f"KILL_SEED={seed}: killed after {', '.join(kills) or 'nothing'}")
    assert kills
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(base)[name], value, atol=0, rtol=0)
    assert metrics(base) == metrics(whole)


def end_container(base):
    """Kill all processes of a job at once, as when its instance is terminated."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"SAGEMAKER_BASE_DIR={base}".encode() in variables:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)


def test_the_testing_channel_is_an_independent_test_set(folder, tmp_path):
    """PNG tiles of slides in both channels; every bag of the testing channel is tested."""
    for channel, seed in (("training", 0), ("testing", 1)):
        make_png_slides(tmp_path / channel, seed)
    base = folder / "testing"
    words = [word for word in SMALL if not word.startswith("data")]
    words += ["data=panda_tiles", "data.tiles=${paths.data_dir}/tiles", "data.labels=${paths.data_dir}/train.csv"]
    words += ["data.num_tiles=4", "data.tile_size=32", "data.num_folds=3", "data.batch_size=4", "data.stratify_by=[]"]
    lay_out(
        base,
        words,
        processes_per_instance=2,
        channels={"training": tmp_path / "training", "testing": tmp_path / "testing"},
    )
    status, log = run(base, TOOLKIT)
    assert status == 0, log[-3000:]
    table = (base / "output/data/testing/predictions.csv").read_text().splitlines()
    assert len(table) == 1 + 12
    assert set(json.loads((base / "output/data/testing/metrics.json").read_text())) == {"test"}


def make_png_slides(folder, seed):
    """Write twelve slides of four tiles in the layout of PANDA's tile set."""
    random_state = np.random.default_rng(seed)
    (folder / "tiles").mkdir(parents=True)
    rows = ["image_id,data_provider,isup_grade,gleason_score"]
    for slide in range(12):
        name = f"{seed}{slide:03d}aaaa"
        grade = slide % 2 * 3
        rows.append(f"{name},radboud,{grade},{'4+3' if grade else '0+0'}")
        for tile in range(4):
            pixels = random_state.integers(0, 200 - 20 * grade, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "tiles" / f"{name}_{tile}.png")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")


BODIES = {
    "shape": (b'{"bag": 1}', "application/json", "*/*", 400),
    "type": (b"x", "text/weird", "*/*", 415),
    "pickle": (pickle.dumps([1]), "application/x-npy", "*/*", 400),
    "accept": (None, "application/x-npy", "text/html", 406),
    "zip": (b"PK", "application/zip", "*/*", 400),
}


def test_the_serving_toolkit_answers_as_the_endpoint_does(one, monkeypatch):
    """SageMaker's own chain of handlers, with the model of the job."""
    base = one[0]
    tiles = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    body = io.BytesIO()
    np.save(body, tiles)
    npy = body.getvalue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [str(TOOLKIT / "bin/python"), str(Path(__file__).with_name("serving_chain.py")), str(base), str(port)],
        env={"SAGEMAKER_BASE_DIR": str(base), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )
    try:
        address = loop.wait_for(f"http://127.0.0.1:{port}", server)
        endpoint = Endpoint(base / "model/network.pt")
        for content, kind in (
            (npy, "application/x-npy"),
            (json.dumps({"npy": base64.b64encode(npy).decode()}).encode(), "application/json"),
        ):
            status, answer = post(address, content, kind)
            assert status == 200
            assert json.loads(answer) == json.loads(endpoint.answer(npy, "application/x-npy")[0])
        for name, (content, kind, accept, expected) in BODIES.items():
            status, answer = post(address, npy if content is None else content, kind, accept)
            assert (status, b"Traceback" in answer, b"\n" in answer) == (expected, False, False), (name, answer)
    finally:
        server.terminate()
        server.wait()


def post(address, body, kind, accept="application/json"):
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": kind, "Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_from_submission_to_score(folder, tmp_path, monkeypatch):
    """launch -> the recorded request -> the real toolkit -> model.tar.gz -> deploy -> the real handlers -> score."""
    make_png_slides(tmp_path / "slides", 0)
    found, expected = loop.loop(folder / "loop", tmp_path / "slides", TOOLKIT, monkeypatch)
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_source_archive_needs_no_network_to_install(one):
    """The pinned requirements that the toolkit installs are already satisfied."""
    with tarfile.open(one[0] / "source.tar.gz") as archive:
        requirements = archive.extractfile("requirements.txt").read().decode().split()
    assert len(requirements) > 10
    assert "Successfully installed" not in one[1]
