"""Training in bags per second: the paper's loop, the same with one forward pass, torchmil, and this library.

`article`: one bag per step, NCHW float32, PNG decoded with PIL for each item, no workers, three forward passes per step
(loss, error, prediction), convolution-ReLU-pool, Adam. `reference`: one forward pass. `plain loop`: this library's network
and batches without Lightning. `milpath`: what `python -m milpath.train` runs. On a CPU `milpath` keeps memory freed by a
step; with `all keep memory` every alternative does, so that only the code differs.
"""

import argparse
import itertools
import logging
import tempfile
import warnings
from pathlib import Path
from statistics import median

import torch

from benchmarks.against_torchmil import against_torchmil
from benchmarks.article import article_epoch, encode
from benchmarks.counting import count
from benchmarks.frozen import frozen
from benchmarks.overhead import seconds_of_lightning
from benchmarks.timing import copy_rate, matmul_rate, record, speedup, turns
from benchmarks.training_loops import make_datamodule, make_trainer, train_step
from milpath.data import BagDataModule
from milpath.models import AttentionMIL
from milpath.records.kept_memory import kept_memory
from milpath.training import MILClassifier

PANDA_BAGS = 10_616


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bags", type=int, default=64, help="bags per epoch; a quarter of them for loops of one bag")
    parser.add_argument("--repeats", type=int, default=3, help="timed epochs of each alternative")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="bf16-mixed" if torch.cuda.is_available() else "32-true")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network of this library")
    parser.add_argument("--skip", nargs="*", choices=["steps", "frozen", "torchmil"], default=[])


def run(options: argparse.Namespace) -> list[dict]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    records = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "steps" not in options.skip:
            added = seconds_of_lightning(folder, options.device, options.repeats)
            records += steps(make_datamodule(folder, options.bags, options.batch_size), added, options)
        if "frozen" not in options.skip:
            records += frozen(
                make_datamodule(folder, options.bags, options.batch_size), options.device, options.repeats
            )
        if "torchmil" not in options.skip:
            records += against_torchmil([100] * options.bags, folder, options.repeats, options.device)
    return records


def steps(datamodule: BagDataModule, lightning: float, options: argparse.Namespace) -> list[dict]:
    """Return the rows of the paper's network and bags, given Lightning's overhead per step."""
    device = options.device
    split = datamodule.train_dataloader().split
    few = -(-len(split) // 4)
    encoded = [[encode(tile) for tile in split[index].tiles] for index in range(few)]
    epochs = {
        "article": article_epoch(encoded, split.labels[:few], device, passes=3),
        "reference": article_epoch(encoded, split.labels[:few], device, passes=1),
        "plain loop": plain_epoch(datamodule, device, options.precision),
        "milpath": lightning_epochs(datamodule, options, 1),
        "milpath, two epochs": lightning_epochs(datamodule, options, 2),
    }
    # First without keeping memory: once it is kept, later alternatives benefit as well.
    usual = kept = turns(epochs, options.repeats)
    if device == "cpu":
        with kept_memory():
            kept = turns(epochs, options.repeats)
    for times, name in itertools.product([usual] if kept is usual else [usual, kept], ("article", "reference")):
        times[name] = [seconds * len(split) / few for seconds in times[name]]
    own, num_bags = kept["milpath"], len(split)
    rate = num_bags / median(own)
    records = [record("article", num_bags / median(usual["article"]), "bags/s")]
    against_article = speedup(usual["article"], usual["reference"])
    records.append(record("reference", num_bags / median(usual["reference"]), "bags/s", against_article, "article"))
    for name in ("article", "reference"):
        records.append(record("milpath", rate, "bags/s", speedup(usual[name], own), name))
    if device == "cpu":
        for name in ("article", "reference"):
            value = speedup(kept[name], own)
            records.append(record("milpath, all keep memory", rate, "bags/s", value, f"{name}, memory kept"))
        value = speedup(usual["article"], usual["milpath"])
        unkept = num_bags / median(usual["milpath"])
        records.append(record("milpath, no memory kept", unkept, "bags/s", value, "article"))
    # A run starts once and has many epochs: from here on its second epoch is compared with the others.
    later = [two - one for one, two in zip(own, kept["milpath, two epochs"], strict=True)]
    rate = num_bags / median(later)
    plain = kept["plain loop"]
    records.append(record("plain loop", num_bags / median(plain), "bags/s"))
    records.append(record("milpath, a later epoch", rate, "bags/s", speedup(plain, later), "plain loop"))
    records.append(record("start of a fit", median(own) - median(later), "s"))
    share = lightning * rate / options.batch_size
    records.append(record("Lightning's own time a step", 1000 * lightning, "ms", share, "milpath's step"))
    waiting = 1 - 1 / speedup(later, resident_epoch(datamodule, options))
    records.append(record("an epoch's share of loading and Lightning", 100 * waiting, "%", None, "one batch repeated"))
    records.append(record(f"an epoch of {PANDA_BAGS:,} bags at this rate", PANDA_BAGS / rate, "s"))
    return records + limits(rate, options)


def limits(rate: float, options: argparse.Namespace) -> list[dict]:
    """Return the limit of the machine, and the fraction of it that this library reaches."""
    half = options.precision.startswith("bf16")
    dtype, size = (torch.bfloat16 if half else torch.float32), (8192 if options.device == "cuda" else 2048)
    flops, copied = matmul_rate(options.device, dtype, size), copy_rate(options.device)
    # A copy moves two bytes per byte copied: one read and one written.
    flop, num_bytes = cost_of_a_bag(options.batch_size, half)
    compute, memory = flops / flop, 2 * copied / num_bytes
    return [
        record("matrix product", flops / 1e12, "TFLOP/s"),
        record("copy", copied / 1e9, "GB/s"),
        record("FLOP of a bag, forward, backward and optimizer", flop / 1e9, "GFLOP"),
        record("bytes of a bag, each operator's arguments and results", num_bytes / 1e9, "GB"),
        record("limit by the matrix product", compute, "bags/s", rate / compute, "milpath's share of it"),
        record("limit by memory", memory, "bags/s", rate / memory, "milpath's share of it"),
    ]


def cost_of_a_bag(batch_size: int, half: bool) -> tuple[float, float]:
    """Return FLOP and bytes per bag of 16 tiles of 128 px in a training step, counted from the network."""
    network = AttentionMIL().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    tiles = torch.rand(batch_size, 16, 3, 128, 128)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = network(tiles).logits
        logits.float().sum().backward()
        optimizer.step()

    flop, num_bytes = count(step)
    return flop / batch_size, num_bytes / batch_size


def plain_epoch(datamodule: BagDataModule, device: str, precision: str):
    network = AttentionMIL().to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=5e-4, fused=True)
    loader = datamodule.train_dataloader()

    def epoch() -> None:
        for loaded in loader:
            train_step(network, optimizer, loaded.to(device), precision)

    return epoch


def resident_epoch(datamodule: BagDataModule, options: argparse.Namespace) -> list[float]:
    """Return the times of an epoch's steps without loading, repeating the same batch."""
    network = AttentionMIL().to(options.device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=5e-4, fused=True)
    loader = datamodule.train_dataloader()
    batch = next(iter(loader)).to(options.device)

    def epoch() -> None:
        for _ in range(len(loader)):
            train_step(network, optimizer, batch, options.precision)

    with kept_memory():
        return turns({"resident": epoch}, options.repeats)["resident"]


def lightning_epochs(datamodule: BagDataModule, options: argparse.Namespace, number: int):
    network = AttentionMIL().to(memory_format=torch.channels_last)
    if options.compile:
        network.compile()
    classifier = MILClassifier(
        network,
        class_names=datamodule.class_names,
        task=datamodule.task,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-4, weight_decay=5e-4, fused=True),
    )

    def epoch() -> None:
        trainer = make_trainer(options.device, options.precision, max_epochs=number)
        trainer.fit(classifier, datamodule.train_dataloader())

    return epoch
