"""Several runs side by side: their predictions of the same bags, in the same order, of the same target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.records.data_warning import joined
from milpath.records.error_text import counted, visible
from milpath.records.label_table import read_written_table
from milpath.reports.compare.same_target import require_same_target
from milpath.reports.run_folder import RunFolder, read_run
from milpath.targets import Several, Target, class_target_named
from milpath.targets.target_file import TARGET_FILE, read_target

ERROR, SHARED = "error", "shared"


@dataclass(frozen=True)
class ComparedRun:
    """A run and its predictions of the compared bags.

    Attributes:
        name: Name on the page, different for each run.
        folder: The run folder.
        target: Its target, with what it fitted.
        outcomes: The compared bags, evaluated, in the order of `ComparedRuns.bag_ids`.
        rows: `(bags,)` rows of its predictions.
        num_bags: Number of bags of its split, compared or not.
    """

    name: str
    folder: RunFolder
    target: Target
    outcomes: Any
    rows: NDArray[np.int64]
    num_bags: int


@dataclass(frozen=True)
class Part:
    """One target of the compared runs, on the bags that have its label.

    Attributes:
        name: Its name; empty if the runs have a single target.
        targets: The target of each run.
        outcomes: The evaluated bags of each run.
        bag_ids: Name of each of these bags.
        class_names: Names of the classes, or of the predicted quantities.
    """

    name: str
    targets: tuple[Target, ...]
    outcomes: tuple[Any, ...]
    bag_ids: tuple[str, ...]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class ComparedRuns:
    """Runs that predicted the same bags.

    Attributes:
        runs: The runs; the first is the reference.
        split: The split they are compared on.
        bag_ids: Name of each compared bag.
        groups: `(bags,)` group of each bag; `None` if bags are independent.
        notes: What a reader has to know of the choice of bags, one sentence each.
        warning: What the data of the runs say against themselves; empty for tissue.
    """

    runs: tuple[ComparedRun, ...]
    split: str
    bag_ids: tuple[str, ...]
    groups: NDArray[np.str_] | None
    notes: tuple[str, ...]
    warning: str

    @property
    def target(self) -> Target:
        """The target of the reference; the other runs have the same with values that they fitted themselves."""
        return self.runs[0].target

    @property
    def names(self) -> list[str]:
        """Name of each run."""
        return [run.name for run in self.runs]

    @property
    def parts(self) -> list[Part]:
        """Each target, if there are several; otherwise the only one."""
        outcomes = tuple(run.outcomes for run in self.runs)
        if not isinstance(self.target, Several):
            targets, classes = (
                tuple(run.target for run in self.runs),
                tuple(self.runs[0].folder.predictions.class_names),
            )
            return [Part("", targets, outcomes, self.bag_ids, classes)]
        members = [run.target.members for run in self.runs if isinstance(run.target, Several)]
        return [
            Part(
                member.name,
                tuple(each[place].target for each in members),
                tuple(each.of(member.name) for each in outcomes),
                tuple(self.bag_ids[row] for row in outcomes[0].rows[member.name]),
                tuple(member.class_names),
            )
            for place, member in enumerate(members[0])
        ]


def read_compared(
    paths: Sequence[Path],
    split: str = "test",
    different_bags: str = ERROR,
    task: str | None = None,
    names: Sequence[str] | None = None,
) -> ComparedRuns:
    """Read the predictions of several runs; nothing else in their folders is loaded or executed.

    Args:
        paths: Run folders, the reference first.
        split: The split to compare.
        different_bags: "error" refuses runs whose bags of the split differ, "shared" compares the bags that all have.
        task: Target with classes of runs whose folder does not say; `None` takes two classes as binary.
        names: Name of each run; `None` takes the names of the folders.

    Raises:
        FileNotFoundError: If a folder has no predictions.
        ValueError: If there are fewer than two runs, or they differ in targets, classes, labels, groups or bags.
    """
    if different_bags not in (ERROR, SHARED):
        raise ValueError(f"different_bags={different_bags} must be {ERROR} or {SHARED}")
    if len(paths) < 2:
        raise ValueError(f"a comparison needs at least 2 run folders, got {len(paths)}: milpath compare runs/a runs/b")
    shown = names_of_runs(paths) if names is None else [visible(str(name)) for name in names]
    if len(shown) != len(paths) or len(set(shown)) < len(shown):
        raise ValueError(f"names must have a different name for each of {len(paths)} runs, got {', '.join(shown)}")
    folders = [read_run(path) for path in paths]
    targets = [_target(folder, task) for folder in folders]
    for folder, target, name in zip(folders[1:], targets[1:], shown[1:], strict=True):
        require_same_target((shown[0], targets[0], folders[0].predictions), (name, target, folder.predictions))
    places = [_places(folder, split) for folder in folders]
    bag_ids = [bag_id for bag_id in places[0] if all(bag_id in each for each in places)]
    notes = _differences(places, bag_ids, shown, split, different_bags)
    rows = [np.array([each[bag_id] for bag_id in bag_ids], dtype=np.int64) for each in places]
    _require_same_labels(folders, rows, bag_ids, shown)
    groups, of_groups = _groups(folders, bag_ids, shown)
    runs = [
        ComparedRun(name, folder, target, _evaluated(folder, target, own, groups), own, len(place))
        for name, folder, target, own, place in zip(shown, folders, targets, rows, places, strict=True)
    ]
    warning = joined(folder.warning for folder in folders)
    return ComparedRuns(tuple(runs), split, tuple(bag_ids), groups, (*notes, *of_groups), warning)


def names_of_runs(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that differ from each other.

    Raises:
        ValueError: If a folder is given twice.
    """
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        twice = next(path for number, path in enumerate(paths) if parts[number] in parts[:number])
        raise ValueError(f"the run folder {twice} is given twice")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            break
    return [visible(name) for name in names]


def _target(folder: RunFolder, task: str | None) -> Target:
    """Return the target of a run, from its folder or as given."""
    target, predictions = read_target(folder.path), folder.predictions
    if target is not None:
        if task not in (None, target.name):
            raise ValueError(f"task={task}: {folder.path} was trained for a {target.name} task; leave task out")
        return target
    if not predictions.answer_columns and (task is not None or len(predictions.class_names) == 2):
        return class_target_named(task or "binary")
    way = "give task=ordinal or task=nominal" if not predictions.answer_columns else "test its checkpoint again"
    raise ValueError(f"{folder.path} has no {TARGET_FILE}, which runs of older versions lack; {way}")


def _places(folder: RunFolder, split: str) -> dict[str, int]:
    """Return the row of each bag of a split in the predictions of a run."""
    rows = folder.rows(split)
    if not len(rows):
        raise ValueError(f"{folder.path} has no predictions of the split {split!r}, only of {', '.join(folder.splits)}")
    places = {folder.predictions.bag_ids[row]: int(row) for row in rows}
    if len(places) < len(rows):
        raise ValueError(f"{folder.path}/predictions.csv has a bag of the split {split!r} in more than one row")
    return places


def _differences(
    places: Sequence[Mapping[str, int]], shared: Sequence[str], names: Sequence[str], split: str, different_bags: str
) -> list[str]:
    """Return in words how the bags of the runs differ; refuse them unless the shared ones are asked for."""
    if all(len(each) == len(shared) for each in places):
        return []
    counts = ", ".join(f"{name} has {len(each):,}" for name, each in zip(names, places, strict=True))
    said = f"the {split} bags of the runs differ: {counts}, {len(shared):,} are shared"
    if not shared:
        raise ValueError(f"{said}: there is nothing to compare; test both networks on the same bags first")
    if different_bags == ERROR:
        raise ValueError(f"{said}; give different_bags={SHARED} to compare these only")
    return [
        f"{said[0].upper()}{said[1:]}. Every number on this page is of the {counted(len(shared), 'shared bag')}, and "
        "differs from that in the report of a run."
    ]


def _require_same_labels(
    folders: Sequence[RunFolder], rows: Sequence[NDArray[np.int64]], bag_ids: Sequence[str], names: Sequence[str]
) -> None:
    """Refuse runs that were tested on different labels of a bag."""
    first = np.asarray(folders[0].predictions.labels[rows[0]], dtype=np.float64)
    for folder, own, name in zip(folders[1:], rows[1:], names[1:], strict=True):
        other = np.asarray(folder.predictions.labels[own], dtype=np.float64)
        same = ((first == other) | (np.isnan(first) & np.isnan(other))).reshape(len(bag_ids), -1).all(axis=1)
        if not same.all():
            raise ValueError(
                f"{counted(int((~same).sum()), 'bag')} of {names[0]} and {name} have different labels (first: "
                f"{bag_ids[int(same.argmin())]!r}): these runs were tested on different tables; test both on the same"
            )
    if not folders[0].predictions.answer_columns and (first < 0).any():
        raise ValueError(f"bag {bag_ids[int((first < 0).argmax())]!r} has no label; only labelled bags are compared")


def _groups(
    folders: Sequence[RunFolder], bag_ids: Sequence[str], names: Sequence[str]
) -> tuple[NDArray[np.str_] | None, list[str]]:
    """Return the group of each bag as the runs recorded it, and a note if only some did."""
    found = [_groups_of_run(folder, bag_ids) for folder in folders]
    known = [(name, groups) for name, groups in zip(names, found, strict=True) if groups is not None]
    if not known:
        return None, []
    for name, groups in known[1:]:
        # The names of the groups do not matter, only which bags they hold.
        if not np.array_equal(_first_of_group(groups), _first_of_group(known[0][1])):
            raise ValueError(f"{known[0][0]} and {name} group the bags differently; train both with the same groups")
    if len(known) == len(folders):
        return known[0][1], []
    told = (
        f"Only {', '.join(name for name, _ in known)} recorded groups of bags (patients); they are used for all runs."
    )
    return known[0][1], [told]


def _groups_of_run(folder: RunFolder, bag_ids: Sequence[str]) -> NDArray[np.str_] | None:
    """Return the groups in `splits.csv`; none of them is a bag if results are by patient."""
    path = folder.path / "splits.csv"
    if not path.is_file():
        return None
    table = read_written_table(path, required=("split",))
    if "group" not in table:
        return None
    table = table[table["group"].notna()]
    of_bag = dict(zip(table["bag_id"].astype(str), table["group"].astype(str), strict=True))
    missing = [bag_id for bag_id in bag_ids if bag_id not in of_bag]
    if len(missing) == len(bag_ids):
        return None
    if missing:
        raise ValueError(f"{path} has no group of {counted(len(missing), 'bag')} (first: {missing[0]!r})")
    return np.array([of_bag[bag_id] for bag_id in bag_ids])


def _first_of_group(groups: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return for each bag the position of the first bag of its group."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.asarray(first[inverse.reshape(-1)])


def _evaluated(folder: RunFolder, target: Target, rows: NDArray[np.int64], groups: NDArray[np.str_] | None) -> Any:
    """Return the outcomes of some rows, with the classes that the run predicted."""
    predictions = folder.predictions
    outcomes = target.evaluate(
        predictions.labels[rows], predictions.probabilities[rows].astype(np.float64), groups=groups
    )
    if isinstance(outcomes, EvaluatedBags):
        # The operating point of a run, chosen on its validation split, may differ from 0.5.
        return replace(outcomes, predicted=predictions.predicted_labels[rows])
    return outcomes
