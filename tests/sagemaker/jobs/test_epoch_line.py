import re

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from milpath.sagemaker.jobs.epoch_line import EpochLine
from milpath.sagemaker.jobs.training_request import metric_definition


class Line(LightningModule):
    def __init__(self):
        super().__init__()
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


@pytest.mark.filterwarnings("ignore")
def test_each_epoch_is_one_line_with_its_own_loss(capsys):
    trainer = Trainer(
        accelerator="cpu", max_epochs=3, callbacks=[EpochLine()], logger=False, enable_model_summary=False,
        num_sanity_val_steps=0, enable_checkpointing=False,
    )  # fmt: skip
    data = DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2)
    trainer.fit(Line(), data, data)
    lines = [line for line in capsys.readouterr().out.split("\n") if line.startswith("epoch=")]
    assert len(lines) == 3
    for epoch, line in enumerate(lines):
        assert line.startswith(f"epoch={epoch} ")
        assert re.search(metric_definition("train/loss")["Regex"], line)[1] == f"{epoch}.25"
        assert re.search(metric_definition("val/auroc")["Regex"], line)[1] == "0.5"
