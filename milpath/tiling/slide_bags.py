"""Cutting a folder of slides into one bag store, in parallel and resumable; no slide is skipped silently."""

from pathlib import Path

from milpath.data.loading.threads import num_cores
from milpath.records.digests import sha256_of_file
from milpath.slides.detection.tissue_model import TissueModel
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.kept_inputs import require_kept
from milpath.tiling.slide_job import SlideJob, pixels_of
from milpath.tiling.slide_merge import StoreContent
from milpath.tiling.slide_output import WRITTEN, require_room
from milpath.tiling.slide_parts import SlideParts
from milpath.tiling.slide_plan import SlidePlan, plan_slides, require_complete
from milpath.tiling.slide_progress import SlideProgress
from milpath.tiling.slide_run import TilingSummary, require_sensible, run_slides
from milpath.tiling.tile_rows import tile_columns
from milpath.tiling.worker_pool import cut_slides

__all__ = ["TilingSummary", "build_slide_store"]

MAX_SECONDS = 3600.0


def build_slide_store(
    slides: str | Path,
    output: str | Path,
    options: TileOptions | None = None,
    *,
    labels: str | Path | None = None,
    masks: str | Path | None = None,
    id_column: str | None = None,
    label_column: str | None = None,
    num_workers: int | None = None,
    write_png: bool = False,
    on_error: str = "fail",
    overwrite: bool = False,
    shard: str | None = None,
    max_seconds: float | None = MAX_SECONDS,
    resolutions: str | Path | None = None,
    mixed_resolution: str = "error",
) -> TilingSummary:
    """Cut slides into a bag store.

    Every slide is tried. Each finished slide is saved: an interrupted run continues, and several machines may each do a
    shard in the same output folder; the one that finishes the last slide merges the store.

    Args:
        slides: Folder of slides, or one slide.
        output: Folder of the store.
        options: How slides are cut into tiles; `None` uses the rule of the PANDA tile set.
        labels: Table with one row per slide (CSV, `.xlsx` or `.parquet`); its columns are copied into `bags.csv`.
        masks: Folder of PANDA masks; the tile labels derived from them are written to `tiles.csv`.
        id_column: Column of the table that names the slides; `None` takes `slide_id` or one of its other names.
        label_column: Column of the table in which every slide must have a cell; `None` checks none.
        num_workers: Number of processes; `None` for one per core.
        write_png: Also write `png/{slide}_{i}.png`, the layout of the published tile set.
        on_error: "fail" writes no store if a slide failed, "skip" omits the slide.
        overwrite: Delete a store or unfinished work in `output` first.
        shard: `i/n` does every n-th slide; the path of a text file does the slides that it names, one a line.
        max_seconds: A slide that takes longer fails; `None` is no limit.
        resolutions: Table of slides with the column `microns_per_pixel` of level 0, which counts instead of that of the
            file; `None` takes this column of `labels`, if it has one.
        mixed_resolution: "error" writes no store of tiles that differ in resolution by more than a factor of 1.25, "allow"
            does.

    Raises:
        FileNotFoundError: If the slides, the table or the masks do not exist.
        FileExistsError: If the output contains another store.
        ValueError: If options, table, slides and masks do not fit together, or the disk is full.
    """
    options, output = options or TileOptions(), Path(output)
    require_sensible(on_error, num_workers, overwrite, shard, max_seconds)
    inputs = {"slides": slides, "labels": labels, "masks": masks, "resolutions": resolutions}
    require_kept(output, WRITTEN, inputs | {"tissue_model": options.tissue_model})
    if options.tissue_model is not None:
        TissueModel(options.tissue_model)  # a file that cannot be used is refused before the first slide
    plan = plan_slides(
        Path(slides), _path(labels), _path(masks), output,
        id_column=id_column, label_column=label_column, resolutions=_path(resolutions),
    )  # fmt: skip
    if on_error == "fail":
        require_complete(plan)
    content = StoreContent(
        pixels_of(options.tile_size),
        tile_columns(options.method, masks=masks is not None),
        {
            "tiling": options.to_tiling(),
            "masks": masks is not None,
            "labels": None if labels is None else sha256_of_file(Path(labels)),
            "write_png": write_png,
            **({"id_column": id_column} if id_column else {}),
            **({"resolutions": sha256_of_file(Path(resolutions))} if resolutions else {}),
        },
    )

    def work(names: list[str], parts: SlideParts) -> SlideProgress:
        require_room(output, options, len(names))
        return _cut(plan, parts, output, options, names, num_workers or num_cores(), write_png, max_seconds)

    return run_slides(
        plan, output, content, work,
        on_error=on_error, overwrite=overwrite, shard=shard, mixed_resolution=mixed_resolution,
    )  # fmt: skip


def _cut(
    plan: SlidePlan,
    parts: SlideParts,
    output: Path,
    options: TileOptions,
    names: list[str],
    num_workers: int,
    write_png: bool,
    max_seconds: float | None,
) -> SlideProgress:
    """Cut slides and record the result of each."""
    png_dir = output / "png"
    if write_png:
        png_dir.mkdir(exist_ok=True)
    jobs = (
        SlideJob(
            name, str(plan.files[name]), str(parts.part(name)), str(png_dir) if write_png else None,
            str(plan.masks[name]) if plan.masks and name in plan.masks else None, plan.provider(name),
            plan.options_of(name, options),
        )
        for name in names
    )  # fmt: skip
    with SlideProgress(len(names), "slides cut") as progress:
        for answer in cut_slides(jobs, min(num_workers, max(1, len(names))), max_seconds):
            if answer.error is None:
                parts.succeed(answer.job.bag_id)
            else:
                parts.fail(answer.job.bag_id, " ".join(answer.error.split()))
            progress.advance(failed=answer.error is not None, peak_memory=answer.peak_memory)
    return progress


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
