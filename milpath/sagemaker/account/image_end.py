"""The images of AWS, and the day on which AWS stops mending each of them."""

import re
import sys
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from milpath.sagemaker.jobs.aws_account import image_address

# Days before the end of an image from which commands say so.
NOTICE_DAYS = 90
_ADDRESS = re.compile(r"pytorch-(training|inference):(\d+\.\d+)")


class ImageEnd(NamedTuple):
    """The end of the patches of AWS's PyTorch images of a version.

    Attributes:
        scope: "training" or "inference".
        version: PyTorch version, "2.10".
        end: Last day.
    """

    scope: str
    version: str
    end: date


# AWS's support policy of Deep Learning Containers, as read on 2026-11-26. A version that is not here has no date that was
# found there, and is not warned of.
IMAGE_ENDS = (
    ImageEnd("training", "2.3", date(2025, 4, 24)),
    ImageEnd("training", "2.4", date(2025, 7, 24)),
    ImageEnd("training", "2.5", date(2025, 11, 24)),
    ImageEnd("training", "2.9", date(2026, 10, 15)),
    ImageEnd("training", "2.10", date(2027, 1, 21)),
    ImageEnd("inference", "2.6", date(2026, 6, 30)),
)


def chosen_image(given: str | None, scope: str, *, region: str, version: str, python: str, instance_type: str) -> str:
    """Return the image of a job or an endpoint, and say on stderr if it has no patches any more, or soon will not.

    Args:
        given: Address of an image of one's own; `None` takes that of AWS.
        scope: "training" or "inference".
        region: AWS region.
        version: PyTorch version of AWS's image.
        python: Python version of AWS's image.
        instance_type: Determines whether the image is the one for GPUs.

    Raises:
        ValueError: If AWS has no such image.
    """
    image = given or image_address(scope, region=region, version=version, python=python, instance_type=instance_type)
    say_end(image)
    return image


def say_end(image: str) -> None:
    """Say on stderr if an image has no patches any more, or soon will not.

    Args:
        image: Address of an image.
    """
    if note := end_note(image, today()):
        sys.stderr.write(f"{note}\n")


def end_note(image: str, day: date) -> str | None:
    """Return one line if AWS has stopped mending an image, or will within 90 days; `None` for all others.

    Args:
        image: Address of an image.
        day: Today.

    Example:
        >>> end_note("1.dkr.ecr.eu-central-1.amazonaws.com/pytorch-training:2.10.0-gpu-py313", date(2026, 11, 26))[:76]
        "AWS's PyTorch 2.10 images for training get no more patches after 2027-01-21 "
        >>> end_note("1.dkr.ecr.eu-central-1.amazonaws.com/milpath:1", date(2026, 11, 26))
    """
    if (found := _ADDRESS.search(image)) is None:
        return None
    scope, version = found.groups()
    end = next((item.end for item in IMAGE_ENDS if (item.scope, item.version) == (scope, version)), None)
    if end is None or day < end - timedelta(days=NOTICE_DAYS):
        return None
    serving = scope == "inference"
    own = "scripts/sagemaker/Dockerfile" if serving else "scripts/sagemaker/Dockerfile.train"
    left = (end - day).days
    when = f"get no more patches after {end} ({left} days)" if left >= 0 else f"have had no patches since {end}"
    key = "image=ADDRESS" if serving else "sagemaker.image=ADDRESS sagemaker.requirements=image"
    return (
        f"AWS's PyTorch {version} images for {'serving' if serving else 'training'} {when}; they still work: take a later "
        f"one, or build your own from {own} and add {key}"
    )


def today() -> date:
    """Return the day, in UTC."""
    return datetime.now(UTC).date()
