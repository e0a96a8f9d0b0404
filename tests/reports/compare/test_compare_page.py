"""The page of a comparison: its numbers are those of the runs, and it says on which cases they disagree."""

import csv
import json
import re
from html import unescape

import numpy as np
import pandas as pd
import pytest

from milpath.reports.compare.compare_page import compare_runs, summary_lines, write_comparison
from milpath.reports.compare.compared_runs import read_compared
from tests.compared_runs import write_class_run, write_number_run, write_several_run, write_times_run

WRITERS = {
    "binary": write_class_run,
    "regression": write_number_run,
    "survival": write_times_run,
    "several": write_several_run,
}


def compared(tmp_path, write, count=2, **options):
    paths = [write(tmp_path / name, seed=number, **options) for number, name in enumerate("abc"[:count], 1)]
    for path in paths:
        (path / "report.html").write_text("<p>a report</p>")
    return paths, compare_runs(read_compared(paths), num_resamples=50)


def table_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", WRITERS)
def test_every_target_has_its_metrics_as_the_runs_wrote_them(tmp_path, kind):
    paths, comparison = compared(tmp_path, WRITERS[kind])
    page = write_comparison(comparison, tmp_path / "out").read_text()
    rows = table_of(tmp_path / "out" / "metrics.csv")
    written = [json.loads((path / "metrics.json").read_text())["test"] for path in paths]
    assert {row["metric"] for row in rows} == set(written[0])
    for row in rows:
        known = written["ab".index(row["run"])][row["metric"]]
        assert known is None if row["value"] == "" else float(row["value"]) == pytest.approx(known, abs=2e-6)
        if row["difference"]:
            assert float(row["difference"]) == pytest.approx(
                written[1][row["metric"]] - written[0][row["metric"]], abs=5e-6
            )
    assert not re.search(r"\b(nan|NaN)\b", re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))
    figures = json.loads(re.search(r'id="figure-data">(.*?)</script>', page)[1])
    assert len(figures) >= 2
    for figure in figures.values():
        assert sum(trace["name"].startswith(("a", "b")) for trace in figure["data"]) >= 2


def test_three_grades_have_a_curve_of_each_class_and_three_runs_two_differences(tmp_path):
    _, comparison = compared(tmp_path, write_class_run, 3, task="ordinal", class_names=("low", "middle", "high"))
    (section,) = comparison.sections
    titles = [plot.title for plot in section.plots]
    assert "ROC curve, middle against the rest" in titles
    roc = section.plots[titles.index("ROC curve, middle against the rest")].figure
    assert [trace.name[0] for trace in roc.data][:3] == ["a", "b", "c"]
    kappa = next(row for row in section.metrics if row.name == "quadratic_kappa")
    assert [each is None for each in kappa.differences] == [True, False, False]


def test_disagreements_are_the_bags_with_another_predicted_class_and_lead_to_the_reports(tmp_path):
    paths, comparison = compared(tmp_path, write_class_run, noise=1.5)
    page = write_comparison(comparison, tmp_path / "out" / "deep").read_text()
    tables = [pd.read_csv(path / "predictions.csv").set_index("id") for path in paths]
    other = tables[0].index[tables[0]["predicted"] != tables[1]["predicted"]]
    assert 3 < len(other) < 30
    found = table_of(tmp_path / "out" / "deep" / "disagreements.csv")
    assert {row["id"] for row in found} == set(other)
    assert [float(row["spread"]) for row in found] == sorted((float(row["spread"]) for row in found), reverse=True)
    assert f'href="../../a/report.html#case-{found[0]["id"]}"' in page
    assert f'href="../../b/report.html#case-{found[0]["id"]}"' in page
    right = [table["predicted"] == table["label"] for table in tables]
    text = unescape(re.sub(r"<[^>]*>", "", page))
    only = [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())]
    assert f"only a is correct on {only[0]}, only b on {only[1]}" in text
    assert "McNemar" in text


def test_numbers_and_risks_are_listed_by_how_far_they_are_apart(tmp_path):
    paths, comparison = compared(tmp_path / "age", write_number_run)
    cases = comparison.sections[0].disagreements.cases
    tables = [pd.read_csv(path / "predictions.csv").set_index("id") for path in paths]
    apart = (tables[0]["predicted_age"] - tables[1]["predicted_age"]).abs()
    assert cases[0].bag_id == apart.idxmax()
    assert cases[0].spread == pytest.approx(apart.max() / tables[0]["label_age"].std(ddof=0), rel=1e-6)
    _, times = compared(tmp_path / "time", write_times_run)
    found = times.sections[0].disagreements
    assert 0 < found.cases[0].spread <= 1
    assert "event at" in " ".join(case.label for case in found.cases)


def test_several_targets_have_a_section_each_on_the_bags_with_its_label(tmp_path):
    _, comparison = compared(tmp_path, write_several_run)
    assert [section.name for section in comparison.sections] == ["grade", "age"]
    assert comparison.sections[0].disagreements.summary.startswith("The predicted class differs between runs for")
    assert " of 48 bags" in comparison.sections[0].disagreements.summary
    assert all(row.name.startswith("grade/") for row in comparison.sections[0].metrics)


def test_patients_are_drawn_as_a_whole_and_mcnemar_is_left_out(tmp_path):
    _, comparison = compared(tmp_path, write_class_run, patients=12)
    assert comparison.num_groups == 12
    page = write_comparison(comparison, tmp_path / "out").read_text()
    assert "of 12 groups, such as patients" in page
    assert "McNemar" not in page
    assert "60 test bags of 12 groups" in summary_lines(comparison)[0]
    by_bag = compare_runs(
        read_compared([write_class_run(tmp_path / "n" / name, seed=seed) for seed, name in enumerate("ab", 1)]), 50
    )
    ends = [[each.metrics[0].differences[1].low for each in one.sections] for one in (comparison, by_bag)]
    assert ends[0] != ends[1]


def test_hostile_names_end_no_element(tmp_path):
    paths, _ = compared(tmp_path, write_class_run)
    for path in paths:
        table = pd.read_csv(path / "predictions.csv")
        table["id"] = table["id"].replace("bag_1", '"><script>alert(1)</script>')
        table.to_csv(path / "predictions.csv", index=False)
        (path / "splits.csv").unlink()
    names = ["<img src=x onerror=alert(1)>", "b"]
    comparison = compare_runs(read_compared(paths, names=names), num_resamples=10)
    page = write_comparison(comparison, tmp_path / "out").read_text()
    assert "<img src=x" not in page
    assert "<script>alert" not in page


def test_what_data_say_against_themselves_stands_on_top(tmp_path):
    paths, _ = compared(tmp_path, write_class_run)
    words = "trained on synthetic slides: says nothing about real tissue"
    (paths[1] / "provenance.json").write_text(
        json.dumps({"data": {"warning": words}, "started": "2026-11-20T10:00:00"})
    )
    page = write_comparison(compare_runs(read_compared(paths), 10), tmp_path / "out").read_text()
    assert re.search(r'class="warning" role="note">Trained on synthetic slides', page)
    assert "2026-11-20" in page


def test_a_metric_that_only_one_run_has_is_named_and_left_out(tmp_path):
    paths = [write_times_run(tmp_path / name) for name in "ab"]
    record = json.loads((paths[1] / "target.json").read_text())
    del record["state"]["baseline_times"], record["state"]["baseline_hazard"]
    (paths[1] / "target.json").write_text(json.dumps(record))
    table = pd.read_csv(paths[1] / "predictions.csv")
    table.drop(columns=[name for name in table if name.startswith(("survival_at", "median"))]).to_csv(
        paths[1] / "predictions.csv", index=False
    )
    comparison = compare_runs(read_compared(paths), 20)
    assert "Only some of the runs have" in comparison.notes[-1]
    assert "Integrated Brier score" in comparison.notes[-1]
    assert np.isfinite(comparison.sections[0].metrics[0].intervals[1].value)
