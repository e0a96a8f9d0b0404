"""Shuffled loading in bags per second: the bag store, a folder of PNG tiles, and the machine's copy rate."""

import argparse
import resource
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.article import encode
from benchmarks.timing import copy_rate, record, seconds_each
from benchmarks.training_loops import DrawnAgain
from milpath.data import BagDataModule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bags", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--num-workers", type=int, default=2)


def run(options: argparse.Namespace) -> list[dict]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = DrawnAgain(num_slides=round(options.bags / 0.6))
        datamodule = BagDataModule(
            source, batch_size=options.batch_size, num_workers=options.num_workers, stores_dir=folder / "stores",
            target="malignant",
        )  # fmt: skip
        datamodule.setup("fit")
        loader = datamodule.train_dataloader()
        split = loader.split
        few = min(40, len(split))
        for index in range(few):
            for number, tile in enumerate(split[index].tiles):
                (folder / f"{index}_{number}.png").write_bytes(encode(tile))

        def from_png() -> None:
            for index in range(few):
                np.stack([np.asarray(Image.open(folder / f"{index}_{number}.png")) for number in range(16)])

        def from_store() -> None:
            for _ in loader:
                pass

        def ready_to_train() -> None:
            for loaded in loader:
                loaded.to("cpu")

        times = seconds_each({"png": from_png, "store": from_store, "ready": ready_to_train}, options.repeats)
        before = peak_memory()
        for _ in range(10):
            from_store()
        growth = peak_memory() - before
    png, store, ready = few / times["png"], len(split) / times["store"], len(split) / times["ready"]
    bag_bytes = 16 * 128 * 128 * 3
    limit = copy_rate("cpu") / bag_bytes
    return [
        record("PNG folder, PIL", png, "bags/s"),
        record("bag store, uint8 on the host", store, "bags/s", store / png, "PNG folder, PIL"),
        record("bag store, uint8 on the host", store, "bags/s", store / limit, "copy rate"),
        record("bag store, float and augmented on the CPU", ready, "bags/s", ready / png, "PNG folder, PIL"),
        record("copy rate of the machine", limit, "bags/s"),
        record("growth of peak memory over ten epochs", growth / 1e6, "MB"),
    ]


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
