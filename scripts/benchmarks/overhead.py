"""Lightning's own time a step: its Trainer against a plain loop, around a network that costs next to nothing.

A step of the article's network takes so long that its noise hides what Lightning adds; the difference of two short steps
shows it.
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
    """Return what Lightning adds to a training step, seconds; the start of its Trainer is spread over the steps."""

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
