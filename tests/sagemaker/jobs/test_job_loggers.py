import json
import tarfile
from importlib.metadata import version

import pytest
from omegaconf import OmegaConf

from milpath.sagemaker import launch
from milpath.sagemaker.jobs.job_loggers import packages_of_loggers, with_mlflow
from milpath.sagemaker.jobs.job_settings import JobSettings
from tests.sagemaker.conftest import REGION, ROLE

APP = f"arn:aws:sagemaker:{REGION}:123456789012:mlflow-app/app-ABC"
GIVEN = [
    "data=synthetic", "data.num_slides=8", "sagemaker.bucket=slides", "sagemaker.training=s3://slides/panda",
    f"sagemaker.role={ROLE}",
]  # fmt: skip


def test_a_job_logs_to_the_mlflow_of_the_machine_that_launches_it(account, command, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", APP)
    status, _, errors = command(launch, *GIVEN, "logger=[csv,mlflow]")
    assert (status, errors) == (0, "")
    (sent,) = account.requests("CreateTrainingJob")
    assert sent["Environment"]["MLFLOW_TRACKING_URI"] == APP
    source = sent["HyperParameters"]["sagemaker_submit_directory"].removeprefix("s3://slides/")
    account.s3.download_file("slides", source, str(tmp_path / "source.tar.gz"))
    with tarfile.open(tmp_path / "source.tar.gz") as file:
        lines = file.extractfile("requirements.txt").read().decode().splitlines()
    for name in ("mlflow-skinny", "sagemaker-mlflow"):
        assert f"{name}=={version(name)}" in lines
    # A training without it needs neither.
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    shown = command(launch, *GIVEN, "dry_run=true")[1]
    assert "MLFLOW_TRACKING_URI" not in json.loads(shown).get("Environment", {})


def test_a_database_in_a_container_is_refused_before_it_is_paid_for(account, command, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    status, _, errors = command(launch, *GIVEN, "logger=mlflow")
    assert (status, errors.count("\n")) == (1, 1)
    assert "logger.mlflow.tracking_uri is a database in the container of the job, which is lost with it" in errors
    assert account.sent == []


def logging(uri, **settings):
    entry = {"_target_": "milpath.training.mlflow_log.MLflowLog", "tracking_uri": uri}
    training = OmegaConf.create({"logger": {"csv": {"_target_": "milpath.training.csv_log.CSVLog"}, "mlflow": entry}})
    return with_mlflow(JobSettings(bucket="slides", **settings), training)


def test_what_the_user_gave_for_the_job_stays():
    assert logging(APP, environment={"A": "1"}).environment == {"MLFLOW_TRACKING_URI": APP, "A": "1"}
    given = {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert logging("sqlite:///runs/mlflow.db", environment=given).environment == given


def test_a_container_without_a_network_cannot_log_to_a_server():
    with pytest.raises(ValueError, match=r"so that logger.mlflow cannot reach MLflow; use logger=csv"):
        logging(APP, isolate=True, image="own:1")


def test_each_logger_has_its_packages():
    wandb = {"_target_": "lightning.pytorch.loggers.WandbLogger"}
    assert packages_of_loggers(OmegaConf.create({"logger": {"wandb": wandb, "none": None}})) == ["wandb"]
    assert packages_of_loggers(OmegaConf.create({"logger": None})) == []
