"""The script that compares variants of a recipe on the folds of their tables."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from milpath.metrics.comparison import corrected_resampled_t_test
from tests.compared_runs import write_class_run
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def script() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(REPOSITORY / "scripts"), *sys.path])
        return importlib.import_module("compare_tables")


def table_of(folder: Path, noise: float, folds: int = 3) -> Path:
    """Write the trainings of a table with one method; the bags of a patient are on one side."""
    for fold in range(folds):
        run = write_class_run(folder / f"runs/attention/repeat_0/fold_{fold}", fold, noise=noise)
        (run / "config.yaml").write_text(f"seed: {fold}\n")
        predictions = pd.read_csv(run / "predictions.csv")
        numbers = predictions.iloc[:, 0].str.removeprefix("bag_").astype(int)
        predictions["split"] = np.where(numbers % 3 == fold, "test", "train")
        predictions.to_csv(run / "predictions.csv", index=False)
        rows = [f"bag_{n},{'test' if n % 3 == fold else 'train'},{n * 7 % 2},group {n % 12}\n" for n in range(60)]
        (run / "splits.csv").write_text("id,split,label,group\n" + "".join(rows))
        (run / "provenance.json").write_text(json.dumps({"minutes": 0.5, "started": "2026-11-27T01:00:00+00:00"}))
    return folder


def test_variants_are_compared_on_the_folds_that_both_have(script, tmp_path, capsys):
    plain, noisy = table_of(tmp_path / "plain", 1.0), table_of(tmp_path / "noisy", 4.0, folds=2)
    output = tmp_path / "variants.json"
    assert script.main([str(output), f"plain={plain}", f"noisy={noisy}", "--title", "Noise"]) == 0
    table = json.loads(output.read_text())
    first, second = table["values"]
    assert [row[:3] for row in table["rows"]] == [["attention", "plain", 3], ["attention", "noisy", 2]]
    assert first["auroc"]["mean"] > second["auroc"]["mean"]
    assert first["auroc"]["low"] <= first["auroc"]["mean"] <= first["auroc"]["high"]
    assert second["auroc"]["difference_low"] < second["auroc"]["difference"] < second["auroc"]["difference_high"]
    assert table["record"]["num_trainings"] == 5
    assert str(tmp_path) not in output.read_text()
    assert script.main([str(output), f"plain={plain}", f"none={tmp_path}"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_difference_is_that_of_nadeau_and_bengio(script, tmp_path):
    plain, noisy = table_of(tmp_path / "plain", 1.0), table_of(tmp_path / "noisy", 4.0)
    row = script.compared({"plain": plain, "noisy": noisy})[1]
    values = [
        [float(script.compare_methods([script.fold_of(run, "a")], "auroc").rows[0].mean) for run in runs["attention"]]
        for runs in (script.finished_runs(noisy), script.finished_runs(plain))
    ]
    fold = script.fold_of(script.finished_runs(plain)["attention"][0], "a")
    test = corrected_resampled_t_test(*values, len(fold.bag_ids) / fold.num_train)
    assert row["auroc"]["difference"] == pytest.approx(test.difference)
    assert row["auroc"]["difference_low"] == pytest.approx(test.low)
