"""The checkpoints that `checkpoint=` names: one, a list, or those of a method in the folder of a table."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from milpath.records.error_text import reason_of
from milpath.records.plain_values import brief, read_json

_FOLD = re.compile(r"fold_\d+(?:_candidate_\d+)?")
_PLANNED = re.compile(r"data\.(num_folds|fold)=(\d+)")


def fold_checkpoints(checkpoint: object, method: str | None = None) -> list[Path]:
    """Return the checkpoints that are averaged.

    Args:
        checkpoint: A path, a list of paths, or the folder of `milpath table`.
        method: The method, in the folder of a table with several.

    Raises:
        FileNotFoundError: If a fold of the table has no checkpoint.
        ValueError: If a path is given twice, or the method is not clear.
    """
    if isinstance(checkpoint, str | Path):
        folder = Path(checkpoint)
        if (folder / "plan.json").is_file():
            return _of_table(folder, method)
        paths = [folder]
    elif isinstance(checkpoint, Sequence) and checkpoint and all(isinstance(each, str | Path) for each in checkpoint):
        paths = [Path(each) for each in checkpoint]
    else:
        raise ValueError(f"checkpoint={brief(checkpoint)} must be a path, [path,path], or the folder of a table")
    if method is not None:
        raise ValueError(f"method={method} chooses in the folder of a table, which checkpoint={checkpoint} is not")
    if twice := next((path for path in paths if [each.resolve() for each in paths].count(path.resolve()) > 1), None):
        raise ValueError(f"checkpoint names {twice} more than once; give each fold once")
    return paths


def _of_table(folder: Path, method: str | None) -> list[Path]:
    """Return the checkpoints of every repeat and fold of a method, the chosen candidate of each."""
    runs = folder / "runs"
    methods = sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
    if not methods:
        raise FileNotFoundError(f"{folder} is the folder of a table without trainings; run milpath table to its end")
    if method is None and len(methods) > 1:
        raise ValueError(f"{folder} has several methods: {', '.join(methods)}; choose one with method=NAME")
    if (chosen := method or methods[0]) not in methods:
        raise ValueError(f"method={chosen} is not in {folder}, which has {', '.join(methods)}")
    found = [path for path in sorted(runs.glob(f"{chosen}/repeat_*/*"), key=_numbers) if _FOLD.fullmatch(path.name)]
    if any("_candidate_" in path.name for path in found):
        found = _chosen(found, folder / "choices.csv", chosen)
    planned = _num_planned(folder / "plan.json")
    repeats = len({path.parent for path in found})
    checkpoints = [path / "checkpoints" / "best.ckpt" for path in found]
    if missing := [path for path in checkpoints if not path.is_file()]:
        raise FileNotFoundError(f"{missing[0]} is missing: finish the table, or give the folds as checkpoint=[...]")
    if len(checkpoints) < planned * repeats:
        raise FileNotFoundError(
            f"{folder} has {len(checkpoints)} of {planned * repeats} folds of {chosen}: finish the table, or give the folds "
            "as checkpoint=[...]"
        )
    return checkpoints


def _chosen(found: Sequence[Path], choices: Path, method: str) -> list[Path]:
    """Return the candidates that the search chose."""
    if not choices.is_file():
        raise FileNotFoundError(f"{choices} is missing, which says which candidates were chosen; finish the table")
    try:
        with choices.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["method"] == method]
            places = [(row["repeat"], row["fold"], row["chosen"]) for row in rows]
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        reason = f"no column {error}" if isinstance(error, KeyError) else reason_of(error)
        raise ValueError(f"{choices} cannot be read ({reason}); run milpath table again") from None
    kept, counted = [], dict[tuple[str, str], int]()
    for repeat, fold, is_chosen in places:  # one row per candidate, in the order of the plan
        place = repeat, fold
        counted[place] = counted.get(place, -1) + 1
        if is_chosen == "True":
            kept.append((f"repeat_{repeat}", f"fold_{fold}_candidate_{counted[place]}"))
    return [path for path in found if (path.parent.name, path.name) in kept]


def _num_planned(plan: Path) -> int:
    """Return the number of folds that a table was planned with."""
    content = read_json(plan)
    if not isinstance(content, list):
        raise ValueError(f"{plan} must be a list of trainings, not {brief(content)}")
    words = [str(word) for training in content if isinstance(training, list) for word in training]
    found = [int(match[2]) for word in words if (match := _PLANNED.fullmatch(word)) and match[1] == "num_folds"]
    return max(found, default=0)


def _numbers(path: Path) -> list[int]:
    """Return the numbers in a path, by which folds are in their order."""
    return [int(number) for number in re.findall(r"\d+", f"{path.parent.name}/{path.name}")]
