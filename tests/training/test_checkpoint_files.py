import errno
import os
import resource
import signal
import subprocess
import sys

import pytest
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import OmegaConf

from milpath.runs.build import build_trainer
from milpath.training.checkpoint_files import AtomicCheckpointIO

CONTENT = {"weights": torch.zeros(100_000)}


@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_every_trainer_writes_its_checkpoints_whole(strategy):
    trainer = {"_target_": "lightning.pytorch.Trainer", "accelerator": "cpu", "devices": 1, "strategy": strategy}
    built = build_trainer(OmegaConf.create({"trainer": trainer, "seed": 0}))
    assert isinstance(built.strategy.checkpoint_io, AtomicCheckpointIO)


def test_a_checkpoint_io_that_the_user_chose_is_kept():
    plugin = {"_target_": "lightning.pytorch.plugins.io.AsyncCheckpointIO"}
    trainer = {"_target_": "lightning.pytorch.Trainer", "accelerator": "cpu", "devices": 1, "plugins": [plugin]}
    built = build_trainer(OmegaConf.create({"trainer": trainer, "seed": 0}))
    assert type(built.strategy.checkpoint_io).__name__ == "AsyncCheckpointIO"


def test_nothing_is_written_to_the_folder_of_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        TorchCheckpointIO().save_checkpoint(CONTENT, tmp_path / "runs/last.ckpt")
    AtomicCheckpointIO().save_checkpoint(CONTENT, tmp_path / "runs/last.ckpt")
    assert torch.load(tmp_path / "runs/last.ckpt", weights_only=True).keys() == CONTENT.keys()


def test_a_kill_in_the_middle_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    code = f"""
import os, signal, torch
from milpath.training.checkpoint_files import AtomicCheckpointIO
class Kill:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)
AtomicCheckpointIO().save_checkpoint({{"weights": torch.zeros(100_000), "kill": Kill()}}, {str(path)!r})
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert torch.load(path, weights_only=True) == {"epoch": 1}


def test_a_full_disk_is_an_error_of_the_system_that_names_the_file_and_not_one_of_torch(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with pytest.raises(OSError, match=r"last\.ckpt") as found:
            AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert found.value.errno == errno.EFBIG
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert os.listdir(tmp_path) == ["last.ckpt"]  # noqa: PTH208
