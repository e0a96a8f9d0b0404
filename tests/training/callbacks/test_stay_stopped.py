import logging

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from milpath.training.callbacks.stay_stopped import StayStopped
from tests.commands import SMALL_RUN

pytestmark = pytest.mark.filterwarnings("ignore")


class Line(LightningModule):
    """A line whose validation never improves."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).pow(2).mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/auroc", 0.5)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def train(folder, patience, checkpoint=None, max_epochs=6):
    callbacks = [
        EarlyStopping("val/auroc", mode="max", patience=patience),
        ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False),
        StayStopped(),
    ]
    trainer = Trainer(
        accelerator="cpu", max_epochs=max_epochs, callbacks=callbacks, logger=False, enable_model_summary=False,
        enable_progress_bar=False, num_sanity_val_steps=0,
    )  # fmt: skip
    data = DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2)
    module = Line()
    trainer.fit(module, data, data, ckpt_path=checkpoint, weights_only=True)
    return trainer, module


def test_a_run_that_had_stopped_early_does_not_train_on_and_says_how_it_would(tmp_path, caplog):
    first, module = train(tmp_path, patience=2)
    assert first.global_step == 2 * 3
    with caplog.at_level(logging.INFO, logger="milpath"):
        again, same = train(tmp_path, patience=2, checkpoint=tmp_path / "last.ckpt")
    assert again.global_step == first.global_step
    torch.testing.assert_close(same.layer.weight, module.layer.weight, atol=0, rtol=0)
    assert "to continue training, add callbacks.early_stopping=null" in caplog.text


def test_a_run_that_had_not_stopped_goes_on(tmp_path):
    train(tmp_path, patience=3, max_epochs=2)
    again, _ = train(tmp_path, patience=3, checkpoint=tmp_path / "last.ckpt")
    assert again.global_step == 2 * 4


def test_a_training_that_is_started_again_after_early_stopping_ends_as_it_did(tmp_path, run_here):
    # A rate of nothing never improves: one epoch sets the mark, the next is the last.
    words = [
        *SMALL_RUN, "run_name=stops", "optimizer.lr=0", "callbacks.early_stopping.patience=1", "trainer.max_epochs=5",
    ]  # fmt: skip
    last = tmp_path / "runs/stops/checkpoints/last.ckpt"

    def steps():
        return torch.load(last, weights_only=True)["global_step"]

    status, error = run_here("milpath.train", *words, cwd=tmp_path)
    assert status == 0, error
    done = steps()
    # As if the machine had been lost between the last epoch and the results.
    results = tmp_path / "runs/stops/metrics.json"
    results.unlink()
    status, error = run_here("milpath.train", *words, "resume_from=auto", cwd=tmp_path)
    assert status == 0, error
    assert steps() == done
    assert results.is_file()


def test_without_patience_a_run_ends_after_the_first_epoch_that_is_no_better_and_not_before_it(tmp_path):
    trainer, _ = train(tmp_path, patience=0)
    assert trainer.current_epoch == 2
