"""Cross-validate methods: `python -m milpath.table experiment=NAME methods=[...] folds=10 repeats=5 output=DIR`."""

import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from milpath.config.command import command, own_config_dirs
from milpath.config.module_loading import collecting_later
from milpath.config.roots import TableConfig, TrainConfig

if TYPE_CHECKING:
    from milpath.reports.method_tables.method_table import MethodTable


def run(config: DictConfig, words: list[str], config_dirs: Sequence[str] = ()) -> "MethodTable":
    """Train every fold of every method that is not finished yet, and write the table.

    Args:
        config: The composed root of the `table` command.
        words: The command-line overrides that every training gets.
        config_dirs: The user's own configuration folders, as `file://` addresses.

    Returns:
        The table, also written to `table.md`, `table.csv`, `table.json` and `table.tex` in the output folder.

    Raises:
        ValueError: If a name is unknown, or an override is one that the table sets for each training.
    """
    # Imported here so that --help and mistyped options need only Hydra, not torch.
    with collecting_later():
        from milpath.search.compared_methods import make_table
        from milpath.tiling.slide_run import require_known_on_error

    require_known_on_error(config.on_error)
    return make_table(config, words, config_dirs)


@command("table", output="output", after_stop="finished trainings are kept; run the same command to continue")
def main(config: DictConfig) -> None:
    """Run the command; a table with failed trainings is written, but the exit status is 1."""
    own = {field.name for field in fields(TableConfig)} - {field.name for field in fields(TrainConfig)} | {
        "seed",
        "report_pdf",
    }
    words = [word for word in HydraConfig.get().overrides.task if word.split("=")[0] not in own]
    table = run(config, words, own_config_dirs(HydraConfig.get()))
    if any(row.failed for row in table.rows) and config.on_error == "fail":
        sys.exit(1)


if __name__ == "__main__":
    main()
