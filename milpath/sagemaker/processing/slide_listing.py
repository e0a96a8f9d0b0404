"""The slides of a job in S3, and how far earlier jobs came with them."""

import json
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from milpath.records.digests import sha256_of_text
from milpath.records.error_text import counted
from milpath.sagemaker.jobs.aws_account import explained, split_address
from milpath.slides.readers.slide_formats import DICOM_SUFFIX, SEVERAL_FILES, SLIDE_SUFFIXES

FAILED_SUFFIX = ".failed.json"


class S3Slide(NamedTuple):
    """A slide in S3.

    Attributes:
        path: Its key relative to the folder of the slides.
        size: Bytes.
        modified: When it was written.
    """

    path: str
    size: int
    modified: datetime

    @property
    def name(self) -> str:
        """Name of the slide, as `milpath tile` names it."""
        return unicodedata.normalize("NFC", PurePosixPath(self.path).stem)

    @property
    def part(self) -> str:
        """Name of the slide's files in the folder of unfinished work, without their suffixes."""
        return sha256_of_text(self.name)[:24]


def list_objects(account: Any, address: str) -> dict[str, dict[str, Any]]:
    """Return the objects below a folder in S3: key relative to it to `Size` and `LastModified`."""
    bucket, prefix = split_address(address)
    folder = f"{prefix.rstrip('/')}/" if prefix else ""
    found = {}
    with explained(f"list {address}"):
        for page in account.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder):
            for item in page.get("Contents", ()):
                found[item["Key"][len(folder) :]] = item
    found.pop("", None)
    return found


def list_slides(account: Any, address: str, suffixes: Collection[str] = SLIDE_SUFFIXES) -> list[S3Slide]:
    """Return the slides below a folder in S3, sorted by path; hidden files and other suffixes are left out.

    Args:
        account: A boto3 session.
        address: The folder.
        suffixes: Suffixes of slides, or of files of features or tiles.

    Raises:
        ValueError: If there is none, or one consists of several objects, which the instances of a job would tear apart.
    """
    objects = list_objects(account, address)
    slides = []
    for path, item in sorted(objects.items()):
        pure = PurePosixPath(path)
        if any(part.startswith(".") for part in pure.parts):
            continue
        kinds = [PurePosixPath(part).suffix.lower() for part in pure.parts]
        if several := {*SEVERAL_FILES, DICOM_SUFFIX}.intersection(kinds):
            raise ValueError(
                f"{address.rstrip('/')}/{path}: a slide of several objects ({min(several)}) cannot be shared out over "
                "instances; convert it to an OME-TIFF, or cut these slides with milpath tile on one machine"
            )
        if kinds[-1] in suffixes and item["Size"]:
            slides.append(S3Slide(path, item["Size"], item["LastModified"]))
    if not slides:
        raise ValueError(
            f"there is no slide below {address} ({counted(len(objects), 'object')}); run: "
            f"aws s3 cp --recursive FOLDER {address}"
        )
    return slides


@dataclass(frozen=True)
class WorkState:
    """How far the jobs of a name have come.

    Attributes:
        finished: Slides with a result that is not older than the slide.
        failed: Slide to the key of its reason, which is not older than the slide.
        to_do: All others, in the order of the listing.
    """

    finished: tuple[S3Slide, ...]
    failed: Mapping[S3Slide, str]
    to_do: tuple[S3Slide, ...]


def state_of_parts(slides: Sequence[S3Slide], parts: Mapping[str, Mapping[str, Any]]) -> WorkState:
    """Return which slides have both files of a finished slide, or the file of a failure, in the folder of unfinished work.

    A slide that was written again after its result or its failure is to be done again.

    Args:
        slides: The slides.
        parts: Objects in the folder of unfinished work, from `list_objects`.
    """

    def since(slide: S3Slide, suffix: str) -> bool:
        item = parts.get(slide.part + suffix)
        return item is not None and item["LastModified"] >= slide.modified

    finished = tuple(slide for slide in slides if since(slide, ".zip") and since(slide, ".npy"))
    done = set(finished)
    failed = {
        slide: slide.part + FAILED_SUFFIX for slide in slides if slide not in done and since(slide, FAILED_SUFFIX)
    }
    return WorkState(finished, failed, tuple(slide for slide in slides if slide not in done and slide not in failed))


def reasons_of(state: WorkState, read: Callable[[str], bytes]) -> dict[str, str]:
    """Return the name of each failed slide and why it failed.

    Args:
        state: The state.
        read: Returns the content of an object in the folder of unfinished work.
    """
    return {slide.name: str(json.loads(read(key))["reason"]) for slide, key in state.failed.items()}


def manifest_of(address: str, slides: Sequence[S3Slide]) -> list[Any]:
    """Return the content of a manifest file, which names the objects that a job downloads.

    Example:
        >>> manifest_of("s3://slides/panda/", [S3Slide("a/1.tiff", 9, datetime(2026, 1, 1))])
        [{'prefix': 's3://slides/panda/'}, 'a/1.tiff']
    """
    return [{"prefix": f"{address.rstrip('/')}/"}, *(slide.path for slide in slides)]
