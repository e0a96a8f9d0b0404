"""Synthetic slides in the layout of PANDA, available without a download."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from milpath.data.loading.batch_plan import require_at_least
from milpath.data.loading.threads import map_in_threads
from milpath.data.sources.drawn_tissue import BENIGN, INFLAMED, STAINS, draw_stains
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.records.digests import sha256_of_text

# Increase it when pictures or description change: stores are found by the description of their content.
_VERSION = 6
_GLEASON = {0: ("0+0",), 1: ("3+3",), 2: ("3+4",), 3: ("4+3",), 4: ("4+4", "3+5", "5+3"), 5: ("4+5", "5+4", "5+5")}
# Share of the tiles of a slide that contain a lesion, by ISUP grade.
_LESION_SHARE = (0.0, 0.20, 0.25, 0.30, 0.35, 0.40)
_PROVIDERS = ("karolinska", "radboud")
# Differences between laboratories: factors for haematoxylin and eosin.
_PROVIDER_STAINS = {"karolinska": (0.92, 1.10), "radboud": (1.10, 0.92)}


class SyntheticBags:
    """Drawn tissue, half of the slides with a planted lesion; synthetic results say nothing about real slides.

    Columns and names are those of PANDA (`image_id, data_provider, isup_grade, gleason_score`), and the label of each
    tile (1 with a lesion) is known. A slide of grade 0 has no lesion; higher grades have larger ones, in the Gleason
    patterns of the score. The mean amount of each stain on a tile is independent of its content, so that the mean
    colour is not informative.

    Args:
        num_slides: Number of slides; every second one is malignant, the five grades in turn.
        num_tiles: Tiles per slide, darkest first as in PANDA.
        tile_size: Width and height of a tile in pixels.
        drawing_seed: Seed of the pictures. Slide n does not depend on the number of slides.
    """

    synthetic = True

    def __init__(self, num_slides: int = 240, num_tiles: int = 16, tile_size: int = 128, drawing_seed: int = 0) -> None:
        require_at_least(num_slides=(num_slides, 2), num_tiles=(num_tiles, 1), tile_size=(tile_size, 16))
        self.num_slides = num_slides
        self.num_tiles = num_tiles
        self.tile_size = tile_size
        self.drawing_seed = drawing_seed

    def describe(self) -> dict[str, Any]:
        """Return the parameters."""
        return {
            "version": _VERSION,
            "num_slides": self.num_slides,
            "num_tiles": self.num_tiles,
            "tile_size": self.tile_size,
            "drawing_seed": self.drawing_seed,
        }

    def write(self, writer: BagStoreWriter) -> None:
        """Draw every slide into a store."""
        # The tiling is PANDA's: a network trained on it cuts slides like one trained on PANDA.
        writer.extra["tiling"] = {"rule": "darkest", "tile_size": self.tile_size, "num_tiles": self.num_tiles}
        writer.expected_bags = self.num_slides
        for labels, tiles, rows in map_in_threads(self.draw_slide, range(self.num_slides)):
            writer.add(labels["image_id"], tiles, {k: v for k, v in labels.items() if k != "image_id"}, rows)

    def draw_slide(self, index: int) -> tuple[dict[str, Any], np.ndarray, dict[str, np.ndarray]]:
        """Draw one slide.

        Returns:
            Its row of the label table; tiles `(tiles, size, size, 3)` uint8; columns of `tiles.csv` with the position
            of each tile in a square of tiles and `tile_label`, 1 with a lesion.
        """
        rng = np.random.default_rng([self.drawing_seed, index])
        grade = 0 if index % 2 == 0 else 1 + (index // 2) % 5
        score = str(rng.choice(_GLEASON[grade]))
        provider = str(rng.choice(_PROVIDERS))
        kinds = np.where(rng.random(self.num_tiles) < 0.3, INFLAMED, BENIGN)
        num_lesions = max(1, round(_LESION_SHARE[grade] * self.num_tiles)) if grade else 0
        lesions = rng.permutation(self.num_tiles)[:num_lesions]
        # The first number of a score is the most frequent pattern of the lesion.
        first, second = int(score[0]), int(score[2])
        kinds[lesions] = np.where(np.arange(num_lesions) < 0.6 * num_lesions, first, second)
        tiles = _stain(draw_stains(kinds, self.tile_size, rng), provider, rng)
        order = np.argsort(tiles.sum((1, 2, 3), dtype=np.int64), kind="stable")
        side = int(np.ceil(np.sqrt(self.num_tiles)))
        rows = {
            "x": order % side * self.tile_size,
            "y": order // side * self.tile_size,
            "level": np.zeros(self.num_tiles, np.int64),
            "tile_label": (kinds[order] >= 3).astype(np.int64),
        }
        labels = {
            "image_id": sha256_of_text(f"{self.drawing_seed}/{index}")[:32],
            "data_provider": provider,
            "isup_grade": grade,
            "gleason_score": score,
        }
        return labels, tiles[order], rows

    def write_folder(self, folder: str | Path) -> Path:
        """Write the slides in the layout of PANDA: `train/{image_id}_{i}.png` and `train.csv`.

        Args:
            folder: Output folder; created if it does not exist.

        Returns:
            The folder.
        """
        folder = Path(folder)
        (folder / "train").mkdir(parents=True, exist_ok=True)
        table = []
        for labels, tiles, _ in map_in_threads(self.draw_slide, range(self.num_slides)):
            table.append(labels)
            for number, tile in enumerate(tiles):
                Image.fromarray(tile).save(folder / "train" / f"{labels['image_id']}_{number}.png")
        pd.DataFrame(table).to_csv(folder / "train.csv", index=False)
        return folder


def _stain(amounts: np.ndarray, provider: str, rng: np.random.Generator) -> np.ndarray:
    """Convert amounts of stain to colours, with the variation of one laboratory and one slide."""
    # The mean over a tile is random and independent of its content: a tile full of nuclei is not darker than another.
    tissue = np.maximum((amounts.sum(1) > 0).mean((1, 2)), 0.1)
    mean = amounts.mean((2, 3)) / tissue[:, None]
    wanted = np.array([0.30, 0.36]) * _PROVIDER_STAINS[provider] * rng.uniform(0.85, 1.15, 2)
    amounts = amounts * (wanted * rng.uniform(0.88, 1.12, mean.shape) / mean)[..., None, None]
    stains = STAINS * rng.uniform(0.92, 1.08, STAINS.shape)
    density = np.moveaxis(amounts.astype(np.float32), 1, -1) @ stains.astype(np.float32)
    light = rng.uniform(0.955, 0.985) * np.exp(-density)
    light += 0.012 * rng.standard_normal(density.shape, dtype=np.float32)
    return np.asarray(np.clip(255 * light + 0.5, 0, 255), dtype=np.uint8)
