"""Epochs with a frozen backbone: tiles encoded in every epoch, and features kept on disk from the second epoch on."""

import time
from statistics import median

import torch

from benchmarks.timing import record, speedup, turns
from benchmarks.training_loops import make_trainer
from milpath.data import BagDataModule
from milpath.models import AttentionMIL
from milpath.training import MILClassifier


def frozen(datamodule: BagDataModule, device: str, repeats: int, name: str = "resnet18") -> list[dict]:
    """Return the rows of a frozen torchvision network with random weights, which cost the same as trained ones."""

    network = AttentionMIL(encoder={"name": name, "frozen": True, "tile_micro_batch": 64})
    network.to(memory_format=torch.channels_last)
    classifier = MILClassifier(
        network,
        class_names=datamodule.class_names,
        task=datamodule.task,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-4, fused=True),
    )
    tiles = datamodule.train_dataloader()
    num_bags = len(tiles.split)
    start = time.perf_counter()
    datamodule.encode_with(network.tile_encoder)
    once = time.perf_counter() - start
    features = datamodule.train_dataloader()
    epochs = {
        "tiles": lambda: make_trainer(device).fit(classifier, tiles),
        "features": lambda: make_trainer(device).fit(classifier, features),
    }
    times = turns(epochs, repeats)
    each, kept = times["tiles"], times["features"]
    return [
        record(f"{name}, frozen, tiles in each epoch", num_bags / median(each), "bags/s"),
        record(
            f"{name}, frozen, from the second epoch on", num_bags / median(kept), "bags/s", speedup(each, kept), "tiles"
        ),
        record(f"{name}, frozen, features of all splits written once", once, "s"),
    ]
