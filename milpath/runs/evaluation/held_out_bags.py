"""Which bags each of several networks held out of its training, and which networks were trained on the same bags."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from milpath.checks.evaluation_check import TrainedBags
from milpath.records.digests import sha256_of_values
from milpath.records.error_text import counted
from milpath.records.plain_values import read_json
from milpath.runs.earlier_run import identity_in_checkpoint

# Kinds of pairs of networks, whose attentions are compared.
SAME_BAGS, OTHER_BAGS = "trained on the same bags", "trained on other bags"


@dataclass(frozen=True)
class HeldOutBags:
    """What the record of a run says about the bags of a network.

    Attributes:
        path: The checkpoint, in words.
        splits: Bag to its split in that run; empty if the run left no record of it.
        same_tiles: Whether the tiles of that run are those at hand, so that bags of one name are the same bags.
        training: Digest of the tiles and names of the training bags; empty if unknown.
    """

    path: str
    splits: Mapping[str, str]
    same_tiles: bool
    training: str

    def bags_in(self, splits: Collection[str]) -> set[str] | None:
        """Return the bags that are in some splits of its run; `None` where names or tiles cannot tell."""
        if not (self.splits and self.same_tiles):
            return None
        return {bag_id for bag_id, split in self.splits.items() if split in splits}

    def trained_on(self, bag_ids: Collection[str]) -> int:
        """Return how many bags have the name of a bag that it was trained on."""
        return sum(self.splits.get(bag_id) == "train" for bag_id in bag_ids)


def held_out_bags(path: str, tiles_sha256: str) -> HeldOutBags:
    """Return what the run of a checkpoint says about its bags.

    Args:
        path: The checkpoint; a path that is no file has no record.
        tiles_sha256: Digest of the store of tiles at hand.
    """
    identity = identity_in_checkpoint(Path(path)) if Path(path).is_file() else None
    if identity is None:
        return HeldOutBags(path, {}, False, "")
    splits = {bag_id: split for bag_id, (split, _) in identity.bags.items()}
    tiles = identity.contents.get("tiles_sha256")
    training = sorted(bag_id for bag_id, split in splits.items() if split == "train")
    digest = sha256_of_values([tiles, *training]) if tiles and training else ""
    return HeldOutBags(path, splits, tiles == tiles_sha256, digest)


def trained_bags(path: str) -> TrainedBags:
    """Return what the run of a checkpoint says about its bags, their groups and store; a path as of `held_out_bags`.

    Bags that are patients are their own groups, unless the run knew others.
    """
    splits = held_out_bags(path, "").splits
    run_dir = Path(path).parent.parent
    if not splits:
        return TrainedBags({}, {}, "", "")
    frame = pd.read_csv(run_dir / "splits.csv", dtype=str, keep_default_na=False)
    groups = dict(zip(frame["id"], frame["group"], strict=True)) if "group" in frame else {}
    identity = identity_in_checkpoint(Path(path))
    if not groups and identity is not None and identity.settings.get("data.bag_column"):
        groups = {bag_id: bag_id for bag_id in splits}
    data = _described_data(run_dir / "provenance.json")
    return TrainedBags(splits, groups, str(data.get("store", "")), str(data.get("store_sha256", "")))


def _described_data(path: Path) -> Mapping[str, Any]:
    """Return what a run recorded of its data; empty if the file is missing or damaged: the store is then unknown."""
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return {}
    data = record.get("data") if isinstance(record, Mapping) else None
    return data if isinstance(data, Mapping) else {}


def bags_of_networks(
    networks: Sequence[HeldOutBags], tested: Sequence[str], splits: Collection[str], known: Collection[str]
) -> tuple[dict[str, list[int]], list[str]]:
    """Return which networks are measured on which bags, and what has to be said of them.

    A network of another fold was trained on the bags that the first one held out. So each network is measured on the bags
    that are in the wanted splits of its own run, and attentions are compared where several networks held out the same bag.
    On other data, or in a split that the user gave, all networks are measured on all bags. So is, on the bags of the first,
    a network whose run left no record or had other tiles.

    Args:
        networks: Networks, in order.
        tested: Bags of the wanted splits of the data at hand.
        splits: Names of the wanted splits.
        known: All bags of the data at hand; others of a run, such as those without a label here, are left out.

    Returns:
        Bag to the positions of its networks, in order, and the notes.
    """
    own = [each.bags_in(splits) for each in networks]
    if own[0] != set(tested):
        own = [None for _ in networks]
    found: dict[str, list[int]] = {bag_id: [] for bag_id in tested}
    for position, bags in enumerate(own):
        for bag_id in tested if bags is None else sorted(bags.intersection(known)):
            found.setdefault(bag_id, []).append(position)
    notes = []
    if len(found) > len(tested) or any(bags is not None and len(bags) < len(found) for bags in own):
        counts = sorted({len(positions) for positions in found.values()})
        each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        notes.append(
            f"each network is measured on the bags in {', '.join(splits)} of its own run: {counted(len(found), 'bag')}, "
            f"each with {each} of {len(networks)} networks"
        )
        if counts[-1] == 1:
            notes.append(
                "no two networks held out the same bag, so their attentions are not compared; give the folder of a table "
                "with repeats=2 or more, or data that none of them was trained on"
            )
    for network, bags in zip(networks[1:], own[1:], strict=True):
        if bags is None and not network.splits:
            notes.append(f"{network.path} left no record of the bags that it was trained on")
        elif bags is None and (seen := network.trained_on(tested)):
            notes.append(f"{network.path} was trained on {seen:,} of the {len(tested):,} bags, by their names")
    return found, notes


def kinds_of_pairs(networks: Sequence[HeldOutBags]) -> dict[tuple[int, int], str]:
    """Return the kind of each pair of networks whose training bags are known: `SAME_BAGS` or `OTHER_BAGS`."""
    return {
        (first, second): SAME_BAGS if networks[first].training == networks[second].training else OTHER_BAGS
        for first, second in combinations(range(len(networks)), 2)
        if networks[first].training and networks[second].training
    }
