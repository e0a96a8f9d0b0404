"""Commands in a folder whose name has every character that a shell, Hydra, OmegaConf, rich or a URL could read as syntax."""

import csv
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.commands import SMALL_RUN

UGLY = "Präparate 漢字, (a) [b] {c} = # & ' \" $ ; ~ % @ ! <i> \\"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("odd") / UGLY
    path.mkdir()
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what Lightning says of small data
def test_train_evaluate_predict_and_table_work_in_a_folder_with_an_odd_name(folder, run_here, capfd):
    runs, stores, name = f"paths.runs_dir={folder}/runs", f"paths.stores_dir={folder}/stores", f"run_name={UGLY}"
    words = [*SMALL_RUN[:-1], "report=true", "trainer.max_epochs=1", stores]
    assert run_here("milpath.train", *words, runs, name, cwd=folder) == (0, "")
    run_dir = folder / "runs" / UGLY
    page = re.sub(r"<(script|style).*?</\1>", "", (run_dir / "report.html").read_text(), flags=re.DOTALL)
    assert "&lt;i&gt;" in page
    assert "<i>" not in page
    for link in set(re.findall(r'(?:src|href)="(?!data:|https?:|#|mailto:)([^"]+)"', page)):
        assert (run_dir / unquote(link)).exists(), link
    checkpoint = f"checkpoint={run_dir}/checkpoints/best.ckpt"
    status = run_here(
        "milpath.evaluate", checkpoint, runs, stores, "run_name=ü, [x]", "trainer.accelerator=cpu", cwd=folder
    )
    assert status == (0, "")
    assert (folder / "runs/ü, [x]/metrics.json").read_text()
    (store,) = [path for path in (folder / "stores").iterdir() if path.is_dir()]
    output = folder / "prediction, (1) ${x}"
    status, _ = run_here("milpath.predict", checkpoint, f"slides={store}", f"output={output}", cwd=folder)
    assert status == 0
    with (output / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 24
    table = [
        *SMALL_RUN,
        "trainer.max_epochs=1",
        "folds=2",
        "repeats=1",
        "methods=[attention]",
        "data.val_fraction=0.3",
        stores,
    ]
    assert run_here("milpath.table", *table, f"output={folder}/table, [x]", cwd=folder) == (0, "")
    assert "attention" in (folder / "table, [x]/table.md").read_text()


def test_what_the_terminal_shows_of_a_path_is_the_path(capsys):
    from rich.console import Console

    from milpath.runs.result_files import summary_table

    Console(width=200).print(summary_table({"test": {"auroc": 0.5}}, title="runs/[b] x"))
    assert "runs/[b] x" in capsys.readouterr().out
