"""A fold of `milpath table` against a plain loop over the same batches with the same network, on bags like those of MUSK1.

The fold is the whole training: composition, 40 epochs, logs, checkpoints, predictions and results. The plain loop is its
network, optimizer and batches without Lightning, and writes nothing. It is timed twice: without averages of the weights,
which the fold predicts with, and with torch's own average.
"""

import argparse
import contextlib
import io
import itertools
import logging
import math
import tempfile
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.features.feature_bags import CLOCKS
from benchmarks.timing import record, speedup, turns
from milpath.data.datamodule import BagDataModule
from milpath.runs.build import build_classifier, build_training_data
from milpath.search.composition import compose_training
from milpath.search.cross_validation import plan_trainings, run_trainings

NUM_BAGS, NUM_FEATURES = 92, 166


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, help="musk1.npz; drawn bags of the same sizes if it is left out")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="cpu: seconds of all cores, on a busy machine"
    )


def run(options: argparse.Namespace) -> list[dict]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    with tempfile.TemporaryDirectory() as name:
        path = options.data or drawn_bags(Path(name) / "musk1.npz")
        words = ["experiment=musk1", f"data.path={path}"]
        trainings = plan_trainings(words, ["attention"], 10, 5, Path(name) / "table")
        config = compose_training(trainings[0].overrides)
        datamodule = build_training_data(config)
        datamodule.setup()
        folds = iter(trainings)

        def fold() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                run_trainings(list(itertools.islice(folds, 1)))

        ways = {
            "fold": fold,
            "plain loop": lambda: plain_training(config, datamodule),
            "averaged": lambda: plain_training(config, datamodule, averaged=True),
        }
        times = turns(ways, options.repeats, CLOCKS[options.clock])
    whole, plain, averaged = times.values()
    return [
        record("plain loop, 40 epochs", median(plain), "s"),
        record("plain loop, 40 epochs, weights averaged", median(averaged), "s"),
        record("fold of milpath table, 40 epochs", median(whole), "s", 1 / speedup(whole, plain), "plain loop"),
        record("the same fold", median(whole), "s", 1 / speedup(whole, averaged), "plain loop with averages"),
        record("share of the fold beyond the plain loop", 100 * (1 - median(plain) / median(whole)), "%"),
        record("and beyond that with averages", 100 * (1 - median(averaged) / median(whole)), "%"),
    ]


def plain_training(config: Any, datamodule: BagDataModule, averaged: bool = False) -> None:
    """Train as the configuration says, without Lightning and without files."""
    classifier = build_classifier(config, datamodule)
    network = classifier.network.train()
    configured = classifier.configure_optimizers()
    constant = isinstance(configured, Optimizer)
    optimizer = configured if constant else configured["optimizer"]
    loader = datamodule.train_dataloader()
    share = 1 - math.exp(-1 / (config.callbacks.averaged_weights.window * len(loader)))
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(1 - share)) if averaged else None
    for epoch in range(config.trainer.max_epochs):
        loader.sampler.set_epoch(epoch)
        for loaded in loader:
            batch = loaded.to("cpu")
            logits = network(batch.tiles, batch.network_mask).logits[:, 0]
            loss = F.binary_cross_entropy_with_logits(logits, batch.labels.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if average is not None:
                average.update_parameters(network)
        if not constant:
            configured["lr_scheduler"].step()


def drawn_bags(path: Path) -> Path:
    """Write bags of the number, the lengths and the width of MUSK1."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.geometric(1 / 4.2, NUM_BAGS) + 1, 2, 40)
    bags = np.repeat(np.arange(NUM_BAGS), lengths)
    np.savez(path, X=rng.standard_normal((len(bags), NUM_FEATURES)), bag=bags, y=np.arange(NUM_BAGS) % 2)
    return path
