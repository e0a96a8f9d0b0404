"""Recipes for MNIST-bags, compared without a single test digit:

    python scripts/mnist_recipe.py MNIST OUTPUT.json [--bags 100] [--seeds 3] [RECIPE...]

Training bags are drawn from the first 50,000 training digits, 1,000 validation bags from the other 10,000, anew for each
seed; MNIST's test digits, of which the test bags of `experiment=mnist_bags` are made, are not looked at. Each recipe
trains plain attention on the same bags, and its weights are averaged over the last two epochs as in the experiment.
Writes the AUROC and the log loss on the validation bags of each recipe and seed.
"""

import argparse
import json
import math
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from milpath.data.loading.augmentation import TileAugmentation
from milpath.data.sources.mnist_bags import Digits, MnistBags, read_digits
from milpath.metrics.ranking import auroc
from milpath.models import AttentionMIL
from milpath.records.atomic_files import write_json

# All with Adam at a constant rate. One bag per step is the authors' choice, who take 20 epochs: 2,000 steps of 100 bags.
CANDIDATES: dict[str, dict[str, Any]] = {
    "authors": {"batch_size": 1, "lr": 5e-4, "steps": 2000, "augmentation": "none"},
    "batches": {"batch_size": 4, "lr": 5e-4, "steps": 1000, "augmentation": "none"},
    "affine": {"batch_size": 4, "lr": 5e-4, "steps": 1000, "augmentation": "affine"},
    "affine_long": {"batch_size": 4, "lr": 5e-4, "steps": 2000, "augmentation": "affine"},
    "affine_fast": {"batch_size": 4, "lr": 1e-3, "steps": 1000, "augmentation": "affine"},
}
WEIGHT_DECAY, WINDOW, NUM_VALIDATION, FIRST_VALIDATION_DIGIT = 1e-4, 2.0, 1000, 50_000


class DrawnBags:
    """Bags of digits, drawn as in `MnistBags` from a part of the training digits."""

    def __init__(self, digits: Digits, part: slice, num_bags: int, numbers: np.random.Generator) -> None:
        images, labels = digits.train_images[part], digits.train_labels[part]
        source = MnistBags("digits")
        self.digits = [source.draw(labels, bag % 2 == 0, numbers) for bag in range(num_bags)]
        self.labels = torch.tensor([float(bag % 2 == 0) for bag in range(num_bags)])
        self.images = torch.from_numpy(images)[:, None]

    def batch(self, bags: list[int]) -> tuple[Tensor, Tensor]:
        """Return float tiles `(bags, tiles, 1, 28, 28)` in [0, 1] and the mask `(bags, tiles)` of real tiles."""
        lengths = torch.tensor([len(self.digits[bag]) for bag in bags])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        tiles = torch.zeros(*mask.shape, 1, 28, 28)
        tiles[mask] = self.images[np.concatenate([self.digits[bag] for bag in bags])].float() / 255
        return tiles, mask


def train(bags: DrawnBags, recipe: dict[str, Any], seed: int) -> AttentionMIL:
    """Return plain attention with the averaged weights of a training."""
    torch.manual_seed(seed)
    network = AttentionMIL(encoder={"name": "lenet5"})
    augmentation = TileAugmentation(recipe["augmentation"])
    weights = list(network.parameters())
    optimizer = torch.optim.Adam(weights, lr=recipe["lr"], weight_decay=WEIGHT_DECAY, fused=True)
    order, average = np.random.default_rng(seed), [value.detach().clone() for value in weights]
    share = 1 - math.exp(-1 / (WINDOW * math.ceil(len(bags.labels) / recipe["batch_size"])))
    waiting = np.empty(0, np.int64)
    for step in range(1, recipe["steps"] + 1):
        waiting = waiting if len(waiting) else order.permutation(len(bags.labels))
        chosen, waiting = waiting[: recipe["batch_size"]], waiting[recipe["batch_size"] :]
        tiles, mask = bags.batch(chosen.tolist())
        logits = network(augmentation(tiles), mask).logits.flatten()
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, bags.labels[chosen]).backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, max(share, 1 / step))
    with torch.no_grad():
        torch._foreach_copy_(weights, average)
    return network.eval()


@torch.no_grad()
def measure(network: AttentionMIL, bags: DrawnBags) -> dict[str, float]:
    """Return the AUROC and the mean log loss on some bags."""
    numbers = torch.arange(len(bags.labels)).split(50)
    logits = torch.cat([network(*bags.batch(part.tolist())).logits.flatten() for part in numbers])
    area = float(auroc(bags.labels.bool().numpy(), logits.double().numpy()))
    return {"auroc": area, "log_loss": float(F.binary_cross_entropy_with_logits(logits, bags.labels))}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="mnist_recipe.py", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("mnist", type=Path, help="file or folder of MNIST")
    parser.add_argument("output", type=Path, help="JSON file, which another call adds to")
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(CANDIDATES)}; default: all")
    parser.add_argument("--bags", type=int, default=100, help="training bags")
    parser.add_argument("--seeds", type=int, default=3, help="seeds, from 0")
    given = parser.parse_args(words)
    if unknown := [name for name in given.recipes if name not in CANDIDATES]:
        parser.error(f"no recipe {unknown[0]!r}; give {', '.join(CANDIDATES)}")
    torch.set_num_threads(1)
    digits = read_digits(given.mnist)
    done: list[dict[str, Any]] = json.loads(given.output.read_text()) if given.output.is_file() else []
    for seed, name in product(range(given.seeds), given.recipes or CANDIDATES):
        key = {"recipe": name, **CANDIDATES[name], "bags": given.bags, "seed": seed}
        if any(key.items() <= row.items() for row in done):
            continue
        began = time.process_time()
        trained = DrawnBags(digits, slice(0, FIRST_VALIDATION_DIGIT), given.bags, np.random.default_rng([seed, 0]))
        held_out = DrawnBags(
            digits, slice(FIRST_VALIDATION_DIGIT, None), NUM_VALIDATION, np.random.default_rng([seed, 1])
        )
        row = key | measure(train(trained, CANDIDATES[name], seed), held_out)
        done.append(row | {"cpu_seconds": round(time.process_time() - began, 1)})
        print(f"{name}, seed {seed}: AUROC {row['auroc']:.4f}, log loss {row['log_loss']:.3f}", flush=True)
        write_json(given.output, done)


if __name__ == "__main__":
    main()
