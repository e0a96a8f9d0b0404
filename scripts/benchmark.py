"""Measure speed: `python scripts/benchmark.py NAME [--json FILE]`; `--help` lists the names.

Every row is the median of several runs and is shown with alternatives measured in the same process. Read the ratios:
absolute times are only meaningful on an idle machine.
"""

import argparse
import importlib
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from milpath.training.steps.step_loop import known_to_have_no_gpu

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
    # A process that imports Lightning looks for a GPU in every step of an optimizer, which loops without it would not do.
    with known_to_have_no_gpu():
        records = module.run(options)
    where = machine(getattr(options, "device", None))
    show(records, where)
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "records": records}, indent=2) + "\n")


def machine(device: str | None = None) -> dict[str, object]:
    """Return what was measured on; without a device on the GPU if there is one."""
    known: dict[str, object] = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    if device == "cpu" or not torch.cuda.is_available():
        return {"device": platform.processor() or platform.machine()} | known
    card = torch.cuda.get_device_properties(0)
    versions = {"driver": driver_version(), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"device": card.name, "memory_gb": round(card.total_memory / 1e9, 1)} | versions | known


def driver_version(query: Sequence[str] = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")) -> str:
    """Return the version of NVIDIA's driver, as its own program says."""
    try:
        said = subprocess.run(query, check=True, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.strip().splitlines()[0] if said.strip() else "unknown"


def show(records: list[dict], where: dict[str, object]) -> None:
    table = Table(title=str(where))
    for name in ("name", "value", "unit", "ratio", "against"):
        table.add_column(name, justify="right" if name in ("value", "ratio") else "left")
    for record in records:
        ratio = f"{record['ratio']:.2f}" if record.get("ratio") is not None else ""
        table.add_row(record["name"], f"{record['value']:,.4g}", record["unit"], ratio, record.get("against") or "")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
