"""Reading and writing of records: atomic files, digests, tables, provenance of a run."""

from pathlib import Path

_PACKAGE_DIR = Path(__file__).resolve().parents[1]
_CANDIDATES = (_PACKAGE_DIR / "configs", _PACKAGE_DIR.parent / "configs")
# Folder of the configuration files: a wheel has them inside the package, a checkout beside it; an endpoint has none.
CONFIG_DIR = next((path for path in _CANDIDATES if path.is_dir()), _CANDIDATES[0])
