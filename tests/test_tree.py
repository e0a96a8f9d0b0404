"""Layout of the repository: folders, sizes and names of modules, and the direction of imports outside the package."""

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "milpath"
MODULES = sorted(PACKAGE.rglob("*.py"))
COMMANDS = {"train", "evaluate", "predict", "tile", "extract", "table", "search", "app"}
MAX_LINES = 300
MAX_MODULES = 17
MEDIAN_LINES = 95


def test_only_commands_lie_at_the_root_of_the_package():
    names = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert names <= COMMANDS


def test_no_module_is_too_long_to_read():
    lengths = {path.relative_to(REPOSITORY).as_posix(): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_modules_are_not_split_into_crumbs():
    lengths = sorted(len(path.read_text().splitlines()) for path in MODULES if path.stem != "__init__")
    assert lengths[len(lengths) // 2] >= MEDIAN_LINES


def test_no_folder_holds_more_than_can_be_overlooked():
    counts = Counter(path.parent.relative_to(REPOSITORY).as_posix() for path in MODULES)
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}


def test_no_two_modules_have_one_name():
    names = Counter(path.stem for path in MODULES if path.stem not in ("__init__", "__main__"))
    assert [name for name, count in names.items() if count > 1] == []


def test_every_name_says_what_is_inside():
    vague = re.compile(r"(.*_)?(utils?|helpers?|common|base|misc)")
    assert [str(path) for path in MODULES if vague.fullmatch(path.stem)] == []


@pytest.mark.parametrize("folder", sorted({path.parent for path in (REPOSITORY / "scripts").rglob("*.py")}))
def test_scripts_import_each_other_without_a_circle(folder):
    imports = {path.stem: imported_names(path) for path in folder.glob("*.py")}
    known = {name: found & (imports.keys() - {name}) for name, found in imports.items()}
    # What imports nothing of the rest can be taken away; where nothing can, the rest is a circle.
    while free := {name for name, found in known.items() if not found}:
        known = {name: found - free for name, found in known.items() if name not in free}
    assert known == {}


def test_contributing_names_the_layers_in_their_order():
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    names = [name.strip().removeprefix("milpath.") for layer in reversed(layers) for name in re.split(r"[|:]", layer)]
    lines = [
        re.findall(r"\w+", re.sub(r"[`*]", "", line))
        for line in (REPOSITORY / "CONTRIBUTING.md").read_text().splitlines()
        if line.count(" < ") > 5
    ]
    assert [sorted(line) for line in lines] == [sorted(names)]
    # Names of one layer may stand in any order.
    position = {name: number for number, layer in enumerate(reversed(layers)) for name in re.findall(r"\.(\w+)", layer)}
    assert [position[name] for name in lines[0]] == sorted(position.values())


def imported_names(path: Path) -> set[str]:
    """Return the last part of every name that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.rpartition(".")[2] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").rpartition(".")[2], *(alias.name for alias in node.names)}
    return found
