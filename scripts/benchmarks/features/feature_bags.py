"""Epochs of training on bags of features: this library, a plain loop, CLAM's way and torchmil, and the machine's limit.

All train attention-based MIL with the same layers and Adam; this library and the plain loop read the same store of float16.
`share` is the rate of arithmetic on real tiles, as a fraction of the rate of a large product of matrices in float32. The
rows of reading show how fast batches come if steps take no time, as on a GPU that waits for them; those of this library
are the store's float16, which a step converts on its device.
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

from benchmarks.features.loops import ATTENTION_WIDTH, clam_epochs, clam_loader, plain_epochs, torchmil_epochs
from benchmarks.timing import record, speedup, turns
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
SIZE = 2048  # rows and columns of the matrices whose product is the limit
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kinds", nargs="*", choices=list(_KINDS), default=list(_KINDS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--long-bags", type=int, default=16, help="bags of 2,000 to 12,000 tiles")
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="cpu: seconds of all cores, on a busy machine"
    )


def run(options: argparse.Namespace) -> list[dict]:
    rng = np.random.default_rng(0)
    clock = CLOCKS[options.clock]
    rate = 2 * SIZE**3 / median(turns({"product": _product(SIZE)}, 5, clock)["product"])
    records = [record("product of matrices, float32", rate / 1e9, "GFLOP/s")]
    with tempfile.TemporaryDirectory() as name:
        for kind in options.kinds:
            make, num_features, batch_size, epochs = _KINDS[kind]
            lengths = make(rng, options)
            store = write_store(lengths, num_features, Path(name) / kind.replace(" ", "_"))
            h5 = clam_loader(store, Path(name) / f"{kind.replace(' ', '_')}_h5")
            times = turns(alternatives(store, batch_size, epochs, h5), options.repeats, clock)
            flop = epochs * float(sum(lengths)) * flop_of_tile(num_features)
            what = f"{kind} x {num_features}, batch {batch_size}"
            ours = times["milpath"]
            for other, seconds in times.items():
                bags = epochs * len(lengths) / median(seconds)
                records.append(record(f"{other}: {what}", bags, "bags/s", flop / median(seconds) / rate, "share"))
                if other != "milpath":
                    records.append(record(f"milpath: {what}", epochs * len(lengths) / median(ours), "bags/s",
                                          speedup(seconds, ours), other))  # fmt: skip
            own = own_loader(store, batch_size)
            read = turns(
                {"milpath": partial(read_all, own), "CLAM's way": partial(read_all, h5)}, options.repeats, clock
            )
            ratio = speedup(read["CLAM's way"], read["milpath"])
            bags = len(lengths) / median(read["milpath"])
            records.append(
                record(f"milpath, reading alone: {what}", bags, "bags/s", ratio, "CLAM's way, reading alone")
            )
    return records


def read_all(loader: Iterable[object]) -> None:
    for _ in loader:
        pass


_KINDS: dict[str, tuple[Callable[..., list[int]], int, int, int]] = {
    "100": (lambda rng, options: [100] * 64, 512, 8, 5),
    "1 to 60": (lambda rng, options: np.clip(rng.geometric(2 / 60, 400), 1, 60).tolist(), 512, 8, 2),
    "2,000 to 12,000": (lambda rng, options: long_lengths(options), 1024, 1, 1),
    "2,000 to 12,000 in batches": (lambda rng, options: long_lengths(options), 1024, 8, 1),
}


def _product(size: int) -> Callable[[], torch.Tensor]:
    """Return a large product of matrices, whose rate is the limit of all rows."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return lambda: a @ b


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
    store: BagStore, batch_size: int, epochs: int, h5: torch.utils.data.DataLoader
) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name; `h5` reads a file per bag."""
    ways = {
        "plain loop": plain_epochs(store, WIDTH, batch_size, epochs),
        "plain loop, memory kept, fused Adam": plain_epochs(store, WIDTH, batch_size, epochs, fused=True),
        "CLAM's way": clam_epochs(store, WIDTH, h5, epochs),
        "milpath": own_epochs(store, batch_size, epochs),
    }
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        ways["milpath with precision=bf16-mixed"] = own_epochs(store, batch_size, epochs, "bf16-mixed")
    if importlib.util.find_spec("torchmil") is None:
        print("torchmil is not installed, so its rows are left out; pip install torchmil", file=sys.stderr)
    else:
        ways["torchmil"] = torchmil_epochs(store, WIDTH, batch_size, epochs)
    return ways


def own_epochs(store: BagStore, batch_size: int, epochs: int, precision: str = "32-true") -> Callable[[], None]:
    """Return what `milpath train` runs, without the files of a run."""
    loader = own_loader(store, batch_size)
    encoder = {"name": "linear", "num_features": store.tile_shape[0], "hidden_dims": [WIDTH]}
    classifier = MILClassifier(
        AttentionMIL(encoder, attention_dim=ATTENTION_WIDTH),
        class_names=("benign", "malignant"),
        task="binary",
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-4, fused=True),
    )
    return lambda: make_trainer("cpu", precision, max_epochs=epochs, callbacks=[KeptMemory()]).fit(classifier, loader)


def own_loader(store: BagStore, batch_size: int) -> BagLoader:
    split = BagSplit(store, np.arange(len(store)), store.bags["label"].to_numpy())
    plan = TrainingPlan(split.labels, split.lengths, batch_size)
    return BagLoader(split, plan, Preparation(), DeviceCache(store, "auto"))
