import pandas as pd

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
