"""Layout of the repository: folders, sizes and names of modules, and the direction of imports outside the package."""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Container
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "milpath"
MODULES = sorted(PACKAGE.rglob("*.py"))
COMMANDS = {
    "train",
    "evaluate",
    "predict",
    "tile",
    "extract",
    "table",
    "search",
    "app",
    "encoders",
    "compare",
    "faithfulness",
    "check_data",
}
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


@pytest.mark.parametrize(
    ("folder", "root"),
    [("milpath", "."), ("scripts", "scripts"), ("scripts/sagemaker", "scripts/sagemaker")],
    ids=["milpath", "scripts", "scripts/sagemaker"],
)
def test_no_modules_import_each_other_in_a_circle(folder, root):
    names = {name_of(path, REPOSITORY / root): path for path in (REPOSITORY / folder).rglob("*.py")}
    imports = {name: imported_modules(path, names) - {name} for name, path in names.items()}
    assert sum(map(len, imports.values())) >= 4
    assert circle_of(imports) == {}


def test_a_circle_is_found():
    assert circle_of({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}).keys() == {"a", "b", "c"}
    assert circle_of({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {}


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


def name_of(path: Path, root: Path) -> str:
    """Return the name by which a module is imported where `root` is on the path."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, known: Container[str]) -> set[str]:
    """Return the known modules that a file imports when it is imported itself."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return {name for name in found if name in known}


def circle_of(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the modules that are left when what imports nothing of the rest is taken away, again and again."""
    while free := {name for name, found in imports.items() if not found}:
        imports = {name: found - free for name, found in imports.items() if name not in free}
    return imports
