"""Training in bags per second: the paper's loop, the same with one forward pass, torchmil, and this library.

`article`: one bag per step, NCHW float32, PNG decoded with PIL for each item, no workers, three forward passes per step
(loss, error, prediction), convolution-ReLU-pool, Adam. `reference`: one forward pass. `plain loop`: this library's network
and batches without Lightning. `milpath`: what `python -m milpath.train` runs, except that cuDNN may choose algorithms whose
results vary unless `--deterministic` is given. On a CPU `milpath` keeps memory freed by a step; with `all keep memory` every
alternative does, so that only the code differs. `--drawn` repeats a few drawn slides and `--epoch-bags` the bags of an
epoch: what a step costs does not depend on what the tiles show. On a GPU float32 has convolutions in TF32, as PyTorch does
by default, and the matrix product, the limit, has not.
"""

import argparse
import contextlib
import itertools
import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from lightning.pytorch import Callback

from benchmarks.against_torchmil import against_torchmil
from benchmarks.article import article_epoch, encode
from benchmarks.counting import count
from benchmarks.device_idle import idle_rows
from benchmarks.frozen import frozen
from benchmarks.overhead import seconds_of_lightning
from benchmarks.timing import PANDA_BAGS, copy_rate, matmul_rate, record, speedup, turns
from benchmarks.training_loops import make_datamodule, make_trainer, train_step, training_loader
from milpath.data import BagDataModule
from milpath.data.loading.loader import BagLoader
from milpath.models import AttentionMIL
from milpath.records.kept_memory import kept_memory
from milpath.training import MILClassifier
from milpath.training.steps.step_seed import StepSeed

Times = dict[str, list[float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bags", type=int, default=64, help="training bags of the data")
    parser.add_argument("--epoch-bags", type=int, help="bags per epoch, the same ones repeated; all once if left out")
    parser.add_argument("--loop-bags", type=int, help="bags of loops of one bag; a quarter of an epoch if left out")
    parser.add_argument("--drawn", type=int, help="slides that are drawn and then repeated; all if left out")
    parser.add_argument(
        "--stores", type=Path, help="where data are kept for the next run; a temporary folder if left out"
    )
    parser.add_argument("--repeats", type=int, default=3, help="timed epochs of each alternative")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", help="bf16-mixed on a GPU and 32-true on a CPU if left out")
    parser.add_argument("--deterministic", action="store_true", help="as milpath train by default")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network of this library")
    parts = ["steps", "loops", "idle", "frozen", "torchmil"]
    parser.add_argument("--skip", nargs="*", choices=parts, default=[], help="loops: all steps but those of milpath")


def run(options: argparse.Namespace) -> list[dict]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    options.precision = options.precision or ("bf16-mixed" if options.device == "cuda" else "32-true")
    if options.deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read once, at the first product of matrices
    records = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not {"steps", "idle", "frozen"} <= set(options.skip):
            data = make_datamodule(options.stores or folder, options.bags, options.batch_size, options.drawn)
        if "steps" not in options.skip:
            records += steps(data, folder, options)
        if "idle" not in options.skip:
            records += idle_rows(
                f"training on tiles, {options.precision}", options.device, lightning_fit(data, options)
            )
        if "frozen" not in options.skip:
            records += frozen(data, options.device, options.repeats)
        if "torchmil" not in options.skip:
            records += against_torchmil([100] * options.bags, folder, options.repeats, options.device)
    return records


def steps(datamodule: BagDataModule, folder: Path, options: argparse.Namespace) -> list[dict]:
    """Return the rows of the paper's network and bags."""
    loader = training_loader(datamodule, options.epoch_bags)
    num_bags, fit = len(loader.split), lightning_fit(datamodule, options)
    epochs: dict[str, Callable[[], object]] = {"milpath": lambda: fit(1), "milpath, two epochs": lambda: fit(2)}
    with_loops, few = "loops" not in options.skip, 0
    if with_loops:
        few = min(options.loop_bags or -(-num_bags // 4), num_bags)
        encoded = [[encode(tile) for tile in loader.split[index].tiles] for index in range(few)]
        labels = loader.split.labels[:few]
        epochs = {
            "article": article_epoch(encoded, labels, options.device, passes=3),
            "reference": article_epoch(encoded, labels, options.device, passes=1),
            "plain loop": plain_epoch(loader, options.device, options.precision),
        } | epochs
    # First without keeping memory: once it is kept, later alternatives benefit as well.
    usual = kept = turns(epochs, options.repeats)
    if options.device == "cpu":
        with kept_memory():
            kept = turns(epochs, options.repeats)
    for times, name in itertools.product([usual] if kept is usual else [usual, kept], ("article", "reference")):
        if name in times:
            times[name] = [seconds * num_bags / few for seconds in times[name]]
    # A run starts once and has many epochs: its second epoch says how fast it trains.
    later = [two - one for one, two in zip(kept["milpath"], kept["milpath, two epochs"], strict=True)]
    records = loop_rows(usual, kept, later, num_bags, options.device) if with_loops else []
    rate = num_bags / median(later)
    if with_loops:
        records.append(record("plain loop", num_bags / median(kept["plain loop"]), "bags/s"))
        against = speedup(kept["plain loop"], later)
        records.append(record("milpath, a later epoch", rate, "bags/s", against, "plain loop"))
        # Measured only here: its small steps also set the libraries up.
        lightning = seconds_of_lightning(folder, options.device, options.repeats)
        share = lightning * rate / options.batch_size
        records.append(record("Lightning's own time a step", 1000 * lightning, "ms", share, "milpath's step"))
    else:
        records.append(record(f"milpath, a later epoch, {how(options)}", rate, "bags/s"))
    records.append(record("start of a fit", median(kept["milpath"]) - median(later), "s"))
    waiting = 1 - 1 / speedup(later, resident_epoch(loader, options))
    records.append(record("an epoch's share of loading and Lightning", 100 * waiting, "%", None, "one batch repeated"))
    records.append(whole_epoch(num_bags, len(datamodule.train_dataloader().split), rate))
    return records + limits(rate, options)


def how(options: argparse.Namespace) -> str:
    return options.precision + (", deterministic" if options.deterministic else "")


def whole_epoch(num_bags: int, num_different: int, rate: float) -> dict:
    """Return the seconds of an epoch over as many bags as PANDA has, which is a projection unless it had so many."""
    known = f"measured, {num_different:,} bags repeated" if num_bags == PANDA_BAGS else "projected from this rate"
    return record(f"an epoch of {PANDA_BAGS:,} bags, {known}", PANDA_BAGS / rate, "s")


def loop_rows(usual: Times, kept: Times, later: list[float], num_bags: int, device: str) -> list[dict]:
    """Return the rows of an epoch with the start of its fit, and of a later one, against loops of one bag."""
    own = kept["milpath"]
    rate, later_rate = num_bags / median(own), num_bags / median(later)
    records = [record("article", num_bags / median(usual["article"]), "bags/s")]
    against_article = speedup(usual["article"], usual["reference"])
    records.append(record("reference", num_bags / median(usual["reference"]), "bags/s", against_article, "article"))
    for name in ("article", "reference"):
        records.append(record("milpath", rate, "bags/s", speedup(usual[name], own), name))
        records.append(record("milpath, a later epoch", later_rate, "bags/s", speedup(usual[name], later), name))
    if device == "cpu":
        for name in ("article", "reference"):
            value = speedup(kept[name], own)
            records.append(record("milpath, all keep memory", rate, "bags/s", value, f"{name}, memory kept"))
        value = speedup(usual["article"], usual["milpath"])
        unkept = num_bags / median(usual["milpath"])
        records.append(record("milpath, no memory kept", unkept, "bags/s", value, "article"))
    return records


def limits(rate: float, options: argparse.Namespace) -> list[dict]:
    """Return the limit of the machine, and the fraction of it that this library reaches."""
    half = options.precision.startswith("bf16")
    dtype, size = (torch.bfloat16 if half else torch.float32), (8192 if options.device == "cuda" else 2048)
    flops, copied = matmul_rate(options.device, dtype, size), copy_rate(options.device)
    # A copy moves two bytes per byte copied: one read and one written.
    flop, num_bytes = cost_of_a_bag(options.batch_size, half)
    compute, memory = flops / flop, 2 * copied / num_bytes
    return [
        record(f"matrix product, {'bfloat16' if half else 'float32'}", flops / 1e12, "TFLOP/s"),
        record("copy", copied / 1e9, "GB/s"),
        record("FLOP of a bag, forward, backward and optimizer", flop / 1e9, "GFLOP"),
        record("bytes of a bag, each operator's arguments and results", num_bytes / 1e9, "GB"),
        record("limit by the matrix product", compute, "bags/s", rate / compute, "milpath's share of it"),
        record("limit by memory", memory, "bags/s", rate / memory, "milpath's share of it"),
        record("the lower of both limits", min(compute, memory), "bags/s", rate / min(compute, memory),
               "milpath's share of it"),
    ]  # fmt: skip


def cost_of_a_bag(batch_size: int, half: bool) -> tuple[float, float]:
    """Return FLOP and bytes per bag of 16 tiles of 128 px in a training step, counted from the network on the CPU.

    A step costs something for each bag and something for the weights, so that steps of one and two bags say it all.
    """
    one, two = (_cost_of_a_step(number, half) for number in (1, 2))
    flop, num_bytes = (first + (second - first) * (batch_size - 1) for first, second in zip(one, two, strict=True))
    return flop / batch_size, num_bytes / batch_size


def _cost_of_a_step(batch_size: int, half: bool) -> tuple[int, int]:
    network = AttentionMIL().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    tiles = torch.rand(batch_size, 16, 3, 128, 128)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = network(tiles).logits
        logits.float().sum().backward()
        optimizer.step()

    return count(step)


def plain_epoch(loader: BagLoader, device: str, precision: str) -> Callable[[], None]:
    network = AttentionMIL().to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=5e-4, fused=True)

    def epoch() -> None:
        for loaded in loader:
            train_step(network, optimizer, loaded.to(device), precision)

    return epoch


def resident_epoch(loader: BagLoader, options: argparse.Namespace) -> list[float]:
    """Return the times of an epoch's steps without loading, repeating the same batch."""
    network = AttentionMIL().to(options.device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=5e-4, fused=True)
    batch = next(iter(loader)).to(options.device)

    def epoch() -> None:
        for _ in range(len(loader)):
            train_step(network, optimizer, batch, options.precision)

    with kept_memory(), deterministic(options.deterministic):
        return turns({"resident": epoch}, options.repeats)["resident"]


def lightning_fit(datamodule: BagDataModule, options: argparse.Namespace) -> Callable[..., None]:
    """Return a training of a number of epochs, with callbacks."""
    network = AttentionMIL().to(memory_format=torch.channels_last)
    if options.compile:
        network.compile()
    classifier = MILClassifier(
        network,
        class_names=datamodule.class_names,
        task=datamodule.task,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-4, weight_decay=5e-4, fused=True),
    )
    loader = training_loader(datamodule, options.epoch_bags)

    def fit(num_epochs: int, *callbacks: Callback) -> None:
        own = {"max_epochs": num_epochs, "callbacks": [StepSeed(0), *callbacks]}
        with deterministic(options.deterministic):
            make_trainer(options.device, options.precision, **own).fit(classifier, loader)

    return fit


@contextlib.contextmanager
def deterministic(wanted: bool):
    """Let torch choose algorithms whose results do not vary, as Lightning's Trainer does for good."""
    torch.use_deterministic_algorithms(wanted)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
