import pytest

from milpath.sagemaker.jobs.job_settings import JobSettings

GIVEN = {"bucket": "slides", "training": "s3://slides/panda"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bucket": None}, "sagemaker.bucket must be given"),
        ({"training": None}, "sagemaker.training must be given"),
        (
            {"training": "panda/train"},
            "sagemaker.training=panda/train is not an address of the form s3://bucket/folder",
        ),
        ({"testing": "https://x/y"}, "sagemaker.testing=https://x/y is not an address"),
        ({"job_name": "my_job"}, "sagemaker.job_name=my_job must be 1 to 40 letters, digits and hyphens"),
        ({"job_name": "j" * 41}, "1 to 40 letters"),
        ({"distribution": "mpi"}, "sagemaker.distribution=mpi must be one of torchrun, smddp"),
        ({"input_mode": "Pipe"}, "sagemaker.input_mode=Pipe must be one of File, FastFile"),
        ({"instance_count": "two"}, "sagemaker.instance_count=two must be an integer"),
        ({"max_wait_seconds": "1h"}, "sagemaker.max_wait_seconds=1h must be an integer"),
        ({"tags": "project"}, "sagemaker.tags=project must be a mapping"),
        (
            {"instance_type": "ml.g5xlarge"},
            "sagemaker.instance_type=ml.g5xlarge is not an instance type such as ml.g5.xlarge",
        ),
        ({"instance_count": 0}, "sagemaker.instance_count=0 must be at least 1"),
        ({"distribution": "smddp"}, "runs on ml.p4d.24xlarge or ml.p4de.24xlarge, not on ml.g5.xlarge"),
        ({"mpi_options": "-x A"}, "sagemaker.mpi_options=-x A is for sagemaker.distribution=smddp, not for torchrun"),
        ({"max_wait_seconds": 10}, "add sagemaker.spot=true"),
        ({"spot": True, "max_wait_seconds": 10}, "at least sagemaker.max_run_seconds=86400"),
        ({"spot": True, "keep_alive_seconds": 600}, "mutually exclusive"),
        ({"subnets": ["subnet-1"]}, "must be given together"),
        ({"retries": 31}, "sagemaker.retries=31 must be between 0 and 30"),
        ({"max_pending_seconds": 60}, "sagemaker.max_pending_seconds=60 must be between 1800 and 2419200"),
        ({"other_instance_types": ["ml.g5.xlarge"]}, "must be up to 4 types other than sagemaker.instance_type"),
        ({"other_instance_types": ["g5"]}, "sagemaker.other_instance_types=g5 is not an instance type"),
        ({"other_instance_types": ["ml.g6.xlarge"], "spot": True}, "mutually exclusive: choose one"),
        ({"private": True}, "sagemaker.private=true (sagemaker=hospital) needs sagemaker.subnets; give it"),
        ({"isolate": True}, "nothing can be installed in it: add sagemaker.image=ADDRESS"),
    ],
)
def test_what_sagemaker_would_refuse_is_refused_before(change, message):
    with pytest.raises(ValueError) as caught:
        JobSettings(**GIVEN | change).require_training()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_key_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"sagemaker.instance_typ is unknown; the keys are bucket, training"):
        JobSettings.of(GIVEN | {"instance_typ": "ml.g5.xlarge"})
