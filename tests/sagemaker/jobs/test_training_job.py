import logging
import os

import pytest
import torch

from milpath.sagemaker.jobs.training_job import whole_checkpoint


@pytest.fixture
def write(tmp_path):
    def write(name, age, whole=True):
        path = tmp_path / name
        torch.save(
            {"loops": {}, "optimizer_states": [], "milpath": {}, "pytorch-lightning_version": "2.6.0"}
            | {"state_dict": {"weight": torch.zeros(5000)}},
            path,
        )
        if not whole:
            path.write_bytes(path.read_bytes()[:-3000])
        os.utime(path, (1e9 - age, 1e9 - age))
        return path

    return write


def test_a_first_start_has_no_checkpoint(tmp_path):
    assert whole_checkpoint(tmp_path / "checkpoints") is None


def test_the_last_checkpoint_is_where_a_run_goes_on(tmp_path, write):
    last = write("last.ckpt", age=60)
    write("best.ckpt", age=0)
    assert whole_checkpoint(tmp_path) == last


def test_a_half_file_gives_way_to_the_last_whole_one(tmp_path, write, caplog):
    caplog.set_level(logging.WARNING)
    best = write("best.ckpt", age=60)
    last = write("last.ckpt", age=0, whole=False)
    assert whole_checkpoint(tmp_path) == best
    assert last.exists()
    assert "last.ckpt is not a milpath checkpoint" in caplog.text
    assert "resuming from best.ckpt instead" in caplog.text


def test_without_any_whole_one_a_run_starts_anew_and_the_damaged_ones_are_kept(tmp_path, write, caplog):
    content = write("last.ckpt", age=0, whole=False).read_bytes()
    assert whole_checkpoint(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt.damaged"]
    assert (tmp_path / "last.ckpt.damaged").read_bytes() == content
    assert "the run starts over, the files are kept as *.damaged" in caplog.text
    assert whole_checkpoint(tmp_path) is None
