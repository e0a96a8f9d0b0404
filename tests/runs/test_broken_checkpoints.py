import logging
import os

import pytest
import torch

from milpath.runs.resume import checkpoint_to_resume, newest_whole
from milpath.runs.run_identity import RunIdentity
from tests.nobody import hidden_from_user

BROKEN = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-3000],
    "half": lambda data: data[: len(data) // 2],
}


@pytest.fixture
def write(tmp_path):
    def write(name, age, **content):
        path = tmp_path / name
        state = {"loops": {}, "optimizer_states": [], "milpath": {}, "pytorch-lightning_version": "2.6.0"}
        state["state_dict"] = {"weights": torch.zeros(5000)}
        torch.save(content or state, path)
        os.utime(path, (1e9 - age, 1e9 - age))
        return path

    return write


def test_the_last_checkpoint_is_where_a_run_goes_on(tmp_path, write, caplog):
    last = write("last.ckpt", age=60)
    write("best.ckpt", age=0)
    assert newest_whole(tmp_path) == last
    assert not caplog.records


def test_a_run_without_a_checkpoint_starts_anew(tmp_path):
    assert newest_whole(tmp_path) is None
    assert newest_whole(tmp_path / "none") is None


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_last_gives_way_to_the_newest_whole_one_and_both_are_named(tmp_path, write, caplog, how):
    caplog.set_level(logging.WARNING)
    write("older.ckpt", age=90)
    best = write("best.ckpt", age=60)
    write("weights.ckpt", age=30, state_dict={})  # whole, but nothing to go on from
    last = write("last.ckpt", age=0)
    last.write_bytes(BROKEN[how](last.read_bytes()))
    assert newest_whole(tmp_path) == best
    (record,) = caplog.records
    assert "last.ckpt is not a milpath checkpoint" in record.message
    assert record.message.endswith("resuming from best.ckpt instead")
    assert last.exists()


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="a system without users")
def test_a_last_that_the_system_does_not_give_is_no_broken_one(tmp_path, write):
    write("best.ckpt", age=60)
    last = write("last.ckpt", age=0)
    with hidden_from_user(last), pytest.raises(PermissionError, match=r"Permission denied: .*last\.ckpt"):
        newest_whole(tmp_path)
    assert newest_whole(tmp_path) == last


def test_without_any_whole_one_the_run_is_refused(tmp_path, write):
    write("last.ckpt", age=0).write_bytes(b"")
    with pytest.raises(ValueError, match=r"last\.ckpt is not .*; give another run_name to start over$"):
        newest_whole(tmp_path)


def test_what_a_killed_run_left_half_written_is_deleted(tmp_path, write):
    last = write("last.ckpt", age=0)
    write(".last.ckpt.4711.0123abcd.partial", age=0)
    assert newest_whole(tmp_path) == last
    assert list(tmp_path.iterdir()) == [last]


@pytest.mark.parametrize("loops", [3, {}, {"fit_loop": {"epoch_progress": {"current": {}}}}])
def test_a_checkpoint_that_does_not_say_what_is_done_is_refused_in_one_line(tmp_path, write, loops):
    last = write("last.ckpt", 0)
    torch.save(torch.load(last, weights_only=True) | {"loops": loops}, last)
    with pytest.raises(ValueError, match=r"last\.ckpt does not say how many epochs and steps are done; give another"):
        checkpoint_to_resume(str(last), tmp_path / "run", RunIdentity({}, {}))


def test_a_checkpoint_without_the_version_that_wrote_it_is_none_to_go_on_from(tmp_path, write):
    last = write("last.ckpt", 0)
    content = torch.load(last, weights_only=True)
    del content["pytorch-lightning_version"]
    torch.save(content, last)
    with pytest.raises(ValueError, match=r"last\.ckpt holds no training state"):
        newest_whole(tmp_path)
