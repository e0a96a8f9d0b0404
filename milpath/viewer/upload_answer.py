"""Prediction of one upload."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from milpath.config.own_parts import OwnParts
from milpath.data.store.bag_store import BagStore
from milpath.data.store.resolution_match import compare_resolution
from milpath.drawing.warning_strip import with_warning
from milpath.inference.encode_input import encode_input
from milpath.inference.ensemble import open_predictor
from milpath.inference.pictures.bag_pictures import BagPictures
from milpath.inference.pictures.class_overlays import map_in_words
from milpath.inference.pictures.tile_pixels import slide_paths
from milpath.inference.pictures.top_tiles import draw_top_tiles
from milpath.inference.predict_bags import predict_bags
from milpath.models.encoders.trained_encoder import describes_encoder, open_trained_encoder
from milpath.models.familiarity import say_unknown
from milpath.models.network_input import takes
from milpath.records.data_warning import warning_in_words
from milpath.slides.tiling_options import TileOptions
from milpath.targets import NumericTarget, target_of
from milpath.targets.decision import Decision, decide
from milpath.targets.shown_sets import say_set
from milpath.tiling.slide_bags import build_slide_store
from milpath.tiling.slide_run import TilingSummary
from milpath.viewer.tile_intake import write_tile_bag
from milpath.viewer.upload_check import Limits, sort_upload


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
        prediction_set: The classes or the intervals that hold the truth with the coverage of the network, in sentences;
            empty for a network without.
        warning: What the training data say against themselves, in words; empty for tissue.
        unfamiliar: Whether the slide is above the bound of unfamiliarity, and therefore deferred.
        unfamiliarity: How unfamiliar the slide is, in sentences.
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
    prediction_set: str = ""
    warning: str = ""
    unfamiliar: bool = False
    unfamiliarity: str = ""


class Analyst:
    """A network that predicts uploads as `milpath.predict` does.

    Args:
        checkpoint: `best.ckpt` of a run, or an exported network; several folds, or the folder of a table, are averaged.
        limits: Limits of an upload.
        device: Device of the network.
        parts: The user's own classes that the checkpoint may name.
        encoder_weights_path: Weights of the encoder of a network trained on features; `None` looks for them.
        weights_dir: Folder of weights of several encoders.
        method: The method, if the checkpoint is the folder of a table with several.

    Attributes:
        card: Card of the checkpoint.
        tile_size: Side of the tiles it was trained on, in pixels.
        encoder: The encoder of a network trained on features; `None` for a network of tiles.
        options: Tiling options for slides; None if the training tiles were not cut by a reproducible rule.

    Raises:
        FileNotFoundError: If the checkpoint or the weights of its encoder do not exist.
        ValueError: If it is not a checkpoint, the weights are not those of its encoder, or its network does not accept tiles
            of its size.
    """

    def __init__(
        self,
        checkpoint: str | Path | Sequence[str],
        limits: Limits,
        device: str | torch.device = "cpu",
        parts: OwnParts | None = None,
        encoder_weights_path: str | None = None,
        weights_dir: str | None = None,
        method: str | None = None,
    ) -> None:
        parts = parts or OwnParts()
        predictor = open_predictor(checkpoint, parts.networks, parts.encoders, method=method)
        self.card, self.network, self.familiarity = predictor.card, predictor.network, predictor.familiarity
        if bag_column := self.card.data.get("bag_column"):
            raise ValueError(
                f"{checkpoint} was trained on patients, each a bag of all its slides (data.bag_column={bag_column}), but "
                "the app answers one slide at a time; predict patients with python -m milpath.predict slides_table=CSV"
            )
        self.encoder: nn.Module | None = None
        if takes(self.network) == "features":
            if not describes_encoder(self.card.encoder):
                raise ValueError(
                    f"{checkpoint} was not trained on image tiles but on features whose encoder its card does not "
                    "describe; the app needs a network trained on tiles, or on features of milpath extract"
                )
            self.encoder = open_trained_encoder(
                self.card.encoder,
                weights_path=encoder_weights_path,
                weights_dir=weights_dir,
                encoders=parts.encoders,
            )
        size = self.card.tiling.get("tile_size")
        if size is None:
            raise ValueError(f"{checkpoint} was not trained on image tiles, and the app only supports images")
        self.tile_size = int(size)
        with torch.inference_mode():
            # Fail at start-up, not on the first request, if the network does not accept such tiles.
            tiles = torch.zeros(1, 3, self.tile_size, self.tile_size)
            self.network((tiles if self.encoder is None else self.encoder(tiles))[None])
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
        bags, tiles = folder / "bags", folder / "tiles"
        if upload.slide is not None:
            self._cut(upload.slide, bags)
        else:
            write_tile_bag(upload.tiles, tiles if self.encoder else bags, self.tile_size, self.limits)
            self._encode(tiles, bags)
        store = BagStore.open(bags)
        target = target_of(self.card)
        resolution = compare_resolution(self.card.tiling, store)
        (bag,) = predict_bags(
            self.network, store, target,
            temperature=self.card.temperature, device=self.device, class_names=self.card.class_names,
            familiarity=self.familiarity,
        )  # fmt: skip
        numbers: list[tuple[str, str]] = []
        predicted, deferred = "", False
        if isinstance(target, NumericTarget):
            numbers = target.say(bag.probabilities.astype(np.float64))
        else:
            probabilities, decision = bag.probabilities[None].astype(np.float64), Decision.of_card(self.card)
            calls = decide(probabilities, self.card.task, decision, bag.unfamiliar)
            predicted, deferred = self.card.class_names[calls.predicted[0]], bool(calls.deferred[0])
        # Features have no pixels: those of uploaded tiles are in their own store, those of a slide are read again.
        shown = BagStore.open(tiles) if tiles.exists() else store
        pictures = BagPictures(shown, folder, {} if upload.slide is None else slide_paths(store, upload.slide))
        picture = pictures.slide_picture(bag)
        of_classes, montage = pictures.class_overlays(bag, picture), pictures.montage(bag)
        assert montage is not None
        warning, overlay = warning_in_words(self.card.warning), pictures.overlay(bag, picture)
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
            overlay=None if overlay is None else with_warning(overlay, warning),
            class_overlays=tuple(
                (map_in_words(name), with_warning(drawn, warning)) for name, drawn in of_classes.items()
            ),
            montage=with_warning(montage, warning),
            top_tiles=with_warning(draw_top_tiles(pictures, bag), warning),
            numbers=tuple(numbers),
            prediction_set=say_set(self.card, bag.probabilities),
            warning=warning,
            unfamiliar=bag.unfamiliar,
            unfamiliarity=f"{say_unknown()[:1].upper()}{say_unknown()[1:]}."
            if self.familiarity is None or bag.unfamiliarity is None
            else self.familiarity.say(bag.unfamiliarity),
        )

    def _cut(self, slide: Path, bags: Path) -> None:
        """Tile and encode a slide as in training; a separate process reads it, which may crash or hang."""
        if self.options is None:
            raise ValueError(self._no_slides)
        if self.encoder is not None:
            self._encode(slide, bags)
            return
        summary = build_slide_store(
            slide, bags, self.options, num_workers=1, on_error="skip", max_seconds=self.limits.max_seconds
        )
        _require_store(summary)

    def _encode(self, path: Path, bags: Path) -> None:
        """Encode a slide or a store of tiles with the encoder of the training; nothing for a network of tiles."""
        if self.encoder is None:
            return
        summary = encode_input(
            path, bags, self.card, _Bounded(self.encoder, self.limits.max_seconds), device=str(self.device),
            max_seconds=self.limits.max_seconds, num_workers=1,
        )  # fmt: skip
        _require_store(summary)


class _Bounded(nn.Module):
    """An encoder that works for one upload no longer than allowed: a slide may have any number of tiles."""

    def __init__(self, encoder: nn.Module, max_seconds: float) -> None:
        super().__init__()
        self._encoder = encoder
        self._max_seconds = max_seconds
        self._end = time.monotonic() + max_seconds

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        if time.monotonic() > self._end:
            raise ValueError(
                f"encoding took longer than {self._max_seconds:g} s; upload a smaller slide, or start the app with a "
                "larger max_seconds or on a GPU"
            )
        features: torch.Tensor = self._encoder(tiles)
        return features


def _require_store(summary: TilingSummary) -> None:
    """Refuse a slide that could not be read."""
    if not summary.has_store:
        raise ValueError(next(iter(summary.failures.values())))
