import os

import boto3
import pytest
from moto import mock_aws

from milpath.sagemaker.jobs import aws_account as aws
from milpath.sagemaker.jobs.aws_account import image_address


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_without_a_region_the_message_says_how_to_give_one(no_account):
    with pytest.raises(ValueError, match=r"no AWS region is known; add sagemaker.region=eu-central-1"):
        aws.open_account(None)


def test_without_credentials_the_message_says_how_to_get_some(no_account):
    with pytest.raises(ValueError, match=r"no AWS credentials were found; run: aws configure"):
        aws.open_account("eu-central-1")


def test_an_unknown_profile_is_named(no_account, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ValueError, match=r"nobody.*run: aws configure"):
        aws.open_account("eu-central-1")


@pytest.mark.parametrize(
    ("role", "message"),
    [
        (None, "no role was given; add sagemaker.role=arn"),
        ("Trainer", "sagemaker.role=Trainer is not an ARN of the form"),
    ],
)
def test_a_role_is_given_in_full(role, message):
    with pytest.raises(ValueError, match=message):
        aws.require_role(role)
    assert aws.require_role("arn:aws-cn:iam::123456789012:role/a/b").endswith("a/b")


def test_a_bucket_must_exist_in_the_region_of_the_job(account):
    played = aws.open_account("eu-central-1")
    aws.require_bucket(played, "slides")
    with pytest.raises(
        ValueError, match=r"bucket nowhere does not exist; run: aws s3 mb s3://nowhere --region eu-central"
    ):
        aws.require_bucket(played, "nowhere")
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="elsewhere")
    with pytest.raises(ValueError, match=r"bucket elsewhere is in us-east-1, but the job would run in eu-central-1"):
        aws.require_bucket(played, "elsewhere")


def test_an_empty_folder_is_named(account):
    played = aws.open_account("eu-central-1")
    aws.require_objects(played, "s3://slides/panda")
    with pytest.raises(
        ValueError, match=r"there is no object under s3://slides/nothing; run: aws s3 cp --recursive FOLDER"
    ):
        aws.require_objects(played, "s3://slides/nothing")
    with pytest.raises(ValueError, match="could not list s3://nowhere/a: NoSuchBucket"):
        aws.require_objects(played, "s3://nowhere/a")


def test_what_aws_answers_is_one_line(account, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="could not write s3://nowhere/file: ") as caught:
        aws.upload(aws.open_account("eu-central-1"), tmp_path / "file", "s3://nowhere/file")
    assert "\n" not in str(caught.value)


def test_a_network_that_is_down_is_one_line(no_account, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(ValueError, match=r"could not access the bucket: Could not connect to the endpoint URL"):
        aws.require_bucket(aws.open_account("eu-central-1"), "slides")


def test_the_sdk_reports_nothing_to_its_makers_unless_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SAGEMAKER_USER_CONFIG_OVERRIDE", raising=False)
    with mock_aws():
        config = aws.sdk("sagemaker.core.config.config").load_sagemaker_config()
    assert config["SageMaker"]["PythonSDK"]["Modules"]["TelemetryOptOut"] is True
    monkeypatch.delenv("SAGEMAKER_USER_CONFIG_OVERRIDE")
    own = tmp_path / ".config" / "sagemaker" / "config.yaml"
    own.parent.mkdir(parents=True)
    own.touch()
    aws.sdk("sagemaker.core.config.config")
    assert "SAGEMAKER_USER_CONFIG_OVERRIDE" not in os.environ


def test_images_are_looked_up_without_a_network():
    place = {"region": "eu-central-1", "instance_type": "ml.g5.xlarge"}
    address = image_address("training", version="2.10.0", python="py313", **place)
    assert address.endswith(".dkr.ecr.eu-central-1.amazonaws.com/pytorch-training:2.10.0-gpu-py313")
    smddp = image_address("training", version="2.5.1", python="py311", **place)
    assert smddp.endswith("pytorch-training:2.5.1-gpu-py311")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "9.9"}, "Unsupported pytorch version: 9.9; known: "),
        ({"python": "py27"}, "Unsupported Python version: py27; known: py313"),
        ({"instance_type": "huge"}, "Invalid SageMaker instance type: huge"),
        ({"region": "mars-1"}, "Unsupported region: mars-1"),
    ],
)
def test_an_unknown_image_is_one_line_with_the_known_ones(change, words):
    place = {"region": "eu-central-1", "instance_type": "ml.g5.xlarge", "version": "2.10.0", "python": "py313"}
    with pytest.raises(ValueError) as caught:
        image_address("training", **place | change)
    assert words in str(caught.value)
    assert "or image=ADDRESS of your own image" in str(caught.value)
    assert len(str(caught.value)) < 600
