"""A table of methods on the same folds: its trainings, and the comparison of their results."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.markdown import Markdown

from milpath.config.composition_errors import explain
from milpath.config.option_ranges import require_ranges
from milpath.data.datamodule import BagDataModule
from milpath.metrics.weighted_metrics import metric_function
from milpath.models.checkpoint import load_card
from milpath.records.data_warning import warning_in_words
from milpath.records.provenance import describe_environment
from milpath.reports.method_tables.method_table import MethodTable, compare_methods
from milpath.reports.method_tables.table_page import write_table_report
from milpath.reports.method_tables.table_record import RecordedRun, record_of
from milpath.reports.method_tables.tables import as_markdown, write_table
from milpath.reports.paper.printed_page import print_page
from milpath.reports.run_folder import read_fold
from milpath.runs.build import build_training_data, use_metrics_of
from milpath.runs.chosen_parts.unused_options import refuse_unused
from milpath.runs.monitor import require_validation
from milpath.search.composition import QUIET, compose_training
from milpath.search.cross_validation import Training, plan_trainings, run_trainings, save_plan
from milpath.search.nested_search import choose, write_choices
from milpath.slides.slide_files import require_slides_dir
from milpath.targets import NumericTarget, Target, target_of

# What a table sets for each training, and the option that decides it.
_CHOSEN = {
    "data.fold": "folds",
    "data.num_folds": "folds",
    "data.split_seed": "seed (repeats count up from it)",
    "paths.runs_dir": "output",
    "paths.run_dir": "output",
    "run_name": "output",
    "model": "methods (your own network is a model/NAME.yaml of --config-dir)",
}
# Values that are what a table does anyway.
_AS_IT_IS = {"model": ("attention_mil",), "test": ("true", "yes", "on"), "resume_from": ("auto", "null")}
_ALWAYS = {
    "test": "a table compares methods on the test splits",
    "resume_from": "a table continues each training that was interrupted",
}


def make_table(config: DictConfig, words: list[str], config_dirs: Sequence[str] = ()) -> MethodTable:
    """Train what is not finished and write the table; see `milpath.table.run`."""
    _require_known(config)
    _require_free(words)
    output = Path(config.output).absolute()
    trainings = plan_trainings(
        words,
        list(config.methods),
        config.folds,
        config.repeats,
        output,
        seed=config.seed,
        search=_plain(config.search),
        config_dirs=config_dirs,
        method_options=_plain(config.method_options),
    )
    first = _compose_each(trainings)
    datamodule = build_training_data(first)
    datamodule.setup()  # fails on bad data before the first of many trainings, and builds the store once
    metric = config.metric or first.monitor.removeprefix("val/")
    if metric not in (known := _metrics_of(datamodule)):
        epochs = f"monitor={first.monitor} only chooses the epoch of each training: " if config.metric is None else ""
        raise ValueError(
            f"{epochs}{metric!r} is not a metric of a {datamodule.task} task, by which a table compares methods; give "
            f"metric= one of {', '.join(known)}"
        )
    if config.search:
        require_validation(first.monitor, datamodule)
    save_plan(trainings, output)
    title = next((word.removeprefix("experiment=") for word in words if word.startswith("experiment=")), "table")
    run_trainings(trainings, config.jobs)
    chosen = choose(trainings, first.monitor, first.monitor_mode)
    if config.search and (num_failed := write_choices(trainings, chosen, first.monitor, output / "choices.csv")):
        sys.stdout.write(f"{num_failed} of {len(trainings)} candidates failed, see {output / 'choices.csv'}\n")
    groups = None if datamodule.aggregate else datamodule.groups  # predictions are then those of patients
    folds = [
        read_fold(
            training.run_dir,
            training.method,
            training.repeat,
            training.fold,
            _target_of_run(training.run_dir, datamodule.fitted_target),
            groups=groups,
        )
        for training in chosen
    ]
    table = compare_methods(
        folds,
        metric,
        title=f"{title}: {config.folds} folds x {config.repeats}",
        published=_plain(config.published),
        seed=config.seed,
    )
    table = replace(table, warning=warning_in_words(datamodule.warning, datamodule.warning))
    environment = describe_environment()
    runs = [RecordedRun(training.repeat, training.fold, training.run_dir) for training in trainings]
    write_table(table, output, record_of(runs, environment["command"]))
    page = write_table_report(table, output, environment)
    text = as_markdown(table)
    # A name that is cut off could be that of another method.
    width = max(shutil.get_terminal_size().columns, *map(len, text.split("\n\n- ")[0].splitlines()))
    Console(width=width).print(Markdown(text))
    sys.stdout.write(f"report: {page}\n")
    if config.report_pdf:
        Console().print(print_page(page), soft_wrap=True, markup=False, highlight=False)
    return table


def _compose_each(trainings: Sequence[Training]) -> Any:
    """Compose every method and every candidate once, so that a wrong setting costs no training; returns the first settings.

    They are composed as the trainings are, which then need not do it again.
    """
    methods = {training.method: training.overrides for training in reversed(trainings)}
    candidates = {training.candidate: training.overrides for training in reversed(trainings)}
    # The last has the largest seed.
    for overrides in dict.fromkeys((*methods.values(), *candidates.values(), trainings[-1].overrides)):
        try:
            composed = compose_training((*overrides, *QUIET))
            require_ranges(composed)
            refuse_unused(composed)
            require_slides_dir(composed.slides_dir)
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(explain(error, "table", overrides)) from error
    return compose_training(trainings[0].overrides)


def _metrics_of(datamodule: BagDataModule) -> tuple[str, ...]:
    """Return the metrics of a trained network: some need what a target fits on its predictions."""
    target = datamodule.fitted_target
    if isinstance(target, NumericTarget):
        labels = datamodule.labels("train")
        outputs = target.num_outputs(len(datamodule.class_names))
        target = target.fitted_on_predictions(np.zeros((len(labels), outputs), np.float32), labels)
    return target.reported_metrics


def _target_of_run(run_dir: Path, target: Target) -> Target:
    """Return the target with what a training fitted, which its predictions depend on; with classes it fits nothing."""
    checkpoint = run_dir / "checkpoints" / "best.ckpt"
    return target if target.has_classes or not checkpoint.is_file() else target_of(load_card(checkpoint))


def _require_known(config: DictConfig) -> None:
    """Refuse unknown names before the first training rather than after the last."""
    use_metrics_of(config)
    if config.metric is not None:
        metric_function(config.metric)
    if config.published is not None and not OmegaConf.is_dict(config.published):
        raise ValueError(f"published={config.published} must give values for methods, such as {{attention: 0.892}}")
    for name, value in (config.published or {}).items():
        if not isinstance(value, int | float):
            raise ValueError(f"published has {value!r} for {name}, which is no number, such as 0.892")
    methods = [str(method) for method in config.methods]
    if unknown := [name for name in config.published or {} if name not in methods]:
        raise ValueError(f"published has {', '.join(unknown)}, which is not in methods=[{','.join(methods)}]")


def _require_free(words: Sequence[str]) -> None:
    """Refuse options that the table sets for each training: what was typed would change nothing."""
    for word in words:
        key, _, value = word.lstrip("+~").partition("=")
        if value.strip(" '\"").casefold() in _AS_IT_IS.get(key, ()):
            continue
        if key in _ALWAYS:
            raise ValueError(f"{word}: {_ALWAYS[key]}; leave it out")
        if key in _CHOSEN:
            raise ValueError(f"{word}: a table chooses {key} for each of its trainings; set {_CHOSEN[key]} instead")


def _plain(value: Any) -> Any:
    """Return plain values."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
