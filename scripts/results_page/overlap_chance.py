"""The overlap of top tiles by chance in records of `milpath faithfulness`, computed from the tile counts of its table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milpath.metrics.faithfulness.perturbation_curves import mean_intervals, num_of_share
from milpath.metrics.faithfulness.rank_agreement import overlap_by_chance

_NAME = "overlap_by_chance"


def with_chance(record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a record whose overlaps by chance are those of its bags' tile counts: older versions had another formula.

    Args:
        record: The content of `faithfulness.json`.
        folder: The folder that the command wrote, with `faithfulness.csv`.

    Raises:
        ValueError: If the table does not say which bags a mean is over, and they differ.
    """
    table = pd.read_csv(folder / "faithfulness.csv", dtype={"bag_id": str, "group": str})
    groups = table["group" if "group" in table else "bag_id"].to_numpy(str)
    drawn = groups if "group" in table or len(set(table["network"])) > 1 else None
    counts = table["num_tiles"].astype(int)
    each = np.array([overlap_by_chance(count, int(num_of_share(record["share"], count))) for count in counts])

    def mended(found: Mapping[str, Any], rows: Any) -> dict[str, Any]:
        """Return an agreement with the mean over the rows that have one."""
        if _NAME not in found:
            return dict(found)
        num_bags = table["bag_id"][rows].nunique()
        if found.get("num_bags", num_bags) != num_bags and len(set(each[rows])) > 1:
            raise ValueError(
                f"{folder}: faithfulness.csv does not say which {found['num_bags']} of {num_bags} bags have such pairs of "
                "networks, and their numbers of tiles differ; measure again with this version"
            )
        (mean,) = mean_intervals(np.where(rows, each, np.nan)[:, None], drawn, record["num_resamples"])
        ends = (mean.value, mean.low, mean.high)
        return {**found, _NAME: [None if end is None else float(f"{end:.6g}") for end in ends]}

    rows_of = {
        name: table.get(f"{name}_{_NAME}", pd.Series(np.nan, table.index)).notna().to_numpy()
        for name in ("between", "augmented")
    }
    changed: dict[str, Any] = {name: mended(record.get(name, {}), rows) for name, rows in rows_of.items()}
    kinds = record.get("between_kinds", {})
    changed["between_kinds"] = {kind: mended(found, rows_of["between"]) for kind, found in kinds.items()}
    return {**record, **{name: value for name, value in changed.items() if name in record}}
