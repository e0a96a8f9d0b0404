"""Folder of the configuration files, in a wheel and in a checkout."""

from pathlib import Path

_PACKAGE_DIR = Path(__file__).resolve().parents[1]
# A wheel has the files inside the package, a checkout has them beside it.
CONFIG_DIR = next(path for path in (_PACKAGE_DIR / "configs", _PACKAGE_DIR.parent / "configs") if path.is_dir())
