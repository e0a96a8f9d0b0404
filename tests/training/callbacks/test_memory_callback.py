import platform
from contextlib import contextmanager, nullcontext

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from milpath.training.callbacks.memory_callback import KeptMemory

pytestmark = [
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told anything"),
    pytest.mark.filterwarnings("ignore:.*(LeafSpec|does not have many workers)"),  # Lightning's, with a newer torch
]


class Watching(LightningModule):
    """Notes its steps; fails in the second where told."""

    def __init__(self, events: list[str], fail: bool) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.events = events
        self.fail = fail

    def training_step(self, batch, batch_idx):
        self.events.append("step")
        if self.fail and batch_idx:
            raise ZeroDivisionError
        return self.layer(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("fail", [False, True])
def test_a_trainer_keeps_memory_while_it_fits_and_not_longer_also_when_it_fails(fail, monkeypatch):
    events: list[str] = []

    @contextmanager
    def noted():
        events.append("keep")
        yield
        events.append("give back")

    monkeypatch.setattr("milpath.training.callbacks.memory_callback.kept_memory", noted)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[KeptMemory()],
    )  # fmt: skip
    with pytest.raises(ZeroDivisionError) if fail else nullcontext():
        trainer.fit(Watching(events, fail), DataLoader(torch.ones(3, 1)))
    assert events == ["keep", *["step"] * (2 if fail else 3), "give back"]
