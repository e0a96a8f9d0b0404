"""Check data before a training: `python -m milpath.check_data data=NAME data.key=value`, or `slides=DIR labels=CSV`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from milpath.config.command import command

if TYPE_CHECKING:
    import pandas as pd

    from milpath.checks.check_slides import CheckOptions, DataChecks
    from milpath.checks.findings import CheckedSlides


def run(config: DictConfig) -> list[str]:
    """Check the data, write the findings and return the lines that the command prints.

    Args:
        config: The composed root of the `check-data` command.

    Raises:
        ValueError: If there is nothing to check, or options do not fit together.
    """
    # Imported here so that --help and mistyped options need only Hydra, not torch.
    from milpath.checks.check_report import printed_lines, write_checks
    from milpath.checks.check_slides import CheckOptions
    from milpath.checks.near_duplicates import MAX_DISTANCE
    from milpath.records.provenance import describe_environment

    most = config.max_distance if config.max_distance is not None else MAX_DISTANCE
    if not 0 <= most <= 80:
        raise ValueError(f"max_distance is {most}; it must be from 0 to 80 of 255 bits (unrelated slides differ by 94)")
    for name in ("num_permutations", "num_resamples"):
        if config[name] < 99:
            raise ValueError(f"{name} is {config[name]}; it must be 99 or more, or chance is not known well enough")
    options = CheckOptions(
        tuple(map(str, config.columns)), most, config.num_permutations, config.num_resamples, config.seed
    )
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    checks = _checks(config, output, options)
    asked = {
        key: config[key] for key in ("slides", "labels", "checkpoint", "num_permutations", "num_resamples", "seed")
    }
    write_checks(checks, output, asked | {"max_distance": most, "environment": describe_environment()})
    return printed_lines(checks, output)


def _checks(config: DictConfig, output: Path, options: "CheckOptions") -> "DataChecks":
    """Check what the configuration names: data, a table, or a folder of slides."""
    from milpath.checks.check_slides import check_slides
    from milpath.checks.checked_inputs import slides_of_data, slides_of_files, slides_of_table

    of_table = {
        key: config[key] for key in ("id_column", "label_column", "group_column", "split_column", "splits_path")
    }
    if config.split_column is not None and config.splits_path is not None:
        raise ValueError(f"give split_column={config.split_column} or splits_path={config.splits_path}, not both")
    if config.data is None:
        if config.target:
            raise ValueError("target is that of a training: give data=NAME with it; of labels=TABLE, label_column=NAME")
        if config.checkpoint is not None:
            raise ValueError("checkpoint needs the tiles or features that it predicts: give data=NAME data.path=FOLDER")
        if config.labels is None:
            if given := [key for key, value in of_table.items() if value is not None]:
                raise ValueError(f"{given[0]} belongs to a table; give labels=TABLE")
            if config.slides is None:
                raise ValueError(
                    "nothing to check: give data=NAME as in milpath train, or labels=TABLE, or slides=FOLDER"
                )
            files = _files(config.slides)
            slides = slides_of_files(list(files))
        else:
            slides = slides_of_table(config.labels, **of_table)
            files = {} if config.slides is None else _files(config.slides)
        facts, seconds = _facts(files, slides, config.slides, output)
        checks = check_slides(slides, None, facts, None, options)
        checks.seconds = seconds | checks.seconds
        return checks
    if given := [key for key in ("labels", *of_table) if config[key] is not None]:
        raise ValueError(
            f"with data= the labels are those of the data: give data.{given[0]} instead of {given[0]}, if it has it"
        )
    from milpath.runs.bag_embeddings import embeddings_of
    from milpath.runs.build import build_training_data

    datamodule = build_training_data(config)
    datamodule.setup("fit")
    slides, rows = slides_of_data(datamodule)
    if config.slides is not None and datamodule.tile_store.grouped:
        raise ValueError(
            f"slides={config.slides} are compared one by one, and a bag has several: give data.bag_column=null"
        )
    files = {} if config.slides is None else _files(config.slides)
    embeddings = embeddings_of(datamodule, rows, config.checkpoint, list(config.parts))
    facts, seconds = _facts(files, slides, config.slides, output)
    checks = check_slides(slides, (datamodule.tile_store, rows), facts, embeddings, options)
    checks.seconds = seconds | checks.seconds
    return checks


def _files(folder: str) -> dict[str, Path]:
    """Return the slides of a folder by name; those that cannot be read are named later."""
    from milpath.slides.slide_files import find_slides

    found = find_slides(Path(folder))
    for name, reason in found.broken.items():
        sys.stderr.write(f"left out: {name}: {reason}\n")
    return dict(found.found)


def _facts(
    files: dict[str, Path], slides: "CheckedSlides", folder: str | None, output: Path
) -> "tuple[pd.DataFrame | None, dict[str, float]]":
    """Return what the files of the slides say, under the names of the table, and the seconds; `None` without a folder."""
    from milpath.checks.slide_facts import slide_facts
    from milpath.records.id_matching import match_ids

    if folder is None:
        return None, {}
    named = match_ids(slides.names, list(files))
    if not named:
        raise ValueError(f"no slide in {folder} has a name of the table; it has {', '.join(list(files)[:3])}, ...")

    def tell(done: int, of: int) -> None:
        sys.stderr.write(f"{done:,} of {of:,} thumbnails\n")

    started = time.perf_counter()
    facts = slide_facts({name: files[file] for name, file in named.items()}, output, tell)
    return facts, {"reading slides": round(time.perf_counter() - started, 2)}


@command("check_data", output="output")
def _main(config: DictConfig) -> None:
    """Run the command."""
    sys.stdout.write("\n".join(run(config)) + "\n")


def main() -> Any:
    """Run the command line."""
    return _main()


if __name__ == "__main__":
    main()
