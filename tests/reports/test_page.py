import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from milpath.metrics.intervals import Interval
from milpath.metrics.subgroups import subgroup_tables
from milpath.metrics.weighted_metrics import METRICS
from milpath.records.digests import sha256_of_text
from milpath.records.prediction_table import Predictions, read_predictions
from milpath.reports.page import write_report
from milpath.reports.pictures import draw_cases
from milpath.reports.rendering import no_interval, render
from milpath.reports.run_parts import mean_over_bags
from milpath.targets.evaluation import evaluate_bags


@pytest.fixture(scope="module")
def page(binary_run):
    path = write_report(
        binary_run.path,
        task="binary",
        bags=binary_run.bags,
        store=binary_run.store,
        groups=dict(zip(binary_run.bags["bag_id"], binary_run.bags["patient"], strict=True)),
        defer_below=0.6,
    )
    return path.read_text(encoding="utf-8")


def _embedded(page, name):
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)[1])


def _text(page):
    """What a reader sees: no script, no style, no tags."""
    page = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_page_holds_the_numbers_of_the_run(page, binary_run):
    test = np.array(binary_run.predictions.splits) == "test"
    auroc = METRICS["auroc"]
    outcomes = evaluate_bags(binary_run.predictions.labels[test], binary_run.predictions.probabilities[test], "binary")
    text = _text(page)
    assert f"{float(auroc(outcomes)):.3f}" in text
    assert re.search(rf"Of {test.sum()} test bags of \d+ groups, {(outcomes.labels == 1).sum()} are malignant", text)
    assert "resamples of groups of bags, such as patients" in text
    for words in (
        "python -m milpath.train experiment=panda_attention &#39;data.class_names=[a,b]&#39;",
        "commit 0123abc",
        "torch 2.5.1",
        "ab" * 32,
        "karolinska",
        "radboud",
    ):
        assert words in text
    assert text.count("Research use only, not for diagnosis") >= 3


def test_every_case_is_on_the_page_most_wrong_known(page, binary_run):
    cases = _embedded(page, "case-data")
    assert cases["id"] == list(binary_run.predictions.bag_ids)
    positive = binary_run.predictions.probabilities[:, 1]
    expected = np.where(binary_run.predictions.labels == 1, 1 - positive, positive)
    assert cases["wrongness"] == pytest.approx(expected, abs=1e-4)
    assert cases["deferred"] == (binary_run.predictions.probabilities.max(1) < 0.6).astype(int).tolist()
    assert set(cases["details"]) == {"data_provider", "patient"}


def test_names_of_slides_end_no_element_and_begin_none(page):
    assert "<script>alert" not in page
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert '<script>alert("id")</script>' in _embedded(page, "case-data")["id"]


def test_names_of_slides_lead_to_no_other_folder(page, binary_run):
    cases = _embedded(page, "case-data")
    files = [name for name in cases["montage"] + cases["overlay"] if name]
    assert len(set(files)) == 2 * len(binary_run.bags)
    for name in files:
        assert re.fullmatch(r"[0-9a-f]{16}_(montage|overlay)\.jpg", name)
        assert (binary_run.path / "report_files" / name).is_file()
    assert sorted(path.name for path in (binary_run.path / "report_files").iterdir()) == sorted(files)


def test_nothing_is_fetched_from_elsewhere(page):
    shell = re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", shell)
    assert "default-src 'none'" in shell


def test_attention_is_measured_against_tile_labels(page):
    shown = re.search(
        r"Tile AUROC, mean over bags</dt><dd class=\"value\">([\d.]+)</dd><dd class=\"range\">([^<]+)", page
    )
    assert shown[2] == "(no interval)"  # the weights rank the tiles of all bags alike
    assert "there is no validation split" not in page.lower()
    assert "An AUROC of 0.5, or an average precision equal to that share, is chance." in _text(page)


def test_the_mean_over_bags_draws_patients_as_a_whole():
    values = np.array([0.1, 0.1, 0.9, 0.9, np.nan, 0.6])
    bags, patients = mean_over_bags(values), mean_over_bags(values, np.array(list("aabbbc")))
    assert bags.value == patients.value == pytest.approx(0.52)
    assert patients.low < bags.low < 0.52 < bags.high <= patients.high
    assert mean_over_bags(np.full(3, np.nan)).value is None


def test_a_perfect_auroc_of_six_bags_says_that_it_has_no_interval():
    labels = np.arange(6) % 2
    outcomes = evaluate_bags(labels, np.stack([1.0 - labels, labels], axis=1), "binary")
    bags, names = pd.DataFrame({"site": list("aaaabb")}), ["auroc", "accuracy"]
    tables = subgroup_tables(outcomes, bags, names, ["site"], num_resamples=20)
    words = _text(render("subgroups.html.j2", plots=[], subgroups=tables, metric_names={}))
    assert "1.000 (no interval) 1.000 (0.510 to 1.000)" in words


def test_a_value_without_interval_says_why():
    assert no_interval(Interval(1.0, None, None, 3), 20) == "no interval: the resamples are equal"
    assert (
        no_interval(Interval(0.8, None, None, 1200), 2000) == "no interval: 1,200 of 2,000 resamples do not define it"
    )


def test_writing_again_replaces_pictures_and_leaves_no_half_page(binary_run):
    path = write_report(binary_run.path, task="binary", store=binary_run.store, num_pictures=3, num_resamples=50)
    assert len(list((binary_run.path / "report_files").iterdir())) == 6
    assert not list(path.parent.glob(".*")) + list(path.parent.glob("*partial*"))
    write_report(binary_run.path, task="binary", bags=binary_run.bags, store=binary_run.store, num_resamples=50)


def test_overlays_of_cases_carry_the_agreement_of_the_folds(binary_run, tmp_path):
    agreement = np.linspace(-0.5, 0.9, len(binary_run.bags))
    words = {"task": "binary", "store": binary_run.store, "num_pictures": 1, "num_resamples": 5}
    write_report(binary_run.path, **words, agreement=agreement)
    found = {path.name: path.read_bytes() for path in (binary_run.path / "report_files").iterdir()}
    plain = read_predictions(binary_run.path / "predictions.csv")
    shown = [row for row, name in enumerate(plain.bag_ids) if f"{sha256_of_text(name)[:16]}_overlay.jpg" in found]
    for number, predictions in enumerate((replace(plain, agreement=agreement), plain)):
        draw_cases(predictions, shown, binary_run.store, tmp_path / f"files_{number}")
    assert len(found) == 2
    for name, picture in found.items():
        assert picture == (tmp_path / "files_0" / name).read_bytes()
        assert picture != (tmp_path / "files_1" / name).read_bytes()  # one network has no agreement


@pytest.mark.parametrize("task", ["nominal", "ordinal"])
def test_six_grades_have_kappa_by_provider(make_run, task):
    run = make_run(num_bags=120, num_classes=6, name=task)
    text = _text(write_report(run.path, task=task, bags=run.bags, store=run.store, num_pictures=2).read_text())
    assert "Quadratic-weighted kappa" in text
    assert "AUROC, malignant vs. benign" in text
    assert "target sensitivity" not in text


def test_ten_thousand_cases_stay_below_fifteen_megabytes(tmp_path):
    generator = np.random.default_rng(0)
    labels = generator.integers(6, size=10_000)
    Predictions(
        bag_ids=[f"{number:032x}" for number in range(10_000)],
        splits=["test"] * 10_000,
        labels=labels,
        probabilities=generator.dirichlet(np.ones(6), 10_000).astype(np.float32),
        attention=list(generator.dirichlet(np.ones(16), 10_000).astype(np.float32)),
        class_names=[f"ISUP {number}" for number in range(6)],
    ).write_csv(tmp_path / "predictions.csv")
    path = write_report(tmp_path, task="ordinal", num_resamples=20)
    assert path.stat().st_size < 15e6
    assert "threshold, temperature and deferral were chosen before, and none is chosen on these bags" in _text(
        path.read_text()
    )


def test_a_split_of_one_class_is_reported_without_a_false_number(tmp_path):
    Predictions(
        bag_ids=["a", "b", "c"],
        splits=["test"] * 3,
        labels=np.zeros(3, np.int64),
        probabilities=np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]], np.float32),
        attention=[np.ones(1, np.float32)] * 3,
        class_names=["benign", "malignant"],
    ).write_csv(tmp_path / "predictions.csv")
    text = _text(write_report(tmp_path, task="binary", num_resamples=50).read_text())
    assert "AUROC undefined one class only" in text
    assert "Intervals over 3 bags are rough, and often too narrow." in text
    assert "The threshold of the run, measured on the test split." in text
    assert "NaN" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda run, _: {"groups": {"other": "patient"}}, "bags have no group"),
        (lambda run, _: {"bags": run.bags.iloc[:30]}, r"30 bags of predictions.csv are not in the table of bags"),
        (lambda run, _: {"bags": run.bags, "subgroup_columns": ["scanner"]}, "bags have no column 'scanner'"),
        (lambda _, make_run: {"store": make_run(num_bags=10, name="other").store}, "tiles? in|is not in"),
    ],
    ids=["no group", "half a table", "no subgroup", "another store"],
)
def test_what_does_not_belong_to_the_run_is_refused_and_the_page_before_stays(
    binary_run, make_run, page, arguments, words
):
    with pytest.raises(ValueError, match=words):
        write_report(binary_run.path, task="binary", num_resamples=20, **arguments(binary_run, make_run))
    assert (binary_run.path / "report.html").is_file()
    assert (binary_run.path / "report_files").is_dir()
    assert not list(binary_run.path.glob("*partial*"))


def test_a_run_that_was_calibrated_shows_its_error_before_and_after(binary_run):
    def sentence(**words):
        path = write_report(binary_run.path, task="binary", num_resamples=20, **words)
        return re.search(
            r"second reader Calibration SVG PDF (.*?) Larger points", _text(path.read_text(encoding="utf-8"))
        )[1]

    test = np.array(binary_run.predictions.splits) == "test"
    odds = binary_run.predictions.probabilities[test] ** 2.0  # the logits times 2: what was there before temperature 2
    before = evaluate_bags(binary_run.predictions.labels[test], odds / odds.sum(1, keepdims=True), "binary")
    after = evaluate_bags(binary_run.predictions.labels[test], binary_run.predictions.probabilities[test], "binary")
    first, second = (float(METRICS["ece"](outcomes)) for outcomes in (before, after))
    assert sentence(temperature=2.0) == (
        f"Temperature 1: expected calibration error {first:.3f}; temperature 2.00: expected calibration error {second:.3f}."
    )
