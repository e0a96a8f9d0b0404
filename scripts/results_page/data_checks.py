"""What `milpath check-data` found in some data, as a table of the documentation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milpath.records.plain_values import parse_json
from results_page.script_record import joined_records


def checks_table(folders: Mapping[str, Path]) -> dict[str, Any]:
    """Return a row per finding, in the order of the command."""
    rows, values, made = [], {}, []
    for title, folder in folders.items():
        path = folder / "data_check.json"
        record = parse_json(path.read_text(encoding="utf-8"), str(path))
        made.append((record["environment"], None))
        values[title] = {name: value for name, value in record.items() if name != "environment"}
        rows += [
            [title, each["level"], each["check"], each["sentence"].replace("|", "\\|")] for each in record["findings"]
        ]
    return {
        "title": "What check-data found",
        "columns": ["data", "level", "check", "finding"],
        "rows": rows,
        "values": values,
        "record": joined_records(made) | {"seeds": [0], "unit": "finding"},
    }
