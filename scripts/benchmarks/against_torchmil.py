"""The same feature bags through torchmil (its ABMIL, its collate function, its Trainer) and through this library.

Both train five epochs and validate after each, on the same bags with equal layers, batch size and optimizer; torchmil has
them in memory, this library reads them from a store. torchmil is not a dependency: without it these rows are left out.
"""

import importlib.util
import sys
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.timing import record, speedup, turns
from benchmarks.training_loops import make_trainer
from milpath.data.loading.bag_split import BagSplit
from milpath.data.loading.batch_plan import EvaluationPlan, TrainingPlan
from milpath.data.loading.batch_preparation import Preparation
from milpath.data.loading.device_cache import DeviceCache
from milpath.data.loading.loader import BagLoader
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.models import AttentionMIL
from milpath.training import MILClassifier
from milpath.training.callbacks.memory_callback import KeptMemory
from milpath.training.steps.step_seed import StepSeed

FEATURES, WIDTH, BATCH_SIZE, EPOCHS = 512, 512, 8, 5


def against_torchmil(lengths: list[int], folder: Path, repeats: int, device: str) -> list[dict]:
    """Return the rows of both, or print how to get them."""
    if importlib.util.find_spec("torchmil") is None:
        print("torchmil is not installed, so its rows are left out; pip install torchmil", file=sys.stderr)
        return []
    store = write_store(lengths, folder / f"features-{len(lengths)}-{sum(lengths)}")
    times = turns({"torchmil": torchmil_run(store, device), "milpath": own_run(store, device)}, repeats)
    ours, theirs = times["milpath"], times["torchmil"]
    kind = f"{min(lengths)} to {max(lengths)} features of {FEATURES}"
    return [
        record(f"torchmil, {kind}", EPOCHS * len(lengths) / median(theirs), "bags/s"),
        record(f"milpath, {kind}", EPOCHS * len(lengths) / median(ours), "bags/s", speedup(theirs, ours), "torchmil"),
    ]


def write_store(lengths: list[int], path: Path) -> BagStore:
    rng = np.random.default_rng(0)
    with BagStoreWriter(path) as writer:
        for number, length in enumerate(lengths):
            features = rng.standard_normal((length, FEATURES), np.float32)
            writer.add(f"bag_{number}", features, {"label": number % 2})
    return BagStore.open(path)


def torchmil_run(store: BagStore, device: str):
    from torchmil.data import collate_fn
    from torchmil.models import ABMIL
    from torchmil.utils import Trainer

    bags = [{"X": torch.from_numpy(store.read(number)), "Y": torch.tensor(number % 2)} for number in range(len(store))]
    loaders = [
        torch.utils.data.DataLoader(bags, BATCH_SIZE, shuffle, collate_fn=collate_fn) for shuffle in (True, False)
    ]
    layers = torch.nn.Sequential(torch.nn.Linear(FEATURES, WIDTH), torch.nn.ReLU())
    network = ABMIL(in_shape=(FEATURES,), feat_ext=layers)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    trainer = Trainer(network, optimizer, device=device, disable_pbar=True, verbose=False)
    return lambda: trainer.train(EPOCHS, *loaders)


def own_run(store: BagStore, device: str):

    split = BagSplit(store, np.arange(len(store)), store.bags["label"].to_numpy())
    plans = TrainingPlan(split.labels, split.lengths, BATCH_SIZE), EvaluationPlan(split.lengths, BATCH_SIZE)
    cache = DeviceCache(store, "auto")
    loaders = [BagLoader(split, plan, Preparation(), cache) for plan in plans]
    classifier = MILClassifier(
        AttentionMIL(encoder={"name": "linear", "num_features": FEATURES, "hidden_dims": [WIDTH]}),
        class_names=("benign", "malignant"),
        task="binary",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-4, fused=True),
    )
    options = {"max_epochs": EPOCHS, "limit_val_batches": 1.0, "callbacks": [StepSeed(0), KeptMemory()]}
    return lambda: make_trainer(device, **options).fit(classifier, *loaders)
