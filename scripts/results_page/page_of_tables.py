"""The page in Markdown: each table with its command, minutes, machine, seeds, folds and version, and figures of others."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from milpath.reports.markdown import markdown_table
from results_page.expected_calibration import of_calibrated

PAGE = "page.md"
PUBLISHED = "published.json"


def page(folder: Path) -> str:
    """Return the page of a folder of tables.

    The folder holds one JSON file per table, `NAME.md` with a title and what the table does not show, `published.json` with
    figures of others, and `page.md`, the frame with `{{ section("NAME") }}`.

    Raises:
        ValueError: If a file is not of that form, or a figure of others has another metric than the table beside it.
    """
    tables = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
        if path.name != PUBLISHED
    }
    for name, table in tables.items():
        if not ({"rows", "title", "record"} <= table.keys()):
            raise ValueError(f"{folder / name}.json must hold title, rows and record; make it with scripts/results.py")
    return _Page(folder, tables, json.loads((folder / PUBLISHED).read_text(encoding="utf-8"))).text()


class _Page:
    def __init__(self, folder: Path, tables: Mapping[str, Any], published: Mapping[str, Any]) -> None:
        self.folder, self.tables = folder, tables
        self.sources: Mapping[str, Any] = published["sources"]
        self.figures: Sequence[Mapping[str, Any]] = published["figures"]
        of_all = [set(table["notes"]) for table in tables.values() if "metric" in table]
        self.notes_of_all = set.intersection(*of_all) if of_all else set()
        self.shown: list[str] = []
        self.missing: list[str] = []
        self.environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
        )
        self.environment.globals = {
            "section": self.section,
            "rest": self.rest,
            "not_run": self.not_run,
            "reading": self.reading,
            "value": self.value,
            "mean": self.mean,
            "published": self.published_value,
            "tables": tables,
            "of_calibrated": of_calibrated,
        }

    def text(self) -> str:
        head = "<!-- Made by scripts/results.py from docs/tables; change those, not this page. -->\n"
        text = head + self.environment.from_string((self.folder / PAGE).read_text(encoding="utf-8")).render()
        if left := sorted(self.tables.keys() - set(self.shown)):
            raise ValueError(
                f"{self.folder / PAGE} shows nothing of {', '.join(left)}; add a section or {{{{ rest() }}}}"
            )
        while "\n\n\n" in text:
            text = text.replace("\n\n\n", "\n\n")
        return text.rstrip("\n") + "\n"

    def section(self, name: str) -> str:
        """Return heading, words, table and record of one table; nothing if it was not run with a record yet."""
        if name not in self.tables:
            self.missing.append(name)
            return ""
        self.shown.append(name)
        table = self.tables[name]
        words = self.folder / f"{name}.md"
        said = words.read_text(encoding="utf-8") if words.is_file() else f"## {table['title']}\n"
        lines = [self.environment.from_string(said).render().rstrip("\n"), ""]
        lines += self._methods(name, table) if "metric" in table else _values(table)
        lines += ["", *_record(name, table), ""]
        notes = [note for note in table.get("notes", ()) if note not in self.notes_of_all]
        return "\n".join(lines + [f"- {note}" for note in notes]) + "\n"

    def rest(self) -> str:
        """Return the sections of the tables that the frame does not place, by name."""
        return "\n".join(self.section(name) for name in sorted(self.tables.keys() - set(self.shown)))

    def not_run(self) -> str:
        """Return what has a section and no file, with the figures of others to compare with."""
        if not self.missing:
            return ""
        lines = [
            f"Not run, or not run again since results are kept as files: {', '.join(f'`{name}`' for name in self.missing)}.",
            "",
        ]
        rows, said = [], []
        for name in self.missing:
            figures = [figure for figure in self.figures if figure["table"] == name]
            for source in dict.fromkeys(figure["source"] for figure in figures):
                of_source = [figure for figure in figures if figure["source"] == source]
                words = ", ".join(f"{figure['method']} {_plus_minus(figure)}" for figure in of_source)
                rows.append([name, of_source[0]["metric"], words, self.sources[source]["name"]])
                said += [self._source(figure) for figure in of_source]
        if rows:
            lines += markdown_table(["table", "metric", "published", "source"], rows, [False] * 4)
            lines += ["", *(f"- {words}" for words in dict.fromkeys(said))]
        return "\n".join(lines) + "\n"

    def reading(self) -> str:
        """Return the notes that belong to every table."""
        ordered = next((table["notes"] for table in self.tables.values() if "metric" in table), [])
        return "".join(f"- {note}\n" for note in ordered if note in self.notes_of_all)

    def value(self, name: str, method: str) -> str:
        """Return mean and standard error of a method."""
        return _plus_minus(self._row(name, method), "mean")

    def mean(self, name: str, method: str) -> float:
        """Return the mean of a method, for comparisons in the words."""
        return float(self._row(name, method)["mean"])

    def published_value(self, name: str, method: str) -> str:
        """Return the first published figure of a method."""
        found = [each for each in self.figures if (each["table"], each["method"]) == (name, method)]
        if not found:
            raise ValueError(f"{PUBLISHED} has no figure of {method} in {name}")
        return _plus_minus(found[0])

    def _row(self, name: str, method: str) -> Mapping[str, Any]:
        rows = [row for row in self.tables[name]["rows"] if row["method"] == method]
        if not rows:
            raise ValueError(f"{name}.json has no method {method}")
        return dict(rows[0])

    def _methods(self, name: str, table: Mapping[str, Any]) -> list[str]:
        """Return the rows of a table of methods, with a column for every source of figures of others."""
        figures = [figure for figure in self.figures if figure["table"] == name]
        if other := [each for each in figures if each["metric"] != table["metric"]]:
            raise ValueError(
                f"{PUBLISHED}: the figure of {other[0]['method']} in {name} is {other[0]['metric']}, the table is of "
                f"{table['metric']}"
            )
        sources = list(dict.fromkeys(figure["source"] for figure in figures))
        by_place = {(figure["source"], figure["method"]): _plus_minus(figure) for figure in figures}
        unit = f"{table['record'].get('unit', 'fold')}s"
        beside = next((key for key in table["rows"][0] if key.endswith("balanced_accuracy")), None)
        head = ["method", f"{table['metric']}, mean ± SE", "95 % interval", f"p against {table['reference']}", unit]
        head += [f"{beside}, mean ± SE"] if beside else []
        head += [self.sources[source]["name"] for source in sources]
        rows = []
        for row in table["rows"]:
            cells = [row["method"], _plus_minus(row, "mean"), _interval(row), _p(row, table["reference"])]
            cells += [f"{row['folds_done']}/{row['folds_planned']}"]
            cells += [_plus_minus(row, beside, f"{beside}_standard_error")] if beside else []
            rows.append([*cells, *(by_place.get((source, row["method"])) for source in sources)])
        ours = {row["method"] for row in table["rows"]}
        for method in dict.fromkeys(figure["method"] for figure in figures):
            if method not in ours:
                rows.append(
                    [method, *[None] * (len(head) - len(sources) - 1), *(by_place.get((s, method)) for s in sources)]
                )
        lines = markdown_table(head, rows, [False] + [True] * (len(head) - 1))
        said = dict.fromkeys(self._source(figure) for figure in figures)
        return lines + (["", *(f"- Figures of others: {words}" for words in said)] if said else [])

    def _source(self, figure: Mapping[str, Any]) -> str:
        source = self.sources[figure["source"]]
        title = f"[{source['name']}]({source['url']})" if source.get("url") else source["name"]
        memory = "; quoted from memory" if figure.get("from_memory", source.get("from_memory", False)) else ""
        return f"{title}, {figure.get('protocol', source.get('protocol', 'protocol not known'))}{memory}"


def _values(table: Mapping[str, Any]) -> list[str]:
    """Return a table of plain columns; numbers with three significant digits."""
    rows = [[_cell(cell) for cell in row] for row in table["rows"]]
    numeric = [all(not isinstance(row[place], str) for row in table["rows"]) for place in range(len(table["columns"]))]
    return markdown_table(table["columns"], rows, numeric)


def _record(name: str, table: Mapping[str, Any]) -> list[str]:
    """Return how a table was made."""
    record = table["record"]
    unit = record.get("unit", "fold")
    commands = record.get("commands") or [record["command"]]
    lines = ["<!-- not composed: as it was typed, paths shortened -->", "```bash"]
    lines += [" ".join(map(_typed, command)) for command in commands]
    lines += ["```", ""]
    if unit == "seed":
        lines.append("One command per seed; those of the first seed are shown.")
    machine = [record.get("processor"), record.get("device") if record.get("device") != "x86_64" else None]
    words = ", ".join(_several(each) for each in machine if each) or "a machine that older versions did not record"
    minutes = record.get("minutes")
    time = "minutes not recorded" if minutes is None else f"{minutes:,.{1 if minutes < 10 else 0}f} minutes"
    resumed = f" ({record['num_resumed']} resumed, only their last part counted)" if record.get("num_resumed") else ""
    threads = f"{_several(record.get('num_cores'))} cores, threads per training: {_several(record.get('num_threads'))}"
    trainings = f" in {record['num_trainings']:,} trainings" if "num_trainings" in record else ""
    lines.append(f"- {time}{resumed}{trainings} on {words}, {threads}.")
    commit = f", commit {_several(record['commit'], 10)}" if record.get("commit") else ""
    changed = " with uncommitted changes" if record.get("dirty") else ""
    torch = (record.get("packages") or {}).get("torch")
    lines.append(
        f"- {str(record.get('started'))[:10]}, milpath {_several(record.get('version'))}{commit}{changed}"
        f"{f', torch {torch}' if torch else ''}, Python {_several(record.get('python'))}."
    )
    digest = f"; folds sha256 `{record['folds_sha256']}`" if record.get("folds_sha256") else ""
    data = record.get("data") or {}
    bags = f"; {data['num_bags']:,} bags" if isinstance(data.get("num_bags"), int) else ""
    store = f", store sha256 `{data['store_sha256']}`" if isinstance(data.get("store_sha256"), str) else ""
    lines.append(f"- Seeds {_seeds(record.get('seeds') or [])}{bags}{store}{digest}.")
    lines.append(f"- Every {unit}'s value: [{name}.json](tables/{name}.json).")
    return lines


def _typed(word: str) -> str:
    return word if shlex.quote(word) == word else (f"'{word}'" if "'" not in word else shlex.quote(word))


def _seeds(seeds: Sequence[int]) -> str:
    if not seeds:
        return "not recorded"
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _several(value: Any, length: int | None = None) -> str:
    values = value if isinstance(value, list) else ["unknown" if value is None else value]
    return " and ".join(str(each)[:length] for each in values)


def _plus_minus(row: Mapping[str, Any], key: str = "value", error_key: str = "standard_error") -> str:
    if row.get(key) is None:
        return "no fold"
    error = row.get(error_key)
    return _number(row[key]) + ("" if error is None else f" ± {_number(error)}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _cell(value: Any) -> str:
    return f"{value:,.3g}" if isinstance(value, float) else "" if value is None else str(value)


def _interval(row: Mapping[str, Any]) -> str:
    return "undefined" if row["low"] is None or row["high"] is None else f"{row['low']:.3f} to {row['high']:.3f}"


def _p(row: Mapping[str, Any], reference: str) -> str:
    if row["method"] == reference:
        return "reference"
    if row["p_value"] is None:
        return "undefined"
    return "< 0.001" if row["p_value"] < 0.001 else f"{row['p_value']:.3f}"
