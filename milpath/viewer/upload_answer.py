"""Prediction of one upload."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from milpath.config.own_parts import OwnParts
from milpath.data.store.bag_store import BagStore
from milpath.data.store.resolution_match import compare_resolution
from milpath.drawing.montage import TileRow, draw_extremes
from milpath.drawing.picture_frame import attention_limits
from milpath.inference.bag_pictures import BagPictures, slide_paths
from milpath.inference.class_overlays import map_in_words
from milpath.inference.overlays import positions_of
from milpath.inference.predict_bags import BagPrediction, predict_bags
from milpath.models import load_network
from milpath.models.checkpoint import load_card
from milpath.slides.tiling_options import TileOptions
from milpath.targets import NumericTarget, target_of
from milpath.targets.decision import Decision, decide
from milpath.tiling.slide_bags import build_slide_store
from milpath.viewer.tile_intake import write_tile_bag
from milpath.viewer.upload_check import Limits, sort_upload

NUM_SHOWN = 4


@dataclass(frozen=True)
class Answer:
    """Prediction of one slide, kept only in memory.

    Attributes:
        name: Name of the slide, chosen by the sender: must be escaped wherever it is shown.
        class_names: Names of the classes.
        probabilities: Probability of each class; they sum to 1.
        predicted: Name of the predicted class.
        task: "binary", "nominal" or "ordinal".
        threshold: Probability of the second class at or above which it is predicted; None for more than two classes.
        deferred: Whether the slide is deferred to a pathologist.
        defer_below: A highest class probability below this is deferred; 0 if the network has no such rule.
        num_tiles: Number of tiles in the bag.
        resolution: What to know about the resolution of the tiles, if it is unknown; empty otherwise.
        overlay: Attention on the slide; None if the positions of the tiles are unknown.
        class_overlays: Words and picture of the map of each class; empty for a network without maps per class.
        montage: The bag with its weights.
        top_tiles: The tiles with the highest and the lowest attention.
        numbers: Title and text of each number that a target without classes predicts; empty with classes, which have
            probabilities instead.
    """

    name: str
    class_names: tuple[str, ...]
    probabilities: tuple[float, ...]
    predicted: str
    task: str
    threshold: float | None
    deferred: bool
    defer_below: float
    num_tiles: int
    resolution: str
    overlay: Image.Image | None
    class_overlays: tuple[tuple[str, Image.Image], ...]
    montage: Image.Image
    top_tiles: Image.Image
    numbers: tuple[tuple[str, str], ...] = ()


class Analyst:
    """A network that predicts uploads as `milpath.predict` does.

    Args:
        checkpoint: `best.ckpt` of a run, or an exported network.
        limits: Limits of an upload.
        device: Device of the network.
        parts: The user's own classes that the checkpoint may name.

    Attributes:
        card: Card of the checkpoint.
        tile_size: Side of the tiles it was trained on, in pixels.
        options: Tiling options for slides; None if the training tiles were not cut by a reproducible rule.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        ValueError: If it is not a checkpoint, or its network does not accept tiles of its size.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        limits: Limits,
        device: str | torch.device = "cpu",
        parts: OwnParts | None = None,
    ) -> None:
        parts = parts or OwnParts()
        self.card = load_card(checkpoint)
        size = self.card.tiling.get("tile_size")
        if size is None:
            raise ValueError(f"{checkpoint} was not trained on image tiles, and the app only supports images")
        self.tile_size = int(size)
        self.network = load_network(checkpoint, parts.networks, parts.encoders)
        with torch.inference_mode():
            # Fail at start-up, not on the first request, if the network does not accept such tiles.
            self.network(torch.zeros(1, 1, 3, self.tile_size, self.tile_size))
        self.limits = limits
        self.device = device
        self.options: TileOptions | None = None
        try:
            self.options = TileOptions.from_tiling(self.card.tiling)
        except ValueError as error:
            self._no_slides = f"this network only accepts tiles: {error}"

    def answer(self, files: Sequence[Path], folder: Path) -> Answer:
        """Return the prediction of one slide.

        Args:
            files: A slide, a zip of tiles, or tiles.
            folder: An empty folder for temporary files; the caller deletes it.

        Raises:
            ValueError: With a one-line message if the files cannot be used.
        """
        upload = sort_upload(files, self.limits, self.tile_size)
        bags = folder / "bags"
        if upload.slide is not None:
            self._cut(upload.slide, bags)
        else:
            write_tile_bag(upload.tiles, bags, self.tile_size, self.limits)
        store = BagStore.open(bags)
        target = target_of(self.card)
        resolution = compare_resolution(self.card.tiling, store)
        (bag,) = predict_bags(
            self.network, store, target,
            temperature=self.card.temperature, device=self.device, class_names=self.card.class_names,
        )  # fmt: skip
        numbers: list[tuple[str, str]] = []
        predicted, deferred = "", False
        if isinstance(target, NumericTarget):
            numbers = target.say(bag.probabilities.astype(np.float64))
        else:
            calls = decide(bag.probabilities[None].astype(np.float64), self.card.task, Decision.of_card(self.card))
            predicted, deferred = self.card.class_names[calls.predicted[0]], bool(calls.deferred[0])
        pictures = BagPictures(store, folder, {} if upload.slide is None else slide_paths(store, upload.slide))
        picture = pictures.slide_picture(bag)
        of_classes = pictures.class_overlays(bag, picture)
        return Answer(
            name=bag.bag_id,
            class_names=self.card.class_names,
            probabilities=() if numbers else tuple(float(value) for value in bag.probabilities),
            predicted=predicted,
            task=self.card.task,
            threshold=self.card.threshold if target.has_threshold else None,
            deferred=deferred,
            defer_below=self.card.defer_below,
            num_tiles=len(bag.attention),
            resolution=resolution or "",
            overlay=pictures.overlay(bag, picture),
            class_overlays=tuple((map_in_words(name), drawn) for name, drawn in of_classes.items()),
            montage=pictures.montage(bag),
            top_tiles=draw_top_tiles(store, bag),
            numbers=tuple(numbers),
        )

    def _cut(self, slide: Path, bags: Path) -> None:
        """Tile a slide as in training, in a separate process that may crash or hang."""
        if self.options is None:
            raise ValueError(self._no_slides)
        summary = build_slide_store(
            slide, bags, self.options, num_workers=1, on_error="skip", max_seconds=self.limits.max_seconds
        )
        if not summary.has_store:
            raise ValueError(next(iter(summary.failures.values())))


def draw_top_tiles(store: BagStore, bag: BagPrediction, num_shown: int = NUM_SHOWN) -> Image.Image:
    """Draw two rows of tiles: those with the highest and the lowest attention of a bag.

    Args:
        store: The tiles.
        bag: The prediction.
        num_shown: Maximum number of tiles per row; no tile is in both rows.
    """
    where = store.tile_slice(bag.position)
    positions = positions_of(store, where)
    # White padding tiles have no position and are left out.
    real = np.arange(len(bag.attention)) if positions is None else np.flatnonzero(~np.isnan(positions[0]))
    ranked = real[np.argsort(-bag.attention[real], kind="stable")]
    top, bottom = ranked[:num_shown], ranked[num_shown:][-num_shown:]
    rows = []
    for title, chosen in (("highest attention", top), ("lowest attention", bottom)):
        if len(chosen):
            weights = bag.attention[chosen]
            tiles = np.stack([store.tiles[where.start + place] for place in chosen])
            rows.append(TileRow(title, tiles, weights, [f"{weight:.3f}" for weight in weights]))
    # Use the same colour scale as the other pictures of the bag.
    return draw_extremes(rows, title=bag.bag_id, limits=attention_limits(bag.attention))
