"""Is attention faithful? `python -m milpath.faithfulness checkpoint=PATH [data=NAME data.key=value]`."""

import sys
from collections.abc import Collection
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from milpath.config.command import command


def run(config: DictConfig, typed: Collection[str] = ()) -> list[str]:
    """Measure whether attention shows what a network uses, write the result and return the lines that are printed.

    The bags are those that `evaluate` would test: the test split of the run that wrote the checkpoint, or other data as a
    whole. With several checkpoints each of them is measured on the bags of the first, and their attentions are compared.

    Args:
        config: The composed root of the `faithfulness` command.
        typed: Keys given on the command line; a split given there is used.

    Raises:
        FileExistsError: If the output folder holds another measurement and `overwrite` is false, or another report.
        ValueError: If an option is out of its range, or checkpoints and data do not fit.
    """
    # Imported here so that --help and mistyped options need only Hydra, not torch.
    from milpath.config.own_parts import import_own_parts
    from milpath.data.store.encoder_match import require_same_encoder
    from milpath.inference.ensemble.fold_checkpoints import fold_checkpoints
    from milpath.inference.faithfulness import MeasureOptions
    from milpath.models.checkpoint import open_checkpoint
    from milpath.models.devices import choose_device
    from milpath.models.encoders.trained_encoder import require_weights_used
    from milpath.records.digests import sha256_of_file
    from milpath.records.provenance import record_run
    from milpath.reports.faithfulness import write_faithfulness
    from milpath.reports.paper.printed_page import print_page
    from milpath.runs.evaluation.evaluated_data import evaluated_data, require_same_task
    from milpath.runs.evaluation.evaluated_slides import encode_tiles_of
    from milpath.runs.evaluation.evaluation_options import require_known_splits
    from milpath.runs.evaluation.measured_faithfulness import (
        MeasuredNetwork,
        measure_faithfulness,
        require_same_networks,
        summary_lines,
    )

    output = Path(config.output)
    require_known_splits(config.splits)
    _require_free(output, config.overwrite)
    options = MeasureOptions(
        config.share, config.num_random, config.max_passes, num_augmented=config.num_augmented, seed=config.seed
    )
    parts = import_own_parts(config.parts)
    paths = fold_checkpoints(config.checkpoint, config.method)
    networks = [
        MeasuredNetwork(*open_checkpoint(path, parts.networks, parts.encoders), str(path), sha256_of_file(path))
        for path in paths
    ]
    first = networks[0]
    require_weights_used(first.network, config.encoder_weights_path)
    require_same_networks(networks)
    datamodule, note = evaluated_data(
        first.path, first.card, config.data, config.splits, typed,
        stores_dir=str(config.paths.stores_dir), sources=parts.sources,
    )  # fmt: skip
    require_same_task(first.card, datamodule, first.path)
    encode_tiles_of(datamodule, config, first.card, first.network, parts.encoders)
    require_same_encoder(first.card, first.network, datamodule.tile_store, datamodule.tile_store.path, first.path)
    rows, record = measure_faithfulness(
        networks, datamodule, config.splits, options,
        explain=config.explain, augmentation=config.augmentation, max_bags=config.max_bags,
        num_resamples=config.num_resamples, device=choose_device(config.device), notes=[note],
    )  # fmt: skip
    record_run(config, output, datamodule.description)
    record["title"] = "Is attention faithful?"
    page = write_faithfulness(output, rows, record, datamodule.split_groups)
    lines = [*filter(None, [record["warning"]]), *summary_lines(record), f"report: {page}"]
    return [*lines, print_page(page)] if config.report_pdf else lines


def _require_free(output: Path, overwrite: bool) -> None:
    """Refuse to replace another measurement, or files that are none."""
    if (output / "faithfulness.json").is_file():
        if not overwrite:
            raise FileExistsError(f"{output} holds a measurement; give another output, or overwrite=true")
    elif (output / "report.html").exists() or (output / "config.yaml").exists():
        raise FileExistsError(f"{output} holds the results of something else; give another output")


@command("faithfulness", output="output")
def main(config: DictConfig) -> None:
    """Run the command."""
    lines = run(config, typed=[word.split("=")[0].lstrip("+") for word in HydraConfig.get().overrides.task])
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
