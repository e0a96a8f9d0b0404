"""Results of a run: testing the best checkpoint, and writing metrics, predictions and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console

from milpath.data.datamodule import BagDataModule
from milpath.metrics.cohort_shift import CohortShift, shift_metrics
from milpath.models.checkpoint import Card, load_weights, update_card
from milpath.models.familiarity import Familiarity
from milpath.models.weights_digest import digest_of
from milpath.records.data_warning import joined, warning_in_words
from milpath.records.prediction_table import Predictions
from milpath.reports.page import write_report
from milpath.reports.paper.printed_page import print_page
from milpath.reports.pictures import slides_of_report, without_pictures
from milpath.runs.familiar_bags import fitting_probe, say_familiarity
from milpath.runs.fitted_sets import fitted_sets, measured_sets, with_set_columns
from milpath.runs.patient_results import fitted_by_patient, results_by_patient
from milpath.runs.result_files import Metrics, labels_in_words, summary_table, write_results, write_slide_attention
from milpath.targets import NumericTarget, class_target_named, target_of
from milpath.targets.decision import Decision, choose_decision, decide, deferred_cells, say_other_decision
from milpath.targets.shown_sets import say_about_sets, shown_parts
from milpath.training.callbacks.predict_splits import columns_of, predict_splits
from milpath.training.classifier import MILClassifier
from milpath.training.tested_weights import warn_of_tested_weights


def finish_run(
    config: DictConfig, trainer: Trainer, classifier: MILClassifier, datamodule: BagDataModule, run_dir: Path
) -> Metrics:
    """Predict the splits with the best checkpoint of a run, choose the operating point on validation, write the results.

    Args:
        config: Root of the `train` command.
        trainer: The Trainer that trained.
        classifier: The classifier; its weights become those of `checkpoints/best.ckpt`.
        datamodule: The data of the run.
        run_dir: The folder of the run.

    Returns:
        Split to metric to value, as in `metrics.json`.
    """
    best = run_dir / "checkpoints" / "best.ckpt"
    tested = load_weights(classifier.network, best) if best.exists() else None
    splits = [split for split in datamodule.splits if split != "test" or config.test]
    probe = fitting_probe(config, datamodule)
    predictions = predict_splits(trainer, classifier, datamodule, splits, probe)
    if not trainer.is_global_zero:
        return {}
    target, wished = classifier.target, config.decision
    changes: dict[str, Any]
    if isinstance(target, NumericTarget):
        fitted = target.fitted_on_predictions(*_of_split(predictions, "train"))
        if target.decides:
            fitted = fitted.decided_on(
                *_of_split(predictions, "val"), wished.sensitivity, wished.calibrate, wished.defer_fraction
            )
        if datamodule.aggregate:
            shown = results_by_patient(
                _answered(predictions, fitted), datamodule, fitted, datamodule.aggregate
            ).predictions
            fitted = fitted_by_patient(fitted, shown, wished.sensitivity, wished.defer_fraction)
        changes = {"target_state": fitted.state()}
    else:
        decided_on = predictions
        if datamodule.aggregate:
            decided_on = results_by_patient(predictions, datamodule, target, datamodule.aggregate).predictions
        decision = _decide_on_validation(config, decided_on, classifier.task)
        changes = {name: getattr(decision, name) for name in ("threshold", "temperature", "defer_below")}
    card = replace(classifier.card(), **changes)
    if wished.coverage is not None:
        changes["conformal"] = fitted_sets(
            *_of_patients(predictions, datamodule, card), wished.coverage, bool(wished.coverage_by_class),
            datamodule.aggregate,
        )  # fmt: skip
        card = replace(card, conformal=changes["conformal"])
    changes["familiarity"] = {} if probe is None else probe.state()
    if tested is not None and digest_of(changes) != digest_of({name: getattr(tested, name) for name in changes}):
        update_card(best, **changes)
    slides = slides_of_report(datamodule.tile_store, config.get("slides_dir"))
    metrics = write_run(
        run_dir, predictions, datamodule, card,
        report=config.report, report_pdf=config.get("report_pdf", False), slides=slides,
        aggregate=datamodule.aggregate, note=say_familiarity(probe),
        familiarity=None if probe is None else probe.familiarity,
    )  # fmt: skip
    warn_of_tested_weights(str(run_dir), predictions, getattr(classifier.network, "learns_attention", True))
    return metrics


def write_run(
    run_dir: Path,
    predictions: Predictions,
    datamodule: BagDataModule,
    card: Card,
    *,
    report: bool = True,
    report_pdf: bool = False,
    note: str = "",
    shift: Sequence[CohortShift] = (),
    aggregate: str | None = None,
    slides: Mapping[str, Path] = MappingProxyType({}),
    temperatures: Sequence[float] = (),
    familiarity: Familiarity | None = None,
) -> Metrics:
    """Write metrics, predictions and report of a run, and print the summary table.

    Args:
        run_dir: The folder of the run.
        predictions: Predictions of every evaluated split, at temperature 1.
        datamodule: The data of the run; the report takes bags, tiles and groups from it.
        card: The checkpoint's card, with the operating point chosen on validation.
        report: Whether to write `report.html` and its pictures.
        report_pdf: Whether to print it as `report.pdf` too, if the machine has a browser.
        note: Printed below the table.
        shift: How the tested bags differ from those that several folds were calibrated on; empty for one checkpoint.
        aggregate: "mean" or "max": the results are those of patients, from the predictions of their slides, which are
            written to `slide_predictions.csv`; `None`: those of the bags.
        slides: Bag to the file of its slide, for the pictures of features in the report.
        temperatures: Temperature of each fold of an average of classes; empty for one network.
        familiarity: The models of familiar slides that judged the predictions; `None` without.
    """
    target = target_of(card)
    bags, store, groups = datamodule.label_frame, datamodule.tile_store, datamodule.groups
    if isinstance(target, NumericTarget):
        predictions = _answered(predictions, target)
    if aggregate:
        predictions.write_csv(run_dir / "slide_predictions.csv")
        predictions, bags, store = results_by_patient(predictions, datamodule, target, aggregate, temperatures)
        groups = None
    if not isinstance(target, NumericTarget):
        predictions = _decided(predictions, card)
    predictions = with_set_columns(predictions, card, aggregate)
    of_sets = measured_sets(predictions, card, groups, aggregate)
    if shift:
        of_sets = {split: dict(of_sets.get(split, {})) for split in dict.fromkeys(predictions.splits)}
        of_sets["test" if "test" in of_sets else next(iter(of_sets))] |= shift_metrics(shift)
    write_slide_attention(run_dir / "slide_attention.csv", predictions, store)
    metrics = write_results(run_dir, predictions, target, card.threshold, more=of_sets, groups=groups)
    warning = joined([warning_in_words(card.warning, datamodule.warning), datamodule.leak])
    if report:
        page = write_report(
            run_dir,
            task=target,
            threshold=card.threshold,
            temperature=card.temperature,
            defer_below=card.defer_below,
            bags=bags,
            store=store,
            groups=groups,
            slides=slides,
            warning=warning,
            sets=shown_parts(card, aggregate),
            each=predictions.each,
            agreement=predictions.agreement,
            shift=shift,
            familiarity=familiarity,
        )
        why = f" ({line})" if (line := without_pictures(datamodule.tile_store, slides)) else ""
        Console().print(f"report: {page}{why}", soft_wrap=True, markup=False, highlight=False)
        if report_pdf:
            Console().print(print_page(page), soft_wrap=True, markup=False, highlight=False)
    Console().print(summary_table(metrics, title=str(run_dir)))
    counts = labels_in_words(predictions, target) if isinstance(target, NumericTarget) else ""
    for line in filter(
        None,
        (
            counts,
            note,
            say_other_decision(card, card.data.get("aggregate"), aggregate),
            say_about_sets(card, aggregate),
            warning,
        ),
    ):
        Console().print(line, soft_wrap=True, markup=False, highlight=False)
    return metrics


def _of_patients(
    predictions: Predictions, datamodule: BagDataModule, card: Card
) -> tuple[Predictions, Card, dict[str, str] | None]:
    """Return what prediction sets are fitted on: predictions as they are shown, of patients if they are aggregated."""
    shown = shown_predictions(predictions, datamodule, card, datamodule.aggregate)
    return shown, card, None if datamodule.aggregate else datamodule.groups


def shown_predictions(
    predictions: Predictions,
    datamodule: BagDataModule,
    card: Card,
    aggregate: str | None,
    temperatures: Sequence[float] = (),
) -> Predictions:
    """Return predictions as a run shows them, of patients if they are aggregated; arguments as in `write_run`."""
    target = target_of(card)
    if not aggregate:
        return as_shown(predictions, card)
    if isinstance(target, NumericTarget):
        predictions = _answered(predictions, target)
    predictions = results_by_patient(predictions, datamodule, target, aggregate, temperatures).predictions
    return predictions if isinstance(target, NumericTarget) else _decided(predictions, card)


def as_shown(predictions: Predictions, card: Card) -> Predictions:
    """Return the predictions with the temperature and the classes of a card, or the numbers of its target."""
    target = target_of(card)
    return _answered(predictions, target) if isinstance(target, NumericTarget) else _decided(predictions, card)


def _decided(predictions: Predictions, card: Card) -> Predictions:
    """Return the predictions with the classes that the decision of a card predicts."""
    decision, probabilities = Decision(card.threshold, card.temperature, card.defer_below), predictions.probabilities
    if predictions.logits is not None:
        # Computed from logits, as an endpoint does: a probability that float32 rounds to 1 could not be rescaled.
        probabilities = at_temperature(predictions.logits, card.task, card.temperature)
        decision = Decision.of_card(card)
    calls = decide(probabilities.astype(np.float64), card.task, decision)
    return replace(predictions, probabilities=calls.probabilities.astype(np.float32), predicted=calls.predicted)


def _answered(predictions: Predictions, target: NumericTarget) -> Predictions:
    """Return the predictions with the numbers of a target without classes, computed from the logits."""
    answers = predictions.probabilities
    if predictions.logits is not None:
        answers = target.answers(torch.from_numpy(predictions.logits)).numpy()
    columns = target.call_columns
    calls = (
        [
            deferred_cells(columns, target.calls(row), bool(strange))
            for row, strange in zip(answers, predictions.unfamiliar, strict=True)
        ]
        if columns
        else ()
    )
    return replace(
        predictions, probabilities=answers, calls=calls, call_columns=target.call_columns, **columns_of(target)
    )


def _of_split(predictions: Predictions, name: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return logits and labels of a split; both are empty without one."""
    chosen = np.array([split == name for split in predictions.splits])
    assert predictions.logits is not None
    return predictions.logits[chosen], predictions.labels[chosen]


def _decide_on_validation(config: DictConfig, predictions: Predictions, task: str) -> Decision:
    """Return the operating point chosen on validation; the default if the split is empty or has a single class."""
    chosen = np.array([split == "val" for split in predictions.splits])
    labels = predictions.labels[chosen]
    wished = config.decision
    if len(np.unique(labels)) < 2:
        if wished.sensitivity is not None or wished.calibrate:
            raise ValueError(
                "decision.sensitivity and decision.calibrate are chosen on the validation split, which has bags of "
                f"{len(np.unique(labels))} classes; set data.val_fraction, or remove these options"
            )
        return Decision()
    logits = predictions.logits
    scaled = None
    if logits is not None:

        def scaled(temperature: float) -> NDArray[np.float64]:
            return at_temperature(logits[chosen], task, temperature).astype(np.float64)

    return choose_decision(
        labels,
        predictions.probabilities[chosen].astype(np.float64),
        task,
        sensitivity=wished.sensitivity,
        calibrate=wished.calibrate,
        defer_share=wished.defer_fraction,
        at_temperature=scaled,
    )


def at_temperature(logits: NDArray[np.float32], task: str, temperature: float) -> NDArray[np.float32]:
    """Return the class probabilities, `(bags, classes)`, of logits divided by a temperature."""
    probabilities: NDArray[np.float32] = (
        class_target_named(task).probabilities(torch.from_numpy(logits), temperature).numpy()
    )
    return probabilities
