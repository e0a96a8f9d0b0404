"""The page of results is what its files give, and the files are what commands wrote, without what is personal."""

import importlib
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.compared_runs import write_class_run
from tests.conftest import REPOSITORY

OLD_TABLE = REPOSITORY / "tests/version_0_1_0/table"


@pytest.fixture(scope="module")
def results() -> ModuleType:
    """The script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(REPOSITORY / "scripts"), *sys.path])
        return importlib.import_module("results")


@pytest.fixture
def docs(tmp_path) -> Path:
    """A documentation with two tables, their words, figures of others and a frame."""
    tables = tmp_path / "docs/tables"
    tables.mkdir(parents=True)
    (tables / "page.md").write_text(
        "# Results\n\n{{ section('old') }}\n{{ rest() }}\n{{ section('missing') }}\n{{ not_run() }}"
    )
    source = {"name": "Somebody 2018", "url": "https://example.org", "protocol": "ten folds", "from_memory": True}
    figures = [("old", "attention", 0.75), ("old", "svm", 0.6), ("missing", "attention", 0.85)]
    keys = ("table", "method", "value")
    content = [dict(zip(keys, each, strict=True)) | {"metric": "auroc", "source": "a"} for each in figures]
    (tables / "published.json").write_text(json.dumps({"sources": {"a": source}, "figures": content}))
    return tmp_path / "docs"


def runs_of_seeds(folder: Path, method: str, seeds: list[int], noise: float) -> None:
    """Write finished runs that differ in their seed."""
    for seed in seeds:
        run = write_class_run(folder / f"{method}_{seed}", seed, noise=noise)
        (run / "config.yaml").write_text(f"seed: {seed}\nmodel:\n  seed: 99\n")
        (run / "splits.csv").write_text("id,split,label\n" + "".join(f"bag_{n},test,{n * 7 % 2}\n" for n in range(60)))
        record = {"command": ["milpath", "train", f"seed={seed}", f"data.path={folder}/bags"], "minutes": 0.5}
        record |= {"started": "2026-11-27T01:00:00+00:00", "processor": "Some CPU", "platform": "Linux-6.1-host-x86_64"}
        (run / "provenance.json").write_text(json.dumps(record))


def test_the_page_is_what_its_files_give(results):
    assert results.main(["--check"]) == 0


def test_the_table_of_the_page_on_faithfulness_is_what_its_file_gives(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "scripts"))
    tables = importlib.import_module("faithfulness_tables")
    records = json.loads((REPOSITORY / "docs/tables/faithfulness/faithfulness.json").read_text())
    assert "\n".join(tables.table(records)) in (REPOSITORY / "docs/concepts/faithfulness.md").read_text()


def test_no_result_is_typed_into_the_words_of_the_page():
    words = [path.read_text() for path in sorted((REPOSITORY / "docs/tables").glob("*.md"))]
    assert len(words) > 10
    outside = [re.sub(r"\{\{.*?\}\}|\{%.*?%\}|`[^`]*`", "", text, flags=re.DOTALL) for text in words]
    assert [re.findall(r"\b[01]?\.\d{2,}\b", text) for text in outside] == [[]] * len(words)


def test_a_number_that_differs_from_its_file_is_found(results, docs, capsys):
    assert results.main(["--docs", str(docs), "keep", str(OLD_TABLE), "--name", "old"]) == 0
    assert results.main(["--docs", str(docs), "--check"]) == 0
    page = docs / "results.md"
    mean = json.loads((OLD_TABLE / "table.json").read_text())["rows"][0]["mean"]
    assert f"| attention | {mean:.3f}" in page.read_text()
    page.write_text(page.read_text().replace(f"| attention | {mean:.3f}", "| attention | 0.999"))
    assert results.main(["--docs", str(docs), "--check"]) == 1
    assert f"+| attention | {mean:.3f}" in capsys.readouterr().err


def test_a_table_of_an_older_version_gets_its_record_from_its_run_folders(results, docs):
    assert results.main(["--docs", str(docs), "keep", str(OLD_TABLE), "--name", "old"]) == 0
    table = json.loads((docs / "tables/old.json").read_text())
    record, before = table["record"], json.loads((OLD_TABLE / "table.json").read_text())
    assert [row["folds"] for row in table["rows"]] == [row["folds"] for row in before["rows"]]
    assert (record["num_trainings"], record["version"], len(record["folds_sha256"])) == (4, "0.1.0", 64)
    assert record["seeds"] == [0, 1]
    assert record["minutes"] >= 0
    page = (docs / "results.md").read_text()
    assert record["folds_sha256"] in page
    assert "| Somebody 2018 |\n" in page
    assert re.search(r"\| svm \| +\|.* \| 0.600 \|\n", page)
    assert "[Somebody 2018](https://example.org), ten folds; quoted from memory" in page
    assert "| missing | auroc | attention 0.850 | Somebody 2018 |" in page


def test_runs_of_several_seeds_become_one_table_with_the_command_of_each_method(results, docs, tmp_path, monkeypatch):
    runs_of_seeds(tmp_path / "runs", "plain", [0, 1, 2], noise=1.0)
    runs_of_seeds(tmp_path / "runs", "gated", [0, 1, 2], noise=4.0)
    monkeypatch.chdir(tmp_path)
    words = ["runs", "bags", "plain=runs/plain_*", "gated=runs/gated_*", "--metric", "auroc"]
    assert results.main(["--docs", str(docs), *words]) == 0
    table = json.loads((docs / "tables/bags.json").read_text())
    values = {row["method"]: {fold["fold"]: fold["value"] for fold in row["folds"]} for row in table["rows"]}
    for method, seeds in values.items():
        for seed, value in seeds.items():
            metrics = json.loads((tmp_path / f"runs/{method}_{seed}/metrics.json").read_text())
            assert value == pytest.approx(metrics["test"]["auroc"], abs=1e-6)
    assert table["record"]["seeds"] == [0, 1, 2]
    assert table["record"]["minutes"] == 3.0
    page = (docs / "results.md").read_text()
    assert "milpath train seed=0 data.path=bags\nmilpath train seed=0 data.path=bags\n```" in page
    assert "| p against plain | seeds |" in page
    assert "3.0 minutes in 6 trainings on Some CPU" in page
    assert str(tmp_path) not in page + (docs / "tables/bags.json").read_text()
    assert "host" not in (docs / "tables/bags.json").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["keep", "nowhere"], "nowhere has no table.json; give the output folder of a finished `milpath table`"),
        (["runs", "t", "plain", "--metric", "auroc"], "methods are given as METHOD=PATTERN"),
        (["runs", "t", "plain=runs/none_*", "--metric", "auroc"], "plain has no run; give METHOD=PATTERN"),
        (["runs", "t", "plain=runs/*", "--metric", "auroc"], "have one seed, 0; give each seed once"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_line(words, message, results, docs, tmp_path, monkeypatch, capsys):
    runs_of_seeds(tmp_path / "runs", "plain", [0], noise=1.0)
    shutil.copytree(tmp_path / "runs/plain_0", tmp_path / "runs/again_0")
    monkeypatch.chdir(tmp_path)
    assert results.main(["--docs", str(docs), *words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (docs / "results.md").exists()


MADE = {
    "started": "2026-11-27T01:00:00+00:00", "code": {"commit": "a" * 40, "dirty": False}, "packages": {"milpath": "0.1.0"},
    "processor": "Some CPU", "platform": "Linux-6.1-host-x86_64", "num_cores": 2, "num_threads": 1,
}  # fmt: skip


def test_measurements_of_attention_become_a_row_per_kind_of_pair(results, docs, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    networks = []
    for fold in range(4):
        run = tmp_path / f"table/fold_{fold}"
        run.mkdir(parents=True)
        command = ["milpath", "train", "experiment=musk1", f"data.fold={fold}", f"seed={fold}", f"run_name=fold_{fold}"]
        (run / "provenance.json").write_text(json.dumps(MADE | {"command": command, "minutes": 0.5}))
        networks.append({"path": str(run / "checkpoints/best.ckpt"), "sha256": ""})
    kind = {"spearman": [0.5, 0.4, 0.6], "kendall": [0.4, None, None], "overlap": [0.25, 0.2, 0.3]}
    kind |= {"overlap_by_chance": [0.05, 0.05, 0.05], "num_bags": 9}
    record = {"num_networks": 4, "num_groups": None, "share": 0.1, "seconds": 60.0, "networks": networks}
    record |= {"num_resamples": 100}
    record |= {"between_kinds": {"trained on other bags": kind}}
    record["between_difference"] = kind | {"overlap": [-0.1, -0.2, -0.05], "num_bags": 7}
    (out / "faithfulness.json").write_text(json.dumps(record))
    # Eight bags of 10 tiles and one of 5: the mean of 1 / 10 and 1 / 5, whatever the record says.
    bags = [f"b{bag},{network},{10 if bag else 5},{'' if network else 0.05}" for bag in range(9) for network in (0, 1)]
    table = "\n".join(["bag_id,network,num_tiles,between_overlap_by_chance", *bags])
    (out / "faithfulness.csv").write_text(table)
    paths = ",".join(network["path"] for network in networks)
    command = ["milpath", "faithfulness", f"checkpoint=[{paths}]", "output=out"]
    (out / "provenance.json").write_text(json.dumps(MADE | {"command": command}))
    (docs / "tables/page.md").write_text("{{ section('stable') }}\n{{ rest() }}")
    assert results.main(["--docs", str(docs), "stability", "stable", f"MUSK1={out}"]) == 0
    text = (docs / "results.md").read_text()
    assert "| MUSK1 | 4 | 9 | other training bags | 0.50 (0.40 to 0.60) | 0.40 | 0.25 (0.20 to 0.30) | 0.11 |" in text
    assert "| difference, of bags with both | +0.50 (+0.40 to +0.60) | +0.40 | -0.10 (-0.20 to -0.05) |  |" in text
    # The trainings are one line, and the files of the measurement one file.
    assert text.count("milpath train experiment=musk1") == 1
    assert "milpath faithfulness 'checkpoint=[best.ckpt,...]' output=out" in text
    assert "3.0 minutes" in text
    assert str(tmp_path) not in text
    # Of some of the bags it can be told only if all have as many tiles.
    record["between_kinds"]["trained on other bags"]["num_bags"] = 4
    (out / "faithfulness.json").write_text(json.dumps(record))
    assert results.main(["--docs", str(docs), "stability", "stable", f"MUSK1={out}"]) == 1
    (out / "faithfulness.csv").write_text(table.replace(",5,", ",10,"))
    assert results.main(["--docs", str(docs), "stability", "stable", f"MUSK1={out}"]) == 0
    assert "0.25 (0.20 to 0.30) | 0.10 |" in (docs / "results.md").read_text()


def test_findings_about_data_become_a_row_each(results, docs, tmp_path):
    (tmp_path / "out").mkdir()
    finding = {
        "level": "leak",
        "check": "patients across splits",
        "sentence": "11 of 16 are",
        "examples": ["1: train 2"],
    }
    record = {"environment": MADE | {"command": ["milpath", "check-data"]}, "findings": [finding]}
    (tmp_path / "out/data_check.json").write_text(json.dumps(record))
    (docs / "tables/page.md").write_text("{{ section('checked') }}\n{{ rest() }}")
    assert results.main(["--docs", str(docs), "checks", "checked", f"GlaS={tmp_path / 'out'}"]) == 0
    assert "| GlaS | leak | patients across splits | 11 of 16 are |" in (docs / "results.md").read_text()


def test_a_figure_of_another_metric_is_not_put_beside_a_table(results, docs, capsys):
    path = docs / "tables/published.json"
    path.write_text(path.read_text().replace("auroc", "accuracy"))
    assert results.main(["--docs", str(docs), "keep", str(OLD_TABLE), "--name", "old"]) == 1
    assert "the figure of attention in old is accuracy, the table is of auroc" in capsys.readouterr().err


def test_a_table_of_plain_columns_is_shown_and_one_that_the_frame_leaves_out_is_refused(results, docs, capsys):
    rows = [["small", 4, 0.71234], ["large", 1000, None]]
    table = {
        "title": "By size",
        "columns": ["bags", "number", "AUROC"],
        "rows": rows,
        "record": {"command": ["milpath", "x"]},
    }
    (docs / "tables/sizes.json").write_text(json.dumps(table))
    assert results.main(["--docs", str(docs)]) == 0
    assert "| small | 4 | 0.712 |\n| large | 1000 |  |" in (docs / "results.md").read_text()
    (docs / "tables/page.md").write_text("# Results\n")
    assert results.main(["--docs", str(docs)]) == 1
    assert "page.md shows nothing of sizes; add a section" in capsys.readouterr().err


@pytest.fixture
def costs(results, docs) -> Path:
    """The measured figures of the documentation, in round numbers, and the frame of their page."""
    folder = docs / "tables/scale"
    folder.mkdir()
    shutil.copy(REPOSITORY / "docs/tables/scale/page.md", folder)
    for path in (REPOSITORY / "docs/tables/scale").glob("*.json"):
        content = json.loads(path.read_text())
        (folder / path.name).write_text(
            json.dumps(content | {"records": [each | {"value": 2.0} for each in content["records"]]})
        )
    return folder


def test_totals_follow_from_the_measured_figures_by_the_formula_beside_them(results, docs, costs):
    assert results.main(["--docs", str(docs), "keep", str(OLD_TABLE), "--name", "old"]) == 0
    page = (docs / "scale.md").read_text()
    # 2 s to find the tissue, 2 s to read and 2 s to encode each of 10,000 tiles; 2 + 2 bytes of each are written.
    assert "| tissue + 10,000 x (read + encode) | 40,000 | 40 kB |" in page
    hours = 40_002 * 1_000_000 / 3600
    days = [hours / 16 / 24, hours / 16 / 64 / 24]
    (row,) = [line for line in page.splitlines() if line.startswith("| 1,000,000 | `milpath extract`")]
    shown = [cell.strip() for cell in row.split("|")[3:6]]
    assert shown == ["11,100,000", *(f"{float(f'{each:.3g}'):,.0f} days" for each in days)]
    assert results.main(["--docs", str(docs), "--check"]) == 0


def test_a_cost_that_was_not_measured_is_asked_for(results, docs, costs, capsys):
    for path in costs.glob("*.json"):
        content = json.loads(path.read_text())
        content["records"] = [each for each in content["records"] if not each["name"].startswith("encode")]
        path.write_text(json.dumps(content))
    assert results.main(["--docs", str(docs), "keep", str(OLD_TABLE), "--name", "old"]) == 1
    assert "has a record 'encode with efficientnet_lite0, per tile'; make it with" in capsys.readouterr().err


def test_two_measurements_of_one_cost_are_refused(results, docs, costs, capsys):
    shutil.copy(costs / "cost.json", costs / "later.json")
    assert results.main(["--docs", str(docs)]) == 1
    assert "later.json measures 'find tissue, per slide', which another file there does too" in capsys.readouterr().err
