"""Submission of the jobs that do many slides: what is checked, uploaded and asked for."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from milpath.config.command_line import override
from milpath.records.digests import sha256_of_file, sha256_of_text
from milpath.records.error_text import counted
from milpath.sagemaker.jobs.aws_account import explained, require_objects, split_address, upload
from milpath.sagemaker.jobs.job_settings import JobSettings
from milpath.sagemaker.jobs.source_archive import write_source
from milpath.sagemaker.processing.processing_request import (
    CHUNKS,
    CODE_DIR,
    EARLIER_DIR,
    FILES_DIR,
    LISTING_FILE,
    OUTPUT,
    PARTS,
    PROGRAM,
    ROOT,
    SLIDES_DIR,
    Input,
    Output,
    processing_request,
)
from milpath.sagemaker.processing.slide_listing import S3Slide, WorkState, manifest_of

_IDENTITY = "identity.json"
_GIB = 1 << 30
# Of a disk: the image, the code and the results beside the slides.
_ROOM_GB = 20


@dataclass(frozen=True)
class SlideJobs:
    """What all jobs of one name have in common.

    Attributes:
        settings: Resources.
        command: `tile`, `extract` or `predict`.
        words: Overrides of the command as typed.
        files: Option to a local file that is uploaded, or to an object in S3.
        slides: Folder of the slides in S3.
        output: Folder of the store in S3.
        name: Name of the work.
        role: ARN of the role.
        image: Address of the image.
    """

    settings: JobSettings
    command: str
    words: Sequence[str]
    files: Mapping[str, str]
    slides: str
    output: str
    name: str
    role: str
    image: str

    @property
    def work(self) -> str:
        """Folder in S3 of the code and the unfinished work."""
        return f"{self.settings.address}/process/{self.name}"

    def words_in_container(self) -> list[str]:
        """Return the overrides with the paths that the files have in the container."""
        return [*self.words, *(override(key, path) for key, (_, path) in self._places().items())]

    def request(self, phase: str, num_instances: int, *, earlier: bool, slides: bool = True) -> dict[str, Any]:
        """Return the request of a job.

        Args:
            phase: "cut" for several instances, "whole" for one that also writes the store, "predict" for predictions.
            num_instances: Number of instances.
            earlier: Whether earlier jobs left results.
            slides: Whether slides are left to do.
        """
        inputs = [Input("code", f"{self.work}/code/", CODE_DIR)]
        if slides:
            inputs.append(
                Input("slides", f"{self.work}/manifest.json", SLIDES_DIR, manifest=True, shared_out=num_instances > 1)
            )
        if phase == "whole" and earlier:
            inputs.append(Input("earlier", f"{self.work}/parts/", EARLIER_DIR))
        for number, (address, path) in enumerate(self._places().values()):
            if address is not None:
                inputs.append(Input(f"file-{number}", address, str(PurePosixPath(path).parent)))
        results = CHUNKS if phase == "predict" else PARTS
        outputs = [Output("parts", f"{ROOT}/{results}", f"{self.work}/parts", continuous=True)] if slides else []
        if phase == "whole":
            outputs.append(Output("store", f"{ROOT}/{OUTPUT}", self.output))
        return processing_request(
            self.settings,
            name=f"{self.settings.job_name}-{datetime.now(UTC):%Y%m%d%H%M%S}",
            role=self.role,
            image=self.image,
            inputs=inputs,
            outputs=outputs,
            environment={"MILPATH_COMMAND": self.command, "MILPATH_PHASE": phase},
            num_instances=num_instances,
        )

    def prepare(self, account: Any, slides: Sequence[S3Slide], state: WorkState) -> None:
        """Upload the code, the tables and the list of the slides that are left.

        Raises:
            ValueError: If work of this name was begun with other options.
        """
        client = account.client("s3")

        def put(name: str, content: object) -> None:
            bucket, key = split_address(f"{self.work}/{name}")
            with explained(f"write {self.work}/{name}"):
                client.put_object(Bucket=bucket, Key=key, Body=(json.dumps(content, indent=1) + "\n").encode())

        self.require_same_work(client)
        states = {**dict.fromkeys(state.finished, "finished"), **dict.fromkeys(state.failed, "failed")}
        listing = [
            {"name": item.name, "path": item.path, "size": item.size, "state": states.get(item, "to do")}
            for item in slides
        ]
        put(f"code/{LISTING_FILE}", listing)
        put("manifest.json", manifest_of(self.slides, state.to_do))
        for key, (address, path) in self._places().items():
            if address is None:
                upload(account, Path(self.files[key]), f"{self.work}/code/{PurePosixPath(path).name}")
            else:
                require_objects(account, address)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "source.tar.gz"
            write_source(
                source, self.words_in_container(), requirements=self.settings.requirements, program=PROGRAM,
                module="milpath.sagemaker.processing.processing_entry",
                further=[] if self.command == "tile" else ["timm", "safetensors"],
            )  # fmt: skip
            upload(account, source, f"{self.work}/code/source.tar.gz")
        self.sign(client)

    def require_disk(self, slides: Sequence[S3Slide], num_instances: int, merged_bytes: int = 0) -> None:
        """Refuse a disk on which the slides of an instance, or the store that it merges, do not fit.

        Args:
            slides: The slides that are left.
            num_instances: Number of instances.
            merged_bytes: Results of earlier jobs that are merged: they are there twice, as parts and as a store.

        Raises:
            ValueError: With the size that they need.
        """
        # The service shares out by number: the largest slides may all come to one instance.
        each = -(-len(slides) // num_instances)
        largest = sum(sorted((slide.size for slide in slides), reverse=True)[:each]) / _GIB
        needed = largest + 2 * merged_bytes / _GIB + _ROOM_GB
        if needed > self.settings.volume_size_gb:
            raise ValueError(
                f"{counted(each, 'slide')} of up to {largest:.0f} GiB and {merged_bytes / _GIB:.0f} GiB of results do not "
                f"fit on sagemaker.volume_size_gb={self.settings.volume_size_gb}; set it to {needed + 1:.0f}, or take more "
                "instances"
            )

    def sign(self, client: Any) -> None:
        """Write down what the work is, so that other work is not mixed with it."""
        bucket, key = split_address(f"{self.work}/{_IDENTITY}")
        with explained(f"write {self.work}/{_IDENTITY}"):
            client.put_object(Bucket=bucket, Key=key, Body=json.dumps(self._identity(), indent=1).encode())

    def _places(self) -> dict[str, tuple[str | None, str]]:
        """Return for each file its address in S3, `None` if it is local, and its path in the container."""
        found: dict[str, tuple[str | None, str]] = {}
        for number, (key, value) in enumerate(self.files.items()):
            if value.startswith("s3://"):
                found[key] = (value, f"{FILES_DIR}/{number}/{PurePosixPath(value).name}")
            else:
                found[key] = (None, f"{CODE_DIR}/file-{number}{Path(value).suffix}")
        return found

    def _identity(self) -> dict[str, Any]:
        digests = {
            key: value if value.startswith("s3://") else sha256_of_file(value) for key, value in self.files.items()
        }
        return {
            "command": self.command, "options": sorted(self.words), "files": digests, "slides": self.slides,
            "output": self.output,
        }  # fmt: skip

    def require_same_work(self, client: Any) -> None:
        """Refuse to mix results of other options; on_error only says what to do with slides that failed."""
        bucket, key = split_address(f"{self.work}/{_IDENTITY}")
        try:
            with explained(f"read {self.work}/{_IDENTITY}"):
                begun = json.loads(client.get_object(Bucket=bucket, Key=key)["Body"].read())
        except ValueError as error:
            if "NoSuchKey" in str(error):
                return
            raise
        own = self._identity()
        for one in (begun, own):
            one["options"] = [word for word in one["options"] if not word.startswith("on_error=")]
        if changed := [name for name in own if begun.get(name) != own[name]]:
            raise ValueError(
                f"{self.work} holds work of other options ({changed[0]}: {begun.get(changed[0])} then, {own[changed[0]]} "
                "now); give the same options, or another name="
            )


def default_name(command: str, output: str) -> str:
    """Return a name for the work on one output.

    Example:
        >>> default_name("tile", "s3://slides/tiles")
        'tile-b2d27938'
    """
    return f"{command}-{sha256_of_text(output.rstrip('/'))[:8]}"
