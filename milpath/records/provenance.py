"""Provenance of a run: configuration, code, packages, device and data, written next to its results."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from milpath.records.atomic_files import write_json, write_text
from milpath.records.plain_values import read_json

PACKAGES = (
    "milpath",
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "numpy",
    "pillow",
)


def record_run(config: DictConfig, run_dir: Path, data: Mapping[str, Any]) -> None:
    """Write `config.yaml` (resolved) and `provenance.json` into the folder of a run.

    Args:
        config: The composed configuration; interpolations are resolved in the copy that is written.
        run_dir: The folder of the run; created if it does not exist.
        data: Description of the data: hash of the store, hash of the labels, counts.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    write_text(run_dir / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    write_json(run_dir / "provenance.json", describe_environment() | {"data": dict(data)})


def record_end(run_dir: Path, seconds: float, resumed: bool) -> None:
    """Add how long a run took to its `provenance.json`.

    Args:
        run_dir: The folder of the run, with the file of `record_run`.
        seconds: From the start of this process's part of the run to its results.
        resumed: Whether an earlier process did a part, whose time is not included.
    """
    path = run_dir / "provenance.json"
    record = read_json(path)
    write_json(path, {**record, "minutes": round(seconds / 60, 4), "resumed": resumed})


def describe_environment() -> dict[str, Any]:
    """Return command, time, code version, package versions and device of this process."""
    import torch

    return {
        "command": _command(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": _describe_code(),
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "num_cores": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
    }


def _command() -> list[str]:
    """Return the command as typed: `milpath train ...`, `python -m milpath.train ...`, or the name of a script."""
    specification = getattr(sys.modules["__main__"], "__spec__", None)
    if specification is None:
        return [Path(sys.argv[0]).name, *sys.argv[1:]]
    name = specification.name.removesuffix(".__main__")
    program = Path(sys.argv[0])
    # The program `milpath`, or `python -m milpath`, sets the main module to the command it runs.
    if program.stem == "milpath" or program.parts[-2:] == ("milpath", "__main__.py"):
        return ["milpath", *name.replace("_", "-").split(".")[1:], *sys.argv[1:]]
    return ["python", "-m", name, *sys.argv[1:]]


def _processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


@cache
def _version(name: str) -> str | None:
    """Return the installed version, `None` for a package that is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache  # of this process: what it imported does not change when the checkout does
def _describe_code() -> dict[str, Any]:
    """Return the commit and dirty flag of the checkout the library runs from; both `None` for an installed wheel."""
    package_dir = Path(__file__).resolve().parents[1]
    # Only the library's own checkout counts: site-packages may be inside another repository.
    if not (package_dir.parent / "pyproject.toml").is_file():
        return {"commit": None, "dirty": None}
    try:
        commit = _git(package_dir, "rev-parse", "HEAD")
        dirty = bool(_git(package_dir, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": dirty}


def _git(folder: Path, *arguments: str) -> str:
    """Return the output of a git command."""
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()  # noqa: S603
