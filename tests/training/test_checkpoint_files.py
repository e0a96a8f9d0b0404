import errno
import os
import resource
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from milpath.models.weights_digest import digest_of
from milpath.runs.build_trainer import build_trainer
from milpath.training.checkpoint_files import AtomicCheckpointIO, BestCheckpoint, SparingCheckpoint, TimedCheckpoint

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
def test_of_epochs_of_a_moment_only_the_last_is_saved(tmp_path, options, last):
    of_lightning = {"dirpath": tmp_path, "filename": "last", "every_n_epochs": 1, "save_on_train_epoch_end": True}
    written = trained(tmp_path, SparingCheckpoint(3600, **of_lightning), **options)
    assert written == [last]
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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"every_n_train_steps": 2}, [0, 1, 2]),  # after steps 2, 4 and 8; step 6 is the last of its epoch
        ({"every_n_train_steps": 2, "save_last": True}, [0, 0, 1, 1, 2, 2]),
        ({"every_n_epochs": 1, "save_on_train_epoch_end": True}, [0, 1, 2]),
    ],
)
def test_a_checkpoint_within_epochs_does_nothing_at_their_end_unless_it_is_asked_to(tmp_path, options, expected):
    callback, copied = TimedCheckpoint(dirpath=tmp_path, filename="timed", **options), []
    copy = callback._monitor_candidates
    callback._monitor_candidates = lambda trainer: copied.append(1) or copy(trainer)
    assert trained(tmp_path, callback, max_epochs=3) == expected
    if len(options) == 1:
        assert len(copied) == len(expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"train_time_interval": timedelta(hours=1)}, []),
        ({"train_time_interval": timedelta()}, [0, 0, 1, 1]),  # after each step but the last of an epoch
        ({"every_n_train_steps": 2}, [0, 1]),
    ],
)
def test_a_checkpoint_that_only_time_decides_on_asks_for_the_time_alone(tmp_path, options, expected, monkeypatch):
    made, asked = (ModelCheckpoint.on_train_batch_end, [])
    monkeypatch.setattr(ModelCheckpoint, "on_train_batch_end", lambda *arguments: asked.append(1) or made(*arguments))
    callback = TimedCheckpoint(dirpath=tmp_path, filename="timed", **options)
    assert trained(tmp_path, callback, max_epochs=2) == expected
    assert len(asked) == (4 if expected else 0)


class StepsOfNothing(EpochsOfNothing):
    """The same with a validation, which has no metrics."""

    def validation_step(self, batch, batch_idx):
        pass


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "saved"),
    [
        ({"val_check_interval": 2}, [1, 3, 6, 8]),  # not after steps 2 and 4 of 5, which validation follows
        ({"val_check_interval": 3, "check_val_every_n_epoch": None}, [1, 2, 4, 7, 8]),
        ({"limit_val_batches": 0, "val_check_interval": 2}, [1, 2, 3, 4, 6, 7, 8, 9]),
    ],
)
def test_no_checkpoint_is_written_between_a_step_and_the_validation_that_follows_it(tmp_path, options, saved):
    steps = []

    class Watch(Callback):
        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            steps.append(trainer.global_step)

    timed = TimedCheckpoint(dirpath=tmp_path, filename="timed", train_time_interval=timedelta())
    words = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(callbacks=[timed, Watch()], default_root_dir=tmp_path, max_epochs=2, **words, **options)
    loader = torch.utils.data.DataLoader(range(5))
    trainer.fit(StepsOfNothing(), loader, torch.utils.data.DataLoader([0]), weights_only=True)
    assert steps == saved


def test_only_checkpoints_without_a_monitor_become_sparing():
    entries = {
        name: {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "monitor": monitor}
        for name, monitor in (("best", "val/auroc"), ("last", None))
    }
    config = OmegaConf.create({"trainer": {"_target_": "lightning.pytorch.Trainer", "logger": False}, "seed": 0})
    config.callbacks = entries
    config.paths = {"run_dir": "runs/one"}
    kinds = [type(callback).__name__ for callback in build_trainer(config, 10.0).checkpoint_callbacks]
    assert kinds == ["ModelCheckpoint", "SparingCheckpoint"]
    assert config.callbacks.last._target_.endswith(".ModelCheckpoint")


class Scripted(LightningModule):
    """Logs the validation metrics of a script, one pair (AUROC, loss) per epoch."""

    def __init__(self, script):
        super().__init__()
        self.script, self.layer = script, torch.nn.Linear(1, 1)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        self.layer.weight.data.fill_(self.current_epoch)
        self.optimizers().step()

    def validation_step(self, batch, batch_idx):
        auroc, loss = self.script[self.current_epoch]
        self.log_dict({"val/auroc": auroc, "val/loss": loss})

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def train_scripted(script, folder, *, epochs=None, resume=None, mode="max", forget=False):
    """Train by a script; returns the best epoch, and the state of the choice in the last checkpoint."""
    best = BestCheckpoint(folder, "best", monitor="val/auroc", mode=mode, enable_version_counter=False)
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = Trainer(
        max_epochs=epochs or len(script), accelerator="cpu", logger=False, callbacks=[best, last],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data = DataLoader(torch.zeros(1, 1))
    if forget:  # as a checkpoint of an earlier version
        content = torch.load(resume, weights_only=True)
        assert content["callbacks"][best.state_key].pop("best_loss") is not None
        torch.save(content, resume)
    trainer.fit(Scripted(script), data, data, ckpt_path=resume, weights_only=True)
    chosen = torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]["layer.weight"].item()
    state = torch.load(folder / "last.ckpt", weights_only=True)["callbacks"]
    assert set(state) == {best.state_key, last.state_key}
    assert all(key.startswith("ModelCheckpoint{") for key in state)  # found by other versions of milpath
    return chosen, state[best.state_key]


TIED = [(0.9, 0.1), (1.0, 0.5), (1.0, 0.3), (1.0, 0.4), (1.0, 0.2), (0.9, 0.0)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("script", "mode", "best"),
    [
        (TIED, "max", 4),  # the lowest loss of the epochs whose AUROC is 1
        (TIED, "min", 5),
        ([(1.0, 0.2), (1.0, 0.2), (1.0, 0.3)], "max", 0),  # the first of equal ones
        ([(float("nan"), 0.2), (float("nan"), 0.1), (0.5, 0.3)], "max", 2),
    ],
)
def test_epochs_with_the_same_metric_are_told_apart_by_the_validation_loss(script, mode, best, tmp_path):
    assert train_scripted(script, tmp_path, mode=mode)[0] == best


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stopped_after", [1, 2, 3, 4])
def test_a_resumed_run_chooses_the_best_epoch_of_an_uninterrupted_one(stopped_after, tmp_path):
    whole = train_scripted(TIED, tmp_path / "whole")
    train_scripted(TIED, tmp_path / "part", epochs=stopped_after)
    found = train_scripted(TIED, tmp_path / "part", resume=tmp_path / "part/last.ckpt")
    paths = ("dirpath", "best_model_path", "best_k_models", "kth_best_model_path", "last_model_path")
    assert found[0] == whole[0] == 4
    assert {key: value for key, value in found[1].items() if key not in paths} == {
        key: value for key, value in whole[1].items() if key not in paths
    }


@pytest.mark.filterwarnings("ignore")
def test_without_the_loss_of_its_best_epoch_an_earlier_run_keeps_it_until_a_better_one(tmp_path):
    train_scripted(TIED, tmp_path, epochs=3)
    assert train_scripted(TIED, tmp_path, resume=tmp_path / "last.ckpt", forget=True)[0] == 2
