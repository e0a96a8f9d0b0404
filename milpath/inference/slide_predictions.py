"""The predictions of a folder of slides: tables, annotations and pictures, slide by slide."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from torch.nn import Module

from milpath.data.store.bag_store import BagStore
from milpath.data.store.encoder_match import require_same_encoder, require_same_tile_size
from milpath.data.store.level0_positions import resolution_of
from milpath.data.store.resolution_match import compare_resolution
from milpath.drawing.progress import track
from milpath.inference.annotations.slide_answer import SlideAnswer
from milpath.inference.ensemble import Predictor, open_predictor
from milpath.inference.ensemble.fold_columns import EACH, each_as_cell, fold_cells, fold_columns
from milpath.inference.input_patients import column_of_patients, patients_of_input
from milpath.inference.open_input import SLIDES_TO_ENCODE, STORE, TILES_TO_ENCODE, kind_of_input, open_input
from milpath.inference.packed_linear import pack_linears
from milpath.inference.pictures.bag_pictures import BagPictures
from milpath.inference.pictures.open_pictures import open_pictures
from milpath.inference.predict_bags import predict_bags
from milpath.inference.predict_options import drawn_options, require_fitting, require_inputs_kept, require_values
from milpath.inference.prediction_files import PredictionFiles
from milpath.inference.prediction_folder import DRAWN, claim_folder, release_folder, require_free
from milpath.inference.prediction_patients import write_patients
from milpath.inference.prediction_summary import prediction_summary
from milpath.inference.slides_of_bags import tile_rows
from milpath.models.checkpoint import Card
from milpath.models.devices import choose_device
from milpath.models.familiarity import say_unknown
from milpath.models.network_input import takes
from milpath.models.stains import unchanged_note
from milpath.records.data_warning import UNFAMILIAR_COLUMNS, unfamiliar_cells, warning_in_words
from milpath.records.error_text import counted
from milpath.records.kept_memory import kept_memory
from milpath.targets import NumericTarget, target_of
from milpath.targets.aggregation import require_aggregate
from milpath.targets.decision import Decision, decide, deferred_cells, say_other_decision
from milpath.targets.shown_sets import say_about_sets, set_cells, set_columns
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
    output = Path(config.output)
    require_values(config)
    predictor = open_predictor(config.checkpoint, networks, encoders, method=config.method)
    network, card, averaged = predictor.network, predictor.card, bool(predictor.folds)
    device = choose_device(config.device)
    if device.type == "cpu":
        pack_linears(network)
    decision = Decision.of_card(card)
    warning = warning_in_words(card.warning)
    source = {"checkpoint": predictor.sha256, DRAWN: drawn_options(config)} | ({"warning": warning} if warning else {})
    target = target_of(card)
    threshold = card.threshold if target.has_threshold else None
    numbers = target if isinstance(target, NumericTarget) else None
    columns = ((), ()) if numbers is None else (numbers.answer_columns, numbers.call_columns)
    aggregate = config.aggregate or (config.slides_table and card.data.get("aggregate"))
    require_aggregate(aggregate, target, len(columns[0] or card.class_names))
    kind = kind_of_input(Path(config.slides), takes(network), card.tiling.get("tile_size"))
    require_inputs_kept(config, kind)
    require_free(output, source, config.overwrite)
    require_fitting(config, card, network, kind, aggregate)
    read = partial(
        open_input, Path(config.slides), card.tiling, output, config.num_workers,
        overwrite=config.overwrite, labels=config.labels, masks=config.masks, id_column=config.id_column,
        takes=takes(network), encode=_encoding(config, card, encoders, kind), verify=config.verify,
        dtype=str(card.data.get("dtype", "float32")),
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
        source = source | {"slides": store.content_digest()}
        files = PredictionFiles(
            output, card.class_names, threshold, source, answer_columns=columns[0], several_slides=store.grouped,
            call_columns=columns[1], warning=warning,
            further_columns=(
                *set_columns(card), *((*fold_columns(card), EACH) if averaged else ()),
                *(UNFAMILIAR_COLUMNS if predictor.familiarity else ()),
            ),
        )  # fmt: skip
    except (ValueError, OSError):
        release_folder(output)
        raise
    done = {index for index, bag_id in enumerate(store.bags["bag_id"]) if bag_id in files.done}
    not_finite: dict[str, str] = {}
    predictions = predict_bags(
        network, store, target, temperature=card.temperature, done=done,
        batch_size=config.batch_size, device=device, class_names=card.class_names, on_failure=not_finite.__setitem__,
        familiarity=predictor.familiarity,
    )  # fmt: skip
    with files, kept_memory():
        for bag in track(predictions, "slides predicted", len(store) - len(done)):
            tiles = tile_rows(store, bag.position)
            microns_per_pixel = resolution_of(store, store.tile_slice(bag.position))[0]  # of its first slide
            predicted, defer = "", bag.unfamiliar
            if target.has_classes:
                calls = decide(bag.probabilities[None].astype(np.float64), card.task, decision, bag.unfamiliar)
                predicted, defer = card.class_names[calls.predicted[0]], bool(calls.deferred[0])
            own_calls = () if numbers is None else numbers.calls(bag.probabilities)
            calls_of_numbers = deferred_cells(columns[1], own_calls, bag.unfamiliar)
            further = [
                *set_cells(card, bag.probabilities, each=bag.each),
                *fold_cells(
                    card, bag.each, bag.agreement, [predicted] if target.has_classes else calls_of_numbers[::2]
                ),
                *([] if bag.each is None else [each_as_cell(bag.each)]),
                *([] if bag.unfamiliarity is None else unfamiliar_cells(bag.unfamiliarity)),
            ]
            cells = files.cells(bag.probabilities, predicted, defer, further, calls_of_numbers)
            # Before its row: a slide with a row is complete.
            pictures.draw(bag, SlideAnswer(bag.bag_id, predicted, defer, cells))
            of_tiles = {} if bag.tile_unfamiliarity is None else {UNFAMILIAR_COLUMNS[1]: bag.tile_unfamiliarity}
            files.add(
                bag.bag_id,
                bag.probabilities,
                predicted,
                defer,
                tiles,
                microns_per_pixel,
                bag.attention,
                {**bag.maps, **of_tiles},
                further,
                calls_of_numbers,
            )
        if not_finite:
            failures = failures | not_finite
            write_failures(failures, output / "failures.csv")
        if len(not_finite) == len(store):
            raise ValueError(
                f"none of the {len(store):,} bags has a finite prediction; first: {next(iter(not_finite.values()))}"
            )
        if config.pictures:
            pictures.draw_extremes(card.class_names[0] if target.has_classes else None)
        if note := pictures.list_pages():
            sys.stderr.write(f"{note}\n")
    if aggregate:
        write_patients(
            output, store, card, aggregate, column_of_patients(card.data, config.patient_column), predictor.temperatures
        )
    sys.stdout.write(prediction_summary(output, "patient" if store.grouped else "slide"))
    if predictor.note:
        sys.stdout.write(f"{predictor.note}\n")
    if known := predictor.known_note(store.bags["bag_id"].tolist()):
        sys.stdout.write(f"{known}\n")
    for said in (say_other_decision(card, card.data.get("aggregate"), aggregate), say_about_sets(card, aggregate)):
        sys.stderr.write(f"{said}\n" * bool(said))
    if unchanged := unchanged_note(network):
        sys.stderr.write(f"{unchanged}\n")
    if predictor.familiarity is None:
        sys.stderr.write(f"{say_unknown()}\n")
    if failures:
        name, reason = next(iter(sorted(failures.items())))
        line = f"{counted(len(failures), 'slide')} failed, see {output}/failures.csv (first: {name!r}: {reason})"
        sys.stderr.write(f"{line}\n")
    return len(failures)


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
