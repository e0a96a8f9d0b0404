"""How far the attentions of networks agree, from measurements of `milpath faithfulness`, as a table of the documentation."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milpath.records.plain_values import parse_json
from results_page.overlap_chance import with_chance
from results_page.script_record import joined_records

COLUMNS = [
    "data and network", "networks", "bags", "pairs of networks", "Spearman", "Kendall's tau-b",
    "Jaccard index of top tiles", "by chance",
]  # fmt: skip
KINDS = {"trained on the same bags": "same training bags, other seed", "trained on other bags": "other training bags"}


def stability_table(folders: Mapping[str, Path]) -> dict[str, Any]:
    """Return a row per measurement and kind of pair of networks."""
    rows, values, made = [], [], []
    for title, folder in folders.items():
        record = with_chance(
            parse_json((folder / "faithfulness.json").read_text(encoding="utf-8"), str(folder)), folder
        )
        provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        made += [*_trainings(record["networks"]), (provenance, record["seconds"] / 60)]
        for kind, words in KINDS.items():
            if found := record["between_kinds"].get(kind):
                agreement = [_interval(found[name]) for name in ("spearman", "kendall", "overlap")]
                rows.append(
                    [
                        title,
                        record["num_networks"],
                        found["num_bags"],
                        words,
                        *agreement,
                        f"{found['overlap_by_chance'][0]:.2f}",
                    ]
                )
                values.append(
                    {"title": title, "kind": kind, "share": record["share"], "groups": record["num_groups"], **found}
                )
        if difference := record["between_difference"]:
            apart = [_interval(difference[name], "+") for name in ("spearman", "kendall", "overlap")]
            rows.append(
                [title, record["num_networks"], difference["num_bags"], "difference, of bags with both", *apart, ""]
            )
            values.append({"title": title, "kind": "difference", **difference})
    return {
        "title": "Stability of attention",
        "columns": COLUMNS,
        "rows": rows,
        "values": values,
        "record": joined_records(made) | {"seeds": [0], "unit": "measure"},
    }


def _trainings(networks: list[dict[str, Any]]) -> list[tuple[dict[str, Any], float]]:
    """Return what the runs of the networks recorded, with their minutes."""
    found = []
    for network in networks:
        path = Path(network["path"]).parent.parent / "provenance.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        found.append((record, float(record.get("minutes", 0))))
    return found


def _interval(value: list[float | None], sign: str = "") -> str:
    middle, low, high = value
    if middle is None:
        return "undefined"
    return f"{middle:{sign}.2f}" + ("" if low is None else f" ({low:{sign}.2f} to {high:{sign}.2f})")
