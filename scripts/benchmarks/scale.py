"""Bags of features of very different lengths, bags streamed from disk, and the memory of a step.

Padded batches sorted by length are compared with a loop over bags, with no sorting, and with torchmil if it is installed.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import memory, streaming
from benchmarks.against_torchmil import against_torchmil
from benchmarks.timing import record, speedup, turns
from milpath.data.loading.bag import Bag, collate_bags
from milpath.data.loading.batch_plan import TrainingPlan
from milpath.models import AttentionMIL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bags", type=int, default=400)
    parser.add_argument("--features", type=int, default=166)
    parser.add_argument("--longest", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="of the comparison with torchmil")
    parser.add_argument("--skip", nargs="*", choices=["lengths", "torchmil", "stream", "memory"], default=[])
    streaming.add_arguments(parser)
    memory.add_arguments(parser)


def run(options: argparse.Namespace) -> list[dict]:
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.geometric(2 / options.longest, options.bags), 1, options.longest)
    records = [] if "lengths" in options.skip else of_lengths(lengths, options)
    with tempfile.TemporaryDirectory() as name:
        if "torchmil" not in options.skip:
            records += against_torchmil(lengths.tolist(), Path(name), options.repeats, options.device)
        if "stream" not in options.skip:
            sizes = options.stream_bags, options.stream_tiles, options.stream_features
            records += streaming.streaming(*sizes, Path(name))
    if "memory" not in options.skip:
        records += memory.memory(options.backbone_tiles)
    return records


def of_lengths(lengths: np.ndarray, options: argparse.Namespace) -> list[dict]:
    """Return the rows of consecutive training steps on bags of some lengths."""
    rng = np.random.default_rng(0)
    bags = [
        Bag(rng.standard_normal((length, options.features), np.float32), number % 2, str(number))
        for number, length in enumerate(lengths)
    ]
    labels = np.arange(options.bags) % 2
    network = AttentionMIL(encoder={"name": "linear", "num_features": options.features, "hidden_dims": [256, 128, 64]})

    def step(chosen: list[Bag]) -> None:
        batch = collate_bags(chosen)
        network(batch.tiles, batch.network_mask).logits.sum().backward()

    def one_by_one() -> None:
        for bag in bags:
            step([bag])

    def by_length() -> None:
        for planned in TrainingPlan(labels, lengths, options.batch_size):
            step([bags[index] for index in planned.indices])

    def unsorted() -> None:
        for part in np.array_split(rng.permutation(options.bags), options.bags // options.batch_size):
            step([bags[index] for index in part])

    times = turns({"loop": one_by_one, "by length": by_length, "unsorted": unsorted}, options.repeats)
    rates = {name: options.bags / median(values) for name, values in times.items()}
    ratios = {name: speedup(times["loop"], values) for name, values in times.items()}
    return [
        record("loop over bags", rates["loop"], "bags/s"),
        record("batches, unsorted", rates["unsorted"], "bags/s", ratios["unsorted"], "loop over bags"),
        record("batches by length", rates["by length"], "bags/s", ratios["by length"], "loop over bags"),
        record("real share of padded tiles", real_share(lengths, labels, options.batch_size), "of 1"),
    ]


def real_share(lengths: np.ndarray, labels: np.ndarray, batch_size: int) -> float:
    """Return the fraction of real tiles in the padded batches."""
    plan = [lengths[planned.indices] for planned in TrainingPlan(labels, lengths, batch_size)]
    return float(lengths.sum() / sum(part.max() * len(part) for part in plan))
