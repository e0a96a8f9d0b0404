"""Compare variants of a recipe on the same folds: the output folders of `milpath table`, the first is the reference.

python scripts/compare_tables.py docs/tables/glas_variants.json none=tables/glas macenko=tables/glas_macenko --title TITLE

Each method that all folders have: AUROC, calibration error and Brier score with intervals over groups (patients), and the
paired difference from the reference on the folds that both have.
"""

import argparse
import csv
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from milpath.records.atomic_files import write_json
from milpath.records.plain_values import parse_json
from milpath.reports.method_tables.method_table import MethodRow, compare_methods
from milpath.reports.method_tables.run_design import FoldResult
from milpath.reports.method_tables.table_record import RecordedRun, record_of
from milpath.reports.method_tables.tables import interval_words, plus_minus
from milpath.reports.run_folder import read_fold
from milpath.targets.target_file import read_target
from results_page.kept_tables import without_paths

METRICS = ("auroc", "ece", "brier")
_REPEAT, _FOLD = re.compile(r"repeat_(\d+)"), re.compile(r"fold_(\d+)")


def finished_runs(folder: Path) -> dict[str, list[RecordedRun]]:
    """Return the finished trainings of each method of the output folder of a table.

    Raises:
        FileNotFoundError: If there is none.
    """
    found: dict[str, list[RecordedRun]] = {}
    for path in sorted(folder.glob("runs/*/repeat_*/fold_*/metrics.json")):
        repeat, fold = _REPEAT.fullmatch(path.parents[1].name), _FOLD.fullmatch(path.parent.name)
        if repeat and fold:
            run = RecordedRun(int(repeat[1]), int(fold[1]), path.parent)
            found.setdefault(path.parents[2].name, []).append(run)
    if not found:
        raise FileNotFoundError(f"{folder} has no finished training; give the output folder of `milpath table`")
    return found


def command_of(folder: Path) -> list[str]:
    """Return the command of a table: as its file records it, or as its first training does."""
    path = folder / "table.json"
    record = parse_json(path.read_text(encoding="utf-8"), str(path)).get("record") if path.is_file() else None
    if record is None:
        record = record_of(run for each in finished_runs(folder).values() for run in each)
    return [str(word) for word in record["command"]]


def fold_of(run: RecordedRun, variant: str) -> FoldResult:
    """Return the test split of a training under the name of its variant, with the groups of its bags."""
    target = read_target(run.run_dir)
    if target is None:
        raise ValueError(f"{run.run_dir} has no target.json; run the table again")
    with (run.run_dir / "splits.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    groups = {row["id"]: row["group"] for row in rows} if "group" in rows[0] else None
    return read_fold(run.run_dir, variant, run.repeat, run.fold, target, groups)


def compared(variants: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Return one row per method and variant."""
    runs = {variant: finished_runs(folder) for variant, folder in variants.items()}
    reference = next(iter(variants))
    methods = [name for name in runs[reference] if all(name in each for each in runs.values())]
    rows = []
    for method in methods:
        folds = [fold_of(run, variant) for variant, each in runs.items() for run in each[method]]
        tables = {metric: compare_methods(folds, metric, reference=reference).rows for metric in METRICS}
        for place, variant in enumerate(variants):
            own = {metric: table[place] for metric, table in tables.items()}
            rows.append({"method": method, "variant": variant} | {name: _values(row) for name, row in own.items()})
            rows[-1]["words"] = [
                method, variant, own["auroc"].num_done, plus_minus(own["auroc"]), interval_words(own["auroc"].interval),
                _difference(own["auroc"]), plus_minus(own["ece"]), interval_words(own["ece"].interval),
                _difference(own["ece"]), plus_minus(own["brier"]),
            ]  # fmt: skip
    return rows


def _values(row: MethodRow) -> dict[str, Any]:
    low, high = (row.interval.low, row.interval.high) if row.interval else (None, None)
    test = row.test
    paired = {"difference": test.difference, "difference_low": test.low, "difference_high": test.high} if test else {}
    return {"mean": row.mean, "standard_error": row.standard_error, "low": low, "high": high} | paired


def _difference(row: MethodRow) -> str:
    if row.test is None or row.test.low is None or row.test.high is None:
        return ""
    return f"{row.test.difference:+.3f} ({row.test.low:+.3f} to {row.test.high:+.3f})"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="JSON file of the table")
    parser.add_argument("variants", nargs="+", metavar="NAME=FOLDER", help="output folders of milpath table")
    parser.add_argument("--title", default="Variants of a recipe", help="title of the table")
    given = parser.parse_args(words)
    try:
        variants = {name: Path(folder) for name, _, folder in (word.partition("=") for word in given.variants)}
        rows = compared(variants)
        done = [
            # Repeats of different variants are kept apart: their folds may differ.
            replace(run, repeat=1000 * place + run.repeat)
            for place, folder in enumerate(variants.values())
            for each in finished_runs(folder).values()
            for run in each
        ]
        head = ["method", "variant", "folds", "AUROC, mean ± SE", "95 % interval", "difference in AUROC"]
        head += ["ECE, mean ± SE", "95 % interval of ECE", "difference in ECE", "Brier, mean ± SE"]
        commands = [command_of(folder) for folder in dict.fromkeys(variants.values())]
        table = {"title": given.title, "columns": head, "rows": [row.pop("words") for row in rows], "values": rows}
        write_json(given.output, without_paths(table | {"record": record_of(done) | {"commands": commands}}))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
