import botocore.session
import pytest
from botocore.validate import validate_parameters

from milpath.sagemaker.jobs.job_settings import JobSettings
from milpath.sagemaker.jobs.training_request import metric_definition, training_request
from milpath.sagemaker.tuning.tuning_ranges import read_ranges
from milpath.sagemaker.tuning.tuning_request import tuning_request

PLACE = {
    "region": "eu-central-1", "role": "arn:aws:iam::123456789012:role/Trainer", "image": "own:1",
    "source": "s3://slides/milpath/source/0123/source.tar.gz", "run_id": "milpath-20260101000000",
}  # fmt: skip
TUNE = {"strategy": "Random", "maximize": False, "max_jobs": 9, "max_parallel_jobs": 3, "early_stopping": True}
KEY = "arn:aws:kms:eu-central-1:123456789012:key/1"
HOSPITAL = {
    "image": "own:1", "subnets": ["subnet-1"], "security_group_ids": ["sg-1"], "kms_key": KEY, "encrypt_traffic": True,
    "isolate": True, "private": True, "retries": 3, "max_pending_seconds": 3600, "environment": {"A": "1"},
    "compress_output": False, "tags": {"project": "milpath"},
}  # fmt: skip
# Fields of a training that a search has elsewhere, or under another name.
ELSEWHERE = {"TrainingJobName", "Tags", "HyperParameters", "AlgorithmSpecification", "ResourceConfig"}


def training(**settings):
    given = {"bucket": "slides", "training": "s3://slides/panda"}
    return training_request(JobSettings(**given | settings), **PLACE)


def search(one, **tune):
    ranges = read_ranges({"optimizer.lr": {"low": 1e-5, "high": 1e-2, "log": True}, "seed": {"low": 0, "high": 9}})
    return tuning_request(one, TUNE | tune, ranges, metric_definition("val/auroc"), "261127030405")


def require_valid(body):
    service = botocore.session.get_session().get_service_model("sagemaker")
    validate_parameters(body, service.operation_model("CreateHyperParameterTuningJob").input_shape)


def test_every_trial_has_all_that_a_hospital_demands_of_a_training():
    one = training(**HOSPITAL)
    body = search(one)
    require_valid(body)
    trial = body["TrainingJobDefinition"]
    assert {name: value for name, value in one.items() if name not in ELSEWHERE} == {
        name: value for name, value in trial.items() if name in one and name not in ELSEWHERE
    }
    assert trial["ResourceConfig"] == one["ResourceConfig"]
    assert trial["ResourceConfig"]["VolumeKmsKeyId"] == KEY
    assert trial["EnableNetworkIsolation"] is trial["EnableInterContainerTrafficEncryption"] is True
    assert trial["RetryStrategy"] == {"MaximumRetryAttempts": 3}
    assert trial["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400, "MaxPendingTimeInSeconds": 3600}
    assert trial["StaticHyperParameters"] == one["HyperParameters"]
    assert body["Tags"] == [{"Key": "project", "Value": "milpath"}]


def test_the_search_itself_is_as_typed():
    body = search(training(metrics=["val/loss", "val/auroc"]))
    require_valid(body)
    assert body["HyperParameterTuningJobName"] == "milpath-261127030405"
    assert body["HyperParameterTuningJobConfig"] == {
        "Strategy": "Random",
        "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "val:auroc"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": 9, "MaxParallelTrainingJobs": 3},
        "ParameterRanges": {
            "ContinuousParameterRanges": [
                {"Name": "optimizer__lr", "MinValue": "1e-05", "MaxValue": "0.01", "ScalingType": "Logarithmic"}
            ],
            "IntegerParameterRanges": [{"Name": "seed", "MinValue": "0", "MaxValue": "9", "ScalingType": "Auto"}],
        },
        "TrainingJobEarlyStoppingType": "Auto",
    }
    definitions = body["TrainingJobDefinition"]["AlgorithmSpecification"]["MetricDefinitions"]
    assert [item["Name"] for item in definitions] == ["val:loss", "val:auroc"]
    assert search(training(), early_stopping=False)["HyperParameterTuningJobConfig"][
        "TrainingJobEarlyStoppingType"
    ] == ("Off")


def test_several_instance_types_are_tried_in_their_order():
    body = search(training(other_instance_types=["ml.g6.xlarge"], instance_count=2, kms_key=KEY))
    require_valid(body)
    trial = body["TrainingJobDefinition"]
    assert "ResourceConfig" not in trial
    assert trial["HyperParameterTuningResourceConfig"] == {
        "InstanceConfigs": [
            {"InstanceType": name, "InstanceCount": 2, "VolumeSizeInGB": 100}
            for name in ("ml.g5.xlarge", "ml.g6.xlarge")
        ],
        "AllocationStrategy": "Prioritized",
        "VolumeKmsKeyId": KEY,
    }


def test_a_long_name_leaves_room_for_the_names_of_the_trials():
    body = search(training(job_name="grading-of-prostates-2026"))
    require_valid(body)
    assert body["HyperParameterTuningJobName"] == "grading-of-prosta-261127030405"


def test_a_search_keeps_no_instances():
    with pytest.raises(ValueError, match=r"sagemaker.keep_alive_seconds is for launch"):
        search(training(keep_alive_seconds=600))
