"""Collect measurements of `milpath faithfulness` in one JSON file, and print the table of the page on faithfulness.

    python scripts/faithfulness_tables.py docs/tables/faithfulness/faithfulness.json "MNIST-bags, gated=out_gated" ...

Measurements are added to those of the file. Without any the file is read and only the table is printed. Verdicts follow from
the numbers by the rule of this version; the sentences in the file are those that were printed when it was measured.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from milpath.records.atomic_files import write_json
from milpath.reports.faithfulness.verdict import verdict_of
from results_page.kept_tables import without_paths
from results_page.overlap_chance import with_chance

ORDERS = ("attention", "contribution", "gradient x input", "occlusion", "single tile", "random")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("measurements", nargs="*", metavar="TITLE=FOLDER")
    words = parser.parse_args()
    if words.measurements:
        titles = dict(each.rsplit("=", 1) for each in words.measurements)
        kept = json.loads(words.file.read_text(encoding="utf-8")) if words.file.is_file() else {}
        write_json(words.file, kept | {title: slim(Path(folder)) for title, folder in titles.items()})
    print("\n".join(table(json.loads(words.file.read_text(encoding="utf-8")))))


def slim(folder: Path) -> dict[str, Any]:
    """Return the record of a measurement without its curves, which its picture shows, and with its provenance."""
    record = with_chance(json.loads((folder / "faithfulness.json").read_text(encoding="utf-8")), folder)
    record = without_paths(record)
    for part in record["parts"]:
        for order in part["orders"].values():
            for scale in ("probability", "log_odds"):
                del order[scale]["deletion"], order[scale]["insertion"]
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    return record | {name: provenance[name] for name in ("started", "packages", "num_threads")}


def table(records: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table: area between the curves of each order, tile AUROC of attention, verdict."""
    lines = [f"| data and network | bags | {' | '.join(ORDERS)} | tile AUROC of attention | verdict |"]
    lines.append("|---|---|" + "---:|" * (len(ORDERS) + 1) + "---|")
    for title, record in records.items():
        for part in record["parts"][1:] or record["parts"]:
            headline = part["name"] == record["headline"]
            cells = [
                _cell(part["orders"].get(order, {}).get("probability", {}).get("relevance_gain")) for order in ORDERS
            ]
            truth = _cell(record["truth"].get("attention", {}).get("auroc")) if headline else ""
            name = f"{part['num_bags']} {part['name']}"
            lines.append(f"| {title} | {name} | {' | '.join(cells)} | {truth} | {_verdict(record, part)} |")
    return lines


def _verdict(record: dict[str, Any], part: dict[str, Any]) -> str:
    """Return what is found in the bags of a row, with the share of the gain of the best order."""
    found = verdict_of(record, part)
    share = found["share_of_best"]
    return f"{found['finding']}" + ("" if share is None else f", {_cell(share)}")


def _cell(interval: list[float | None] | None) -> str:
    """Return a value with its interval."""
    if interval is None or interval[0] is None:
        return ""
    value, low, high = interval
    return f"{value:z.2f}" + ("" if low is None or high is None else f" ({low:z.2f} to {high:z.2f})")


if __name__ == "__main__":
    main()
