"""Results of the documentation: keep the tables of finished commands, and make the page from them.

python scripts/results.py keep tables/musk1                 # the output folder of `milpath table`
python scripts/results.py runs mnist_bags_100 --metric auroc 'attention=runs/mnist_100_plain_*' ...
python scripts/results.py stability attention_stability 'MUSK1=out_musk1' ...   # folders of `milpath faithfulness`
python scripts/results.py checks check_data 'GlaS=data_check' ...               # folders of `milpath check-data`
python scripts/results.py                                   # writes docs/results.md and docs/scale.md
python scripts/results.py --check                           # exit status 1 if they are not what the files give
"""

import argparse
import difflib
import sys
from pathlib import Path

from milpath.records.atomic_files import write_text
from results_page import page_of_tables, scale_page
from results_page.attention_stability import stability_table
from results_page.data_checks import checks_table
from results_page.kept_tables import keep, table_of_folder, table_of_runs

DOCS = Path(__file__).resolve().parents[1] / "docs"


def main(words: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare the page with the files, and write nothing")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the documentation")
    actions = parser.add_subparsers(dest="action")
    kept = actions.add_parser("keep", help="keep the table of an output folder of `milpath table`")
    kept.add_argument("folder", type=Path)
    kept.add_argument("--name", help="name of the table; default: that of the folder")
    runs = actions.add_parser("runs", help="make a table from single runs that differ in their seed")
    runs.add_argument("name", help="name of the table")
    runs.add_argument("methods", nargs="+", metavar="METHOD=PATTERN", help="a method and a pattern of its run folders")
    runs.add_argument("--metric", required=True, help="metric on the test split, such as auroc")
    runs.add_argument("--title", help="title of the table; default: its name")
    for action, what in (("stability", "milpath faithfulness"), ("checks", "milpath check-data")):
        made = actions.add_parser(action, help=f"make a table from folders of `{what}`")
        made.add_argument("name", help="name of the table")
        made.add_argument(
            "folders", nargs="+", metavar="TITLE=FOLDER", help="a title and the folder that the command wrote"
        )
    given = parser.parse_args(words)
    tables: Path = given.docs / "tables"
    try:
        if given.action == "keep":
            keep(table_of_folder(given.folder), tables / f"{given.name or given.folder.resolve().name}.json")
        elif given.action == "runs":
            patterns = dict(_method_and_pattern(word) for word in given.methods)
            folders = {method: _folders(pattern) for method, pattern in patterns.items()}
            table = table_of_runs(given.title or given.name, folders, given.metric)
            keep(table, tables / f"{given.name}.json")
        elif given.action in ("stability", "checks"):
            of_folders = stability_table if given.action == "stability" else checks_table
            pairs = dict(_title_and_folder(word) for word in given.folders)
            keep(of_folders(pairs), tables / f"{given.name}.json")
        return _check(given.docs) if given.check else _write(given.docs)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1


def _method_and_pattern(word: str) -> tuple[str, str]:
    method, equals, pattern = word.partition("=")
    if not (method and equals and pattern):
        raise ValueError(f"methods are given as METHOD=PATTERN, such as 'attention=runs/mnist_*', got {word!r}")
    return method, pattern


def _title_and_folder(word: str) -> tuple[str, Path]:
    title, equals, folder = word.rpartition("=")
    if not (title and equals and folder):
        raise ValueError(f"folders are given as TITLE=FOLDER, such as 'MUSK1=out_musk1', got {word!r}")
    return title, Path(folder)


def _folders(pattern: str) -> list[Path]:
    """Return the paths of a pattern, sorted; it may be absolute."""
    path = Path(pattern)
    return sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor) if path.anchor else path)))


def _pages(docs: Path) -> dict[Path, str]:
    """Return the pages and their text."""
    pages = {docs / "results.md": page_of_tables.page(docs / "tables")}
    if (docs / "tables/scale").is_dir():
        pages[docs / "scale.md"] = scale_page.page(docs / "tables/scale")
    return pages


def _write(docs: Path) -> int:
    for path, text in _pages(docs).items():
        write_text(path, text)
    return 0


def _check(docs: Path) -> int:
    changed = 0
    for path, text in _pages(docs).items():
        there = path.read_text(encoding="utf-8").splitlines()
        changes = list(difflib.unified_diff(there, text.splitlines(), path.name, "files", lineterm="", n=0))
        if changes:
            changed = 1
            said = f"{path.name} is not what docs/tables gives; run scripts/results.py"
            sys.stderr.write("\n".join([*changes, said, ""]))
    return changed


if __name__ == "__main__":
    sys.exit(main())
