"""Bags a second of prediction: large batches without gradients, a loop of one bag, and training."""

import argparse
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.timing import record, seconds_each
from benchmarks.train import make_datamodule
from milpath.models import AttentionMIL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bags", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def run(options: argparse.Namespace) -> list[dict]:
    device = options.device
    network = AttentionMIL().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    with tempfile.TemporaryDirectory() as folder:
        datamodule = make_datamodule(Path(folder), options.bags, batch_size=8)
        loader = datamodule.dataloader("train")
        split = loader.split

        def batches() -> None:
            network.eval()
            with torch.inference_mode():
                for loaded in loader:
                    batch = loaded.to(device)
                    network(batch.tiles, batch.mask).logits.cpu()

        def one_by_one() -> None:
            network.eval()
            with torch.no_grad():
                for index in range(len(split)):
                    tiles = torch.from_numpy(split[index].tiles.copy()).permute(0, 3, 1, 2).contiguous()
                    network((tiles.float() / 255)[None].to(device)).logits.cpu()

        def training() -> None:
            network.train()
            for loaded in datamodule.train_dataloader():
                batch = loaded.to(device)
                optimizer.zero_grad(set_to_none=True)
                logits = network(batch.tiles, batch.mask).logits
                F.binary_cross_entropy_with_logits(logits[:, 0], batch.labels.float()).backward()
                optimizer.step()

        times = seconds_each({"batches": batches, "loop": one_by_one, "training": training}, options.repeats)
    rates = {name: len(split) / value for name, value in times.items()}
    return [
        record("training", rates["training"], "bags/s"),
        record("loop of one bag", rates["loop"], "bags/s"),
        record("batches", rates["batches"], "bags/s", rates["batches"] / rates["training"], "training"),
        record("batches", rates["batches"], "bags/s", rates["batches"] / rates["loop"], "loop of one bag"),
    ]
