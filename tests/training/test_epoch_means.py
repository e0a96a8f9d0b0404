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


def of_two(ask, first, second):
    """Return what the first of two processes gets, whose tensors are added."""
    sent = []
    ask(second, lambda values: sent.append(values) or values)
    return ask(first, lambda values: values + sent.pop(0))


def test_means_of_two_processes_go_on_to_the_last_bit():
    whole, before, after = ([EpochMeans(), EpochMeans()] for _ in range(3))
    for step in range(7):
        for processes in (whole, before if step < 4 else after):
            for number, means in enumerate(processes):
                means.add("train/loss", torch.tensor(0.1 * (step + 1) ** (3 - 2 * number) + 0.77 * number), 3 - number)
        if step == 3:
            state = of_two(EpochMeans.state, *before)
            for number, means in enumerate(after):
                means.load(state, torch.device("cpu"), first=number == 0)
    resumed, alone = (
        of_two(lambda means, reduce: means.take("train/", reduce), *processes) for processes in (after, whole)
    )
    assert resumed == alone
    assert alone["train/loss"].item() == pytest.approx(sum(0.1 * (step**3 + step) + 0.77 for step in range(1, 8)) / 35)


class KilledError(BaseException):
    """Stands for the end of a process."""


@pytest.mark.command
def test_a_run_that_ends_right_after_any_checkpoint_and_goes_on_has_the_log_of_an_uninterrupted_one(
    tmp_path, monkeypatch
):
    written: list[int] = []
    real, last, log, on_disk = checkpoint_files.write_checkpoint, 0, tmp_path, b""

    def write(content, path, **options):
        nonlocal on_disk
        real(content, path, **options)
        written.append(content["global_step"])
        if len(written) == last:
            on_disk = log.read_bytes()
            raise KilledError

    monkeypatch.setattr(checkpoint_files, "write_checkpoint", write)
    assert here("milpath.train", *RUN, "run_name=whole", cwd=tmp_path) == 0
    whole = (tmp_path / "runs/whole/logs/csv/metrics.csv").read_text()
    assert whole.count("\n") == 7  # the header, and rate, validation and training of two epochs
    for number in (2, written.index(4) + 2):  # within an epoch, and after the best and the last checkpoint of one
        last, log = number, tmp_path / f"runs/killed_{number}/logs/csv/metrics.csv"
        written.clear()
        with pytest.raises(KilledError):
            here("milpath.train", *RUN, f"run_name=killed_{number}", cwd=tmp_path)
        log.write_bytes(on_disk)  # Lightning closes its logs after an error, a process that is killed does not
        last = 0
        assert here("milpath.train", *RUN, f"run_name=killed_{number}", "resume_from=auto", cwd=tmp_path) == 0
        assert log.read_text() == whole
