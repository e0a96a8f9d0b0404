"""The predictions of a folder of slides: tables, annotations and pictures, slide by slide."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from torch.nn import Module

from milpath.data.store.bag_store import BagStore
from milpath.data.store.encoder_match import require_same_encoder, require_same_tile_size
from milpath.data.store.level0_positions import resolution_of
from milpath.data.store.resolution_match import compare_resolution
from milpath.drawing.progress import track
from milpath.inference.annotations.slide_answer import SlideAnswer
from milpath.inference.bag_call import BagCall, BagCaller
from milpath.inference.ensemble import Predictor, open_predictor
from milpath.inference.input_patients import column_of_patients, patients_of_input
from milpath.inference.open_input import SLIDES_TO_ENCODE, STORE, TILES_TO_ENCODE, kind_of_input, open_input
from milpath.inference.packed_linear import pack_linears
from milpath.inference.pictures.bag_pictures import BagPictures
from milpath.inference.pictures.open_pictures import open_pictures
from milpath.inference.predict_bags import BagPrediction, predict_bags
from milpath.inference.predict_options import drawn_options, require_fitting, require_inputs_kept, require_values
from milpath.inference.prediction_files import PredictionFiles
from milpath.inference.prediction_folder import DRAWN, claim_folder, release_folder, require_free
from milpath.inference.prediction_patients import write_patients
from milpath.inference.prediction_summary import prediction_summary
from milpath.inference.slides_of_bags import tile_rows
from milpath.models.card import Card, features_of
from milpath.models.devices import choose_device
from milpath.models.network_input import takes
from milpath.records.data_warning import UNFAMILIAR_COLUMNS, warning_in_words
from milpath.records.error_text import counted
from milpath.records.kept_memory import kept_memory
from milpath.targets.aggregation import require_aggregate
from milpath.tiling.slide_output import write_failures
from milpath.tiling.slide_run import TilingSummary


def write_slide_predictions(
    config: DictConfig, networks: Sequence[type[Module]], encoders: Sequence[type[Module]]
) -> int:
    """Predict every slide and write tables, annotations and pictures.

    Args:
        config: The composed root of the `predict` command.
        networks: The user's own network classes.
        encoders: The user's own encoder classes.

    Returns:
        Number of slides that could not be read or have no finite prediction; `failures.csv` lists them.

    Raises:
        ValueError: If no slide could be predicted.
    """
    require_values(config)
    predictor = open_predictor(config.checkpoint, networks, encoders, method=config.method)
    device = choose_device(config.device)
    if device.type == "cpu":
        pack_linears(predictor.network)
    card, caller = predictor.card, BagCaller(predictor)
    aggregate = config.aggregate or (config.slides_table and card.data.get("aggregate"))
    require_aggregate(aggregate, caller.target, len(caller.answer_columns or card.class_names))
    opened = _open(config, caller, encoders, aggregate, device)
    failures = opened.failures | _write_bags(config, caller, opened, device)
    if aggregate:
        patients = column_of_patients(card.data, config.patient_column)
        write_patients(Path(config.output), opened.store, card, aggregate, patients, predictor.temperatures)
    _say(config, caller, opened.store, aggregate, failures)
    return len(failures)


class _Opened(NamedTuple):
    """The bags to predict, the writers of their pictures and tables, and the slides that could not be read."""

    store: BagStore
    pictures: BagPictures
    files: PredictionFiles
    failures: dict[str, str]


def _open(
    config: DictConfig,
    caller: BagCaller,
    encoders: Sequence[type[Module]],
    aggregate: str | None,
    device: torch.device,
) -> _Opened:
    """Open the input and the output folder, which is left as it was if they do not fit the network or each other."""
    predictor, output = caller.predictor, Path(config.output)
    card, network = predictor.card, predictor.network
    warning = warning_in_words(card.warning)
    source = {"checkpoint": predictor.sha256, DRAWN: drawn_options(config)} | ({"warning": warning} if warning else {})
    kind = kind_of_input(Path(config.slides), takes(network), card.tiling.get("tile_size"))
    require_inputs_kept(config, kind)
    require_free(output, source, config.overwrite)
    require_fitting(config, card, network, kind, aggregate)
    read = partial(
        open_input, Path(config.slides), card.tiling, output, config.num_workers,
        overwrite=config.overwrite, labels=config.labels, masks=config.masks, id_column=config.id_column,
        takes=takes(network), encode=_encoding(config, card, encoders, kind), verify=config.verify,
        dtype=features_of(card),
        resolutions=config.resolutions, mixed_resolution=config.mixed_resolution,
    )  # fmt: skip
    prepare = partial(_prepare, config, predictor, aggregate, device)
    failures: dict[str, str] = {}
    if kind == STORE:  # it is there before anything is written
        store, pictures = prepare(*read())
    claim_folder(output, source, config.overwrite, slides=config.slides)
    try:
        if kind != STORE:
            store, failures = read()
            store, pictures = prepare(store, failures)
        files = PredictionFiles(
            output, card.class_names, card.threshold if caller.target.has_threshold else None,
            source | {"slides": store.content_digest()},
            answer_columns=caller.answer_columns, several_slides=store.grouped, call_columns=caller.call_columns,
            further_columns=caller.further_columns, warning=warning,
        )  # fmt: skip
    except (ValueError, OSError):
        release_folder(output)
        raise
    return _Opened(store, pictures, files, failures)


def _write_bags(config: DictConfig, caller: BagCaller, opened: _Opened, device: torch.device) -> dict[str, str]:
    """Predict every bag without a row, draw it and write its row; return those without a finite prediction.

    Raises:
        ValueError: If no bag has one.
    """
    predictor, target, (store, pictures, files, failures) = caller.predictor, caller.target, opened
    card = predictor.card
    done = {index for index, bag_id in enumerate(store.bags["bag_id"]) if bag_id in files.done}
    not_finite: dict[str, str] = {}
    predictions = predict_bags(
        predictor.network, store, target, temperature=card.temperature, done=done,
        batch_size=config.batch_size, device=device, class_names=card.class_names, on_failure=not_finite.__setitem__,
        familiarity=predictor.familiarity,
    )  # fmt: skip
    with files, kept_memory():
        for bag in track(predictions, "slides predicted", len(store) - len(done)):
            _write_bag(bag, opened, caller(bag))
        if not_finite:
            write_failures(failures | not_finite, Path(config.output) / "failures.csv")
        if len(not_finite) == len(store):
            raise ValueError(
                f"none of the {len(store):,} bags has a finite prediction; first: {next(iter(not_finite.values()))}"
            )
        if config.pictures:
            pictures.draw_extremes(card.class_names[0] if target.has_classes else None)
        if note := pictures.list_pages():
            sys.stderr.write(f"{note}\n")
    return not_finite


def _write_bag(bag: BagPrediction, opened: _Opened, call: BagCall) -> None:
    """Draw a bag and write its row."""
    store, pictures, files, _ = opened
    # Before its row: a slide with a row is complete.
    cells = files.cells(bag.probabilities, call.predicted, call.defer, call.further, call.calls)
    pictures.draw(bag, SlideAnswer(bag.bag_id, call.predicted, call.defer, cells))
    of_tiles = {} if bag.tile_unfamiliarity is None else {UNFAMILIAR_COLUMNS[1]: bag.tile_unfamiliarity}
    microns_per_pixel = resolution_of(store, store.tile_slice(bag.position))[0]  # of its first slide
    files.add(
        bag.bag_id, bag.probabilities, call.predicted, call.defer, tile_rows(store, bag.position), microns_per_pixel,
        bag.attention, {**bag.maps, **of_tiles}, call.further, call.calls,
    )  # fmt: skip


def _say(
    config: DictConfig, caller: BagCaller, store: BagStore, aggregate: str | None, failures: Mapping[str, str]
) -> None:
    """Print the summary to stdout, and to stderr what a reader of the predictions has to know."""
    predictor, output = caller.predictor, Path(config.output)
    sys.stdout.write(prediction_summary(output, "patient" if store.grouped else "slide"))
    known = predictor.known_note(store.bags["bag_id"].tolist())
    sys.stdout.write("".join(f"{line}\n" for line in (predictor.note, known) if line))
    notes = caller.notes(aggregate)
    if failures:
        name, reason = min(failures.items())
        notes.append(f"{counted(len(failures), 'slide')} failed, see {output}/failures.csv (first: {name!r}: {reason})")
    sys.stderr.write("".join(f"{line}\n" for line in notes))


def _prepare(
    config: DictConfig,
    predictor: Predictor,
    aggregate: str | None,
    device: torch.device,
    store: BagStore,
    failures: Mapping[str, str],
) -> tuple[BagStore, BagPictures]:
    """Return the bags to predict and the writer of their pictures; refuse bags that do not fit the network."""
    card = predictor.card
    store = patients_of_input(
        store, card.data, failures, slides_table=config.slides_table, patient_column=config.patient_column,
        slide_column=config.slide_column, aggregate=aggregate,
    )  # fmt: skip
    require_same_encoder(card, predictor.network, store, config.slides, predictor.name)
    require_same_tile_size(card, store, config.slides)
    if note := compare_resolution(card.tiling, store, config.mixed_resolution):
        sys.stderr.write(f"{note}\n")
    return store, open_pictures(config, store, predictor.network, card, device)


def _encoding(
    config: DictConfig, card: Card, encoders: Iterable[type[Module]], kind: str
) -> Callable[[Path, Path], TilingSummary] | None:
    """Return what writes features for a network that was trained on features, with the encoder that was found."""
    if kind not in (TILES_TO_ENCODE, SLIDES_TO_ENCODE):
        return None
    from milpath.inference.encode_input import encode_input, encoder_of_input

    encoder = encoder_of_input(
        card, Path(config.slides), weights_path=config.encoder_weights_path, weights_dir=config.paths.weights_dir,
        encoders=encoders,
    )  # fmt: skip
    return lambda path, bags: encode_input(
        path, bags, card, encoder, device=config.device, labels=config.labels, id_column=config.id_column,
        num_workers=config.num_workers, overwrite=config.overwrite, resolutions=config.resolutions,
        mixed_resolution=config.mixed_resolution,
    )  # fmt: skip
