"""Streaming of feature bags far larger than memory from disk: rate and memory growth of the process."""

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.timing import record
from milpath.data.loading.bag_split import BagSplit
from milpath.data.loading.batch_plan import TrainingPlan
from milpath.data.loading.batch_preparation import Preparation
from milpath.data.loading.device_cache import DeviceCache
from milpath.data.loading.loader import BagLoader
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stream-bags", type=int, default=100, help="1000 writes 20 GB to the temporary folder")
    parser.add_argument("--stream-tiles", type=int, default=10_000)
    parser.add_argument("--stream-features", type=int, default=1024)


def streaming(num_bags: int, num_tiles: int, num_features: int, folder: Path, epochs: int = 2) -> list[dict]:
    """Return the rows of a store of float16 features that is written, then read shuffled, one bag per batch."""
    path = folder / f"stream-{num_bags}-{num_tiles}-{num_features}"
    block = np.random.default_rng(0).standard_normal((num_tiles, num_features), np.float32).astype(np.float16)
    with BagStoreWriter(path) as writer:
        for number in range(num_bags):
            writer.add(f"bag_{number}", block, {"label": number % 2})
    store = BagStore.open(path)
    split = BagSplit(store, np.arange(num_bags), store.bags["label"].to_numpy())
    plan = TrainingPlan(split.labels, split.lengths, batch_size=1)
    loader = BagLoader(split, plan, Preparation(), DeviceCache(store, "never"), num_workers=2)
    sizes, start = [], time.perf_counter()
    for epoch in range(epochs):
        plan.set_epoch(epoch)
        for loaded in loader:
            loaded.to("cpu")
            sizes.append(resident())
    seconds = time.perf_counter() - start
    warm = len(sizes) // 4
    kind = f"{num_bags:,} bags of {num_tiles:,} x {num_features:,} float16"
    growth, bag = max(sizes[warm:]) - max(sizes[:warm]), block.nbytes
    return [
        record(f"streamed from disk, {kind}", epochs * num_bags / seconds, "bags/s"),
        record("the same", epochs * num_bags * bag / seconds / 1e9, "GB/s"),
        record("growth of memory after the first quarter", growth / 1e6, "MB", growth / bag, "a bag of the store"),
    ]


def resident() -> int:
    """Return the resident memory of this process in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
