import subprocess
import sys
import time

import pandas as pd
import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from milpath.training.callbacks.continued_logs import continue_from, write_out
from milpath.training.csv_log import CSVLog


def log(folder, epochs, **metrics):
    logger = CSVLog(folder, name="logs", version="csv")
    for epoch in epochs:
        logger.log_metrics({"epoch": epoch, **metrics}, step=epoch)
    logger.finalize("success")


def test_a_resumed_run_keeps_the_epochs_before(tmp_path):
    log(tmp_path, (0, 1), **{"val/loss": 0.5})
    log(tmp_path, (2, 3), **{"val/loss": 0.25})
    table = pd.read_csv(tmp_path / "logs/csv/metrics.csv")
    assert table["epoch"].tolist() == [0, 1, 2, 3]
    assert table["val/loss"].tolist() == [0.5, 0.5, 0.25, 0.25]
    assert [path.name for path in (tmp_path / "logs/csv").iterdir()] == ["metrics.csv"]


def test_a_metric_that_is_new_after_the_resume_gets_its_column(tmp_path):
    log(tmp_path, (0,), **{"val/loss": 0.5})
    log(tmp_path, (1,), **{"val/auroc": 0.9, "val/loss": 0.4})
    table = pd.read_csv(tmp_path / "logs/csv/metrics.csv")
    assert table["val/loss"].tolist() == [0.5, 0.4]
    assert table["val/auroc"].isna().tolist() == [True, False]


def test_steps_that_are_trained_again_are_in_the_log_once(tmp_path):
    log(tmp_path, range(4), **{"val/loss": 0.5})
    log(tmp_path, (4,), **{"val/late": 0.1})
    resumed = CSVLog(tmp_path, name="logs", version="csv")
    resumed.continue_from(3)
    path = tmp_path / "logs/csv/metrics.csv"
    table = pd.read_csv(path)
    assert table["step"].tolist() == [0, 1, 2]
    assert list(table) == ["epoch", "step", "val/loss"]
    resumed.log_metrics({"epoch": 2, "val/loss": 0.5}, step=2)  # of a checkpoint written in its validation
    resumed.log_metrics({"epoch": 2, "train/loss": 0.25}, step=2)
    resumed.log_metrics({"epoch": 3, "val/loss": 0.5}, step=3)
    resumed.finalize("success")
    assert pd.read_csv(path)["step"].tolist() == [0, 1, 2, 2, 3]
    assert [path.name for path in path.parent.iterdir()] == ["metrics.csv"]


def test_a_run_that_starts_over_starts_its_log_over(tmp_path):
    log(tmp_path, range(4), **{"val/loss": 0.5})
    again = CSVLog(tmp_path, name="logs", version="csv")
    again.continue_from(0)
    again.log_metrics({"epoch": 0, "val/loss": 0.75}, step=0)
    again.finalize("success")
    assert (tmp_path / "logs/csv/metrics.csv").read_text() == "epoch,step,val/loss\n0,0,0.75\n"


def test_tensorboard_drops_the_steps_that_are_trained_again(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for first, value in ((0, 0.5), (3, 0.25)):
        # TensorBoard reads files in the order of their names: the second they were opened in, then a number (10 before 9).
        second = int(time.time())
        while int(time.time()) == second:
            time.sleep(0.02)
        logger = TensorBoardLogger(tmp_path, name="logs", version="tensorboard")
        continue_from(logger, first)
        for step in range(first, 5):
            logger.log_metrics({"val/loss": value}, step=step)
        logger.finalize("success")
    events = event_accumulator.EventAccumulator(str(tmp_path / "logs/tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("val/loss")] == [
        *((step, 0.5) for step in range(3)), *((step, 0.25) for step in (3, 4)),
    ]  # fmt: skip


def test_tensorboard_has_on_disk_what_was_logged_before_a_checkpoint(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardLogger(tmp_path, name="logs", version="tensorboard")
    logger.log_metrics({"lr-Adam": 0.5}, step=0)
    write_out(logger)
    events = event_accumulator.EventAccumulator(
        str(tmp_path / "logs/tensorboard")
    ).Reload()  # as after a kill: still open
    assert [(event.step, event.value) for event in events.Scalars("lr-Adam")] == [(0, 0.5)]
    logger.finalize("success")


# Writes rows and columns in processes that are killed; after each, all rows that it had saved must be there.
KILLED = """
import io, os, signal, sys, time
import pandas as pd
from milpath.training.csv_log import CSVLog

folder, first = sys.argv[1], 0
for number in range(20):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        logger = CSVLog(folder, name="logs", version="csv")
        for step in range(first, 10**6):
            logger.log_metrics({"epoch": step, f"metric_{step % 40}": 0.5}, step=step)
            logger.save()
            os.write(writer, b"%d\\n" % step)
    os.close(writer)
    said = os.read(reader, 100)
    time.sleep(0.01 * (number % 7))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while part := os.read(reader, 1 << 16):
        said += part
    last = int(said.split()[-1])
    text = open(f"{folder}/logs/csv/metrics.csv").read()
    steps = pd.read_csv(io.StringIO(text[: text.rfind("\\n") + 1]))["step"].tolist()
    assert steps == list(range(len(steps))) and len(steps) > last, (number, last, steps)
    first = len(steps)
print(first)
"""


@pytest.mark.slow
def test_no_kill_loses_a_row_or_leaves_half_a_file(tmp_path):
    result = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout) > 40


def test_what_a_process_left_that_was_killed_while_replacing_the_log_is_removed(tmp_path):
    logger = CSVLog(tmp_path, name="logs", version="csv")
    logger.log_metrics({"train/loss": 1.0}, step=0)
    logger.save()
    left = tmp_path / "logs/csv/.metrics.csv.123.0123abcd.partial"
    left.write_text("half a row")
    logger = CSVLog(tmp_path, name="logs", version="csv")
    logger.continue_from(1)
    assert [path.name for path in left.parent.iterdir()] == ["metrics.csv"]
