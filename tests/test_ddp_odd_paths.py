"""Lightning starts the other processes of a distributed training with the words of the first, in a folder of any name."""

import json

import pytest

from tests.commands import DDP, DETERMINED_RUN, milpath

ODD = "Präparate 漢字, (a) [b] {c} = # & ' \" ; ~ % @ ! <i> \\"


@pytest.mark.slow
@pytest.mark.command
def test_every_process_of_a_training_works_in_a_folder_with_an_odd_name(tmp_path):
    folder = tmp_path / ODD
    folder.mkdir()
    words = [*DETERMINED_RUN, *DDP, "trainer.devices=2", f"run_name={ODD}", f"paths.runs_dir={folder}/runs"]
    milpath("train", *words, f"paths.stores_dir={folder}/stores", cwd=folder)
    assert json.loads((folder / "runs" / ODD / "metrics.json").read_text(encoding="utf-8"))["test"]
    assert [path.name for path in (folder / "runs").iterdir()] == [ODD]
    assert not (folder / "stores").is_file()
    assert {path.name for path in folder.iterdir()} == {"runs", "stores"}
    assert [path.name for path in tmp_path.iterdir()] == [ODD]
