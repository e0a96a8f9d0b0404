"""The check of an evaluation: bags of the training, or their patients, among those that are tested."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from milpath.checks.checked_inputs import slides_of_data
from milpath.checks.findings import CheckedSlides, Finding
from milpath.checks.patient_names import patients_of_names
from milpath.checks.training_check import TrainingCheck, checked, names_and_patients, same_tiles
from milpath.data.store.bag_store import BagStore

if TYPE_CHECKING:
    from milpath.data.datamodule import BagDataModule

_GROUP = "group "
_FITTED = ("train", "val")


class TrainedBags(NamedTuple):
    """What the run of a network says of its bags.

    Attributes:
        splits: Bag to its split in that run; empty if there is no record of it.
        groups: Bag to its group, as in `splits.csv`; empty if the run knew none.
        store: Folder of its bag store, as recorded; empty if unknown.
        store_sha256: Digest of its tiles or features.
    """

    splits: Mapping[str, str]
    groups: Mapping[str, str]
    store: str
    store_sha256: str


def check_for_evaluation(
    datamodule: "BagDataModule", splits: Collection[str], trained: Sequence[TrainedBags]
) -> TrainingCheck:
    """Look for training and validation bags of a network, and for their patients, among the bags that it is tested on.

    It is for data other than those of the run, or in another split; in its own split the check of the training holds. Names
    and patients are always compared, and tiles if the store of the run is where it was and has tiles of the same kind.

    Args:
        datamodule: The tested data, after `setup`.
        splits: Names of the tested splits.
        trained: What the run of each network says.
    """
    started = time.perf_counter()
    fitted = {bag_id: split for each in trained for bag_id, split in each.splits.items() if split in _FITTED}
    if not fitted:
        line = "data check: the run left no record of its training bags, so tested bags are not compared with them"
        return TrainingCheck(line, "", False)
    slides, rows = slides_of_data(datamodule)
    own = np.isin(slides.splits, list(splits))
    tested = [name for name, is_own in zip(slides.names, own, strict=True) if is_own]
    # A bag of another store may have the name of a tested one.
    shown = {name: f"{name} (of the training)" if name in set(tested) else name for name in fitted}
    at_hand = _places(datamodule.tile_store, trained, fitted)
    names = [
        name for name in fitted if at_hand.get(name, (None, 0))[0] is not datamodule.tile_store or name not in tested
    ]
    compared = CheckedSlides(
        pd.DataFrame({"bag_id": tested + [shown[name] for name in names]}), None, (),
        np.array([*slides.splits[own], *(fitted[name] for name in names)], dtype=str),
        _patients(slides, own, tested, names, trained), slides.group_column, noun="bag",
    )  # fmt: skip
    findings = []
    if both := sorted(set(fitted) - set(names)):
        sentence = (
            f"{len(both):,} of {slides.counted(len(tested))} to test are training or validation bags of the network"
        )
        findings.append(Finding("leak", "trained bags", sentence, tuple(both[:3])))
    if all(name in at_hand for name in names):
        bags = [(datamodule.tile_store, int(row)) for row in rows[own]] + [at_hand[name] for name in names]
        findings.append(same_tiles(compared, bags))
    else:
        sentence = "the tiles of the training are not at hand, so only names and patients are compared with it"
        findings.append(Finding("note", "same tiles", sentence))
    return checked([*findings, *names_and_patients(compared)], compared, started)


def _places(store: BagStore, trained: Iterable[TrainedBags], names: Collection[str]) -> dict[str, tuple[BagStore, int]]:
    """Return store and position of the bags of a training, as far as their tiles can be compared with those of a store."""
    found: dict[str, tuple[BagStore, int]] = {}
    for path, sha256 in dict.fromkeys((each.store, each.store_sha256) for each in trained):
        opened = store if sha256 == store.array_sha256 else _opened(path, sha256)
        if opened is not None and (opened.tile_shape, opened.tiles.dtype) == (store.tile_shape, store.tiles.dtype):
            places = {str(name): place for place, name in enumerate(opened.bags["bag_id"])}
            found |= {name: (opened, places[name]) for name in names if name in places}
    return found


def _opened(path: str, sha256: str) -> BagStore | None:
    """Return the store that a run recorded; `None` if it is no longer there, or is another one."""
    if not path or not (Path(path) / "store.json").is_file():
        return None
    try:
        opened = BagStore.open(path, verify=False)
    except (OSError, ValueError):  # a damaged store is not that of the run
        return None
    return opened if opened.array_sha256 == sha256 else None


def _patients(
    slides: CheckedSlides, own: np.ndarray, tested: Sequence[str], names: Sequence[str], trained: Iterable[TrainedBags]
) -> np.ndarray | None:
    """Return the patient of each tested bag and of each bag of the training; `None` if either is unknown."""
    known = {name: group for each in trained for name, group in each.groups.items()}
    if known and slides.groups is not None:
        of_tested = [_plain(name, group) for name, group in zip(tested, slides.groups[own], strict=True)]
        return np.array(of_tested + [_plain(name, known.get(name, "")) for name in names], dtype=str)
    of_names = patients_of_names([*tested, *names])
    return None if of_names is None else np.array(of_names, dtype=str)


def _plain(name: str, group: str) -> str:
    """Return the group of a bag as its column has it; a bag without one is a group of its own."""
    return group.removeprefix(_GROUP) if group.startswith(_GROUP) else group or f"alone: {name}"
