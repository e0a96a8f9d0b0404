import importlib.util
import json
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from hydra import compose, initialize_config_dir

from milpath import train
from milpath.config.roots import CONFIG_DIR
from milpath.sagemaker.account.least_privilege import MLFLOW_ACTIONS
from milpath.training.mlflow_log import MLflowLog, send_runs
from tests.commands import SMALL_RUN
from tests.mlflow_server import mlflow_server, requests_of

mlflow = pytest.importorskip("mlflow")

# What Lightning says of itself with this torch, and of small data.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    # MLflow, of what its own packages will not have any more.
    pytest.mark.filterwarnings("ignore:.*(is|are) deprecated"),
]
APP = "arn:aws:sagemaker:eu-central-1:123456789012:mlflow-app/app-ABC123"
# What is asked of a server, and the action that allows it.
SERVER = "arn:aws:sagemaker:eu-central-1:123456789012:mlflow-tracking-server/slides"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """The folder of a training of an epoch that was logged to a database; what it printed is in `said`."""
    folder = tmp_path_factory.mktemp("logged")
    words = [word for word in SMALL_RUN if not word.startswith(("logger", "report"))]
    words += ["logger=mlflow", "report=true", "model.encoder.tile_size=32", "trainer.max_epochs=1", "run_name=a"]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", [*words, f"paths.stores_dir={folder}/stores", f"paths.runs_dir={folder}/runs"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train.run(config)
    return folder / "runs" / "a"


def logged(uri):
    """Return the one run of the experiment."""
    client = mlflow.MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("milpath").experiment_id])
    return client, found


def test_a_run_in_a_database_has_metrics_settings_and_every_file(run_dir):
    client, found = logged(f"sqlite:///{run_dir.parent}/mlflow.db")
    assert (found.info.run_name, found.info.status) == ("a", "FINISHED")
    assert "train/loss" in found.data.metrics
    assert (found.data.params["optimizer.lr"], found.data.params["model.encoder"]) == ("0.0001", "tile_cnn")
    assert not [name for name in found.data.params if "path" in name or "dir" in name.split(".")[-1]]
    metrics = json.loads((run_dir / "metrics.json").read_text())
    for split in ("train", "val", "test"):
        assert found.data.metrics[f"best/{split}/auroc"] == metrics[split]["auroc"]
    names = {item.path for item in client.list_artifacts(found.info.run_id)}
    assert names == {"config.yaml", "metrics.json", "card.json", "report.html", "report_files", "predictions.csv"}
    # Beside the database, not in the working folder.
    folder = Path(url2pathname(urlsplit(found.info.artifact_uri).path))
    assert folder.is_relative_to(run_dir.parent / "mlflow_artifacts")
    assert {path.name for path in run_dir.parents[1].iterdir()} == {"runs", "stores"}
    for name in ("config.yaml", "metrics.json", "report.html", "predictions.csv"):
        assert (folder / name).read_bytes() == (run_dir / name).read_bytes()
    card = json.loads((folder / "card.json").read_text())
    assert card["class_names"] == ["benign", "malignant"]
    assert {path.name for path in (folder / "report_files").iterdir()} == {
        path.name for path in (run_dir / "report_files").iterdir()
    }


@pytest.mark.command
def test_an_arn_reaches_a_real_server_signed_and_sends_no_row_of_a_slide_unasked(
    run_dir, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("sagemaker_mlflow")
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    folder = tmp_path / "server"
    metrics = {"test": {"auroc": 0.75, "auroc_low": None}}
    with moto.mock_aws(), mlflow_server(folder) as port:
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="tracked", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        monkeypatch.setenv("SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT", f"http://127.0.0.1:{port}")
        logger = MLflowLog("milpath", "a", APP)
        logger.log_metrics({"val/auroc": 0.5}, step=3)
        logger.finalize()
        send_runs([logger], run_dir, metrics)
        said = capsys.readouterr().out
        asked = MLflowLog("asked", "a", SERVER, artifacts=["report", "predictions"])
        told = asked.send_run(run_dir, metrics)
        keys = [item["Key"] for item in s3.list_objects_v2(Bucket="tracked")["Contents"]]
    assert (
        f"MLflow: config.yaml, metrics.json, card.json of run {logger.run_id} sent to {APP}; report.html and " in said
    )
    assert "logger.mlflow.artifacts=[config,metrics,card,report,predictions]" in said
    assert told == f"MLflow: report.html, predictions.csv of run {asked.run_id} sent to {SERVER}"
    _, found = logged(f"sqlite:///{folder}/mlflow.db")
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"val/auroc": 0.5, "best/test/auroc": 0.75})
    stored = {run: set() for run in (logger.run_id, asked.run_id)}
    for key in keys:
        run, _, name = key.partition("/artifacts/")
        stored[run.rpartition("/")[2]].add(name.partition("/")[0])
    assert stored[logger.run_id] == {"config.yaml", "metrics.json", "card.json"}
    assert stored[asked.run_id] == {"report.html", "report_files", "predictions.csv"}
    # Signed with the name of the service of an app, and of a tracking server.
    calls = [call for call in requests_of(folder) if "/mlflow/" in call["path"]]
    assert all(call["signed"].startswith("AWS4-HMAC-SHA256 Credential=") for call in calls)
    services = {call["signed"].split("/eu-central-1/")[1].split("/")[0] for call in calls}
    assert services == {"sagemaker", "sagemaker-mlflow"}
    called = {call["path"].rpartition("/mlflow/")[2] for call in calls}
    # What the policy of the role allows.
    assert called == set(MLFLOW_ACTIONS)


def test_a_server_that_does_not_answer_is_one_line_and_costs_no_run(run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    logger = MLflowLog("milpath", "a", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"^MLflow at http://127.0.0.1:9: [^\n]*refused[^\n]*$"):
        _ = logger.experiment
    send_runs([logger], run_dir, {"test": {"auroc": 0.5}})
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert errors.endswith(f"the run is whole in {run_dir}, but MLflow lacks its files\n")


def test_an_arn_without_credentials_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("sagemaker_mlflow")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"^MLflow at arn:aws:sagemaker:[^\n]*Unable to locate credentials$"):
        _ = MLflowLog("milpath", "a", APP).experiment


@pytest.mark.parametrize(
    ("options", "missing", "message"),
    [
        ({"tracking_uri": APP}, "sagemaker_mlflow", r"needs the plugin of SageMaker; run: pip install 'milpath\[managed-ml"),
        ({"tracking_uri": SERVER}, "sagemaker_mlflow", r"needs the plugin of SageMaker"),
        ({"tracking_uri": "sqlite:///a.db"}, "mlflow", r"logger=mlflow needs MLflow; run: pip install 'milpath\[loggers"),
        ({"tracking_uri": "arn:aws:s3:::slides"}, "", r"tracking_uri=arn:aws:s3:::slides is not the ARN of an MLflow app"),
        ({"tracking_uri": f"{APP}/more"}, "", r"is not the ARN of an MLflow app"),
        ({"artifacts": ["weights"]}, "", r"artifacts: weights is not one of config, metrics, card, report, predictions"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_the_training(monkeypatch, options, missing, message):
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == missing else known(name, *more)
    )
    with pytest.raises(ValueError, match=message):
        MLflowLog(**options)
