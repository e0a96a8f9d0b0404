import subprocess
import sys

RUN = """
import atexit
import torch.distributed as dist

atexit.register(lambda: print("in a group:", dist.is_initialized()))  # runs after everything that is registered later
dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
{leave}
"""
LEAVE = "from milpath.training.process_group import leave_at_exit; leave_at_exit(); leave_at_exit()"
BUILD = """
from omegaconf import OmegaConf
from milpath.runs.build_trainer import build_trainer
trainer = {"_target_": "lightning.pytorch.Trainer", "accelerator": "cpu", "logger": False}
build_trainer(OmegaConf.create({"trainer": trainer, "seed": 0}))
"""


def last_line(tmp_path, leave):
    command = [sys.executable, "-c", RUN.format(leave=leave)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_a_process_leaves_its_group_before_the_interpreter_ends(tmp_path):
    assert last_line(tmp_path, "") == "in a group: True"
    assert last_line(tmp_path, LEAVE) == "in a group: False"


def test_so_does_every_process_that_trains(tmp_path):
    assert last_line(tmp_path, BUILD) == "in a group: False"
