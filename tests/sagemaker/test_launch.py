import json
import sys
import tarfile

import pytest
from botocore.exceptions import ClientError
from omegaconf import OmegaConf

from milpath.sagemaker import launch
from milpath.sagemaker.jobs.aws_account import sdk
from milpath.sagemaker.jobs.training_job import _own_parts
from tests.sagemaker.conftest import REGION, ROLE

SMALL = ["data=synthetic", "data.num_slides=24", "seed=5", "data.stores_dir=${paths.data_dir}/stores"]
GIVEN = ["sagemaker.bucket=slides", "sagemaker.training=s3://slides/panda", f"sagemaker.role={ROLE}"]


def source_of(account, request, folder):
    """Unpack the archive that a request refers to."""
    key = request["HyperParameters"]["sagemaker_submit_directory"].removeprefix("s3://slides/")
    account.s3.download_file("slides", key, str(folder / "source.tar.gz"))
    with tarfile.open(folder / "source.tar.gz") as archive:
        archive.extractall(folder / "code", filter="data")
    return folder / "code"


def test_the_request_that_is_sent_is_the_one_that_was_shown(account, command):
    words = [*SMALL, *GIVEN, "sagemaker.testing=s3://slides/panda", "sagemaker.spot=true", "sagemaker.kms_key=key-1"]
    words += [
        "sagemaker.environment={NCCL_DEBUG: WARN}",
        "sagemaker.subnets=[subnet-1]",
        "sagemaker.security_group_ids=[sg-1]",
    ]
    words += ["sagemaker.encrypt_traffic=true", "sagemaker.input_mode=FastFile", "sagemaker.instance_count=2"]
    status, shown, errors = command(launch, *words, "dry_run=true")
    assert (status, errors) == (0, "")
    assert account.sent == []
    status, output, errors = command(launch, *words)
    assert (status, errors) == (0, "")
    (sent,) = account.requests("CreateTrainingJob")
    expected = json.loads(shown)
    name, base = sent.pop("TrainingJobName"), expected.pop("TrainingJobName")
    assert name.startswith(f"{base}-")
    assert f"submitted {name}: 2 x ml.g5.xlarge in {REGION}" in output
    # The folder of the checkpoints carries the second of the submission.
    for body in (sent, expected):
        checkpoints = body["CheckpointConfig"].pop("S3Uri")
        assert checkpoints.startswith("s3://slides/milpath/checkpoints/milpath-20")
    assert sent == expected
    assert account.sagemaker.describe_training_job(TrainingJobName=name)["RoleArn"] == ROLE


def test_other_instances_and_retries_reach_the_service(account, command):
    words = [
        "sagemaker.other_instance_types=[ml.g5.2xlarge]",
        "sagemaker.retries=2",
        "sagemaker.max_pending_seconds=3600",
    ]
    status, output, errors = command(launch, *SMALL, *GIVEN, *words, "sagemaker.compress_output=false")
    assert (status, errors) == (0, "")
    (sent,) = account.requests("CreateTrainingJob")
    assert sent["ResourceConfig"]["InstancePreferences"] == [
        {"InstanceType": "ml.g5.xlarge"},
        {"InstanceType": "ml.g5.2xlarge"},
    ]
    assert sent["RetryStrategy"] == {"MaximumRetryAttempts": 2}
    assert sent["StoppingCondition"]["MaxPendingTimeInSeconds"] == 3600
    assert "RemoteDebugConfig" not in sent  # a shell in the container is off unless it is asked for
    assert sent["OutputDataConfig"]["CompressionType"] == "NONE"
    assert "1 x ml.g5.xlarge or ml.g5.2xlarge in" in output
    assert "/output/model/, output/" in output


def test_local_mode_needs_docker_and_submits_nothing(account, command, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    status, _, errors = command(launch, *SMALL, *GIVEN, "sagemaker.mode=local")
    assert status == 1
    assert "sagemaker.mode=local needs docker with docker compose, running (" in errors
    assert "without it, run: milpath sagemaker rehearse" in errors
    assert (errors.count("\n"), "Traceback" in errors) == (1, False)
    assert account.requests("CreateTrainingJob") == []


def test_a_warm_pool_is_asked_for_field_by_field(account, command):
    status, _, errors = command(launch, *SMALL, *GIVEN, "sagemaker.keep_alive_seconds=600", "sagemaker.tags=null")
    assert (status, errors) == (0, "")
    (sent,) = account.requests("CreateTrainingJob")
    assert sent["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 600
    assert not {"Tags", "VpcConfig", "Environment"} & set(sent)


def test_smddp_is_one_word_on_the_command_line(account, command):
    status, _, errors = command(launch, *SMALL, *GIVEN, "sagemaker=smddp", "trainer=sagemaker_smddp")
    assert (status, errors) == (0, "")
    (sent,) = account.requests("CreateTrainingJob")
    assert sent["HyperParameters"]["sagemaker_distributed_dataparallel_enabled"] == "true"
    assert sent["AlgorithmSpecification"]["TrainingImage"].endswith("pytorch-training:2.5.1-gpu-py311")
    assert (sent["ResourceConfig"]["InstanceType"], sent["ResourceConfig"]["InstanceCount"]) == ("ml.p4d.24xlarge", 2)


def test_the_source_holds_the_words_of_the_training_alone(account, command, tmp_path):
    assert command(launch, *SMALL, *GIVEN)[0] == 0
    code = source_of(account, account.requests("CreateTrainingJob")[0], tmp_path)
    assert json.loads((code / "job.json").read_text())["overrides"] == [
        "trainer=sagemaker",
        "paths=sagemaker",
        "resume_from=auto",
        "run_name=${oc.env:TRAINING_JOB_NAME,local}",
        "++callbacks.progress._target_=milpath.sagemaker.jobs.epoch_line.EpochLine",
        *SMALL,
    ]
    assert (code / "requirements.txt").read_text().startswith("lightning==")


def test_configuration_of_the_user_is_checked_and_sent(account, command, tmp_path):
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    status, _, errors = command(launch, "experiment=mine", *GIVEN, "--config-dir", str(tmp_path / "own"))
    assert (status, errors) == (0, "")
    code = source_of(account, account.requests("CreateTrainingJob")[0], tmp_path)
    assert (code / "configs_0" / "experiment" / "mine.yaml").is_file()


def test_files_of_the_users_own_classes_travel_with_the_job(account, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "own_of_a_job.py").write_text("from own_layers_of_a_job import Layer\nclass Network(Layer): ...\n")
    (tmp_path / "own_layers_of_a_job.py").write_text("import torch\nclass Layer(torch.nn.Module): ...\n")
    (tmp_path / "notes.py").write_text("secret = 1\n")
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/own.yaml").write_text("_target_: own_of_a_job.Network\n")
    status, _, errors = command(launch, "data=synthetic", "model=own", *GIVEN, "--config-dir", str(tmp_path / "conf"))
    assert (status, errors) == (0, "")
    code = source_of(account, account.requests("CreateTrainingJob")[0], tmp_path)
    assert {path.name for path in code.glob("*.py")} == {"train.py", "own_of_a_job.py", "own_layers_of_a_job.py"}
    config = OmegaConf.create({"model": {"_target_": "own_of_a_job.Network"}, "target": None})
    assert _own_parts(config, tmp_path) == ["own_of_a_job.Network"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer.lrr=0.1"], "optimizer.lrr"),
        (["trainer.max_epoch=3"], "trainer.max_epoch"),
        (["+optimizer.learning_rate=0.1"], "optimizer.learning_rate is not an argument of torch.optim.Adam"),
        (["model=resnet"], "resnet"),
        (["optimizer.weight_decay=small"], "optimizer.weight_decay=small must be a number"),
        (["trainer.max_epochs=thirty"], "trainer.max_epochs=thirty must be a whole number of at least 1"),
        (
            ["+callbacks.mine._target_=milpath.nowhere.Callback"],
            "callbacks.mine._target_=milpath.nowhere.Callback does not",
        ),
        (["trainer=sagemaker_smddp"], "add sagemaker=smddp, or use trainer=sagemaker"),
        (["+paths.model_dir=model"], "An item is already at 'paths.model_dir'"),
        (["sagemaker.role=null"], "no role was given"),
        (["sagemaker.bucket=null"], "sagemaker.bucket must be given"),
        (["sagemaker.bucket=nowhere"], "bucket nowhere does not exist"),
        (["sagemaker.training=s3://slides/empty"], "there is no object under s3://slides/empty"),
        (["sagemaker.image_version=1.0"], "AWS has no PyTorch training image 1.0 py313"),
        (["sagemaker.spoot=true"], "sagemaker.spoot"),
    ],
)
def test_a_mistake_costs_nothing_and_is_one_line(account, command, words, message):
    kept = [word for word in GIVEN if word.split("=")[0] != words[0].split("=")[0]]
    status, _, errors = command(launch, "data=synthetic", *kept, *words)
    assert status == 1
    assert message in errors
    # Hydra's own refusal of a word also says where it looked and what there is; all else is one line.
    assert errors.count("\n") == 1 or errors.endswith("HYDRA_FULL_ERROR=1 for a complete stack trace.\n")
    assert "Error executing job" not in errors
    assert account.requests("CreateTrainingJob") == []
    assert account.s3.list_objects_v2(Bucket="slides")["KeyCount"] == 1


def test_what_the_service_refuses_is_one_line(account, command, monkeypatch):
    answer = {"Error": {"Code": "ResourceLimitExceeded", "Message": "0 instances\nof ml.g5"}}

    def refuse(**_):
        raise ClientError(answer, "CreateTrainingJob")

    monkeypatch.setattr(sdk("sagemaker.core.resources").TrainingJob, "create", refuse)
    status, _, errors = command(launch, *SMALL, *GIVEN)
    assert status == 1
    assert "could not submit the job: ResourceLimitExceeded: 0 instances of ml.g5" in errors
    assert "Traceback" not in errors


def test_dry_run_needs_no_account(command, monkeypatch):
    monkeypatch.setattr("milpath.sagemaker.jobs.aws_account.boto3_session", None)
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    status, _, errors = command(launch, *SMALL, *GIVEN, "dry_run=true")
    assert status == 1
    assert "dry_run does not contact AWS, so it needs sagemaker.region" in errors
    status, shown, _ = command(launch, *SMALL, *GIVEN, "dry_run=true", f"sagemaker.region={REGION}")
    assert status == 0
    assert json.loads(shown)["RoleArn"] == ROLE
