"""The page of costs: measured per slide and per tile by `benchmark.py cost`, and what follows for many slides."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from milpath.reports.markdown import markdown_table

# What the page counts with; a slide has about as many tiles of 256 px at 0.5 microns per pixel.
TILES_PER_SLIDE = 10_000
EPOCHS = 20
CORES = 16
MACHINES = 64
# The file of the version that read tiles.csv as a table.
BEFORE = "before"
SLIDES = (10_000, 1_000_000)
_SECONDS = 3600


@dataclass(frozen=True)
class Step:
    """One command on one slide.

    Attributes:
        name: Name of the step.
        formula: How its CPU time per slide is made from the measured figures.
        cpu_s: CPU seconds per slide.
        written: Bytes written per slide.
        machines: Machines that can share it.
    """

    name: str
    formula: str
    cpu_s: float
    written: float
    machines: int = MACHINES

    def hours(self, slides: int, machines: int = 1) -> float:
        """Return the hours on machines of `CORES` cores."""
        return self.cpu_s * slides / (CORES * min(machines, self.machines)) / _SECONDS


def page(folder: Path) -> str:
    """Return the page of a folder with `page.md` and the JSON files of `benchmark.py cost`, of which `before.json` is older.

    Raises:
        ValueError: If a figure that the page shows was not measured.
    """
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    before = {each["name"]: each for each in files.get(BEFORE, {"records": []})["records"]}
    now: dict[str, Mapping[str, Any]] = {}
    for name, content in files.items():
        for each in content["records"] if name != BEFORE else ():
            if each["name"] in now:
                raise ValueError(
                    f"{folder / name}.json measures {each['name']!r}, which another file there does too; keep one"
                )
            now[each["name"]] = each

    def value(name: str, then: bool = False) -> float:
        records = before if then else now
        if name not in records:
            raise ValueError(f"no file in {folder} has a record {name!r}; make it with scripts/benchmark.py cost")
        return float(records[name]["value"])

    steps = _steps(value)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.globals = {
        "measured": lambda: _measured(now),
        "per_slide": lambda: _per_slide(steps),
        "totals": lambda: _totals(steps),
        "opened": lambda: _opened({"as a table, before": before, "this version": now}),
        "value": value,
        "show": _show,
        "size": _size,
        "machine": next((content["machine"] for name, content in files.items() if name != BEFORE), {}),
        "tiles_per_slide": TILES_PER_SLIDE,
        "epochs": EPOCHS,
        "cores": CORES,
        "machines": MACHINES,
    }
    head = "<!-- Made by scripts/results.py from docs/tables/scale; change those, not this page. -->\n"
    return head + environment.from_string((folder / "page.md").read_text(encoding="utf-8")).render().rstrip("\n") + "\n"


def _steps(value: Any) -> list[Step]:
    tiles = TILES_PER_SLIDE
    row = value("row of tiles.csv, per tile")
    tissue, read = value("find tissue, per slide"), value("read, per tile")
    encode = value("encode with efficientnet_lite0, per tile")
    train, predict = value("train, per tile and epoch"), value("predict, per tile")
    extract = tissue + (read + encode) * tiles
    stored, attention = value("features of 1,280 float16, per tile") + row, value("row of attention.csv, per tile")
    return [
        Step(
            "`milpath tile`, 64 tiles of 256 px", "tissue + 64 x read", tissue + 64 * read, 64 * (256 * 256 * 3 + row)
        ),
        Step(
            "`milpath extract`, efficientnet_lite0",
            f"tissue + {tiles:,} x (read + encode)",
            extract,
            tiles * stored,
        ),
        Step(
            f"`milpath train`, {EPOCHS} epochs",
            f"{EPOCHS} x {tiles:,} x train",
            train * tiles * EPOCHS,
            0.0,
            machines=1,
        ),
        Step(
            "`milpath predict` on features",
            f"{tiles:,} x predict",
            predict * tiles,
            tiles * attention,
        ),
    ]


def _measured(records: Mapping[str, Mapping[str, Any]]) -> str:
    shown = [each for each in records.values() if "tiles of" not in each["name"]]
    rows = [[each["name"], _show(each["value"]), each["unit"]] for each in shown]
    return "\n".join(markdown_table(["measured", "value", "unit"], rows, [False, True, False]))


def _per_slide(steps: Sequence[Step]) -> str:
    rows = [
        [step.name, step.formula, _show(step.cpu_s), _size(step.written) if step.written else "checkpoints"]
        for step in steps
    ]
    head = ["step", "CPU time per slide", "CPU s", "written per slide"]
    return "\n".join(markdown_table(head, rows, [False, False, True, True]))


def _totals(steps: Sequence[Step]) -> str:
    head = [
        "slides",
        "step",
        "core hours",
        f"one machine, {CORES} cores",
        f"{MACHINES} machines, slides divided",
        "written",
    ]
    rows = []
    for slides in SLIDES:
        for step in steps:
            spread = _hours(step.hours(slides, MACHINES)) if step.machines > 1 else "not measured"
            hours = step.cpu_s * slides / _SECONDS
            # How training scales with cores was not measured.
            one = _hours(step.hours(slides)) if step.machines > 1 else "not measured"
            rows.append([f"{slides:,}", step.name, _show(hours), one, spread, _written(step, slides)])
    return "\n".join(markdown_table(head, rows, [True, False, True, True, True, True]))


def _written(step: Step, slides: int = 1) -> str:
    return _size(step.written * slides) if step.written else "checkpoints"


def _opened(versions: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return the table of opened stores, before and after the index."""
    head = ["store", "how", "process", "open, CPU s", "positions of one slide, CPU s", "memory of both, MB"]
    rows = []
    for version, records in versions.items():
        for name, each in records.items():
            if name.startswith("open, "):
                what, _, process = name.removeprefix("open, ").rpartition(", ")
                others = (f"positions of a slide, {what}, {process}", f"memory of both, {what}, {process}")
                values = [_show(one["value"]) for one in (each, *(records[other] for other in others))]
                rows.append([what, version, process.removesuffix(" process"), *values])
    return "\n".join(markdown_table(head, rows, [False, False, False, True, True, True]))


def _show(value: float) -> str:
    """Return a number with two or three digits.

    Example:
        >>> _show(0.01234), _show(12.34), _show(123456)
        ('0.0123', '12.3', '123,000')
    """
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:.3g}"


def _hours(hours: float) -> str:
    return (
        f"{_show(hours * 60)} min" if hours < 2 else f"{_show(hours)} h" if hours < 96 else f"{_show(hours / 24)} days"
    )


def _size(num_bytes: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{_show(num_bytes / size)} {unit}"
    return f"{num_bytes:.0f} bytes"
