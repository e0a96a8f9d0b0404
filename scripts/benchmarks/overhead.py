"""Lightning's overhead per step: its Trainer against a plain loop, with a network of negligible cost.

The noise of a step of the paper's network is larger than the overhead; the difference of two short steps shows it.
"""

from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.against_torchmil import FEATURES, write_store
from benchmarks.timing import turns
from benchmarks.training_loops import make_trainer, train_step
from milpath.data.loading.bag_split import BagSplit
from milpath.data.loading.batch_plan import TrainingPlan
from milpath.data.loading.batch_preparation import Preparation
from milpath.data.loading.device_cache import DeviceCache
from milpath.data.loading.loader import BagLoader
from milpath.models import AttentionMIL
from milpath.training import MILClassifier


def seconds_of_lightning(folder: Path, device: str, repeats: int, num_steps: int = 200, batch_size: int = 8) -> float:
    """Return the seconds Lightning adds to a training step, including its start-up divided by the number of steps."""

    store = write_store([4] * num_steps * batch_size, folder / "overhead")
    split = BagSplit(store, np.arange(len(store)), store.bags["label"].to_numpy())
    plan = TrainingPlan(split.labels, split.lengths, batch_size)
    loader = BagLoader(split, plan, Preparation(), DeviceCache(store, "auto"))
    network = AttentionMIL(encoder={"name": "linear", "num_features": FEATURES, "hidden_dims": [8]}).to(device)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    classifier = MILClassifier(
        network,
        class_names=("benign", "malignant"),
        task="binary",
        optimizer=lambda parameters: torch.optim.Adam(parameters, fused=True),
    )

    def plain() -> None:
        network.to(device).train()
        for loaded in loader:
            train_step(network, optimizer, loaded.to(device), "32-true")

    def lightning() -> None:
        make_trainer(device).fit(classifier, loader)

    times = turns({"plain": plain, "lightning": lightning}, repeats)
    return (median(times["lightning"]) - median(times["plain"])) / num_steps
