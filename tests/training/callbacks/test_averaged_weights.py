"""The average of the weights is what is validated, saved and tested; training goes on with its own."""

import math

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from milpath.models import load_network
from milpath.models.checkpoint import read_checkpoint
from milpath.training.callbacks.averaged_weights import AveragedWeights
from tests.commands import here
from tests.runs.test_resume import FEATURES, write_features

pytestmark = pytest.mark.filterwarnings("ignore")


class Line(LightningModule):
    """A line, with a layer that counts its batches in integers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(2, 1)
        self.norm = torch.nn.BatchNorm1d(1)
        self.validated: list[torch.Tensor] = []

    def training_step(self, batch, batch_idx):
        return (self.norm(self.layer(batch[0])) - batch[1]).pow(2).mean()

    def validation_step(self, batch, batch_idx):
        self.validated.append(self.layer.weight.detach().clone())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.1)


class Weights(Callback):
    """Keeps the weights of training after each step."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append(pl_module.layer.weight.detach().clone())


class Counting(Line):
    """A line that shares its weights with a second layer, and puts a new buffer in place of the last in every step."""

    def __init__(self):
        super().__init__()
        self.again = torch.nn.Linear(2, 1)
        self.again.weight = self.layer.weight
        self.register_buffer("seen", torch.zeros(1))

    def training_step(self, batch, batch_idx):
        self.seen = self.seen + 1
        return super().training_step(batch, batch_idx) + self.again(batch[0]).pow(2).mean()


def train(folder, max_epochs, checkpoint=None, window=1.5, kind=Line):
    kept, module = Weights(), kind()
    trainer = Trainer(
        accelerator="cpu", max_epochs=max_epochs, logger=False, enable_model_summary=False, enable_progress_bar=False,
        num_sanity_val_steps=0,
        callbacks=[
            kept, AveragedWeights(window),
            ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False),
        ],
    )  # fmt: skip
    numbers = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(12, 2, generator=numbers), torch.randn(12, 1, generator=numbers))
    trainer.fit(module, DataLoader(data, 3), DataLoader(data, 12), ckpt_path=checkpoint, weights_only=True)
    return module, kept.steps


def averages(steps, window, per_epoch):
    """The average after each step, written once more."""
    share, rows = 1 - math.exp(-1 / (window * per_epoch)), []
    for number, weights in enumerate(steps, start=1):
        part = max(share, 1 / number)
        rows.append(weights if not rows else (1 - part) * rows[-1] + part * weights)
    return rows


def test_the_average_is_validated_and_saved_and_training_goes_on_with_its_own_weights(tmp_path):
    module, steps = train(tmp_path, max_epochs=4)
    expected = averages(steps, 1.5, per_epoch=4)
    torch.testing.assert_close(module.validated, expected[3::4])
    torch.testing.assert_close(module.layer.weight.detach(), expected[-1])
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    torch.testing.assert_close(content["state_dict"]["layer.weight"], expected[-1])
    assert torch.equal(content["current_model_state"]["layer.weight"], steps[-1])
    assert content["state_dict"]["norm.num_batches_tracked"] == len(steps)
    # Until the window is full it is the plain mean.
    torch.testing.assert_close(expected[3], torch.stack(steps[:4]).mean(0))


def test_a_shared_weight_is_averaged_once_and_a_buffer_that_is_replaced_as_it_is_now(tmp_path):
    module, steps = train(tmp_path, max_epochs=2, kind=Counting)
    expected = averages(steps, window=1.5, per_epoch=4)[-1]
    torch.testing.assert_close(module.layer.weight.detach(), expected, atol=1e-6, rtol=0)
    assert module.again.weight is module.layer.weight
    seen = averages([torch.full((1,), float(number)) for number in range(1, 9)], window=1.5, per_epoch=4)[-1]
    torch.testing.assert_close(module.seen, seen)


def test_a_resumed_run_has_the_weights_and_the_average_of_an_uninterrupted_one(tmp_path):
    whole, steps = train(tmp_path / "whole", max_epochs=5)
    train(tmp_path / "parts", max_epochs=2)
    resumed, later = train(tmp_path / "parts", max_epochs=5, checkpoint=tmp_path / "parts/last.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(later, steps[8:], strict=True))
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


@pytest.mark.parametrize("window", [0, -1, math.nan, math.inf])
def test_a_window_of_no_epochs_is_refused(window):
    with pytest.raises(ValueError, match="must be a number of epochs greater than 0, such as 2"):
        AveragedWeights(window)


@pytest.mark.command
def test_a_run_of_the_command_tests_the_average_and_resumes_bit_for_bit(tmp_path, capfd):
    write_features(tmp_path / "in", [0, 1] * 12)
    words = [*FEATURES, "callbacks=averaged_weights", "optimizer.lr=0.01", "callbacks.early_stopping=null"]
    assert here("milpath.train", *words, "trainer.max_epochs=3", "run_name=whole", cwd=tmp_path) == 0
    for epochs in (1, 3):
        more = [f"trainer.max_epochs={epochs}", "run_name=parts", "resume_from=auto"]
        assert here("milpath.train", *words, *more, cwd=tmp_path) == 0
    whole, parts = (read_checkpoint(tmp_path / f"runs/{name}/checkpoints/last.ckpt") for name in ("whole", "parts"))
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, whole[part][name]) for name, value in parts[part].items())
    assert not torch.equal(
        *(whole[part]["network.classification_layer.weight"] for part in ("state_dict", "current_model_state"))
    )
    # What was tested is the average of the best epoch.
    best = tmp_path / "runs/whole/checkpoints/best.ckpt"
    average = read_checkpoint(best)["state_dict"]["network.classification_layer.weight"]
    assert torch.equal(load_network(best).classification_layer.weight, average)
    # Nothing collapsed.
    assert "collapse_warning" not in "".join(capfd.readouterr())
