"""The program of a Processing job: `tile`, `extract` or `predict` on the slides that this instance was given.

The slides of other instances, and those that are finished, stand in the folder as empty files of the right size, so that
every instance sees the same slides, tables and options as one machine with all of them. A job of one instance also has the
results of earlier jobs, and writes the store.
"""

import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from milpath.config.command import one_line
from milpath.config.command_line import override
from milpath.config.interruption import interruptible
from milpath.records.error_text import counted
from milpath.sagemaker.jobs.source_archive import JOB_FILE
from milpath.sagemaker.jobs.training_job import compose_words
from milpath.sagemaker.processing.processing_request import (
    CHUNKS,
    CODE_DIR,
    EARLIER_DIR,
    LISTING_FILE,
    OUTPUT,
    ROOT,
    SLIDES_DIR,
    WORK,
)
from milpath.sagemaker.processing.slide_listing import FAILED_SUFFIX
from milpath.tiling.slide_job import RECORD_SUFFIX, TILES_SUFFIX, SlideRecord
from milpath.tiling.slide_parts import SlideParts
from milpath.tiling.slide_run import TilingSummary, require_complete_store

_MAX_FAILURE = 1000
_log = logging.getLogger(__name__)


def start(words: Sequence[str], command: str, phase: str, root: Path, host: str = "") -> None:
    """Do the slides that are here.

    Args:
        words: Overrides of the command.
        command: `tile`, `extract` or `predict`.
        phase: As in `cut_slides`.
        root: `/opt/ml/processing`.
        host: Name of the instance, for its log.
    """
    if command != "predict":
        cut_slides(words, command, phase, root, host)
        return
    from milpath.sagemaker.scoring.predict_chunks import predict_slides

    arrived = _local(root, SLIDES_DIR)
    here = [(item["name"], Path(item["path"])) for item in _listing(root) if (arrived / item["path"]).is_file()]
    sys.stdout.write(f"{host}: {counted(len(here), 'slide')} to predict\n".removeprefix(": "))
    predict_slides(words, here, arrived, root / WORK, root / CHUNKS)


def cut_slides(words: Sequence[str], command: str, phase: str, root: Path, host: str = "") -> TilingSummary:
    """Do the slides that are here, and in the phase "whole" merge them with all that were done before.

    Args:
        words: Overrides of the command.
        command: `tile` or `extract`.
        phase: "cut" for one of several instances, "whole" for the only one.
        root: `/opt/ml/processing`.
        host: Name of the instance, for its log.

    Raises:
        ValueError: If a slide is neither here nor finished, or in the phase "whole" a slide failed that is not to be left
            out.
    """
    work, output = root / WORK, root / OUTPUT
    store = work / "store"
    store.mkdir(parents=True, exist_ok=True)
    listing = _listing(root)
    earlier = _local(root, EARLIER_DIR)
    if phase == "whole":
        _take_earlier(listing, earlier, SlideParts(store), work)
    here = _lay_out_slides(listing, _local(root, SLIDES_DIR), work / "slides", SlideParts(store))
    names = work / "names.txt"
    names.write_text("".join(f"{name}\n" for name in here), encoding="utf-8")
    sys.stdout.write(f"{host}: {counted(len(here), 'slide')} of {len(listing):,}\n".removeprefix(": "))
    # A slide that cannot be read must not stop the other instances.
    leave_out = ["on_error=skip"] if phase == "cut" else []
    own = [override("slides", work / "slides"), override("output", store), override("shard", names), *leave_out]
    config = compose_words(command, [*words, *own])
    module = import_module(f"milpath.{command}")
    summary: TilingSummary = module.run(config)
    sys.stdout.write(module.describe(summary, str(store)))
    if phase == "cut":
        # Slides that the plan refuses have no file that says so.
        parts, refused = SlideParts(store), summary.failures.keys() & set(here)
        for name in refused - parts.failures(refused).keys():
            parts.fail(name, summary.failures[name])
    if phase == "whole":
        require_complete_store(summary, str(store), config.on_error)
        if not summary.has_store:
            raise ValueError(
                f"{counted(summary.num_unfinished, 'slide')} of {len(listing):,} are neither finished nor in this job; run "
                "the same milpath sagemaker process again"
            )
        output.mkdir(parents=True, exist_ok=True)
        for path in store.iterdir():
            if path.name != "parts":
                shutil.move(path, output / path.name)
    return summary


def _listing(root: Path) -> list[dict[str, Any]]:
    """Return all slides of the work, with their state when the job was submitted."""
    found: list[dict[str, Any]] = json.loads((_local(root, CODE_DIR) / LISTING_FILE).read_text(encoding="utf-8"))
    return found


def _local(root: Path, folder: str) -> Path:
    """Return a folder of the container below another root."""
    return root / Path(folder).relative_to(ROOT)


def _take_earlier(listing: Sequence[Mapping[str, Any]], earlier: Path, parts: SlideParts, work: Path) -> None:
    """Link the results of earlier jobs into the folder of unfinished work; the store is merged outside of it."""
    parts.path.mkdir(parents=True, exist_ok=True)
    merging = work / "merging"
    merging.mkdir(exist_ok=True)
    parts.store_dir.unlink(missing_ok=True)
    parts.store_dir.symlink_to(merging)
    if (plan := earlier / "plan.json").is_file():
        shutil.copyfile(plan, parts.path / plan.name)
    for slide in listing:
        suffixes = {"finished": (RECORD_SUFFIX, TILES_SUFFIX), "failed": (FAILED_SUFFIX,)}.get(slide["state"], ())
        for suffix in suffixes:
            own = parts.part(slide["name"], suffix)
            if not own.exists():
                own.symlink_to(earlier / own.name)


def _lay_out_slides(listing: Sequence[Mapping[str, Any]], arrived: Path, slides: Path, parts: SlideParts) -> list[str]:
    """Link the slides that arrived, and stand in for all others with empty files; return the names of those that arrived.

    Raises:
        ValueError: If files arrived of which the listing knows none.
    """
    here = []
    for slide in listing:
        path, source = slides / slide["path"], arrived / slide["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if source.is_file():
            path.symlink_to(source)
            here.append(slide["name"])
            continue
        path.touch()
        os.truncate(path, slide["size"])
        if (record := SlideRecord.read(parts.part(slide["name"], RECORD_SUFFIX))) is not None:
            os.truncate(path, record.file_size)
            os.utime(path, ns=(record.file_time, record.file_time))
    if not here and (stranger := next((path for path in arrived.rglob("*") if path.is_file()), None)):
        raise ValueError(
            f"{stranger} is none of the {len(listing):,} slides of the job; expected {slides.name}/PATH as in S3"
        )
    return here


def main(code_dir: Path) -> None:
    """Run the job; an error is written to the file that SageMaker shows as the exit message."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
    job = json.loads((code_dir / JOB_FILE).read_text(encoding="utf-8"))
    root = Path(os.environ.get("MILPATH_PROCESSING_DIR", ROOT))
    with interruptible("finished slides are in S3; the next job continues"):
        try:
            start(job["overrides"], os.environ["MILPATH_COMMAND"], os.environ["MILPATH_PHASE"], root, _host(root))
        except Exception as error:
            message = root.parent / "output" / "message"
            with suppress(OSError):
                message.parent.mkdir(parents=True, exist_ok=True)
                message.write_text(one_line(error)[:_MAX_FAILURE], encoding="utf-8")
            raise


def _host(root: Path) -> str:
    """Return the name of this instance and the number of all, from the file that the service writes."""
    path = root.parent / "config" / "resourceconfig.json"
    try:
        resources = json.loads(path.read_text(encoding="utf-8"))
        return f"{resources['current_host']} of {len(resources['hosts'])}"
    except (OSError, ValueError, KeyError):
        _log.warning("%s does not say which instance this is", path)
        return ""
