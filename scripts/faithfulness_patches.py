"""Bags of PANDA patches with known cancer patches, for `milpath faithfulness`: no slide is in two splits.

    python scripts/faithfulness_patches.py --patches panda_gleason_patches --output .

Writes `store_0` and `store_1`: the test bags of the first are of one half of the slides, those of the second of the other.
Patches are encoded by EfficientNet-Lite0; augmented copies are left out.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.models.encoders import TileEncoder

BAGS = (("train", 300), ("val", 60), ("test", 120))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path())
    words = parser.parse_args()
    table, features = patches(words.patches)
    draw = np.random.default_rng(0)
    half = halves_of(table, draw)
    for test in (0, 1):
        write_store(words.output / f"store_{test}", table, features, half, test, draw)


def patches(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the table of the patches without augmented copies, and their features."""
    table = pd.read_csv(folder / "labels.csv")
    table = table[table["augmented"] == 0].reset_index(drop=True)
    return table, encode([folder / name for name in table["image"]])


def write_store(
    folder: Path,
    table: pd.DataFrame,
    features: np.ndarray,
    halves: dict[str, int],
    test: int,
    draw: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Write bags whose test split is of one half of the slides, and return the rows of the patches of each bag."""
    half = table["panda_image_id"].map(halves).to_numpy()
    cancer = table["label"].to_numpy() > 0
    rows_of = {}
    with BagStoreWriter(folder) as writer:
        for split, count in BAGS:
            own = half == (test if split == "test" else 1 - test)
            for number in range(count):
                name = f"{split}_{number:03}"
                rows = bag_of(np.flatnonzero(own & cancer), np.flatnonzero(own & ~cancer), number % 2 == 1, draw)
                tiles = {"tile_label": cancer[rows].astype(np.int64)}
                writer.add(name, features[rows], {"label": number % 2, "split": split}, tiles)
                rows_of[name] = rows
    return rows_of


def encode(paths: list[Path]) -> np.ndarray:
    """Return the features of patches, `(patches, 1280)`."""
    encoder = TileEncoder({"name": "efficientnet_lite0", "frozen": True, "pretrained": True}).eval()
    pixels = [torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1) / 255 for path in paths]
    with torch.inference_mode():
        return np.concatenate([encoder(part[None])[0].numpy() for part in torch.stack(pixels).split(10)])


def halves_of(table: pd.DataFrame, draw: np.random.Generator) -> dict[str, int]:
    """Return the half of each slide, balanced by its highest class."""
    highest = table.groupby("panda_image_id")["label"].max()
    found = {}
    for label in sorted(highest.unique()):
        for number, name in enumerate(draw.permutation(highest.index[highest == label].to_numpy())):
            found[name] = number % 2
    return found


def bag_of(cancer: np.ndarray, benign: np.ndarray, positive: bool, draw: np.random.Generator) -> np.ndarray:
    """Return the rows of a bag of six to eight patches, one or two of them cancer in a positive one."""
    size = int(draw.integers(6, 9))
    count = int(draw.integers(1, 3)) if positive else 0
    rows = [draw.choice(cancer, count, replace=False), draw.choice(benign, size - count, replace=False)]
    return draw.permutation(np.concatenate(rows))


if __name__ == "__main__":
    main()
