import csv
import json

import numpy as np
import pytest

from milpath.reports.method_tables.method_table import compare_methods
from milpath.reports.method_tables.run_design import FoldResult
from milpath.reports.method_tables.tables import as_latex, as_markdown, write_table
from milpath.targets.evaluation import evaluate_bags


@pytest.fixture
def table():
    generator = np.random.default_rng(0)
    results = []
    for method, gain in (("attention", 2.0), ("gated_attention", 1.0), ("odd|name & <b>", 0.0)):
        for fold in range(4):
            labels = np.arange(40) % 2
            positive = 1 / (1 + np.exp(-(gain * (labels - 0.5) + generator.normal(size=40))))
            outcomes = evaluate_bags(labels, np.stack([1 - positive, positive], 1), "binary")
            results.append(FoldResult(method, 0, fold, [f"{fold}_{n}" for n in range(40)], outcomes, 120))
    results[5] = FoldResult("gated_attention", 0, 1, failure="ValueError: NaN loss at step 3 | bag 'x'")
    return compare_methods(results, "auroc", title="MUSK1", published={"attention": 0.892})


def test_four_files_say_the_same(table, tmp_path):
    paths = write_table(table, tmp_path / "tables" / "musk1")
    assert [path.name for path in paths] == ["table.md", "table.csv", "table.json", "table.tex"]
    markdown, _, as_json, latex = (path.read_text() for path in paths)
    content = json.loads(as_json)
    with paths[1].open() as file:
        records = list(csv.DictReader(file))
    for row, record, entry in zip(table.rows, records, content["rows"], strict=True):
        assert float(record["mean"]) == entry["mean"] == row.mean
        assert f"{row.mean:.3f} ± {row.standard_error:.3f}" in markdown
        assert rf"{row.mean:.3f} $\pm$ {row.standard_error:.3f}" in latex
        assert len(entry["folds"]) == row.num_done == int(record["folds_done"])
    assert not list((tmp_path / "tables" / "musk1").glob(".*"))


def test_a_failed_fold_is_named_in_every_file(table, tmp_path):
    for path in write_table(table, tmp_path):
        assert "NaN loss at step 3" in path.read_text()
    assert "3/4 (1 failed)" in as_markdown(table)
    assert json.loads((tmp_path / "table.json").read_text())["complete"] is False


def test_markdown_is_a_table_whatever_the_names_hold(table):
    lines = [line for line in as_markdown(table).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3
    assert {line.replace(r"\|", "").count("|") for line in lines} == {8}
    assert r"odd\|name & &lt;b>" in lines[4]
    assert "| 0.892 |" in lines[2]


def test_latex_prints_the_names_as_they_are(table):
    latex = as_latex(table)
    assert r"gated\_attention" in latex
    assert r"odd|name \& <b>" in latex
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {5}


def test_numbers_that_there_are_not_are_empty_and_not_zero(tmp_path):
    table = compare_methods([FoldResult("attention", 0, 0, failure="RuntimeError: killed")], "auroc")
    write_table(table, tmp_path)
    record = next(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert (record["mean"], record["p_value"]) == ("", "")
    assert "| no fold | undefined | no fold | reference | 0/1 (1 failed) |" in (tmp_path / "table.md").read_text()


def test_balanced_accuracy_stands_beside_auroc_and_only_there(table, tmp_path):
    write_table(table, tmp_path)
    markdown, content = (tmp_path / "table.md").read_text(), json.loads((tmp_path / "table.json").read_text())
    with (tmp_path / "table.csv").open() as file:
        records = list(csv.DictReader(file))
    for row, entry, record in zip(table.rows, content["rows"], records, strict=True):
        mean, error = row.beside
        assert f"{mean:.3f} ± {error:.3f}" in markdown
        assert (entry["balanced_accuracy"], entry["balanced_accuracy_standard_error"]) == (mean, error)
        assert float(record["balanced_accuracy"]) == mean
    results = [FoldResult("attention", 0, 0, ["a", "b"], evaluate_bags([0, 1], np.eye(2), "binary"), 4)]
    assert compare_methods(results, "auroc").rows[0].beside == (1.0, None)
    assert "balanced" not in as_markdown(compare_methods(results, "accuracy"))
