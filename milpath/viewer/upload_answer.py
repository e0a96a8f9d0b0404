"""Prediction of an upload: slides, or one patient of several."""

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from milpath.config.own_parts import OwnParts
from milpath.data.store.bag_store import BagStore
from milpath.data.store.resolution_match import compare_resolution
from milpath.drawing.warning_strip import with_warning
from milpath.inference.annotations.slide_answer import SlideAnswer
from milpath.inference.bag_call import BagCaller
from milpath.inference.encode_input import encode_input
from milpath.inference.ensemble import open_predictor
from milpath.inference.pictures.bag_pictures import BagPictures
from milpath.inference.pictures.tile_pixels import slide_paths
from milpath.inference.pictures.top_tiles import draw_top_tiles
from milpath.inference.predict_bags import predict_bags
from milpath.models.encoders.trained_encoder import describes_encoder, open_trained_encoder, require_weights_used
from milpath.models.familiarity import say_unknown
from milpath.models.network_input import takes
from milpath.models.stains import stains_in, unchanged_note
from milpath.records.data_warning import warning_in_words
from milpath.records.error_text import counted
from milpath.slides.tiling_options import TileOptions
from milpath.targets import NumericTarget
from milpath.targets.decision import say_other_decision
from milpath.targets.shown_sets import say_set
from milpath.tiling.slide_bags import build_slide_store
from milpath.tiling.slide_run import TilingSummary
from milpath.viewer.shown_answer import Answer
from milpath.viewer.shown_slides import draw_slides, draw_whole_montage, one_bag
from milpath.viewer.tile_intake import write_tile_bags
from milpath.viewer.upload_check import Limits, Upload, sort_upload


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
        of_patients: Whether it was trained on patients, each a bag of all its slides.
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
        self._caller = BagCaller(predictor)
        self.of_patients = bool(self.card.data.get("bag_column"))
        self.encoder: nn.Module | None = None
        require_weights_used(self.network, encoder_weights_path)
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
        """Return the prediction of one slide, or of one patient for a network of patients.

        Args:
            files: A slide, a zip of tiles, or tiles; for a network of patients also several slides, or the tiles of several.
            folder: An empty folder for temporary files; the caller deletes it.

        Raises:
            ValueError: With a one-line message if the files cannot be used, or are several slides for a network of slides.
        """
        slides = sort_upload(files, self.limits, self.tile_size)
        if len(slides) > 1 and not self.of_patients:
            raise ValueError(f"these are {len(slides)} slides, and the network predicts one slide at a time")
        return self._answer(slides, folder)

    def answers(self, files: Sequence[Path], folder: Path, *, one_patient: bool = True) -> Iterator[Answer]:
        """Yield the predictions of an upload: one of a patient, otherwise one per slide.

        Args:
            files: Slides, or tiles.
            folder: An empty folder for temporary files; the caller deletes it.
            one_patient: Whether all slides are those of one patient, for a network of patients; others predict slides.

        Raises:
            ValueError: With a one-line message if the files cannot be used.
        """
        slides = sort_upload(files, self.limits, self.tile_size)
        bags = [slides] if one_patient and self.of_patients else [[slide] for slide in slides]
        for number, own in enumerate(bags):
            place = folder / str(number)
            place.mkdir()
            yield self._answer(own, place)
            shutil.rmtree(place)

    def _answer(self, slides: Sequence[Upload], folder: Path) -> Answer:
        """Return the prediction of a bag: all tiles of some slides."""
        bags, tiles = folder / "bags", folder / "tiles"
        found = _together([slide.slide for slide in slides if slide.slide is not None], folder)
        if found is not None:
            self._cut(found, bags)
        else:
            of_slides = [slide.tiles for slide in slides]
            write_tile_bags(of_slides, tiles if self.encoder else bags, self.tile_size, self.limits)
            self._encode(tiles, bags)
        store = self._bag_of(BagStore.open(bags), len(slides))
        target, stains = self._caller.target, stains_in(self.network)
        if stains is not None:  # an encoder of slides counts the bags of each upload by itself
            stains.count_anew()
        resolution = compare_resolution(self.card.tiling, store)
        (bag,) = predict_bags(
            self.network, store, target,
            temperature=self.card.temperature, device=self.device, class_names=self.card.class_names,
            familiarity=self.familiarity,
        )  # fmt: skip
        call, numbers = self._caller(bag), list[tuple[str, str]]()
        if isinstance(target, NumericTarget):
            numbers = target.say(bag.probabilities.astype(np.float64))
        # Features have no pixels: those of uploaded tiles are in their own store, those of a slide are read again.
        shown = self._bag_of(BagStore.open(tiles), len(slides)) if tiles.exists() else store
        warning = warning_in_words(self.card.warning)
        pictures = BagPictures(
            shown, folder, {} if found is None else slide_paths(store, found), warning=warning
        )  # fmt: skip
        return Answer(
            name=bag.bag_id,
            class_names=self.card.class_names,
            probabilities=() if numbers else tuple(float(value) for value in bag.probabilities),
            predicted=call.predicted,
            task=self.card.task,
            threshold=self.card.threshold if target.has_threshold else None,
            deferred=call.defer,
            defer_below=self.card.defer_below,
            num_tiles=len(bag.attention),
            resolution=resolution or "",
            slides=draw_slides(pictures, bag),
            montage=with_warning(draw_whole_montage(pictures, bag), warning),
            top_tiles=with_warning(draw_top_tiles(pictures, bag), warning),
            numbers=tuple(numbers),
            prediction_set=say_set(self.card, bag.probabilities, bag.each),
            warning=warning,
            notes=tuple(filter(None, self._notes())),
            folds=SlideAnswer(bag.bag_id, cells=self._caller.cells(call)).of_folds(len(self._caller.predictor.folds)),
            unfamiliar=bag.unfamiliar,
            unfamiliarity=f"{say_unknown()[:1].upper()}{say_unknown()[1:]}."
            if self.familiarity is None or bag.unfamiliarity is None
            else self.familiarity.say(bag.unfamiliarity),
            of_patient=self.of_patients,
        )

    def _notes(self) -> Iterator[str | None]:
        """Yield what else to know of the bag that was just predicted, in lines."""
        yield say_other_decision(self.card, self.card.data.get("aggregate"), None)
        yield unchanged_note(self.network if self.encoder is None else self.encoder)

    def _bag_of(self, store: BagStore, num_slides: int) -> BagStore:
        """Return the store of one bag: that of the slide, or the patient of all slides."""
        if len(store) < num_slides:
            raise ValueError(
                f"the {num_slides} files are only {counted(len(store), 'slide')}, such as the parts of a DICOM slide; "
                "upload one file per slide"
            )
        return one_bag(store) if self.of_patients else store

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
    """Refuse slides of which one could not be read."""
    if summary.failures or not summary.has_store:
        raise ValueError(next(iter(summary.failures.values())))


def _together(slides: Sequence[Path], folder: Path) -> Path | None:
    """Return the slide, or a folder to which several are moved; None if there are none."""
    if len(slides) < 2:
        return slides[0] if slides else None
    place = folder / "slides"
    place.mkdir()
    for path in slides:
        path.replace(place / path.name)
    return place
