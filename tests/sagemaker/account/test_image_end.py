import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from milpath.sagemaker import deploy, launch
from milpath.sagemaker.account import image_end
from milpath.sagemaker.account.image_end import IMAGE_ENDS, NOTICE_DAYS, end_note
from tests.sagemaker.conftest import REGION, ROLE

REPOSITORY = Path(__file__).parents[3]
DOCKERFILE = (REPOSITORY / "scripts/sagemaker/Dockerfile.train").read_text()


def address(scope, version):
    return f"1.dkr.ecr.eu-central-1.amazonaws.com/pytorch-{scope}:{version}.0-gpu-py313"


@pytest.mark.parametrize("item", IMAGE_ENDS, ids=lambda item: f"{item.scope}-{item.version}")
def test_the_end_of_an_image_is_said_ninety_days_before_and_ever_after(item):
    image = address(item.scope, item.version)
    assert end_note(image, item.end - timedelta(days=NOTICE_DAYS + 1)) is None
    assert f"after {item.end} (90 days)" in end_note(image, item.end - timedelta(days=NOTICE_DAYS))
    assert "(0 days)" in end_note(image, item.end)
    assert f"have had no patches since {item.end}" in end_note(image, item.end + timedelta(days=1))


def test_other_images_are_not_warned_of():
    day = date(2040, 1, 1)
    assert end_note(address("training", "2.8"), day) is None  # no date is known
    assert end_note("1.dkr.ecr.eu-central-1.amazonaws.com/milpath-train:2.10", day) is None
    assert end_note(address("training", "2.1"), day) is None  # not 2.10


def test_launch_and_deploy_warn_and_refuse_nothing(account, command, monkeypatch):
    monkeypatch.setattr(image_end, "today", lambda: date(2026, 11, 26))
    given = ["sagemaker.bucket=slides", "sagemaker.training=s3://slides/panda", f"sagemaker.role={ROLE}"]
    status, _, errors = command(launch, "data=synthetic", *given, "dry_run=true", f"sagemaker.region={REGION}")
    assert status == 0
    assert errors.startswith("AWS's PyTorch 2.10 images for training get no more patches after 2027-01-21 (56 days)")
    assert errors.count("\n") == 1
    words = ["archive=s3://slides/panda", "bucket=slides", f"role={ROLE}"]
    status, output, errors = command(deploy, *words)
    assert status == 0
    assert "is in service" in output
    assert errors.startswith(
        "AWS's PyTorch 2.6 images for serving have had no patches since 2026-06-30; they still work"
    )
    assert command(deploy, *words, "endpoint=other", "image=own:1")[2] == ""


def test_the_documentation_has_every_date():
    page = (REPOSITORY / "docs/how-to/sagemaker/images.md").read_text()
    rows = re.findall(r"^\| (training|serving) \| (\S+) \| (\S+) \|$", page, re.MULTILINE)
    words = {"training": "training", "inference": "serving"}
    assert rows == [(words[item.scope], item.version, item.end.isoformat()) for item in IMAGE_ENDS]


def test_the_training_image_is_built_from_the_lock_and_runs_without_root():
    lines = DOCKERFILE.replace("\\\n", " ").splitlines()
    installs = [line for line in lines if line.startswith("RUN pip install")]
    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes" in line or ("--no-deps" in line and line.endswith("/src"))
    assert [line for line in lines if line.startswith(("FROM", "ARG"))] == [
        "ARG BASE=python:3.12-slim", "FROM ${BASE} AS build", "FROM ${BASE}", "ARG UID=1000",
    ]  # fmt: skip
    assert [line for line in lines if line.startswith("USER")] == ["USER ${UID}"]
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY") and "--from" not in line]
    for path in (path for paths in copied for path in paths):
        assert (REPOSITORY / path).exists(), path


def test_the_lock_of_the_training_image_has_the_versions_that_are_tested():
    def versions(name):
        text = (REPOSITORY / "requirements" / f"{name}.lock").read_text()
        return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))

    image, tested = versions("training-image"), versions("development")
    assert {
        "torch",
        "lightning",
        "timm",
        "openslide-python",
        "sagemaker-training",
        "sagemaker-pytorch-training",
    } <= image.keys()
    assert {name: image[name] for name in image.keys() & tested} == {
        name: tested[name] for name in image.keys() & tested
    }
