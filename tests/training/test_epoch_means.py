"""Means of an epoch that was interrupted are those of the whole epoch, and the log has each of them once."""

import pytest
import torch

from milpath.training import checkpoint_files
from milpath.training.epoch_means import EpochMeans
from tests.commands import SMALL_RUN, here

RUN = [
    *SMALL_RUN, "trainer.max_epochs=2", "callbacks.early_stopping=null", "test=false",
    "callbacks.timed_checkpoint.train_time_interval.minutes=0.0000001",
]  # fmt: skip


def test_means_go_on_from_their_state_to_the_last_bit():
    whole, before, after, other = (EpochMeans() for _ in range(4))
    for step in range(7):
        for means in (whole, before if step < 4 else after):
            means.add("train/loss", torch.tensor(0.1 * (step + 1) ** 3), 3)
        if step == 3:
            state = before.state(lambda values: values)
            after.load(state, torch.device("cpu"), first=True)
            other.load(state, torch.device("cpu"), first=False)
    assert after.take("train/", lambda values: values) == whole.take("train/", lambda values: values)
    assert other.state(lambda values: values)["train/loss"].sum() == 0
    assert after.take("train/", lambda values: values) == {}


class KilledError(BaseException):
    """Stands for the end of a process."""


@pytest.mark.command
def test_a_run_that_ends_right_after_any_checkpoint_and_goes_on_has_the_log_of_an_uninterrupted_one(
    tmp_path, monkeypatch
):
    written: list[int] = []
    real, last = checkpoint_files.write_checkpoint, 0

    def write(content, path):
        real(content, path)
        written.append(content["global_step"])
        if len(written) == last:
            raise KilledError

    monkeypatch.setattr(checkpoint_files, "write_checkpoint", write)
    assert here("milpath.train", *RUN, "run_name=whole", cwd=tmp_path) == 0
    whole = (tmp_path / "runs/whole/logs/csv/metrics.csv").read_text()
    assert whole.count("\n") == 7  # the header, and rate, validation and training of two epochs
    for number in (2, written.index(4) + 2):  # within an epoch, and after the best and the last checkpoint of one
        last = number
        written.clear()
        with pytest.raises(KilledError):
            here("milpath.train", *RUN, f"run_name=killed_{number}", cwd=tmp_path)
        last = 0
        assert here("milpath.train", *RUN, f"run_name=killed_{number}", "resume_from=auto", cwd=tmp_path) == 0
        assert (tmp_path / f"runs/killed_{number}/logs/csv/metrics.csv").read_text() == whole
