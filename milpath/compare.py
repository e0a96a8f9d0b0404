"""Compare runs on the same bags: `python -m milpath.compare runs/a runs/b`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from milpath.config.command import command
from milpath.config.command_line import folders_as

if TYPE_CHECKING:
    from milpath.reports.compare.compared_runs import ComparedRuns


def run(config: DictConfig) -> list[str]:
    """Write the comparison and return the lines that the command prints.

    Only predictions, labels and results of the runs are read: no checkpoint is loaded.

    Args:
        config: The composed root of the `compare` command.

    Raises:
        FileExistsError: If the output folder holds a comparison of other runs and `overwrite` is false.
        ValueError: If the runs cannot be compared.
    """
    # Imported here so that --help and mistyped options need only Hydra, not torch.
    from milpath.reports.compare.compare_page import compare_runs, summary_lines, write_comparison
    from milpath.reports.compare.compared_runs import read_compared
    from milpath.reports.paper.printed_page import print_page

    given = [config.runs] if isinstance(config.runs, str) else list(config.runs)
    paths, output = [Path(str(path)) for path in given], Path(config.output)
    compared = read_compared(paths, config.split, config.different_bags, config.task, config.names)
    if not config.overwrite:
        _require_same_comparison(output, compared)
    comparison = compare_runs(compared, config.num_resamples, config.seed)
    page = write_comparison(comparison, output)
    lines = [*filter(None, (compared.warning, *comparison.notes)), *summary_lines(comparison), f"report: {page}"]
    return [*lines, print_page(page)] if config.report_pdf else lines


def _require_same_comparison(output: Path, compared: "ComparedRuns") -> None:
    """Refuse to replace the comparison of other runs, or files that are none."""
    from milpath.records.plain_values import read_json
    from milpath.reports.compare.compare_page import RECORD

    if not (output / RECORD).is_file():
        if (output / "report.html").exists():
            raise FileExistsError(f"{output} holds the report of something else; give another output")
        return
    record = read_json(output / RECORD)
    found = [each.get("folder") for each in record.get("runs", [])]
    if found != [str(run.folder.path.resolve()) for run in compared.runs]:
        raise FileExistsError(f"{output} holds the comparison of other runs; give another output, or overwrite=true")


@command("compare", output="output")
def _main(config: DictConfig) -> None:
    """Run the command."""
    sys.stdout.write("\n".join(run(config)) + "\n")


def main() -> None:
    """Run the command line."""
    sys.argv[1:] = folders_as("runs", sys.argv[1:])
    _main()


if __name__ == "__main__":
    main()
