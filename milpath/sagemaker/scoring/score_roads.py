"""The two ways to score many objects in S3: `milpath predict` in Processing jobs, or the serving container in a batch."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from milpath.data.sources.features.feature_folder import SUFFIXES as FEATURE_SUFFIXES
from milpath.models.checkpoint import load_card
from milpath.records.digests import sha256_of_file
from milpath.sagemaker.jobs.aws_account import explained, split_address, upload
from milpath.sagemaker.jobs.model_archive import write_model_archive
from milpath.sagemaker.processing.processing_job import SlideJobs
from milpath.sagemaker.processing.slide_listing import S3Slide, WorkState, list_objects, manifest_of
from milpath.sagemaker.scoring.answer_tables import error_of, write_answer_tables
from milpath.sagemaker.scoring.joined_chunks import Chunks, chunks_in, files_of, join_tables
from milpath.sagemaker.scoring.transform_request import model_request, transform_request
from milpath.slides.readers.slide_formats import SLIDE_SUFFIXES

# What the objects are to their suffixes. Pictures as slides would be confused with tiles.
KINDS: dict[str, tuple[str, ...]] = {
    "slides": tuple(s for s in SLIDE_SUFFIXES if s not in (".png", ".jpg", ".jpeg", ".bmp", ".webp")),
    "features": FEATURE_SUFFIXES,
    "npy": (".npy",),
    "zip": (".zip",),
}
TABLES = ("attention.csv", "predictions.csv")


class Road(Protocol):
    """One of the two ways."""

    def state(self, account: Any, slides: list[S3Slide]) -> tuple[WorkState, Mapping[str, str]]:
        """Return how far the work is, and why slides failed."""
        ...

    def requests(self, state: WorkState) -> dict[str, dict[str, Any]]:
        """Return what is sent for the slides that are left, by the name of the call."""
        ...

    def prepare(self, account: Any, slides: list[S3Slide], state: WorkState) -> None:
        """Upload what the job needs."""
        ...

    def collect(self, account: Any, slides: list[S3Slide], folder: Path) -> dict[str, str]:
        """Write the tables of all slides into a folder; return the other files by their address in S3."""
        ...


def kind_of(address: str, objects: Mapping[str, Any]) -> str:
    """Return what the objects below a folder are.

    Raises:
        ValueError: If they are of several kinds or of none.
    """
    suffixes = {PurePosixPath(path).suffix.lower() for path in objects}
    found = [kind for kind, known in KINDS.items() if suffixes.intersection(known)]
    if len(found) != 1:
        raise ValueError(
            f"{address} has {' and '.join(found) or 'nothing that can be scored'}; give a folder with one of slides, "
            "features (.h5, .pt), bags as arrays (.npy) or bags of PNG tiles (.zip), one object each"
        )
    return found[0]


@dataclass(frozen=True)
class ProcessingRoad:
    """`milpath predict` on the slides or features of each instance.

    Attributes:
        jobs: What its jobs have in common.
    """

    jobs: SlideJobs

    def chunks(self, account: Any, slides: list[S3Slide]) -> Chunks:
        """Return what is predicted."""
        address = f"{self.jobs.work}/parts"
        return chunks_in(slides, list_objects(account, address), lambda key: read_object(account, f"{address}/{key}"))

    def state(self, account: Any, slides: list[S3Slide]) -> tuple[WorkState, Mapping[str, str]]:
        """Return how far the work is, and why slides failed."""
        found = self.chunks(account, slides)
        return found.state, found.reasons

    def requests(self, state: WorkState) -> dict[str, dict[str, Any]]:
        """Return the request of the job."""
        count = max(1, min(self.jobs.settings.instance_count, len(state.to_do) or self.jobs.settings.instance_count))
        return {"create_processing_job": self.jobs.request("predict", count, earlier=False)}

    def prepare(self, account: Any, slides: list[S3Slide], state: WorkState) -> None:
        """Upload what the job needs."""
        self.jobs.require_disk(state.to_do, max(1, min(self.jobs.settings.instance_count, len(state.to_do))))
        self.jobs.prepare(account, slides, state)

    def collect(self, account: Any, slides: list[S3Slide], folder: Path) -> dict[str, str]:
        """Join the tables of the chunks; return annotations and pictures by their address in S3."""
        found, address = self.chunks(account, slides), f"{self.jobs.work}/parts"
        for table in TABLES:
            paths = []
            for chunk, names in found.keep.items():
                path = folder / "chunks" / chunk / table
                path.parent.mkdir(parents=True, exist_ok=True)
                download(account, f"{address}/{chunk}/{table}", path)
                paths.append((path, names))
            join_tables(paths, folder / table)
        return {f"{address}/{key}": name for key, name in files_of(found).items()}


@dataclass(frozen=True)
class TransformRoad:
    """The serving container, which gets each bag in one request.

    Attributes:
        jobs: What its jobs have in common; its image is the serving image.
        checkpoint: The network, a local file.
        suffix: `.npy` or `.zip`.
    """

    jobs: SlideJobs
    checkpoint: Path
    suffix: str

    @property
    def model(self) -> str:
        """Name of the model in SageMaker."""
        return f"{self.jobs.settings.job_name}-{self.jobs.name}"[:63].rstrip("-")

    def answers(self, account: Any, slides: list[S3Slide]) -> dict[str, dict[str, Any]]:
        """Return the answer of each bag that is not older than the bag, by its name."""
        objects = list_objects(account, f"{self.jobs.work}/answers")
        # The service keeps a part of the path of the input; names are unique.
        by_name = {PurePosixPath(key).name: item | {"key": key} for key, item in objects.items()}
        found = {}
        for slide in slides:
            item = by_name.get(f"{PurePosixPath(slide.path).name}.out")
            if item is not None and item["LastModified"] >= slide.modified:
                found[slide.name] = item
        return found

    def state(self, account: Any, slides: list[S3Slide]) -> tuple[WorkState, Mapping[str, str]]:
        """Return how far the work is, and why bags were refused."""
        answers = self.answers(account, slides)
        reasons = {}
        for name, item in answers.items():
            # A refusal is a short line; what is longer holds a prediction.
            if item["Size"] < 1024 and (error := error_of(read_object(account, self._address(item)))):
                reasons[name] = error
        failed = {slide: answers[slide.name]["key"] for slide in slides if slide.name in reasons}
        finished = tuple(slide for slide in slides if slide.name in answers and slide.name not in reasons)
        return WorkState(finished, failed, tuple(slide for slide in slides if slide.name not in answers)), reasons

    def requests(self, state: WorkState) -> dict[str, dict[str, Any]]:
        """Return the requests of the model and of the job."""
        jobs = self.jobs
        example = S3Slide(f"bag{self.suffix}", 1, datetime.now(UTC))
        return {
            "create_model": model_request(
                jobs.settings, name=self.model, role=jobs.role, image=jobs.image, model=f"{jobs.work}/model.tar.gz"
            ),
            "create_transform_job": transform_request(
                jobs.settings, name=f"{jobs.settings.job_name}-{datetime.now(UTC):%Y%m%d%H%M%S}", model=self.model,
                manifest=f"{jobs.work}/manifest.json", output=f"{jobs.work}/answers", suffix=self.suffix,
                bags=state.to_do or (example,),
            ),
        }  # fmt: skip

    def prepare(self, account: Any, slides: list[S3Slide], state: WorkState) -> None:
        """Upload the model and the list of the bags that are left."""
        self.jobs.require_same_work(account.client("s3"))
        path = f"{self.jobs.work}/manifest.json"
        write_object(account, path, json.dumps(manifest_of(self.jobs.slides, state.to_do), indent=1).encode())
        with tempfile.TemporaryDirectory() as folder:
            write_model_archive(self.checkpoint, Path(folder) / "model.tar.gz")
            upload(account, Path(folder) / "model.tar.gz", f"{self.jobs.work}/model.tar.gz")
        self.jobs.sign(account.client("s3"))

    def collect(self, account: Any, slides: list[S3Slide], folder: Path) -> dict[str, str]:
        """Write the tables from the answers."""
        state, _ = self.state(account, slides)
        answers, card = self.answers(account, slides), load_card(self.checkpoint)
        names = sorted(slide.name for slide in state.finished)
        bodies = ((name, read_object(account, self._address(answers[name]))) for name in names)
        write_answer_tables(folder / "tables", card, bodies, {"checkpoint": sha256_of_file(self.checkpoint)})
        for table in TABLES:
            (folder / "tables" / table).replace(folder / table)
        return {}

    def _address(self, item: Mapping[str, Any]) -> str:
        return f"{self.jobs.work}/answers/{item['key']}"


def read_object(account: Any, address: str) -> bytes:
    """Return the content of an object."""
    bucket, key = split_address(address)
    with explained(f"read {address}"):
        content: bytes = account.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


def write_object(account: Any, address: str, content: bytes) -> None:
    """Write an object."""
    bucket, key = split_address(address)
    with explained(f"write {address}"):
        account.client("s3").put_object(Bucket=bucket, Key=key, Body=content)


def download(account: Any, address: str, path: Path) -> None:
    """Download an object."""
    bucket, key = split_address(address)
    with explained(f"read {address}"):
        account.client("s3").download_file(bucket, key, str(path))
