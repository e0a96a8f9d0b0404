"""Cross-validate methods: `python -m milpath.table experiment=NAME methods=[...] folds=10 repeats=5 output=DIR`."""

import json
import math
import sys
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markdown import Markdown

from milpath.build import build_datamodule
from milpath.command import command
from milpath.configuration import TableConfig, TrainConfig
from milpath.protocol import Training, compose_training, plan_trainings, run_trainings, save_plan
from milpath.provenance import describe_environment
from milpath.reports.method_table import FoldResult, MethodTable, compare_methods
from milpath.reports.run_folder import read_fold
from milpath.reports.table_page import write_table_report
from milpath.reports.tables import as_markdown, write_table


def run(config: DictConfig, words: list[str]) -> MethodTable:
    """Train every fold of every method that is not done yet, and write the table.

    Args:
        config: The composed root of the `table` command.
        words: The words of the command line that every training gets.

    Returns:
        The table, which `table.md`, `table.csv`, `table.json` and `table.tex` in the output folder show.
    """
    output = Path(config.output).absolute()
    trainings = plan_trainings(
        words,
        list(config.methods),
        config.folds,
        config.repeats,
        output,
        seed=config.seed,
        search=_plain(config.search),
    )
    first = compose_training(trainings[0].overrides)
    datamodule = build_datamodule(first.data)
    datamodule.setup()  # bad data stop the table here, before the first of many trainings, and the store is built once
    save_plan(trainings, output)
    title = next((word.removeprefix("experiment=") for word in words if word.startswith("experiment=")), "table")
    run_trainings(trainings, config.jobs)
    frame, column = datamodule.label_frame, first.data.group_column
    groups = dict(zip(frame["bag_id"], frame[column].astype(str), strict=True)) if column else None
    monitored = first.monitor.removeprefix("val/")
    folds = [
        _fold(list(candidates), monitored, datamodule.task, groups)
        for _, candidates in groupby(trainings, key=lambda training: training.name)
    ]
    table = compare_methods(
        folds,
        config.metric or monitored,
        title=f"{title}: {config.folds} folds x {config.repeats}",
        published=_plain(config.published),
        seed=config.seed,
    )
    write_table(table, output)
    write_table_report(table, output, describe_environment())
    Console().print(Markdown(as_markdown(table)))
    return table


def _fold(candidates: list[Training], monitored: str, task: str, groups: dict[str, str] | None) -> FoldResult:
    """Read the test split of a fold, of the candidate that did best on its validation split."""
    chosen = (
        max(candidates, key=lambda training: _score(training.run_dir, monitored)) if candidates[1:] else candidates[0]
    )
    return read_fold(chosen.run_dir, chosen.method, chosen.repeat, chosen.fold, task, groups=groups)


def _score(run_dir: Path, monitored: str) -> float:
    """Return the validation metric of a training, minus infinity if it failed."""
    path = run_dir / "metrics.json"
    value = json.loads(path.read_text()).get("val", {}).get(monitored) if path.exists() else None
    return -math.inf if value is None else float(value)


def _plain(config: Any) -> Any:
    """Return plain values."""
    return OmegaConf.to_container(config, resolve=True)


@command("table")
def main(config: DictConfig) -> None:
    """Run the command; a table with a hole in it is written, and is an error all the same."""
    own = {field.name for field in fields(TableConfig)} - {field.name for field in fields(TrainConfig)} | {"seed"}
    words = [word for word in HydraConfig.get().overrides.task if word.split("=")[0] not in own]
    table = run(config, words)
    if any(row.failed for row in table.rows) and config.on_error == "fail":
        sys.exit(1)


if __name__ == "__main__":
    main()
