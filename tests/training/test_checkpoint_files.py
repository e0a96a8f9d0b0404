import errno
import os
import resource
import signal
import subprocess
import sys

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import OmegaConf

from milpath.models.weights_digest import digest_of
from milpath.runs.build_trainer import build_trainer
from milpath.training.checkpoint_files import AtomicCheckpointIO, SparingCheckpoint

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
from milpath.models.weights_digest import digest_of
from milpath.training.checkpoint_files import AtomicCheckpointIO, SparingCheckpoint
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


class EpochsOfNothing(LightningModule):
    """Counts its steps in a weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx):
        return (self.weight - 1).square().sum()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1)


def trained(folder, callback, **options):
    """Return the epochs after which the file was written."""
    written = []

    class Watch(Callback):
        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            written.append(trainer.current_epoch)

    words = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    } | options
    seed_everything(0, verbose=False)
    Trainer(callbacks=[callback, Watch()], default_root_dir=folder, **words).fit(
        EpochsOfNothing(), torch.utils.data.DataLoader([0, 1, 2]), weights_only=True
    )
    return written


@pytest.mark.filterwarnings("ignore")  # what Lightning says of itself and of small data
@pytest.mark.parametrize(
    ("options", "last"), [({"max_epochs": 5}, 4), ({"max_epochs": 100, "max_steps": 6}, 1), ({"max_epochs": 1}, 0)]
)
def test_epochs_of_a_moment_are_saved_at_the_start_and_at_the_end(tmp_path, options, last):
    of_lightning = {"dirpath": tmp_path, "filename": "last", "every_n_epochs": 1, "save_on_train_epoch_end": True}
    written = trained(tmp_path, SparingCheckpoint(3600, **of_lightning), **options)
    assert written == sorted({0, last})
    found = torch.load(tmp_path / "last.ckpt", weights_only=True)
    (tmp_path / "last.ckpt").unlink()
    assert trained(tmp_path, ModelCheckpoint(**of_lightning), **options) == list(range(last + 1))
    expected = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert found["callbacks"].keys() == expected["callbacks"].keys()
    for part in ("state_dict", "optimizer_states", "loops", "epoch", "global_step"):
        assert digest_of(found[part]) == digest_of(expected[part])


@pytest.mark.filterwarnings("ignore")
def test_without_a_least_time_every_epoch_is_saved(tmp_path):
    options = {"dirpath": tmp_path, "filename": "last", "every_n_epochs": 1, "save_on_train_epoch_end": True}
    assert trained(tmp_path, SparingCheckpoint(0, **options), max_epochs=3) == [0, 1, 2]


def test_only_checkpoints_without_a_monitor_become_sparing():
    entries = {
        name: {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "monitor": monitor}
        for name, monitor in (("best", "val/auroc"), ("last", None))
    }
    config = OmegaConf.create({"trainer": {"_target_": "lightning.pytorch.Trainer", "logger": False}, "seed": 0})
    config.callbacks = entries
    kinds = [type(callback).__name__ for callback in build_trainer(config, 10.0).checkpoint_callbacks]
    assert kinds == ["ModelCheckpoint", "SparingCheckpoint"]
    assert config.callbacks.last._target_.endswith(".ModelCheckpoint")
