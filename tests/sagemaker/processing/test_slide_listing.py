from datetime import UTC, datetime, timedelta

import boto3
import pytest
from moto import mock_aws

from milpath.sagemaker.processing.slide_listing import S3Slide, list_slides, manifest_of, reasons_of, state_of_parts

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SLIDES = [S3Slide(f"{letter}.svs", 10, NOON) for letter in "abcde"]


def item(time):
    return {"Size": 1, "LastModified": time}


def test_a_result_counts_if_it_is_whole_and_not_older_than_the_slide():
    a, b, c, d, _ = (slide.part for slide in SLIDES)
    parts = {
        f"{a}.zip": item(NOON + HOUR), f"{a}.npy": item(NOON + HOUR),  # finished
        f"{b}.zip": item(NOON + HOUR),  # its tiles did not arrive
        f"{c}.zip": item(NOON - HOUR), f"{c}.npy": item(NOON - HOUR),  # of the slide that was replaced
        f"{d}.failed.json": item(NOON + HOUR),
        "plan.json": item(NOON), "store/tiles.npy": item(NOON),
    }  # fmt: skip
    state = state_of_parts(SLIDES, parts)
    assert [slide.name for slide in state.finished] == ["a"]
    assert {slide.name: key for slide, key in state.failed.items()} == {"d": f"{d}.failed.json"}
    assert [slide.name for slide in state.to_do] == ["b", "c", "e"]
    assert reasons_of(state, lambda key: b'{"bag_id": "d", "reason": "broken"}') == {"d": "broken"}


def test_a_failed_slide_that_was_uploaded_again_is_done_again_and_a_later_success_counts():
    part = SLIDES[0].part
    failed = {f"{part}.failed.json": item(NOON - HOUR)}
    assert state_of_parts(SLIDES[:1], failed).to_do == tuple(SLIDES[:1])
    done = {f"{part}{suffix}": item(NOON) for suffix in (".zip", ".npy")}
    assert state_of_parts(SLIDES[:1], failed | done).finished == tuple(SLIDES[:1])


@pytest.fixture
def account(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        session = boto3.Session(region_name="us-east-1")
        session.client("s3").create_bucket(Bucket="slides")
        yield session


def put(account, *keys, body=b"x"):
    for key in keys:
        account.client("s3").put_object(Bucket="slides", Key=key, Body=body)


def test_slides_are_found_in_folders_and_other_files_left_out(account):
    put(account, "in/b.svs", "in/deep/a.TIFF", "in/train.csv", "in/.hidden/c.svs", "inside.svs")
    put(account, "in/folder.svs", body=b"")
    found = list_slides(account, "s3://slides/in/")
    assert [(slide.path, slide.name) for slide in found] == [("b.svs", "b"), ("deep/a.TIFF", "a")]
    assert manifest_of("s3://slides/in", found) == [{"prefix": "s3://slides/in/"}, "b.svs", "deep/a.TIFF"]


@pytest.mark.parametrize("key", ["in/a.mrxs", "in/a/1.dcm", "in/a.zarr/0/0", "in/a.vms"])
def test_a_slide_of_several_objects_is_refused(account, key):
    put(account, "in/b.svs", key)
    with pytest.raises(ValueError, match="cannot be shared out over instances; convert it to an OME-TIFF"):
        list_slides(account, "s3://slides/in")


def test_a_folder_without_slides_is_refused(account):
    put(account, "in/train.csv")
    with pytest.raises(ValueError, match=r"there is no slide below s3://slides/in \(1 object\); run: aws s3 cp"):
        list_slides(account, "s3://slides/in")
