"""Reading and writing of records: atomic files, digests, tables, provenance of a run."""

from pathlib import Path

_PACKAGE_DIR = Path(__file__).resolve().parents[1]
# A wheel has the configuration files inside the package, a checkout beside it, and the archive of an endpoint has none.
CONFIG_DIR = _PACKAGE_DIR / "configs" if (_PACKAGE_DIR / "configs").is_dir() else _PACKAGE_DIR.parent / "configs"
