import json

import pytest

from milpath.sagemaker import tune
from milpath.sagemaker.jobs.hyperparameters import overrides_of
from milpath.sagemaker.tuning.tuning_ranges import read_ranges
from tests.sagemaker.conftest import ROLE

GIVEN = [
    "data=synthetic",
    "sagemaker.bucket=slides",
    "sagemaker.training=s3://slides/panda",
    f"sagemaker.role={ROLE}",
    "sagemaker.spot=true",
]
RANGES = (
    "tune.ranges={optimizer.lr: {low: 1e-5, high: 1e-2, log: true}, "
    "seed: {low: 0, high: 9}, model: [attention_mil, dsmil]}"
)


def test_the_search_that_is_sent_holds_training_and_ranges(account, command):
    status, output, errors = command(tune, *GIVEN, RANGES, "tune.max_jobs=6", "tune.max_parallel_jobs=3")
    assert (status, errors) == (0, "")
    (sent,) = account.requests("CreateHyperParameterTuningJob")
    assert f"submitted {sent['HyperParameterTuningJobName']}: 6 trainings, 3 at a time" in output
    config = sent["HyperParameterTuningJobConfig"]
    assert config["Strategy"] == "Bayesian"
    assert config["HyperParameterTuningJobObjective"] == {"Type": "Maximize", "MetricName": "val:auroc"}
    assert config["ResourceLimits"]["MaxNumberOfTrainingJobs"] == 6
    assert config["ResourceLimits"]["MaxParallelTrainingJobs"] == 3
    ranges = config["ParameterRanges"]
    (rate,) = ranges["ContinuousParameterRanges"]
    assert rate == {"Name": "optimizer__lr", "MinValue": "1e-05", "MaxValue": "0.01", "ScalingType": "Logarithmic"}
    assert [found["Name"] for found in ranges["IntegerParameterRanges"]] == ["seed"]
    assert [found["Name"] for found in ranges["CategoricalParameterRanges"]] == ["model"]
    training = sent["TrainingJobDefinition"]
    assert training["StaticHyperParameters"]["sagemaker_program"] == "train.py"
    assert training["StaticHyperParameters"]["sagemaker_submit_directory"].startswith("s3://slides/milpath/source/")
    assert training["EnableManagedSpotTraining"] is True
    assert training["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"
    assert training["InputDataConfig"][0]["ChannelName"] == "training"
    names = [found["Name"] for found in training["AlgorithmSpecification"]["MetricDefinitions"]]
    assert names.count("val:auroc") == 1


def test_a_drawn_value_becomes_an_override_of_the_job(account, command):
    assert command(tune, *GIVEN, RANGES)[0] == 0
    (sent,) = account.requests("CreateHyperParameterTuningJob")
    ranges = sent["HyperParameterTuningJobConfig"]["ParameterRanges"]
    values = ranges["CategoricalParameterRanges"][0]["Values"]
    # The toolkit reads a hyperparameter as JSON, or as text where it is none, and writes it behind the program.
    words = ["--model", json.loads(values[1]) if values[1].startswith('"') else values[1], "--optimizer__lr", "0.003"]
    assert overrides_of(words) == ["model=dsmil", "optimizer.lr=0.003"]


def test_a_search_that_is_waited_for_names_its_best_training(account, command):
    status, output, errors = command(tune, *GIVEN, RANGES, "wait=true")
    assert (status, errors) == (0, "")
    (sent,) = account.requests("CreateHyperParameterTuningJob")
    assert f"completed {sent['HyperParameterTuningJobName']}; best training: " in output


def test_dry_run_shows_the_search_and_sends_nothing(account, command):
    status, shown, errors = command(tune, *GIVEN, RANGES, "dry_run=true", "sagemaker.region=eu-central-1")
    assert (status, errors, account.sent) == (0, "", [])
    content = json.loads(shown)
    (seed,) = content["HyperParameterTuningJobConfig"]["ParameterRanges"]["IntegerParameterRanges"]
    assert seed == {"Name": "seed", "MinValue": "0", "MaxValue": "9", "ScalingType": "Auto"}
    assert content["TrainingJobDefinition"]["RoleArn"] == ROLE
    assert len(content["HyperParameterTuningJobName"]) <= 32


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "tune.ranges is empty"),
        (["tune.ranges={optimizer.lrr: [1, 2]}"], "optimizer.lrr"),
        (["tune.ranges={seed: 3}"], "tune.ranges.seed must be a list of values"),
        (
            [RANGES, "sagemaker.spot=false", "sagemaker.mode=local"],
            "sagemaker.mode=local is for launch; tune submits its jobs to the service",
        ),
        (
            [RANGES, "report=false", "report_pdf=true"],
            "report_pdf=true prints report.html, which report=false does not",
        ),
        ([RANGES, "tune.strategy=Guess"], "tune.strategy=Guess must be one of Bayesian"),
    ],
)
def test_a_mistake_costs_nothing(account, command, words, message):
    status, _, errors = command(tune, *GIVEN, *words)
    assert status == 1
    assert message in errors
    assert account.sent == []


@pytest.mark.parametrize(
    "entry",
    [{"low": 1, "high": 1}, {"low": 0, "high": 1, "log": True}, {"low": 1}, {"low": 0, "high": 1, "step": 1}, [], "a"],
)
def test_a_range_is_a_list_or_two_numbers(entry):
    with pytest.raises(ValueError, match=r"tune.ranges.seed"):
        read_ranges({"seed": entry})
