"""Measure speed: `python scripts/benchmark.py NAME [--json FILE]`; `--help` lists the names.

Every row is the median of several runs and is shown with alternatives measured in the same process. Read the ratios:
absolute times are only meaningful on an idle machine.
"""

import argparse
import importlib
import json
import platform
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))
MODULES = {
    "train": "benchmarks.train",
    "load": "benchmarks.load",
    "predict": "benchmarks.predict",
    "start": "benchmarks.start",
    "scale": "benchmarks.scale",
    "features": "benchmarks.features.feature_bags",
    "folds": "benchmarks.features.folds",
    "tile": "benchmarks.tile",
    "extract": "benchmarks.extract",
    "cost": "benchmarks.cost",
    "gpu": "benchmarks.gpu",
    "all": "benchmarks.together",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MODULES)
    what = parser.parse_args(sys.argv[1:2]).what
    module = importlib.import_module(MODULES[what])
    parser = argparse.ArgumentParser(prog=f"benchmark.py {what}", description=module.__doc__)
    parser.add_argument("--json", type=Path, help="write one record per row: name, value, unit, ratio, against")
    module.add_arguments(parser)
    options = parser.parse_args(sys.argv[2:])
    records = module.run(options)
    show(records)
    if options.json:
        content = {"machine": machine(), "records": records}
        options.json.write_text(json.dumps(content, indent=2) + "\n")


def machine() -> dict[str, object]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}


def show(records: list[dict]) -> None:
    table = Table(title=str(machine()))
    for name in ("name", "value", "unit", "ratio", "against"):
        table.add_column(name, justify="right" if name in ("value", "ratio") else "left")
    for record in records:
        ratio = f"{record['ratio']:.2f}" if record.get("ratio") is not None else ""
        table.add_row(record["name"], f"{record['value']:,.4g}", record["unit"], ratio, record.get("against") or "")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
