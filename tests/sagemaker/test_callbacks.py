import re

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from milpath.sagemaker.epoch_line import EpochLine
from milpath.sagemaker.request import metric_definition
from milpath.sagemaker.stopped import StayStopped

pytestmark = pytest.mark.filterwarnings("ignore")


class Line(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).pow(2).mean()

    def on_train_epoch_end(self):
        # As the learner of this library does: after the callbacks' end of epoch.
        self.log("train/loss", float(self.current_epoch) + 0.25)

    def validation_step(self, batch, batch_idx):
        self.log("val/auroc", 0.5)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def train(*callbacks, checkpoint=None, max_epochs=6):
    module = Line()
    trainer = Trainer(
        accelerator="cpu", max_epochs=max_epochs, callbacks=list(callbacks), logger=False, enable_model_summary=False,
        enable_progress_bar=any(isinstance(callback, EpochLine) for callback in callbacks), num_sanity_val_steps=0,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
    )  # fmt: skip
    data = DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2)
    trainer.fit(module, data, data, ckpt_path=checkpoint, weights_only=True)
    return trainer, module


def test_each_epoch_is_one_line_with_its_own_loss(capsys):
    train(EpochLine(), max_epochs=3)
    lines = [line for line in capsys.readouterr().out.split("\n") if line.startswith("epoch=")]
    assert len(lines) == 3
    for epoch, line in enumerate(lines):
        assert line.startswith(f"epoch={epoch} ")
        assert re.search(metric_definition("train/loss")["Regex"], line)[1] == f"{epoch}.25"
        assert re.search(metric_definition("val/auroc")["Regex"], line)[1] == "0.5"


def test_a_run_that_had_stopped_early_does_not_train_on(tmp_path):
    def callbacks():
        stopping = EarlyStopping("val/auroc", mode="max", patience=2)
        last = ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True, enable_version_counter=False)
        return stopping, last, StayStopped()

    first, module = train(*callbacks())
    assert first.global_step == 2 * 3
    again, same = train(*callbacks(), checkpoint=tmp_path / "last.ckpt")
    assert again.global_step == first.global_step
    torch.testing.assert_close(same.layer.weight, module.layer.weight, atol=0, rtol=0)


def test_a_run_that_had_not_stopped_goes_on(tmp_path):
    def callbacks():
        stopping = EarlyStopping("val/auroc", mode="max", patience=3)
        last = ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True, enable_version_counter=False)
        return stopping, last, StayStopped()

    train(*callbacks(), max_epochs=2)
    again, _ = train(*callbacks(), checkpoint=tmp_path / "last.ckpt")
    assert again.global_step == 2 * 4
