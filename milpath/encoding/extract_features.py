"""Features of slides or tiles into a feature store, in parallel and resumable."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from milpath.data.loading.threads import num_cores
from milpath.data.sources.loose_tiles import holds_tiles
from milpath.data.store.bag_store import BagStore
from milpath.encoding.batch_encoder import BatchEncoder, describe_encoder, require_batches
from milpath.encoding.feature_layouts import require_formats, write_layouts
from milpath.encoding.feature_parts import FeatureParts
from milpath.encoding.slide_stream import SlideStream
from milpath.encoding.stored_tiles import StoredTiles, TileImages
from milpath.encoding.tile_events import TileEvent
from milpath.models.devices import choose_device
from milpath.models.encoders.trained_encoder import stains_of
from milpath.models.stains import unchanged_note
from milpath.records.digests import sha256_of_file
from milpath.records.tile_resolution import SAME_RESOLUTION
from milpath.slides.tile_files import open_tile_files
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.kept_inputs import require_kept
from milpath.tiling.slide_bags import MAX_SECONDS
from milpath.tiling.slide_job import SlideJob, TileForm
from milpath.tiling.slide_merge import StoreContent, StorePlan
from milpath.tiling.slide_output import WRITTEN, disk_errors
from milpath.tiling.slide_parts import SlideParts
from milpath.tiling.slide_plan import SlidePlan, plan_slides, require_complete, require_tables
from milpath.tiling.slide_progress import SlideProgress
from milpath.tiling.slide_run import TilingSummary, require_sensible, run_slides
from milpath.tiling.tile_rows import tile_columns

Stream = Callable[[Sequence[str], SlideParts], Iterator[TileEvent]]


def extract_features(
    slides: str | Path,
    output: str | Path,
    encoder: nn.Module,
    card: Mapping[str, Any],
    options: TileOptions | None = None,
    *,
    labels: str | Path | None = None,
    id_column: str | None = None,
    label_column: str | None = None,
    formats: Sequence[str] = ("store",),
    precision: str | None = None,
    dtype: str = "float16",
    device: str = "auto",
    batch_size: int | None = None,
    num_workers: int | None = None,
    on_error: str = "fail",
    overwrite: bool = False,
    shard: str | None = None,
    max_seconds: float | None = MAX_SECONDS,
    resolutions: str | Path | None = None,
    mixed_resolution: str = "error",
) -> TilingSummary:
    """Encode the tiles of slides, which are cut on the way and never written, or tiles that exist.

    Memory holds a few batches, for any size and number of slides. Each finished slide is saved: an interrupted run
    continues and ends with the same bytes on the same machine, and several processes may each do a shard in the same
    output folder; the one that finishes the last slide merges the store.

    Args:
        slides: A slide or a folder of slides; a bag store of tiles; a folder or zip of tiles `{slide}_{i}.png`.
        output: Folder of the store.
        encoder: Maps tiles `(tiles, 3, height, width)` in [0, 1] to `(tiles, embedding_dim)`; in evaluation mode. Its
            preprocessing is part of it.
        card: Its card, in plain values: at least `name` and `embedding_dim`; `weights_sha256` tells its weights from
            others.
        options: How slides are cut; `None` takes all tiles with tissue, with size and resolution of the card.
        labels: Table with one row per slide; its columns are copied into `bags.csv`. Only for slides.
        id_column: Column of the table that names the slides; `None` takes `slide_id` or one of its other names.
        label_column: Column of the table in which every slide must have a cell; `None` checks none.
        formats: "store", and "h5" (TRIDENT, CLAM) or "stamp" for one more file per slide.
        precision: "32-true", "16-mixed" or "bf16-mixed"; `None` takes that of the card on a GPU and 32-true on a CPU.
        dtype: Type of the features in the store: "float16" or "float32".
        device: "auto", "cpu", "cuda", "cuda:1", ...
        batch_size: Tiles of a batch; `None` is 16 on a CPU and 256 on a GPU.
        num_workers: Processes that read slides; `None` for one on a CPU, whose cores the encoder needs, and one per core
            beside a GPU.
        on_error: "fail" writes no store if a slide failed, "skip" omits the slide.
        overwrite: Delete a store or unfinished work in `output` first.
        shard: `i/n` does every n-th slide; the path of a text file does the slides that it names, one a line.
        max_seconds: A slide that gives no tile for this long fails; `None` is no limit.
        resolutions: Table of slides with the column `microns_per_pixel` of level 0 (see `build_slide_store`).
        mixed_resolution: "error" refuses tiles that differ in resolution by more than a factor of 1.25, "allow" does not.

    Raises:
        FileNotFoundError: If the slides or the table do not exist.
        FileExistsError: If the output contains another store.
        ValueError: If options, slides and encoder do not fit together, or the disk is full.
    """
    slides, output = Path(slides), Path(output)
    labels, resolutions = (None if path is None else Path(path) for path in (labels, resolutions))
    require_tables(labels, resolutions, id_column, label_column)
    require_sensible(on_error, num_workers, overwrite, shard, max_seconds)
    require_formats(formats)
    require_kept(output, WRITTEN, {"slides": slides, "labels": labels, "resolutions": resolutions})
    stains = stains_of(encoder)
    if (stains is None) != (card.get("stain_normalisation", "none") == "none"):
        raise ValueError(
            f"the card of the encoder {card['name']} and the encoder differ in whether stains are normalised"
        )
    if stains is not None:
        stains.count_anew()  # an app keeps its encoder
    chosen = choose_device(device)
    precision = precision or (str(card.get("precision", "32-true")) if chosen.type != "cpu" else "32-true")
    workers = num_workers or (1 if chosen.type == "cpu" else num_cores())

    def plan_of_slides() -> SlidePlan:
        return plan_slides(
            slides, labels, None, output, id_column=id_column, label_column=label_column, resolutions=resolutions
        )

    with _tiles_of(slides, options, card, labels, resolutions, plan_of_slides, workers, max_seconds) as (
        plan,
        kind,
        stream,
    ):
        if on_error == "fail":
            require_complete(plan)
        _require_tile_size(card, kind.tile_size)
        require_batches(kind.tile_size, precision, batch_size, dtype)
        form = TileForm((int(card["embedding_dim"]),), "<f2" if dtype == "float16" else "<f4")
        described = describe_encoder(card, precision)
        content = StoreContent(
            form, kind.columns, kind.description | {"encoder": described, "dtype": dtype},
            {"encoder": described, **kind.warnings}, sheets=kind.sheets, source="extracted features",
        )  # fmt: skip

        def work(names: list[str], parts: SlideParts) -> SlideProgress:
            with SlideProgress(len(names), "slides encoded") as progress:
                if names:
                    batches = BatchEncoder(encoder, kind.tile_size, chosen, precision, batch_size, dtype)
                    FeatureParts(batches, form, parts, progress).write(stream(names, parts))
            return progress

        summary = run_slides(
            plan, output, content, work,
            on_error=on_error, overwrite=overwrite, shard=shard, mixed_resolution=mixed_resolution,
        )  # fmt: skip
    if (note := unchanged_note(encoder)) is not None:
        summary = replace(summary, notes=(*summary.notes, note))
    if summary.has_store:
        store = BagStore.open(output, verify=False)
        with disk_errors(output):
            write_layouts(store, output, formats)
        if (note := resolution_note(card, store.description.get("microns_per_pixel"))) is not None:
            summary = replace(summary, notes=(*summary.notes, note))
    return summary


def tile_options(card: Mapping[str, Any], **words: Any) -> TileOptions:
    """Return how slides are cut for an encoder: size and resolution are those it was trained with, unless given.

    Args:
        card: The card of the encoder.
        words: Options of `TileOptions`; `None` for those of the encoder. `level` is `None` unless a level is wanted.

    Raises:
        ValueError: If neither the card nor the options say a resolution.
    """
    given = {name: value for name, value in words.items() if value is not None}
    given = {"method": "tissue", "num_tiles": words.get("num_tiles"), "tile_size": card.get("tile_size")} | given
    if given["tile_size"] is None:
        raise ValueError(f"the encoder {card['name']} does not say its tile size; set tile_size=PIXELS")
    if "level" not in given and "microns_per_pixel" not in given:
        if card.get("microns_per_pixel") is None:
            raise ValueError(
                f"the encoder {card['name']} was not trained on slides and has no resolution of its own; set "
                "microns_per_pixel=NUMBER (0.5 is common), or level=INDEX"
            )
        given["microns_per_pixel"] = card["microns_per_pixel"]
    return TileOptions(**given)


def holds_cut_tiles(slides: Path, tile_size: int | None) -> bool:
    """Return whether a path holds tiles that were already cut: a bag store, or a folder or zip of tiles.

    Args:
        slides: A file or a folder.
        tile_size: Size of the encoder's tiles: images of this size are tiles even if some are missing.
    """
    return slides.exists() and ((slides / "store.json").is_file() or holds_tiles(slides, tile_size))


class _Kind:
    """What the tiles are and how they were cut."""

    def __init__(
        self, tile_size: int, columns: tuple[str, ...], description: dict[str, Any], *, sheets: bool, warning: str = ""
    ) -> None:
        self.tile_size = tile_size
        self.columns = columns
        self.description = description
        self.sheets = sheets
        self.warnings = {"warning": warning} if warning else {}


@contextmanager
def _tiles_of(
    slides: Path,
    options: TileOptions | None,
    card: Mapping[str, Any],
    labels: Path | None,
    resolutions: Path | None,
    plan_of_slides: Callable[[], SlidePlan],
    num_workers: int,
    max_seconds: float | None,
) -> Iterator[tuple[StorePlan, _Kind, Stream]]:
    """Open slides or tiles; yield the bags, what the tiles are, and the function that streams them."""
    sampled = card.get("stain_normalisation", "none") != "none"
    with ExitStack() as opened:
        tiles: StoredTiles | TileImages
        if (slides / "store.json").is_file():
            tiles = StoredTiles(BagStore.open(slides))
        elif holds_cut_tiles(slides, card.get("tile_size")):
            tiles = TileImages(opened.enter_context(open_tile_files(slides)), slides)
        else:
            plan = plan_of_slides()
            options = options or tile_options(card)
            digest = None if labels is None else sha256_of_file(labels)
            kind = _Kind(
                options.tile_size, tile_columns(options.method, masks=False),
                {
                    "tiling": options.to_tiling(), "labels": digest,
                    **({} if resolutions is None else {"resolutions": sha256_of_file(resolutions)}),
                }, sheets=True,
            )  # fmt: skip
            yield plan, kind, lambda names, parts: _cut(plan, options, names, parts, num_workers, max_seconds, sampled)
            return
        if labels is not None:
            train = f"train with data=panda_tiles data.tiles={slides}, or extract from its store"
            said = train if isinstance(tiles, TileImages) else f"the labels of {slides} are those it has"
            raise ValueError(f"labels={labels} is only for whole slides; {said}")
        if resolutions is not None:
            raise ValueError(f"resolutions={resolutions} is only for whole slides; {slides} holds tiles")
        described = {"tiling": tiles.tiling, **tiles.identity}
        kind = _Kind(tiles.tile_size, tiles.columns, described, sheets=False, warning=tiles.warning)
        yield tiles, kind, lambda names, _: tiles.stream(names, sampled)


def _cut(
    plan: SlidePlan,
    options: TileOptions,
    names: Sequence[str],
    parts: SlideParts,
    num_workers: int,
    max_seconds: float | None,
    sampled: bool,
) -> Iterator[TileEvent]:
    """Yield the tiles of slides, cut by worker processes."""
    jobs = (
        SlideJob(
            name, str(plan.files[name]), str(parts.part(name)), None, None, None, plan.options_of(name, options),
            sampled,
        )
        for name in names
    )  # fmt: skip
    with SlideStream(jobs, min(num_workers, len(names)), max_seconds) as stream:
        yield from stream


def resolution_note(card: Mapping[str, Any], microns_per_pixel: float | None) -> str | None:
    """Return a line if tiles have another resolution than the encoder was trained at; `None` if they fit.

    Example:
        >>> resolution_note({"name": "uni2_h", "microns_per_pixel": 0.5}, 2.0)
        'the tiles have 2 microns per pixel; the encoder uni2_h was trained at 0.5'
    """
    trained = card.get("microns_per_pixel")
    if trained is None or microns_per_pixel is None:
        return None
    if max(trained, microns_per_pixel) <= SAME_RESOLUTION * min(trained, microns_per_pixel):
        return None
    return (
        f"the tiles have {microns_per_pixel:g} microns per pixel; the encoder {card['name']} was trained at {trained:g}"
    )


def _require_tile_size(card: Mapping[str, Any], tile_size: int) -> None:
    """Refuse tiles that the encoder does not take, before any work."""
    wanted = card.get("tile_size")
    if card.get("other_tile_sizes") == "refuse" and wanted is not None and wanted != tile_size:
        raise ValueError(
            f"the encoder {card['name']} takes tiles of {wanted} px, not {tile_size} px; set tile_size={wanted}"
        )
