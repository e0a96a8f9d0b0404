"""Prediction in bags per second: `milpath.predict`'s batches, a loop with one forward pass per bag, and training.

`article` is the paper's network as published, with PNG decoded by PIL and one forward pass per bag; `loop` is this library's
network and store with one forward pass per bag. The network on tiles is the paper's. Attention on features is measured five
times as often, since a turn takes a tenth of a second.
"""

import argparse
import copy
import tempfile
from pathlib import Path
from statistics import median

import torch

from benchmarks.against_torchmil import FEATURES, WIDTH, write_store
from benchmarks.article import ArticleNetwork, decode, encode
from benchmarks.timing import record, speedup, turns
from benchmarks.training_loops import make_datamodule, train_step
from milpath.data.store.bag_store import BagStore
from milpath.inference.packed_linear import pack_linears
from milpath.inference.predict_bags import predict_bags
from milpath.models import AttentionMIL
from milpath.records.kept_memory import kept_memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bags", type=int, default=48, help="bags of 16 tiles of 128 px")
    parser.add_argument("--drawn", type=int, help="slides that are drawn and then repeated; all if left out")
    parser.add_argument(
        "--stores", type=Path, help="where data are kept for the next run; a temporary folder if left out"
    )
    parser.add_argument("--loop-bags", type=int, help="bags of loops of one bag; all if left out")
    parser.add_argument("--feature-bags", type=int, default=1000, help="bags of 20 features")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def run(options: argparse.Namespace) -> list[dict]:
    device = options.device
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        datamodule = make_datamodule(options.stores or folder, options.bags, 8, options.drawn)
        records = rows(AttentionMIL(), datamodule.store, options, "16 x 128 px", datamodule)
        store = write_store([20] * options.feature_bags, folder / "features")
        network = AttentionMIL(encoder={"name": "linear", "num_features": FEATURES, "hidden_dims": [WIDTH]})
        return records + rows(network.to(device), store, options, f"20 features of {FEATURES}", times=5)


def rows(
    network, store: BagStore, options: argparse.Namespace, kind: str, datamodule=None, times: int = 1
) -> list[dict]:
    device, repeats = options.device, times * options.repeats
    few = min(options.loop_bags or len(store), len(store))
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)

    packed = copy.deepcopy(network).eval()
    if device == "cpu":
        pack_linears(packed)

    def batches() -> None:
        for _ in predict_bags(packed, store, "binary", device=device):
            pass

    def one_by_one() -> None:
        network.eval()
        with torch.no_grad():
            for index in range(few):
                tiles = torch.from_numpy(store.read(index))
                tiles = tiles.permute(0, 3, 1, 2).contiguous().float() / 255 if tiles.ndim == 4 else tiles
                torch.sigmoid(network(tiles[None].to(device)).logits).cpu()

    def training() -> None:
        network.train()
        for loaded in datamodule.train_dataloader():
            train_step(network, optimizer, loaded.to(device), "32-true")

    # First plain loops with the system's memory allocation, then what the command does.
    loops = {"loop": one_by_one} | ({"article": article_loop(store, few, device)} if datamodule else {})
    seconds = {name: [each * len(store) / few for each in of_loop] for name, of_loop in turns(loops, repeats).items()}
    with kept_memory():
        seconds |= turns({"batches": batches} | ({"training": training} if datamodule else {}), repeats)
    rate = len(store) / median(seconds["batches"])
    ratio = speedup(seconds["loop"], seconds["batches"])
    records = [
        record(f"loop, {kind}", len(store) / median(seconds["loop"]), "bags/s"),
        record(f"predict, {kind}", rate, "bags/s", ratio, "loop of one bag"),
    ]
    if datamodule:
        trained = len(datamodule.train_dataloader().split) / median(seconds["training"])
        records.append(record(f"training, {kind}", trained, "bags/s"))
        records.append(record(f"predict, {kind}", rate, "bags/s", rate / trained, "training"))
        records.append(record(f"article, {kind}", len(store) / median(seconds["article"]), "bags/s"))
        against = speedup(seconds["article"], seconds["batches"])
        records.append(record(f"predict, {kind}", rate, "bags/s", against, "article"))
    return records


def article_loop(store: BagStore, num_bags: int, device: str):
    network = ArticleNetwork().to(device).eval()
    bags = [[encode(tile) for tile in store.read(index)] for index in range(num_bags)]

    def epoch() -> None:
        with torch.no_grad():
            for bag in bags:
                network(decode(bag).to(device)).cpu()

    return epoch
