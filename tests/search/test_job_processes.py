"""Processes for trainings at the same time: this copy of the package, this environment, no GPU before they train."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import milpath
from milpath.search import job_processes
from milpath.search.job_processes import prepare_processes, process_pool
from tests.commands import SMALL_RUN

PACKAGE = Path(milpath.__file__).parent


def facts() -> dict:
    """What a job finds."""
    return {
        "environment": {name: os.environ.get(name) for name in ("MILPATH_JOBS", "OF_THE_TEST", "PYTHONSAFEPATH")},
        "ignores_interrupts": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "method": multiprocessing.get_start_method(),
        "package": sys.modules["milpath"].__file__,
        "loaded": "torch" in sys.modules,
        "pid": os.getpid(),
    }


@pytest.mark.parametrize("can_fork", [False, True])
def test_a_job_has_the_environment_of_its_command_and_leaves_interrupts_to_it(monkeypatch, can_fork):
    if can_fork and sys.platform != "linux":
        pytest.skip("processes are forked on Linux only")
    monkeypatch.setattr(job_processes, "_can_fork", lambda: can_fork)
    prepare_processes(["jobs=3", "output=out"])
    monkeypatch.setenv("OF_THE_TEST", "set after loading began")
    with process_pool(3) as pool:
        found = pool.submit(facts).result()
    assert found["environment"] == {
        "MILPATH_JOBS": "3",
        "OF_THE_TEST": "set after loading began",
        "PYTHONSAFEPATH": os.environ.get("PYTHONSAFEPATH"),
    }
    assert found["ignores_interrupts"]
    assert found["method"] == ("forkserver" if can_fork else "spawn")
    assert found["pid"] != os.getpid()
    assert "MILPATH_JOBS" not in os.environ
    assert signal.getsignal(signal.SIGINT) != signal.SIG_IGN


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_jobs_load_this_copy_of_the_package_whatever_the_folder_holds(tmp_path):
    other = tmp_path / "milpath"
    other.mkdir()
    (other / "__init__.py").write_text("raise ImportError('another copy')\n")
    code = f"""
import sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
from milpath.search.job_processes import prepare_processes, process_pool
from tests.commands import SMALL_RUN
if __name__ == "__main__":
    prepare_processes(["jobs=2"])
    with process_pool(2) as pool:
        print(pool.submit(eval, "__import__('sys').modules['milpath.search.cross_validation'].__file__").result())
"""
    (tmp_path / "script.py").write_text(code)
    said = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert said.stdout.strip() == str(PACKAGE / "search/cross_validation.py"), said.stderr


def test_loading_for_jobs_asks_for_no_gpu(tmp_path):
    # A process that is forked after its parent has asked cannot use a GPU.
    code = """
import torch
def refuse(*given):
    raise AssertionError("asks for a GPU")
torch._C._cuda_getDeviceCount = torch._C._cuda_init = refuse
import json, os
from pathlib import Path
import milpath
folder = str(Path(milpath.__file__).parents[1])
os.environ["MILPATH_LOADING"] = json.dumps({"folder": folder, "environment": {}, "command": os.getppid()})
try:
    torch.cuda.is_available()
except AssertionError:
    print("would be noticed")
import milpath.search.loaded_for_jobs
import sys
print("milpath.training.classifier" in sys.modules, torch.cuda.is_initialized())
"""
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert said.stdout == "would be noticed\nTrue False\n", said.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_no_process_is_left_when_a_command_is_killed(tmp_path):
    code = """
import os, time
from milpath.search.job_processes import process_pool
if __name__ == "__main__":
    with process_pool(2) as pool:
        print(pool.submit(os.getpid).result(), pool.submit(os.getppid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""
    (tmp_path / "script.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    with subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environment
    ) as command:
        pids = command.stdout.readline().split()
        assert len(pids) == 2
        command.kill()
    deadline = time.monotonic() + 60
    while alive := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


@pytest.mark.parametrize(
    "words",
    [[], ["jobs=1"], ["jobs=two"], ["jobs=2", "jobs=1"], ["folds=2"], ["--help", "jobs=2"], ["jobs=2", "--cfg", "job"]],
)
def test_nothing_is_loaded_for_a_table_of_one_job_or_for_help(monkeypatch, words):
    monkeypatch.setattr(job_processes, "_can_fork", lambda: True)
    monkeypatch.setattr(job_processes, "num_cores", lambda: 8)
    monkeypatch.setattr(job_processes, "_start_loading", lambda: pytest.fail("started a process"))
    prepare_processes(words)


def test_a_single_core_is_left_to_the_command(monkeypatch):
    monkeypatch.setattr(job_processes, "_can_fork", lambda: True)
    started = []
    monkeypatch.setattr(job_processes, "_start_loading", lambda: started.append(1))
    for cores in (1, 2):
        monkeypatch.setattr(job_processes, "num_cores", lambda cores=cores: cores)
        prepare_processes(["jobs=2"])
        assert len(started) == cores - 1


ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
# Starts to load and does nothing else; names the process that loads.
LOADER = """
import sys, time
import multiprocessing.forkserver
from milpath.search import job_processes
job_processes._start_loading()
print(multiprocessing.forkserver._forkserver._forkserver_pid, flush=True)
time.sleep(600)
"""


@ON_LINUX
@pytest.mark.parametrize("seconds", [0.05, 0.5, 2])
def test_what_loads_ends_with_its_command_and_says_nothing(tmp_path, seconds):
    with subprocess.Popen(
        [sys.executable, "-c", LOADER],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as command:
        server = Path("/proc", command.stdout.readline().strip())
        assert server.exists()
        time.sleep(seconds)
        os.killpg(command.pid, signal.SIGINT)
        assert command.wait(60) != 0
        ended = time.monotonic()
        while server.exists():
            # To load everything takes longer than this on a slow machine.
            assert time.monotonic() - ended < 60
            time.sleep(0.02)
        said = command.stderr.read()
    assert said.count("KeyboardInterrupt") == 1, said
    assert said.count("Traceback") == 1, said


@ON_LINUX
def test_a_library_that_cannot_be_loaded_early_is_loaded_by_the_jobs(tmp_path):
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow/lightning.py").write_text("raise RuntimeError('not this one')\n")
    code = """
import os, sys
from milpath.search.job_processes import process_pool
def answer():
    return "lightning" in sys.modules, os.environ["MILPATH_JOBS"]
if __name__ == "__main__":
    with process_pool(2) as pool:
        print(pool.submit(answer).result())
"""
    (tmp_path / "script.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "shadow"), str(PACKAGE.parent)])}
    said = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert said.stdout.strip() == "(False, '2')", said.stderr


@ON_LINUX
def test_other_processes_of_a_script_are_as_without_a_pool(tmp_path):
    code = """
import multiprocessing, os, signal
from milpath.search.job_processes import process_pool
def tell():
    names = ("PYTHONSAFEPATH", "PYTHONPATH", "MILPATH_LOADING")
    print([os.environ.get(name) for name in names], signal.getsignal(signal.SIGINT) == signal.default_int_handler,
          signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
if __name__ == "__main__":
    with process_pool(2) as pool:
        pool.submit(os.getpid).result()
    tell()
    process = multiprocessing.get_context("forkserver").Process(target=tell)
    process.start()
    process.join()
"""
    (tmp_path / "script.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    said = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert said.stdout.splitlines() == 2 * [f"[None, '{PACKAGE.parent}', None] True set()"], said.stderr


@ON_LINUX
@pytest.mark.slow
def test_a_table_with_two_jobs_says_nothing_of_its_processes(tmp_path):
    words = [word for word in SMALL_RUN if not word.startswith(("callbacks", "report", "logger"))]
    words += [
        "data.num_slides=40",
        "data.val_fraction=0.3",
        "output=out",
        "folds=2",
        "repeats=1",
        "methods=[instance_mean]",
        "jobs=2",
    ]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "PYTHONWARNINGS": "default::RuntimeWarning"}
    said = subprocess.run(
        [sys.executable, "-m", "milpath", "table", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert "RuntimeWarning" not in said.stderr
    assert len(list(tmp_path.rglob("metrics.json"))) == 2
