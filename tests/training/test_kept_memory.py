import platform
import subprocess
import sys
from contextlib import contextmanager, nullcontext

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from milpath.training.kept_memory import KeptMemory

pytestmark = [
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told anything"),
    pytest.mark.filterwarnings("ignore:.*(LeafSpec|does not have many workers)"),  # Lightning's, with a newer torch
]
SIZE = 64 << 20


PAGES = f"""
import resource
from pathlib import Path
import torch
from milpath.training.kept_memory import kept_memory

def faults(rounds=5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.empty({SIZE}, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

outside, before = faults(), resident()
with kept_memory():
    faults(1)
    with kept_memory():
        pass
    inside, held = faults(), resident() - before
print(outside, inside, held, resident() - before)
"""


def test_memory_that_was_freed_is_used_again_and_given_back_at_the_end():
    # In a process of its own: what other tests left free would be handed out first.
    said = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    outside, inside, held, afterwards = map(int, said.stdout.split())
    assert inside < outside / 4
    assert held > SIZE / 2 > afterwards


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

    monkeypatch.setattr("milpath.training.kept_memory.kept_memory", noted)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[KeptMemory()],
    )  # fmt: skip
    with pytest.raises(ZeroDivisionError) if fail else nullcontext():
        trainer.fit(Watching(events, fail), DataLoader(torch.ones(3, 1)))
    assert events == ["keep", *["step"] * (2 if fail else 3), "give back"]
