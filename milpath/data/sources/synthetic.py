"""Synthetic slides in the layout of PANDA, available without a download."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from milpath.data.loading.batch_plan import require_at_least
from milpath.data.loading.threads import map_in_threads
from milpath.data.sources.drawn_tissue import BENIGN, INFLAMED, darkest_first, draw_stains, stain_tiles
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.records.data_warning import WARNING_KEY, warning_of_source
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
        lesion_share: Share of the tiles of a malignant slide that have a lesion, in (0, 1], at least one tile; `None`
            takes 0.20 to 0.40 by the grade.
    """

    synthetic = True

    def __init__(
        self,
        num_slides: int = 240,
        num_tiles: int = 16,
        tile_size: int = 128,
        drawing_seed: int = 0,
        lesion_share: float | None = None,
    ) -> None:
        require_at_least(num_slides=(num_slides, 2), num_tiles=(num_tiles, 1), tile_size=(tile_size, 16))
        if lesion_share is not None and not 0 < lesion_share <= 1:
            raise ValueError(f"data.lesion_share is {lesion_share}; it must be more than 0 and at most 1, or null")
        self.num_slides = num_slides
        self.num_tiles = num_tiles
        self.tile_size = tile_size
        self.drawing_seed = drawing_seed
        self.lesion_share = lesion_share

    def describe(self) -> dict[str, Any]:
        """Return the parameters."""
        return {
            "version": _VERSION,
            "num_slides": self.num_slides,
            "num_tiles": self.num_tiles,
            "tile_size": self.tile_size,
            "drawing_seed": self.drawing_seed,
        } | ({} if self.lesion_share is None else {"lesion_share": self.lesion_share})

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
        share = self.lesion_share or _LESION_SHARE[grade]
        num_lesions = max(1, round(share * self.num_tiles)) if grade else 0
        lesions = rng.permutation(self.num_tiles)[:num_lesions]
        # The first number of a score is the most frequent pattern of the lesion.
        first, second = int(score[0]), int(score[2])
        kinds[lesions] = np.where(np.arange(num_lesions) < 0.6 * num_lesions, first, second)
        tiles = stain_tiles(draw_stains(kinds, self.tile_size, rng), _PROVIDER_STAINS[provider], rng)
        tiles, rows = darkest_first(tiles, kinds)
        labels = {
            "image_id": sha256_of_text(f"{self.drawing_seed}/{index}")[:32],
            "data_provider": provider,
            "isup_grade": grade,
            "gleason_score": score,
        }
        return labels, tiles, rows

    def write_folder(self, folder: str | Path) -> Path:
        """Write the slides in the layout of PANDA: `train/{image_id}_{i}.png` and `train.csv`; the files say they are drawn.

        Args:
            folder: Output folder; created if it does not exist.

        Returns:
            The folder.
        """
        folder = Path(folder)
        (folder / "train").mkdir(parents=True, exist_ok=True)
        table, said = [], PngInfo()
        said.add_text(WARNING_KEY, warning_of_source(self))
        for labels, tiles, _ in map_in_threads(self.draw_slide, range(self.num_slides)):
            table.append(labels)
            for number, tile in enumerate(tiles):
                Image.fromarray(tile).save(folder / "train" / f"{labels['image_id']}_{number}.png", pnginfo=said)
        pd.DataFrame(table).to_csv(folder / "train.csv", index=False)
        return folder
