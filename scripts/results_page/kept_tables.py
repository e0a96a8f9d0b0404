"""Tables kept beside the documentation: taken from the folder of `milpath table` or from runs of several seeds, trimmed."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from milpath.records.atomic_files import write_text
from milpath.records.plain_values import parse_json
from milpath.reports.method_tables.method_table import compare_methods
from milpath.reports.method_tables.run_design import FoldResult
from milpath.reports.method_tables.table_record import RecordedRun, record_of
from milpath.reports.method_tables.tables import as_json
from milpath.reports.run_folder import read_fold
from milpath.targets.target_file import read_target

_RUN = re.compile(r"fold_(\d+)(?:_candidate_\d+)?")
# An absolute path; addresses of the web have two slashes.
_PATH = re.compile(r"""(?<![\w/:.])(?:/[^\s/'",:=\[\]{}()]+)+/?""")
_FOLD = re.compile(r"\{\s+(\"repeat\": \d+),\s+(\"fold\": \d+),\s+(\"value\": [^\s}]+)\s+\}")


def table_of_folder(folder: Path) -> dict[str, Any]:
    """Return the table of a folder of `milpath table`, with the record that older versions left to the run folders.

    Raises:
        FileNotFoundError: If the folder holds no table.
        ValueError: If its file is damaged.
    """
    path = folder / "table.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no table.json; give the output folder of a finished `milpath table`")
    table = parse_json(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(table, dict) or "rows" not in table:
        raise ValueError(f"{path} is not the file of a table")
    if "record" not in table:
        runs = [
            RecordedRun(int(parent.parent.name.removeprefix("repeat_")), int(match[1]), parent)
            for parent in sorted(path.parent for path in folder.glob("runs/*/repeat_*/fold_*/metrics.json"))
            if (match := _RUN.fullmatch(parent.name))
        ]
        table["record"] = record_of(runs)
    return table


def table_of_runs(
    title: str, runs_of_methods: Mapping[str, Iterable[Path]], metric: str, published: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Return a table of methods over single runs that differ in their seed.

    Args:
        title: Title of the table.
        runs_of_methods: Method to the folders of its runs.
        metric: The metric on the test split of each run.
        published: Method to its published value.

    Raises:
        ValueError: If a method has no run, a run has no seed or target, or two runs of a method have one seed.
    """
    results: list[FoldResult] = []
    recorded: list[RecordedRun] = []
    commands = []
    for method, folders in runs_of_methods.items():
        by_seed: dict[int, Path] = {}
        for folder in folders:
            seed = _seed_of(folder)
            if seed in by_seed:
                raise ValueError(f"{method}: {folder} and {by_seed[seed]} have one seed, {seed}; give each seed once")
            by_seed[seed] = folder
        if not by_seed:
            raise ValueError(f"{method} has no run; give METHOD=PATTERN with a pattern of run folders")
        own = [RecordedRun(0, seed, folder) for seed, folder in sorted(by_seed.items())]
        for run in own:
            if (target := read_target(run.run_dir)) is None:
                raise ValueError(
                    f"{run.run_dir} has no target.json, which runs of older versions lack; evaluate it again"
                )
            results.append(read_fold(run.run_dir, method, run.repeat, run.fold, target))
        recorded += own
        commands.append(record_of(own)["command"])
    table = as_json(compare_methods(results, metric, title=title, published=published))
    return table | {"record": record_of(recorded, commands[0]) | {"commands": commands, "unit": "seed"}}


def _seed_of(folder: Path) -> int:
    path = folder / "config.yaml"
    if not (folder / "metrics.json").is_file() or not path.is_file():
        raise FileNotFoundError(
            f"{folder} is not the folder of a finished run: it has no metrics.json or no config.yaml"
        )
    return int(yaml.safe_load(path.read_text(encoding="utf-8"))["seed"])


def keep(table: Mapping[str, Any], path: Path) -> None:
    """Write a table without what is personal (paths, names of systems), one line per fold."""
    text = json.dumps(without_paths(table), indent=2, allow_nan=False, ensure_ascii=False)
    write_text(path, _FOLD.sub(r"{\1, \2, \3}", text) + "\n")


def without_paths(value: Any, key: str = "") -> Any:
    """Return plain values with the last part of each absolute path, and of the platform the system only.

    Example:
        >>> without_paths({"command": ["data.path=/home/me/mil_classic"], "platform": "Linux-6.1-x86_64"})
        {'command': ['data.path=mil_classic'], 'platform': 'Linux'}
    """
    if isinstance(value, Mapping):
        return {name: without_paths(each, name) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(each, key) for each in value]
    if not isinstance(value, str):
        return value
    if key == "platform":
        return value.split("-")[0]
    return _PATH.sub(lambda match: match[0].rstrip("/").rpartition("/")[2], value)
