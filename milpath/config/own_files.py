"""The user's own Python files that an archive must hold: those of named modules, and what they import from their folder."""

import ast
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_LIBRARY = "milpath"  # a checkout has it in the working folder as well


def own_files(modules: Iterable[str], folder: Path) -> dict[str, bytes]:
    """Return the files of a folder that hold some modules and all that these import from the same folder.

    Nothing is imported or executed: the import statements are read. Installed packages are not included.

    Args:
        modules: Dotted names of modules, such as `my_parts`; those that are not in the folder are passed over.
        folder: Where the user's own modules are found, the working folder.

    Returns:
        Path relative to the folder to content.

    Raises:
        ValueError: If a file is not valid Python.
    """
    folder = folder.resolve()
    found: dict[str, bytes] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if not _is_own(name.partition(".")[0], folder):
            continue
        for path in _files_of(name, folder):
            key = path.relative_to(folder).as_posix()
            if key not in found:
                found[key] = path.read_bytes()
                waiting += _imports(path, folder, found[key])
    return found


def own_names(content: Any, folder: Path) -> list[str]:
    """Return every `_target_` of a configuration that is in a file of the folder.

    Args:
        content: Plain mappings, lists and values.
        folder: Where the user's own modules are found.
    """
    if isinstance(content, list):
        return [name for item in content for name in own_names(item, folder)]
    if not isinstance(content, dict):
        return []
    names = [name for item in content.values() for name in own_names(item, folder)]
    target = content.get("_target_")
    if isinstance(target, str) and _is_own(target.partition(".")[0], folder.resolve()):
        return [target, *names]
    return names


def _is_own(name: str, folder: Path) -> bool:
    """Return whether a top-level module would be imported from the folder, not from where packages are installed."""
    if not name or name == _LIBRARY:
        return False
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
    own = {folder / f"{name}.py", folder / name / "__init__.py", folder / name}
    return any(Path(place).resolve() in own for place in places)


def _files_of(name: str, folder: Path) -> Iterator[Path]:
    """Yield the files of a dotted module: its own, and `__init__.py` of the packages that hold it."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        base = folder.joinpath(*parts[:end])
        for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
            if path.is_file():
                yield path


def _imports(path: Path, folder: Path, source: bytes) -> list[str]:
    """Return the dotted names that a file imports; those behind `from` may be modules as well."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is not valid Python: {error}") from None
    package = list(path.relative_to(folder).parent.parts)
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names += [module, *(f"{module}.{item.name}".lstrip(".") for item in node.names)]
    return names
