"""Test a checkpoint: `python -m milpath.evaluate checkpoint=PATH [data=NAME data.key=value]`."""

import logging
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from milpath.config.command import command
from milpath.config.module_loading import collecting_later
from milpath.records.atomic_files import write_text
from milpath.records.tile_resolution import ALLOW

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from milpath.runs.result_files import Metrics


_log = logging.getLogger(__name__)


def run(config: DictConfig, typed: Collection[str] = ()) -> "Metrics":
    """Predict the splits of a data set with a checkpoint and write a run folder, as training does.

    Without `data`, the data and the split are those of the run that wrote the checkpoint; it is an error if its labels or
    files have changed so that the split differs. Other data (`data=NAME`) are tested as a whole, regardless of their number
    of folds, unless they come with a split or one is given on the command line (`data.num_folds`, `data.fold`,
    `data.splits`, ...). If the given data contain the same tiles the network was trained on, the split of its run is used:
    metrics on training bags would not be a test. `slides` and `labels` instead of `data` test slides, tiles or features as
    `predict` opens them, as a whole: slides are cut, and encoded for a network of features, as in training. If some bags are
    not tested, the summary and `provenance.json` say how many are tested and why.

    Args:
        config: The composed root of the `evaluate` command.
        typed: Keys given on the command line; a split given there is the one that is tested.

    Returns:
        Split to metric to value, as in `metrics.json`.

    Raises:
        FileExistsError: If the run folder holds a training run, or holds results and `overwrite` is false.
        ValueError: If the classes of the checkpoint are not those of the data, the data have none of the splits, or the
            split of the run cannot be reproduced.
    """
    # Imported here so that --help and mistyped overrides need only Hydra, not torch.
    with collecting_later():
        from milpath.records.folder_lock import FolderLock
        from milpath.runs.build_trainer import build_trainer
        from milpath.runs.evaluation.evaluation_options import require_values

    require_values(config)
    trainer, run_dir = build_trainer(config), Path(config.paths.run_dir)
    with FolderLock(run_dir) if trainer.is_global_zero else nullcontext():
        return _evaluate(config, trainer, run_dir, typed)


def _evaluate(config: DictConfig, trainer: "Trainer", run_dir: Path, typed: Collection[str]) -> "Metrics":
    """Evaluate into a run folder that this process has locked."""
    from lightning.pytorch import seed_everything

    from milpath.checks.evaluation_check import check_for_evaluation
    from milpath.checks.training_check import check_for_training
    from milpath.config.own_parts import import_own_parts
    from milpath.data.store.encoder_match import require_same_encoder
    from milpath.data.store.resolution_match import compare_resolution
    from milpath.inference.ensemble import open_predictor
    from milpath.inference.faithfulness import MeasureOptions
    from milpath.models.encoders.trained_encoder import require_weights_used
    from milpath.models.stains import unchanged_note
    from milpath.records.data_warning import joined, warning_in_words
    from milpath.records.provenance import record_run
    from milpath.reports.faithfulness import remove_faithfulness, write_faithfulness
    from milpath.reports.pictures import slides_of_report
    from milpath.reports.run_folder import IDENTITY_FILE
    from milpath.runs.build import use_metrics_of
    from milpath.runs.evaluation.cohort_weights import card_in_cohort
    from milpath.runs.evaluation.evaluated_data import (
        evaluated_data,
        is_other_cohort,
        require_same_task,
        tests_split_of_run,
    )
    from milpath.runs.evaluation.evaluated_slides import advice_for_slides, bags_of_slides, encode_tiles_of
    from milpath.runs.evaluation.held_out_bags import trained_bags
    from milpath.runs.evaluation.measured_faithfulness import MeasuredNetwork, measure_faithfulness
    from milpath.runs.familiar_bags import asking_probe, say_familiarity
    from milpath.runs.folds.fold_cohort import cohort_of_folds, shift_of_folds
    from milpath.runs.results import shown_predictions, write_run
    from milpath.targets import target_of
    from milpath.targets.aggregation import require_aggregate
    from milpath.training.callbacks.predict_splits import predict_splits
    from milpath.training.classifier import MILClassifier

    if (run_dir / IDENTITY_FILE).exists() or (run_dir / "checkpoints").exists():
        raise FileExistsError(
            f"{run_dir} holds a training run, which an evaluation never overwrites; give another run_name"
        )
    if (run_dir / "metrics.json").exists() and not config.overwrite:
        raise FileExistsError(f"{run_dir} already holds results; give another run_name, or overwrite=true")
    seed_everything(config.seed, workers=True, verbose=False)
    parts = import_own_parts(config.parts)
    use_metrics_of(config)
    predictor = open_predictor(config.checkpoint, parts.networks, parts.encoders, method=config.method)
    card, network, name = predictor.card, predictor.network, predictor.name
    require_weights_used(network, config.encoder_weights_path)
    data, left_out = config.data, ""
    if config.slides is not None or config.labels is not None:
        data, left_out = bags_of_slides(config, card, network, parts.encoders, trainer, run_dir)
    with advice_for_slides(config, data):
        if predictor.folds:
            datamodule, note = cohort_of_folds(predictor, data, config.splits, typed)
        else:
            datamodule, note = evaluated_data(
                name, card, data, config.splits, typed,
                stores_dir=str(config.paths.stores_dir), sources=parts.sources,
            )  # fmt: skip
        require_same_task(card, datamodule, name)
    note = "; ".join(filter(None, (note, left_out)))
    aggregate = config.aggregate or datamodule.aggregate or card.data.get("aggregate")
    require_aggregate(aggregate, target_of(card), len(card.class_names))
    if aggregate:
        datamodule.group_by_patient()
    slides = slides_of_report(datamodule.tile_store, config.slides_dir, config.slides)  # refused before any work
    encode_tiles_of(datamodule, config, card, network, parts.encoders)
    require_same_encoder(card, network, datamodule.tile_store, datamodule.tile_store.path, name)
    if resolution := compare_resolution(card.tiling, datamodule.tile_store, ALLOW):
        _log.warning("%s", resolution)
    splits = [split for split in config.splits if split in datamodule.splits]
    if not splits:
        raise ValueError(
            f"splits={list(config.splits)} has none of the splits of the data: {', '.join(datamodule.splits)}"
        )

    paths = [str(fold.path) for fold in predictor.folds] or [name]
    checked = (
        check_for_training(datamodule)
        if not predictor.folds and tests_split_of_run(name, datamodule)
        else check_for_evaluation(datamodule, splits, [trained_bags(path) for path in paths])
    )
    if trainer.is_global_zero:
        (_log.warning if checked.is_warning else _log.info)("%s", checked.line)
    datamodule.leak = checked.leak

    classifier = MILClassifier(network, class_names=card.class_names, task=target_of(card))
    probe = asking_probe(predictor.familiarity)
    predictions = predict_splits(trainer, classifier, datamodule, splits, probe)
    if left := unchanged_note(network):
        _log.warning("%s", left)
    if not trainer.is_global_zero:
        return {}
    remove_faithfulness(run_dir)
    found: dict[str, Any] = {}
    if config.faithfulness:
        measured = MeasuredNetwork(network, card, predictor.name, predictor.sha256)
        rows, found = measure_faithfulness(
            [measured], datamodule, ["test"] if "test" in splits else splits, MeasureOptions(seed=config.seed),
            device=trainer.strategy.root_device,
        )  # fmt: skip
        write_faithfulness(run_dir, rows, found, datamodule.split_groups, page=False)
    shift, of_folds = [], predictor.temperatures
    if predictor.folds or is_other_cohort(name, card, data, datamodule):
        shown = shown_predictions(predictions, datamodule, card, aggregate, of_folds)
        card, of_cohort = card_in_cohort(card, shown.labels)
        note = "; ".join(filter(None, (note, of_cohort)))
    if predictor.folds and aggregate == card.data.get("aggregate"):
        shift = shift_of_folds(predictor, shown, None if aggregate else datamodule.groups)
    elif predictor.folds:
        note += f"; no shift against validation, which is known with aggregate={card.data.get('aggregate') or 'null'}"
    warning = joined([warning_in_words(card.warning, datamodule.warning), checked.leak])
    said = {"tested": note, "check": checked.line, "warning": warning}
    record_run(config, run_dir, datamodule.description | {name: words for name, words in said.items() if words})
    write_text(run_dir / "splits.csv", datamodule.splits_table().to_csv(index=False))
    return write_run(
        run_dir, predictions, datamodule, card,
        report=config.report, report_pdf=config.report_pdf, slides=slides,
        note="\n".join(filter(None, (note, say_familiarity(probe), found.get("verdict", "")))),
        aggregate=aggregate, shift=shift, temperatures=of_folds, familiarity=predictor.familiarity,
    )  # fmt: skip


@command("evaluate")
def main(config: DictConfig) -> None:
    """Run the command."""
    config.paths.run_dir = HydraConfig.get().runtime.output_dir
    run(config, typed=[word.split("=")[0].lstrip("+") for word in HydraConfig.get().overrides.task])


if __name__ == "__main__":
    main()
