"""Data, Trainer and plain step shared by the training benchmarks."""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer

from milpath.data import BagDataModule, SyntheticBags
from milpath.data.loading.bag_split import BagSplit
from milpath.data.loading.batch_plan import TrainingPlan
from milpath.data.loading.loader import BagLoader
from milpath.training.steps.step_loop import StepLoop
from milpath.training.steps.step_seed import StepSeed


class DrawnAgain(SyntheticBags):
    """A few synthetic slides, repeated under new names: drawing takes far longer than training or loading.

    Args:
        num_drawn: Slides that are drawn.
        options: Of `SyntheticBags`.
    """

    def __init__(self, num_drawn: int = 20, **options: int) -> None:
        super().__init__(**options)
        self.num_drawn = num_drawn

    def draw_slide(self, index: int):
        if index >= self.num_drawn:
            labels, tiles, rows = self._drawn[index % self.num_drawn]
            return labels | {"image_id": f"{index:06}"}, tiles, rows
        self._drawn[index] = super().draw_slide(index)
        return self._drawn[index]

    @cached_property
    def _drawn(self) -> dict:
        return {}


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


def make_datamodule(
    folder: Path, num_bags: int, batch_size: int, num_drawn: int | None = None, **options: object
) -> BagDataModule:
    """Return data with the given number of training bags, 16 tiles of 128 px, split 60/20/20; `num_drawn` repeats slides."""
    slides = {"num_slides": round(num_bags / 0.6), "tile_size": 128, "num_tiles": 16}
    source = SyntheticBags(**slides) if num_drawn is None else DrawnAgain(num_drawn, **slides)
    datamodule = BagDataModule(source, batch_size=batch_size, stores_dir=folder, target="malignant", **options)
    datamodule.setup("fit")
    return datamodule


def training_loader(datamodule: BagDataModule, num_bags: int | None = None) -> BagLoader:
    """Return the loader of the training bags, or of an epoch of another length in which they are repeated."""
    loader = datamodule.train_dataloader()
    if num_bags is None:
        return loader
    positions = np.arange(num_bags) % len(loader.split)
    split = BagSplit(loader.split.store, loader.split.indices[positions], loader.split.labels[positions])
    plan = TrainingPlan(split.labels, split.lengths, datamodule.batch_size)
    return BagLoader(split, plan, loader.preparation, loader.cache, loader.num_workers)
