"""Bags a second of training: the article's loop, the same with one forward pass, and this library.

`article`: one bag a step, NCHW float32, PNG decoded with PIL for each item, no workers, three forward passes a step (loss,
error, prediction), convolution-ReLU-pool, Adam. `reference`: one forward pass. `plain loop`: this library's network and
batches without Lightning. `milpath`: what `python -m milpath.train` runs.
"""

import argparse
import io
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import matmul_rate, record, seconds_each
from milpath.data import BagDataModule, SyntheticBags
from milpath.models import AttentionMIL
from milpath.training import MILClassifier


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bags", type=int, default=64, help="bags of an epoch")
    parser.add_argument("--repeats", type=int, default=3, help="timed epochs of each alternative")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="bf16-mixed" if torch.cuda.is_available() else "32-true")
    parser.add_argument("--compile", action="store_true", help="torch.compile the network of this library")


class ArticleNetwork(nn.Module):
    """The published network as published: ReLU before pooling, probabilities out."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 36, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(36, 48, 3), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.embed = nn.Sequential(
            nn.Linear(43200, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 512), nn.ReLU(), nn.Dropout()
        )
        self.attention = nn.Sequential(nn.Linear(512, 128), nn.Tanh(), nn.Linear(128, 1))
        self.classifier = nn.Sequential(nn.Linear(512, 1), nn.Sigmoid())

    def forward(self, bag: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(self.features(bag).flatten(1))
        weights = F.softmax(self.attention(hidden).transpose(0, 1), dim=1)
        return self.classifier(weights @ hidden)


def article_epoch(encoded: list[list[bytes]], labels: np.ndarray, device: str, passes: int):
    network = ArticleNetwork().to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=5e-4)

    def epoch() -> None:
        for tiles, label in zip(encoded, labels, strict=True):
            images = [1 - np.asarray(Image.open(io.BytesIO(tile)), np.float32) / 255 for tile in tiles]
            bag = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()).to(device)
            optimizer.zero_grad()
            for number in range(passes):
                probability = network(bag).clamp(1e-5, 1 - 1e-5)
                if number == 0:
                    target = float(label)
                    loss = -(target * probability.log() + (1 - target) * (1 - probability).log()).sum()
            loss.backward()
            optimizer.step()
            loss.item()

    return epoch


def plain_epoch(datamodule: BagDataModule, device: str, precision: str):
    network = AttentionMIL().to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=5e-4, fused=True)
    loader = datamodule.train_dataloader()

    def epoch() -> None:
        for loaded in loader:
            batch = loaded.to(device)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16, enabled=precision.startswith("bf16")):
                logits = network(batch.tiles, batch.mask).logits
            F.binary_cross_entropy_with_logits(logits.float()[:, 0], batch.labels.float()).backward()
            optimizer.step()

    return epoch


def lightning_epoch(datamodule: BagDataModule, options: argparse.Namespace):
    network = AttentionMIL().to(memory_format=torch.channels_last)
    if options.compile:
        network.compile()
    classifier = MILClassifier(
        network,
        class_names=datamodule.class_names,
        task=datamodule.task,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-4, weight_decay=5e-4, fused=True),
    )
    accelerator = "gpu" if options.device == "cuda" else options.device

    def epoch() -> None:
        trainer = Trainer(
            max_epochs=1, accelerator=accelerator, devices=1, precision=options.precision, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
            use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(classifier, datamodule.train_dataloader())

    return epoch


def run(options: argparse.Namespace) -> list[dict]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    with tempfile.TemporaryDirectory() as folder:
        datamodule = make_datamodule(Path(folder), options.bags, options.batch_size)
        split = datamodule.train_dataloader().split
        encoded = [[encode(tile) for tile in split[index].tiles] for index in range(len(split))]
        epochs = {
            "article": article_epoch(encoded, split.labels, options.device, passes=3),
            "reference": article_epoch(encoded, split.labels, options.device, passes=1),
            "plain loop": plain_epoch(datamodule, options.device, options.precision),
            "milpath": lightning_epoch(datamodule, options),
        }
        times = seconds_each(epochs, options.repeats)
    rates = {name: len(split) / value for name, value in times.items()}
    records = []
    for name, rate in rates.items():
        for against in ("article", "reference", "plain loop"):
            if against != name and (name == "milpath" or against == "article"):
                records.append(record(name, rate, "bags/s", rate / rates[against], against))
    records.insert(0, record("article", rates["article"], "bags/s"))
    dtype = torch.bfloat16 if options.precision.startswith("bf16") else torch.float32
    limit = matmul_rate(options.device, dtype, 8192 if options.device == "cuda" else 2048)
    flop = flop_of_a_step()
    records.append(record("FLOP of a bag, forward and backward", flop / 1e9, "GFLOP"))
    share = rates["milpath"] * flop / limit
    records.append(record("limit: measured matrix product", limit / flop, "bags/s", share, "milpath's share of it"))
    return records


def make_datamodule(folder: Path, num_bags: int, batch_size: int, **options: object) -> BagDataModule:
    """Return as many training bags as asked for, 16 tiles of 128 px, split 60/20/20."""
    source = SyntheticBags(num_slides=round(num_bags / 0.6), tile_size=128, num_tiles=16)
    datamodule = BagDataModule(source, batch_size=batch_size, stores_dir=folder, target="malignant", **options)
    datamodule.setup("fit")
    return datamodule


def encode(tile: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "PNG")
    return buffer.getvalue()


def flop_of_a_step() -> int:
    """Return the FLOP of forward and backward for a bag of 16 tiles, counted from the network."""
    network = AttentionMIL()
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(1, 16, 3, 128, 128)).logits.sum().backward()
    return counter.get_total_flops()
