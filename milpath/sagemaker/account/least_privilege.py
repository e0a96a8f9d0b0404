"""The two IAM policies of an account: of the person who types the commands, and of the role that jobs and endpoints assume.

Both are made from what the requests of this library need, for one bucket, one name and the commands that are used.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from milpath.sagemaker.jobs.aws_account import split_address

_ROLE = re.compile(r"arn:(aws[a-z-]*):iam::(\d{12}):role/\S+")
# Actions of a command on its own resources, by the kind of resource. Tags are added where something is created.
_SAGEMAKER: dict[str, dict[str, tuple[str, ...]]] = {
    "launch": {"training-job": ("CreateTrainingJob", "DescribeTrainingJob", "AddTags")},
    "tune": {
        "hyper-parameter-tuning-job": ("CreateHyperParameterTuningJob", "DescribeHyperParameterTuningJob", "AddTags")
    },
    "process": {"processing-job": ("CreateProcessingJob", "DescribeProcessingJob", "AddTags")},
    "transform": {
        "processing-job": ("CreateProcessingJob", "DescribeProcessingJob", "AddTags"),
        "transform-job": ("CreateTransformJob", "DescribeTransformJob", "AddTags"),
        "model": ("CreateModel", "DeleteModel", "AddTags"),
    },
    "register": {
        "model-package-group": (
            "CreateModelPackage",
            "CreateModelPackageGroup",
            "DescribeModelPackageGroup",
            "AddTags",
        ),
        "model-package": ("CreateModelPackage",),
    },
    "deploy": {
        "model-package": ("DescribeModelPackage",),
        "model": ("CreateModel", "DeleteModel", "AddTags"),
        "endpoint-config": ("CreateEndpointConfig", "DeleteEndpointConfig", "AddTags"),
        "endpoint": ("CreateEndpoint", "DescribeEndpoint", "AddTags"),
    },
    "score": {"endpoint": ("InvokeEndpoint", "InvokeEndpointAsync")},
    "delete": {
        "model": ("DeleteModel",),
        "endpoint-config": ("DescribeEndpointConfig", "DeleteEndpointConfig"),
        "endpoint": ("DescribeEndpoint", "DeleteEndpoint"),
    },
}
COMMANDS = tuple(_SAGEMAKER)
# Lists have no resource of their own.
_LISTS = {"transform": ("ListModels",)}
# Scaling of endpoints; the resources of Application Auto Scaling have no names that could be told before.
_SCALING = {
    "deploy": ("application-autoscaling:RegisterScalableTarget", "application-autoscaling:PutScalingPolicy"),
    "delete": ("application-autoscaling:DescribeScalableTargets", "application-autoscaling:DeregisterScalableTarget"),
}
_ALARMS = {"deploy": "cloudwatch:PutMetricAlarm", "delete": "cloudwatch:DeleteAlarms"}
_PASSES_ROLE = ("launch", "tune", "process", "transform", "deploy")
# What a command does in the bucket of the work, and in the folders of the data.
_WRITES_WORK = ("launch", "tune", "process", "transform", "register", "deploy", "score")
_READS_WORK = ("process", "transform", "register", "deploy", "score")
# Those that list a bucket, or ask for its region.
_LISTS_WORK = ("launch", "tune", "process", "transform", "register", "deploy")
# What the logger asks of MLflow, and the action that allows it.
MLFLOW_ACTIONS = {
    "experiments/get-by-name": "GetExperimentByName",
    "experiments/create": "CreateExperiment",
    "runs/create": "CreateRun",
    "runs/get": "GetRun",
    "runs/update": "UpdateRun",
    "runs/log-batch": "LogBatch",
}
_KEY = frozenset(["kms:Decrypt", "kms:GenerateDataKey", "kms:CreateGrant", "kms:DescribeKey"])
_LOGS = frozenset(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"])
_NETWORK = (
    "CreateNetworkInterface", "CreateNetworkInterfacePermission", "DeleteNetworkInterface",
    "DeleteNetworkInterfacePermission", "DescribeDhcpOptions", "DescribeNetworkInterfaces", "DescribeSecurityGroups",
    "DescribeSubnets", "DescribeVpcs",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """What the policies are for.

    Attributes:
        region: AWS region.
        role: ARN of the role of jobs and endpoints; partition and account are read from it.
        bucket: Bucket for code, checkpoints and results.
        prefix: Folder in the bucket.
        name: What the names of jobs, models and endpoints begin with.
        read: Folders in S3 with data that are only read.
        write: Folders in S3 for outputs outside of the folder of the bucket.
        kms_key: ARN of a key, or None.
        repositories: ARNs of ECR repositories of images; AWS's own images are in an account of AWS.
        private_network: Whether jobs run in a VPC.
        mlflow: ARN of the MLflow app or tracking server that trainings log to, or None.
    """

    region: str
    role: str
    bucket: str
    prefix: str = "milpath"
    name: str = "milpath"
    read: Sequence[str] = ()
    write: Sequence[str] = ()
    kms_key: str | None = None
    repositories: Sequence[str] = ()
    private_network: bool = False
    mlflow: str | None = None

    @property
    def partition(self) -> str:
        """Return `aws`, `aws-cn` or `aws-us-gov`."""
        return self._role()[0]

    @property
    def account(self) -> str:
        """Return the account of the role."""
        return self._role()[1]

    def _role(self) -> tuple[str, str]:
        if (found := _ROLE.fullmatch(self.role)) is None:
            raise ValueError(f"role={self.role} is not an ARN of the form arn:aws:iam::123456789012:role/NAME")
        return found[1], found[2]

    def sagemaker(self, kind: str) -> str:
        """Return the resources of a kind."""
        return f"arn:{self.partition}:sagemaker:{self.region}:{self.account}:{kind}/{self.name}*"

    @property
    def alarms(self) -> str:
        """Return the alarms of endpoints."""
        return f"arn:{self.partition}:cloudwatch:{self.region}:{self.account}:alarm:{self.name}*"

    def objects(self, address: str) -> str:
        """Return the objects below a folder in S3."""
        bucket, key = split_address(address)
        return f"arn:{self.partition}:s3:::{bucket}/{key.rstrip('/') + '/' if key else ''}*"

    @property
    def work(self) -> str:
        """Return the folder of the work in S3."""
        return f"s3://{self.bucket}/{self.prefix.strip('/')}"

    def buckets(self, addresses: Iterable[str]) -> list[str]:
        """Return the buckets of some folders."""
        return sorted({f"arn:{self.partition}:s3:::{split_address(address)[0]}" for address in addresses})


def person_policy(place: Place, commands: Sequence[str] = COMMANDS) -> dict[str, Any]:
    """Return the policy of the person, or the pipeline, that types some commands.

    Args:
        place: What it is for.
        commands: Those of `COMMANDS` that are used.

    Raises:
        ValueError: If a command is unknown.
    """
    if unknown := [name for name in commands if name not in COMMANDS]:
        raise ValueError(f"commands: {unknown[0]} is not one of {', '.join(COMMANDS)}")
    by_kind: dict[str, set[str]] = {}
    for name in commands:
        for kind, actions in _SAGEMAKER[name].items():
            by_kind.setdefault(kind, set()).update(f"sagemaker:{action}" for action in actions)
    statements = [_allow(kind, actions, [place.sagemaker(kind)]) for kind, actions in by_kind.items()]
    if lists := {f"sagemaker:{action}" for name in commands for action in _LISTS.get(name, ())}:
        statements.append(_allow("lists", lists, ["*"]))
    if scaling := {action for name in commands for action in _SCALING.get(name, ())}:
        statements.append(_allow("scaling", scaling, ["*"]))
        alarms = {_ALARMS[name] for name in commands if name in _ALARMS}
        statements.append(_allow("alarms", alarms, [place.alarms]))
    if set(commands) & set(_PASSES_ROLE):
        to = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
        statements.append(_allow("role", {"iam:PassRole"}, [place.role], to))
    writing = [name for name in commands if name in _WRITES_WORK]
    folders = [place.work, *place.read, *place.write]
    if set(commands) & set(_LISTS_WORK):
        statements.append(_allow("buckets", {"s3:ListBucket"}, place.buckets(folders)))
    if writing:
        outputs = list(place.write) if "transform" in commands else []
        statements.append(_allow("write", {"s3:PutObject"}, [place.objects(item) for item in (place.work, *outputs)]))
    if set(commands) & set(_READS_WORK):
        # A checkpoint may lie with the data, and what is registered where a job was told to write it.
        folders = [place.work, *(place.read if "transform" in commands else ())]
        folders += place.write if {"register", "deploy"} & set(commands) else ()
        statements.append(_allow("read", {"s3:GetObject"}, [place.objects(item) for item in folders]))
    if place.kms_key and writing:
        statements.append(_allow("key", _KEY, [place.kms_key]))
    return {"Version": "2012-10-17", "Statement": statements + _of_mlflow(place)}


def role_policy(place: Place) -> dict[str, Any]:
    """Return the policy of the role that jobs and endpoints assume.

    Args:
        place: What it is for.
    """
    arn = f"arn:{place.partition}"
    folders = [place.work, *place.read, *place.write]
    here = f"{place.region}:{place.account}"
    logs = f"{arn}:logs:{here}:log-group:/aws/sagemaker/*"
    statements = [
        _allow("buckets", {"s3:ListBucket"}, place.buckets(folders)),
        _allow("read", {"s3:GetObject"}, [place.objects(item) for item in folders]),
        _allow("write", {"s3:PutObject"}, [place.objects(item) for item in (place.work, *place.write)]),
        _allow("logs", _LOGS, [logs]),
        _allow(
            "metrics", {"cloudwatch:PutMetricData"}, ["*"],
            {"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "aws/sagemaker/*"]}},
        ),
        _allow("registry", {"ecr:GetAuthorizationToken"}, ["*"]),
    ]  # fmt: skip
    pull = {"ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"}
    aws_images = f"{arn}:ecr:{place.region}:*:repository/pytorch-*"
    statements.append(_allow("images", pull, list(place.repositories) or [aws_images]))
    if place.kms_key:
        statements.append(_allow("key", _KEY, [place.kms_key]))
    if place.private_network:
        statements.append(_allow("network", {f"ec2:{action}" for action in _NETWORK}, ["*"]))
    return {"Version": "2012-10-17", "Statement": statements + _of_mlflow(place)}


def _of_mlflow(place: Place) -> list[dict[str, Any]]:
    """Return the statement for logging to an MLflow app or tracking server; none without one."""
    if place.mlflow is None:
        return []
    actions = {f"sagemaker-mlflow:{action}" for action in MLFLOW_ACTIONS.values()}
    # An app has an action of its own for its whole interface.
    app = {"sagemaker:CallMlflowAppApi"} if ":mlflow-app/" in place.mlflow else set()
    return [_allow("mlflow", actions | app, [place.mlflow])]


def trust_policy() -> dict[str, Any]:
    """Return the policy that lets SageMaker, and nobody else, assume the role."""
    principal = {"Service": "sagemaker.amazonaws.com"}
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}],
    }


def _allow(
    name: str, actions: Iterable[str], resources: Sequence[str], condition: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a statement; its name says what it is for."""
    sid = "".join(word.title() for word in name.split("-"))
    statement: dict[str, Any] = {"Sid": sid, "Effect": "Allow", "Action": sorted(actions), "Resource": list(resources)}
    return statement | ({"Condition": condition} if condition else {})
