"""Prediction of slides from Python: files in, NumPy arrays out, nothing left on disk."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.nn import Module

from milpath.data.store.bag_store import BagStore
from milpath.data.store.encoder_match import require_same_encoder, require_same_tile_size
from milpath.data.store.level0_positions import level0_positions, resolution_of
from milpath.data.store.resolution_match import compare_resolution
from milpath.inference.bag_call import BagCaller
from milpath.inference.encode_input import open_and_encode
from milpath.inference.ensemble import Predictor, open_predictor
from milpath.inference.open_input import open_input
from milpath.inference.packed_linear import pack_linears
from milpath.inference.pictures.tile_pixels import slide_paths
from milpath.inference.predict_bags import BagPrediction, predict_bags
from milpath.models.card import Card, features_of
from milpath.models.devices import choose_device
from milpath.models.familiarity import joined
from milpath.models.network_input import takes
from milpath.models.stains import stains_in
from milpath.records.data_warning import warning_in_words
from milpath.records.error_text import counted
from milpath.records.folder_lock import scratch_folder
from milpath.tiling.slide_run import TilingSummary

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlidePrediction:
    """The prediction of a slide.

    Attributes:
        slide_id: Name of the slide: that of its file without suffix.
        path: Its file; `None` for tiles and feature files.
        columns: Names of the classes, or of the predicted numbers of a target without classes.
        probabilities: `(columns,)` float32; the probabilities of the classes sum to 1.
        predicted: Name of the predicted class; empty without classes.
        refer: Whether the network refers the slide to a person, because it is not certain enough, does not know slides like
            this one or was trained on data that are not tissue; of several targets only the latter two, see `cells`.
        attention: `(tiles,)` float32, >= 0, sums to 1.
        x0: `(tiles,)` left edges in pixels of level 0 of the slide, as OpenSlide counts them; NaN where unknown.
        y0: `(tiles,)` top edges likewise.
        size0: Side of a tile in pixels of level 0; NaN if unknown.
        microns_per_pixel: Resolution of the tiles; `None` if the file does not state it.
        maps: Name to `(tiles,)` for networks with attention or contributions per class (see `milpath.models.tile_maps`).
        warning: What the training data say against themselves, in words; empty for tissue.
        cells: The further columns of `predictions.csv`, as text: calls and deferrals of each of several targets, prediction
            sets, how far folds differ, and how unfamiliar the slide is.
        tile_unfamiliarity: `(tiles,)` float32, percent of the validation tiles that are less unfamiliar; `None` without a
            model of familiar slides.
    """

    slide_id: str
    path: Path | None
    columns: tuple[str, ...]
    probabilities: NDArray[np.float32]
    predicted: str
    refer: bool
    attention: NDArray[np.float32]
    x0: NDArray[np.float64]
    y0: NDArray[np.float64]
    size0: float
    microns_per_pixel: float | None
    maps: Mapping[str, NDArray[np.float32]]
    warning: str = ""
    cells: Mapping[str, str] = field(default_factory=dict)
    tile_unfamiliarity: NDArray[np.float32] | None = None


def predict_slides(
    network: str | Path | Sequence[str | Path] | Module,
    slides: str | Path | Iterable[str | Path],
    card: Card | None = None,
    *,
    device: str = "auto",
    networks: Iterable[type[Module]] = (),
    encoders: Iterable[type[Module]] = (),
    encoder_weights_path: str | None = None,
    num_workers: int | None = None,
    mixed_resolution: str = "error",
    on_failure: Callable[[str, str], None] | None = None,
) -> Iterator[SlidePrediction]:
    """Predict slides as `milpath predict` does: cut, encoded and called as in training.

    What the command says at its end, such as that a checkpoint has no model of familiar slides, is logged as a warning after
    the last slide.

    Args:
        network: A checkpoint; several, or the folder of `milpath table`, whose folds are averaged; or a network with its
            card.
        slides: A slide, a folder of slides (searched recursively), a folder of tiles or of feature files, a bag store, or
            several of these. A folder is faster than its files one by one.
        card: Card of a `network` that is not a file, from `load_card`.
        device: "auto" (a GPU if there is one), "cpu", "cuda".
        networks: Your own network classes.
        encoders: Your own encoder classes.
        encoder_weights_path: Weights of the encoder of a network trained on features; `None` looks for them.
        num_workers: Processes that read slides; `None` for one per core.
        mixed_resolution: "error" refuses slides of another resolution than that of the training, "allow" does not.
        on_failure: Called with the name of a slide that cannot be read or has no finite prediction, and the reason; `None`
            raises an error after all others.

    Yields:
        The prediction of each slide, in the order of `slides`, those of a folder by name.

    Raises:
        FileNotFoundError: If a checkpoint or a slide does not exist.
        ValueError: If slides and network do not fit together, or a slide failed.
    """
    predictor = _predictor(network, card, networks, encoders, device)
    if bag_column := predictor.card.data.get("bag_column"):
        raise ValueError(
            f"{predictor.name} was trained on patients, each a bag of all slides (data.bag_column={bag_column}); predict "
            "them with milpath predict slides_table=CSV"
        )
    if (stains := stains_in(predictor.network)) is not None:
        stains.count_anew()
    failed, names = dict[str, str](), list[str]()
    caller = BagCaller(predictor)
    for path in [slides] if isinstance(slides, str | Path) else slides:
        with scratch_folder("milpath_slides_") as folder:
            encode = partial(
                _encode, predictor.card, encoders, encoder_weights_path, device, num_workers, mixed_resolution
            )
            store, unread = open_input(
                Path(path), predictor.card.tiling, folder, num_workers, takes=takes(predictor.network),
                encode=encode, dtype=features_of(predictor.card), mixed_resolution=mixed_resolution,
            )  # fmt: skip
            failed |= unread
            require_same_encoder(predictor.card, predictor.network, store, str(path), predictor.name)
            require_same_tile_size(predictor.card, store, str(path))
            if note := compare_resolution(predictor.card.tiling, store, mixed_resolution):
                _log.warning("%s", note)
            files = slide_paths(store, Path(path))
            bags = predict_bags(
                predictor.network, store, caller.target, temperature=predictor.card.temperature,
                device=choose_device(device), class_names=predictor.card.class_names, on_failure=failed.__setitem__,
                familiarity=predictor.familiarity,
            )  # fmt: skip
            for bag in bags:
                names.append(bag.bag_id)
                yield _slide_prediction(bag, store, caller, files.get(bag.bag_id))
    for line in filter(None, (predictor.known_note(names), *caller.notes())):
        _log.warning("%s", line)
    if failed and on_failure is None:
        name, reason = next(iter(sorted(failed.items())))
        raise ValueError(
            f"{counted(len(failed), 'slide')} failed (first: {name!r}: {reason}); give on_failure= to leave them out"
        )
    for name, reason in failed.items():
        assert on_failure is not None
        on_failure(name, reason)


def _predictor(
    network: object,
    card: Card | None,
    networks: Iterable[type[Module]],
    encoders: Iterable[type[Module]],
    device: str,
) -> Predictor:
    """Return a network with its card, whichever way it was given."""
    if isinstance(network, Module):
        if card is None:
            raise ValueError("a network needs its card: predict_slides(network, slides, card=load_card(path))")
        return Predictor(network.eval(), card, type(network).__name__, "", familiarity=joined([card.familiar]))
    if card is not None:
        raise ValueError("a checkpoint has its own card; leave out card=, or give a network")
    predictor = open_predictor(network, networks, encoders)
    if choose_device(device).type == "cpu":
        pack_linears(predictor.network)
    return predictor


def _encode(
    card: Card,
    encoders: Iterable[type[Module]],
    weights_path: str | None,
    device: str,
    num_workers: int | None,
    mixed_resolution: str,
    path: Path,
    bags: Path,
) -> TilingSummary:
    """Write the features of slides for a network that was trained on features."""
    return open_and_encode(
        path, bags, card, weights_path=weights_path, encoders=encoders, device=device, num_workers=num_workers,
        mixed_resolution=mixed_resolution,
    )  # fmt: skip


def _slide_prediction(bag: BagPrediction, store: BagStore, caller: BagCaller, path: Path | None) -> SlidePrediction:
    """Return the prediction of a bag with the places of its tiles and the call of the network."""
    card, where, call = caller.predictor.card, store.tile_slice(bag.position), caller(bag)
    places, unknown = level0_positions(store, where), np.full(len(bag.attention), np.nan)
    return SlidePrediction(
        slide_id=bag.bag_id,
        path=path,
        columns=tuple(caller.answer_columns or card.class_names),
        probabilities=bag.probabilities,
        predicted=call.predicted,
        refer=call.defer,
        attention=bag.attention,
        x0=unknown if places is None else places.x0,
        y0=unknown if places is None else places.y0,
        size0=float("nan") if places is None else places.size0,
        microns_per_pixel=resolution_of(store, where)[0],
        maps=bag.maps,
        warning=warning_in_words(card.warning),
        cells=caller.cells(call),
        tile_unfamiliarity=bag.tile_unfamiliarity,
    )
