"""The request of a hyperparameter search, as a pure function of the request of one training."""

from collections.abc import Mapping, Sequence
from typing import Any

from milpath.sagemaker.tuning.tuning_ranges import Range, request_ranges

# Fields of a training that the search takes as they are. The rest is renamed or belongs to the search itself.
_SHARED = (
    "RoleArn",
    "InputDataConfig",
    "VpcConfig",
    "OutputDataConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "CheckpointConfig",
    "RetryStrategy",
    "Environment",
)


def tuning_request(
    training: Mapping[str, Any],
    tune: Mapping[str, Any],
    ranges: Sequence[Range],
    objective: Mapping[str, str],
    suffix: str,
) -> dict[str, Any]:
    """Return the body of `CreateHyperParameterTuningJob`.

    Every trial is the training of the request: same image, data, network, key, retries and limits. The body is not made by
    the SDK, whose tuner drops the key of the disks, network isolation, the encryption between hosts, the time to wait for
    capacity and all instance types but the first.

    Args:
        training: Result of `training_request`.
        tune: The keys of `tune`: strategy, maximize, max_jobs, max_parallel_jobs, early_stopping.
        ranges: Values of the hyperparameters.
        objective: Metric definition of the objective, which is added to those of the training.
        suffix: Distinguishes this search from others of the same name; at most 14 characters.

    Returns:
        The request in the format of the API.

    Raises:
        ValueError: If a training keeps its instances for the next one, which a search cannot.

    References:
        Amazon SageMaker API Reference, CreateHyperParameterTuningJob.
    """
    algorithm = dict(training["AlgorithmSpecification"])
    definitions = {item["Name"]: item for item in [*algorithm["MetricDefinitions"], objective]}
    definition: dict[str, Any] = {
        "StaticHyperParameters": dict(training["HyperParameters"]),
        "AlgorithmSpecification": algorithm | {"MetricDefinitions": list(definitions.values())},
        **_resources(training["ResourceConfig"]),
    }
    definition |= {name: training[name] for name in _SHARED if name in training}
    request: dict[str, Any] = {
        # At most 32 characters; the service appends more for the names of the trials.
        "HyperParameterTuningJobName": f"{training['TrainingJobName'][:17].rstrip('-')}-{suffix}",
        "HyperParameterTuningJobConfig": {
            "Strategy": tune["strategy"],
            "HyperParameterTuningJobObjective": {
                "Type": "Maximize" if tune["maximize"] else "Minimize",
                "MetricName": objective["Name"],
            },
            "ResourceLimits": {
                "MaxNumberOfTrainingJobs": tune["max_jobs"],
                "MaxParallelTrainingJobs": tune["max_parallel_jobs"],
            },
            "ParameterRanges": request_ranges(ranges),
            "TrainingJobEarlyStoppingType": "Auto" if tune["early_stopping"] else "Off",
        },
        "TrainingJobDefinition": definition,
    }
    if "Tags" in training:
        request["Tags"] = training["Tags"]
    return request


def _resources(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return the instances of a trial: one type, or several that are tried in their order."""
    if "KeepAlivePeriodInSeconds" in resources:
        raise ValueError(
            "sagemaker.keep_alive_seconds is for launch: a search starts its trainings itself; leave it out of tune"
        )
    if "InstancePreferences" not in resources:
        return {"ResourceConfig": dict(resources)}
    each = {"InstanceCount": resources["InstanceCount"], "VolumeSizeInGB": resources["VolumeSizeInGB"]}
    found: dict[str, Any] = {
        "InstanceConfigs": [
            {"InstanceType": item["InstanceType"], **each} for item in resources["InstancePreferences"]
        ],
        "AllocationStrategy": "Prioritized",
    }
    if "VolumeKmsKeyId" in resources:
        found["VolumeKmsKeyId"] = resources["VolumeKmsKeyId"]
    return {"HyperParameterTuningResourceConfig": found}
