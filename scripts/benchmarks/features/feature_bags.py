"""Epochs of training on bags of features: this library, a plain loop, CLAM's way and torchmil, and the machine's limit.

All train attention-based MIL with the same layers and Adam; this library and the plain loop read the same store of float16.
`share` is the rate of arithmetic on real tiles, as a fraction of the rate of a large product of matrices in the same
precision. The rows of reading show how fast batches come if steps take no time, as on a GPU that waits for them; those of
this library are the store's float16, which a step converts on its device.

On a GPU this library keeps the store there, as a run does, and its trainings have `--own-epochs` times as many epochs as the
loops, with the start of a fit: one epoch would be over sooner than a fit starts. Everything is given per epoch.
"""

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from lightning.pytorch import Callback

from benchmarks.device_idle import idle_rows
from benchmarks.features.loops import ATTENTION_WIDTH, clam_epochs, clam_loader, plain_epochs, torchmil_epochs
from benchmarks.timing import matmul_rate, record, speedup, turns
from benchmarks.training_loops import make_trainer
from milpath.data.loading.bag_split import BagSplit
from milpath.data.loading.batch_plan import TrainingPlan
from milpath.data.loading.batch_preparation import Preparation
from milpath.data.loading.device_cache import DeviceCache
from milpath.data.loading.loader import BagLoader
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.models import AttentionMIL
from milpath.training import MILClassifier
from milpath.training.callbacks.memory_callback import KeptMemory

WIDTH = 512
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
BF16 = "milpath with precision=bf16-mixed"
# What is timed: epochs per call, and the call.
Way = tuple[int, Callable[[], object]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kinds", nargs="*", choices=list(_KINDS), default=list(_KINDS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--times", type=int, default=1, help="this many times the 64 bags of 100 and 400 of 1 to 60")
    parser.add_argument("--long-bags", type=int, default=16, help="bags of 2,000 to 12,000 tiles")
    parser.add_argument("--own-epochs", type=int, default=1, help="epochs of this library for one of a loop")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--idle", action="store_true", help="on a GPU, also the share of an epoch in which it is idle")
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="cpu: seconds of all cores, on a busy machine"
    )


def run(options: argparse.Namespace) -> list[dict]:
    rng = np.random.default_rng(0)
    clock = CLOCKS[options.clock]
    rates = {name: matmul_rate(options.device, dtype, 8192 if options.device == "cuda" else 2048, clock)
             for name, dtype in precisions(options.device).items()}  # fmt: skip
    records = [record(f"product of matrices, {name}", rate / 1e9, "GFLOP/s") for name, rate in rates.items()]
    with tempfile.TemporaryDirectory() as name:
        written: dict[object, tuple[BagStore, torch.utils.data.DataLoader]] = {}
        for kind in options.kinds:
            make, num_features, batch_size, epochs = _KINDS[kind]
            lengths = make(rng, options)
            key = (tuple(lengths), num_features)
            if key not in written:
                folder = Path(name) / str(len(written))
                store = write_store(lengths, num_features, folder)
                written[key] = store, clam_loader(store, folder.with_name(f"{folder.name}_h5"))
            records += rows(kind, *written[key], batch_size, epochs, rates, options)
    return records


def rows(
    kind: str,
    store: BagStore,
    h5: torch.utils.data.DataLoader,
    batch_size: int,
    epochs: int,
    rates: dict[str, float],
    options: argparse.Namespace,
) -> list[dict]:
    """Return the rows of one kind of bags."""
    clock, (num_features,), num_bags = CLOCKS[options.clock], store.tile_shape, len(store)
    ways = alternatives(store, batch_size, epochs, h5, options)
    times = {
        name: [seconds / ways[name][0] for seconds in all_epochs]
        for name, all_epochs in turns({name: call for name, (_, call) in ways.items()}, options.repeats, clock).items()
    }
    flop = float(store.num_tiles.sum()) * flop_of_tile(num_features)
    what = f"{kind} x {num_features}, batch {batch_size}"
    ours, records = times["milpath"], []
    for other, seconds in times.items():
        share = flop / median(seconds) / rates["bfloat16" if other == BF16 else "float32"]
        records.append(record(f"{other}: {what}", num_bags / median(seconds), "bags/s", share, "share"))
        if other != "milpath":
            records.append(record(f"milpath: {what}", num_bags / median(ours), "bags/s", speedup(seconds, ours), other))
    own = own_loader(store, batch_size)
    read = turns({"milpath": partial(read_all, own), "CLAM's way": partial(read_all, h5)}, options.repeats, clock)
    ratio = speedup(read["CLAM's way"], read["milpath"])
    bags = num_bags / median(read["milpath"])
    records.append(record(f"milpath, reading alone: {what}", bags, "bags/s", ratio, "CLAM's way, reading alone"))
    if options.idle:
        precision = "bf16-mixed" if "bfloat16" in rates else "32-true"
        records += idle_rows(
            f"{what}, {precision}", options.device, own_fit(store, batch_size, options.device, precision)
        )
    return records


def precisions(device: str) -> dict[str, torch.dtype]:
    """Return what the device multiplies matrices in quickly, by name."""
    if device == "cuda":
        half = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        half = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return {"float32": torch.float32} | ({"bfloat16": torch.bfloat16} if half else {})


def read_all(loader: Iterable[object]) -> None:
    for _ in loader:
        pass


_KINDS: dict[str, tuple[Callable[..., list[int]], int, int, int]] = {
    "100": (lambda rng, options: [100] * 64 * options.times, 512, 8, 5),
    "1 to 60": (lambda rng, options: np.clip(rng.geometric(2 / 60, 400 * options.times), 1, 60).tolist(), 512, 8, 2),
    "2,000 to 12,000": (lambda rng, options: long_lengths(options), 1024, 1, 1),
    "2,000 to 12,000 in batches": (lambda rng, options: long_lengths(options), 1024, 8, 1),
}


def long_lengths(options: argparse.Namespace) -> list[int]:
    return np.linspace(2000, 12_000, options.long_bags).astype(int).tolist()


def flop_of_tile(num_features: int) -> int:
    """Return the operations on a tile in a step: the first layer forward and for its weights, the attention also for the
    gradient of its input.
    """
    return 2 * (2 * num_features * WIDTH + 3 * WIDTH * ATTENTION_WIDTH)


def write_store(lengths: list[int], num_features: int, path: Path) -> BagStore:
    rng = np.random.default_rng(0)
    with BagStoreWriter(path) as writer:
        for number, length in enumerate(lengths):
            features = rng.standard_normal((length, num_features), np.float32).astype(np.float16)
            writer.add(f"bag_{number}", features, {"label": number % 2})
    return BagStore.open(path)


def alternatives(
    store: BagStore, batch_size: int, epochs: int, h5: torch.utils.data.DataLoader, options: argparse.Namespace
) -> dict[str, Way]:
    """Return what is timed, by name; `h5` reads a file per bag."""
    device, more = options.device, epochs * options.own_epochs
    ways: dict[str, Way] = {"plain loop": (epochs, plain_epochs(store, WIDTH, batch_size, epochs, device))}
    if device == "cpu":
        both = plain_epochs(store, WIDTH, batch_size, epochs, device, fused=True)
        ways["plain loop, memory kept, fused Adam"] = epochs, both
    ways["CLAM's way"] = epochs, clam_epochs(store, WIDTH, h5, epochs, device)
    ways["milpath"] = more, partial(own_fit(store, batch_size, device), more)
    if "bfloat16" in precisions(device):
        ways[BF16] = more, partial(own_fit(store, batch_size, device, "bf16-mixed"), more)
    if importlib.util.find_spec("torchmil") is None:
        print("torchmil is not installed, so its rows are left out; pip install torchmil", file=sys.stderr)
    else:
        ways["torchmil"] = epochs, torchmil_epochs(store, WIDTH, batch_size, epochs, device)
    return ways


def own_fit(store: BagStore, batch_size: int, device: str, precision: str = "32-true") -> Callable[..., None]:
    """Return what `milpath train` runs, without the files of a run: a training of a number of epochs, with callbacks."""
    loader = own_loader(store, batch_size)
    encoder = {"name": "linear", "num_features": store.tile_shape[0], "hidden_dims": [WIDTH]}
    classifier = MILClassifier(
        AttentionMIL(encoder, attention_dim=ATTENTION_WIDTH),
        class_names=("benign", "malignant"),
        task="binary",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-4, fused=True),
    )

    def fit(num_epochs: int, *callbacks: Callback) -> None:
        own = {"max_epochs": num_epochs, "callbacks": [KeptMemory(), *callbacks]}
        make_trainer(device, precision, **own).fit(classifier, loader)

    return fit


def own_loader(store: BagStore, batch_size: int) -> BagLoader:
    split = BagSplit(store, np.arange(len(store)), store.bags["label"].to_numpy())
    plan = TrainingPlan(split.labels, split.lengths, batch_size)
    return BagLoader(split, plan, Preparation(), DeviceCache(store, "auto"))
