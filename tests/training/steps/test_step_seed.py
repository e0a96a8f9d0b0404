import torch
from lightning.pytorch import Trainer

from milpath.models import AttentionMIL
from milpath.training import MILClassifier
from milpath.training.steps.step_seed import StepSeed, step_seed

LINEAR = {"name": "linear", "num_features": 3, "hidden_dims": [4]}


def test_seeds_differ_between_steps_ranks_and_runs():
    seeds = {step_seed(seed, step, rank) for seed in range(5) for step in range(50) for rank in range(8)}
    assert len(seeds) == 5 * 50 * 8
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_steps_on_a_cpu_have_the_numbers_of_torch_manual_seed_and_keep_nothing_for_other_devices(monkeypatch):
    module = MILClassifier(AttentionMIL(encoder=LINEAR), class_names=("a", "b"), task="binary")
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    seed = StepSeed(3)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "manual_seed", None)  # which keeps a call for each kind of device
        seed.on_train_start(trainer, module)
        seed.on_train_batch_end(trainer, module)
    found = torch.rand(4)
    torch.manual_seed(step_seed(3, trainer.fit_loop.total_batch_idx + 1, 0))
    torch.testing.assert_close(found, torch.rand(4), rtol=0, atol=0)
