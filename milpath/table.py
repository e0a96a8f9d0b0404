"""Cross-validate methods: `python -m milpath.table experiment=NAME methods=[...] folds=10 repeats=5 output=DIR`."""

import sys
from dataclasses import fields

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from milpath.config.command import command, own_config_dirs
from milpath.config.module_loading import collecting_later
from milpath.config.roots import TableConfig, TrainConfig


@command("table", after_stop="finished trainings are kept; run the same command to continue")
def main(config: DictConfig) -> None:
    """Run the command; a table with failed trainings is written, but the exit status is 1."""
    # Imported here so that --help and mistyped options need only Hydra, not torch.
    with collecting_later():
        from milpath.search.compared_methods import make_table

    own = {field.name for field in fields(TableConfig)} - {field.name for field in fields(TrainConfig)} | {
        "seed",
        "report_pdf",
    }
    words = [word for word in HydraConfig.get().overrides.task if word.split("=")[0] not in own]
    table = make_table(config, words, own_config_dirs(HydraConfig.get()))
    if any(row.failed for row in table.rows) and config.on_error == "fail":
        sys.exit(1)


if __name__ == "__main__":
    main()
