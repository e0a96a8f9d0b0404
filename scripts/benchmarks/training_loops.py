"""Data, Trainer and plain step shared by the training benchmarks."""

from pathlib import Path

import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer

from milpath.data import BagDataModule, SyntheticBags
from milpath.training.step_loop import StepLoop
from milpath.training.step_seed import StepSeed


def train_step(network, optimizer, batch, precision: str) -> None:
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(batch.tiles.device.type, torch.bfloat16, enabled=precision.startswith("bf16")):
        logits = network(batch.tiles, batch.network_mask).logits
    F.binary_cross_entropy_with_logits(logits.float()[:, 0], batch.labels.float()).backward()
    optimizer.step()


def make_trainer(device: str, precision: str = "32-true", **options: object) -> Trainer:
    """Return the Trainer of `milpath.train` without the files of a run."""
    accelerator = "gpu" if device == "cuda" else device
    options = {"max_epochs": 1, "limit_val_batches": 0, "callbacks": [StepSeed(0)]} | options
    trainer = Trainer(
        accelerator=accelerator, devices=1, precision=precision, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
        **options,
    )  # fmt: skip
    StepLoop.put_into(trainer)
    return trainer


def make_datamodule(folder: Path, num_bags: int, batch_size: int, **options: object) -> BagDataModule:
    """Return data with the given number of training bags, 16 tiles of 128 px, split 60/20/20."""
    source = SyntheticBags(num_slides=round(num_bags / 0.6), tile_size=128, num_tiles=16)
    datamodule = BagDataModule(source, batch_size=batch_size, stores_dir=folder, target="malignant", **options)
    datamodule.setup("fit")
    return datamodule
