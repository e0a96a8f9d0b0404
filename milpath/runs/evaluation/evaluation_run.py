"""The test of a checkpoint: its data, their check, the predictions, and what is written into the run folder."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch import Trainer, seed_everything
from omegaconf import DictConfig

from milpath.checks.evaluation_check import check_for_evaluation
from milpath.checks.training_check import TrainingCheck, check_for_training
from milpath.config.own_parts import OwnParts, import_own_parts
from milpath.data.datamodule import BagDataModule
from milpath.data.store.encoder_match import require_same_encoder
from milpath.data.store.resolution_match import compare_resolution
from milpath.inference.ensemble import Predictor, open_predictor
from milpath.inference.faithfulness import MeasureOptions
from milpath.metrics.cohort_shift import CohortShift
from milpath.models.card import Card
from milpath.models.encoders.trained_encoder import require_weights_used
from milpath.models.stains import unchanged_note
from milpath.records.atomic_files import write_text
from milpath.records.data_warning import joined, warning_in_words
from milpath.records.prediction_table import Predictions
from milpath.records.provenance import record_run
from milpath.records.tile_resolution import ALLOW
from milpath.reports.faithfulness import remove_faithfulness, write_faithfulness
from milpath.reports.pictures import slides_of_report
from milpath.reports.run_folder import IDENTITY_FILE
from milpath.runs.build import use_metrics_of
from milpath.runs.evaluation.cohort_weights import card_in_cohort
from milpath.runs.evaluation.evaluated_data import (
    evaluated_data,
    is_other_cohort,
    require_same_task,
    rounded_as_trained,
    tests_split_of_run,
)
from milpath.runs.evaluation.evaluated_slides import advice_for_slides, bags_of_slides, encode_tiles_of
from milpath.runs.evaluation.held_out_bags import trained_bags
from milpath.runs.evaluation.measured_faithfulness import MeasuredNetwork, measure_faithfulness
from milpath.runs.familiar_bags import asking_probe, say_familiarity
from milpath.runs.folds.fold_cohort import cohort_of_folds, shift_of_folds
from milpath.runs.result_files import Metrics
from milpath.runs.results import shown_predictions, write_run
from milpath.targets import target_of
from milpath.targets.aggregation import require_aggregate
from milpath.training.callbacks.predict_splits import predict_splits
from milpath.training.classifier import MILClassifier

_log = logging.getLogger(__name__)


class _Tested(NamedTuple):
    """The data of an evaluation.

    Attributes:
        datamodule: The data, after `setup`.
        note: Which bags are tested, in one line.
        aggregate: How predictions of slides become those of patients; `None` if they do not.
        is_other: Whether the bags are of other data than those of the training.
        splits: The splits that are tested.
    """

    datamodule: BagDataModule
    note: str
    aggregate: str | None
    is_other: bool
    splits: list[str]


def evaluate(config: DictConfig, trainer: Trainer, run_dir: Path, typed: Collection[str]) -> Metrics:
    """Test a checkpoint into a run folder that this process has locked.

    Args:
        config: Root of the `evaluate` command.
        trainer: Predicts the bags; the process of rank 0 writes.
        run_dir: The folder.
        typed: Keys given on the command line.

    Returns:
        Split to metric to value, as in `metrics.json`; empty in processes of another rank.

    Raises:
        FileExistsError: If the folder holds a training run, or holds results and `overwrite` is false.
        ValueError: If the data do not fit the network, or cannot be tested.
    """
    _require_free(run_dir, config.overwrite)
    seed_everything(config.seed, workers=True, verbose=False)
    parts = import_own_parts(config.parts)
    use_metrics_of(config)
    predictor = open_predictor(config.checkpoint, parts.networks, parts.encoders, method=config.method)
    require_weights_used(predictor.network, config.encoder_weights_path)
    tested = _open_data(config, predictor, parts, trainer, run_dir, typed)
    datamodule, splits = tested.datamodule, tested.splits
    slides = slides_of_report(datamodule.tile_store, config.slides_dir, config.slides)  # refused before any work
    _encode_as_trained(config, predictor, parts, datamodule)
    checked = _check(predictor, datamodule, splits)
    if trainer.is_global_zero:
        (_log.warning if checked.is_warning else _log.info)("%s", checked.line)
    card = predictor.card
    classifier = MILClassifier(predictor.network, class_names=card.class_names, task=target_of(card))
    probe = asking_probe(predictor.familiarity)
    predictions = predict_splits(trainer, classifier, datamodule, splits, probe)
    if left := unchanged_note(predictor.network):
        _log.warning("%s", left)
    if not trainer.is_global_zero:
        return {}
    verdict = _measure_faithfulness(config, predictor, tested, trainer, run_dir)
    card, shift, note = _compare_cohort(predictor, predictions, tested)
    warning = joined([warning_in_words(card.warning, datamodule.warning), checked.leak])
    said = {"tested": note, "check": checked.line, "warning": warning}
    record_run(config, run_dir, datamodule.description | {name: words for name, words in said.items() if words})
    write_text(run_dir / "splits.csv", datamodule.splits_table().to_csv(index=False))
    return write_run(
        run_dir, predictions, datamodule, card,
        report=config.report, report_pdf=config.report_pdf, slides=slides,
        note="\n".join(filter(None, (note, say_familiarity(probe), verdict))),
        aggregate=tested.aggregate, shift=shift, temperatures=predictor.temperatures, familiarity=predictor.familiarity,
    )  # fmt: skip


def _require_free(run_dir: Path, overwrite: bool) -> None:
    """Refuse a folder that holds a training, or results that must not be replaced."""
    if (run_dir / IDENTITY_FILE).exists() or (run_dir / "checkpoints").exists():
        raise FileExistsError(
            f"{run_dir} holds a training run, which an evaluation never overwrites; give another run_name"
        )
    if (run_dir / "metrics.json").exists() and not overwrite:
        raise FileExistsError(f"{run_dir} already holds results; give another run_name, or overwrite=true")


def _open_data(
    config: DictConfig,
    predictor: Predictor,
    parts: OwnParts,
    trainer: Trainer,
    run_dir: Path,
    typed: Collection[str],
) -> _Tested:
    """Open the data that are tested: those of the run, other data, or slides with a table of labels."""
    card, name, left_out = predictor.card, predictor.name, ""
    data = rounded_as_trained(config.data, card, typed)
    if config.slides is not None or config.labels is not None:
        data, left_out = bags_of_slides(config, card, predictor.network, parts.encoders, trainer, run_dir)
    with advice_for_slides(config, data):
        if predictor.folds:
            datamodule, note = cohort_of_folds(predictor, data, config.splits, typed)
        else:
            datamodule, note = evaluated_data(
                name, card, data, config.splits, typed,
                stores_dir=str(config.paths.stores_dir), sources=parts.sources,
            )  # fmt: skip
        require_same_task(card, datamodule, name)
    aggregate = config.aggregate or datamodule.aggregate or card.data.get("aggregate")
    require_aggregate(aggregate, target_of(card), len(card.class_names))
    if aggregate:
        datamodule.group_by_patient()
    splits = [split for split in config.splits if split in datamodule.splits]
    if not splits:
        raise ValueError(
            f"splits={list(config.splits)} has none of the splits of the data: {', '.join(datamodule.splits)}"
        )
    is_other = bool(predictor.folds) or is_other_cohort(name, card, data, datamodule)
    return _Tested(datamodule, "; ".join(filter(None, (note, left_out))), aggregate, is_other, splits)


def _encode_as_trained(config: DictConfig, predictor: Predictor, parts: OwnParts, datamodule: BagDataModule) -> None:
    """Encode tiles for a network of features; refuse features of another encoder, and say another resolution."""
    card, network, store = predictor.card, predictor.network, datamodule.tile_store
    encode_tiles_of(datamodule, config, card, network, parts.encoders)
    require_same_encoder(card, network, store, store.path, predictor.name)
    if resolution := compare_resolution(card.tiling, store, ALLOW):
        _log.warning("%s", resolution)


def _check(predictor: Predictor, datamodule: BagDataModule, splits: Sequence[str]) -> TrainingCheck:
    """Look for bags of the training among those tested; a leak is kept with the data, for their report."""
    paths = [str(fold.path) for fold in predictor.folds] or [predictor.name]
    checked = (
        check_for_training(datamodule)
        if not predictor.folds and tests_split_of_run(predictor.name, datamodule)
        else check_for_evaluation(datamodule, splits, [trained_bags(path) for path in paths])
    )
    datamodule.leak = checked.leak
    return checked


def _measure_faithfulness(
    config: DictConfig, predictor: Predictor, tested: _Tested, trainer: Trainer, run_dir: Path
) -> str:
    """Measure whether attention shows what the network uses, if asked, and return the verdict."""
    remove_faithfulness(run_dir)
    if not config.faithfulness:
        return ""
    measured = MeasuredNetwork(predictor.network, predictor.card, predictor.name, predictor.sha256)
    rows, found = measure_faithfulness(
        [measured], tested.datamodule, ["test"] if "test" in tested.splits else tested.splits,
        MeasureOptions(seed=config.seed), device=trainer.strategy.root_device,
    )  # fmt: skip
    write_faithfulness(run_dir, rows, found, tested.datamodule.split_groups, page=False)
    return str(found.get("verdict", ""))


def _compare_cohort(
    predictor: Predictor, predictions: Predictions, tested: _Tested
) -> tuple[Card, Sequence[CohortShift], str]:
    """Return the card with what is fitted on other bags, how they differ from those of the folds, and the note on both."""
    card, datamodule, aggregate = predictor.card, tested.datamodule, tested.aggregate
    if not tested.is_other:
        return card, [], tested.note
    shown = shown_predictions(predictions, datamodule, card, aggregate, predictor.temperatures)
    card, of_cohort = card_in_cohort(card, shown.labels)
    note = "; ".join(filter(None, (tested.note, of_cohort)))
    if not predictor.folds:
        return card, [], note
    if aggregate == card.data.get("aggregate"):
        return card, shift_of_folds(predictor, shown, None if aggregate else datamodule.groups), note
    of_validation = card.data.get("aggregate") or "null"
    return card, [], f"{note}; no shift against validation, which is known with aggregate={of_validation}"
