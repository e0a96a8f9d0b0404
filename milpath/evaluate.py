"""Test a checkpoint: `python -m milpath.evaluate checkpoint=PATH [data=NAME data.key=value]`."""

from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from milpath.config.command import command
from milpath.config.module_loading import collecting_later

if TYPE_CHECKING:
    from milpath.runs.result_files import Metrics


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
        from milpath.runs.evaluation.evaluation_run import evaluate

    require_values(config)
    trainer, run_dir = build_trainer(config), Path(config.paths.run_dir)
    with FolderLock(run_dir) if trainer.is_global_zero else nullcontext():
        return evaluate(config, trainer, run_dir, typed)


@command("evaluate")
def main(config: DictConfig) -> None:
    """Run the command."""
    config.paths.run_dir = HydraConfig.get().runtime.output_dir
    run(config, typed=[word.split("=")[0].lstrip("+") for word in HydraConfig.get().overrides.task])


if __name__ == "__main__":
    main()
