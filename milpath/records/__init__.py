"""Reading and writing of records: atomic files, digests, tables, provenance of a run."""

from pathlib import Path

_PACKAGE_DIR = Path(__file__).resolve().parents[1]
# Folder of the configuration files: a wheel has them inside the package, a checkout beside it.
CONFIG_DIR = next(path for path in (_PACKAGE_DIR / "configs", _PACKAGE_DIR.parent / "configs") if path.is_dir())
