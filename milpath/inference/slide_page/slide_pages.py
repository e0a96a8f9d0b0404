"""Pages of predicted slides, written slide by slide."""

import io
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import Level0Positions, level0_positions, microns_of_level0, resolution_of
from milpath.drawing.picture_frame import SIGNED_MAP, attention_limits
from milpath.inference.annotations.slide_answer import SlideAnswer
from milpath.inference.dense_map import DenseMap
from milpath.inference.pictures.class_overlays import map_in_words, map_limits
from milpath.inference.pictures.overlays import put_together
from milpath.inference.pictures.tile_pixels import tile_pixels
from milpath.inference.predict_bags import BagPrediction
from milpath.inference.prediction_folder import file_name
from milpath.inference.slide_page.attention_layer import Layer, data_uri, draw_layer
from milpath.inference.slide_page.image_pyramid import Source, array_source, pyramid_tiles, slide_source
from milpath.inference.slide_page.page_html import ASSETS, LICENCE, OPENSEADRAGON, TopTile, index_html, slide_html
from milpath.models.tile_maps import is_signed
from milpath.records.atomic_files import atomic_path, write_bytes, write_text
from milpath.slides.readers.open_slide import open_slide

VIEWER_DIR, SLIDES_DIR = "viewer", "slides"
MIN_PIXELS = 1 << 16
_NUM_TILES = 10
_THUMBNAIL = 128
# Below this many times the equal share no tile stands out.
_EVEN = 1.5
# Assembled tiles are held in memory.
_LONGEST_ASSEMBLED = 4096


def require_pixels(max_pixels: int) -> None:
    """Refuse an image of a slide that would show nothing."""
    if max_pixels < MIN_PIXELS:
        raise ValueError(f"viewer_pixels={max_pixels} must be at least {MIN_PIXELS:,}: pixels of the image of a slide")


class SlidePages:
    """Write `viewer/slides/<slide>.html` with the tiles of its pyramid beside it, and `viewer/index.html`.

    Args:
        store: Store with a bag per slide.
        slides: Name of a slide to its file; tiles are assembled for others.
        colour_map: One of `milpath.drawing.picture_frame.COLOUR_MAPS`.
        warning: What the training data say against themselves, in words.
        max_pixels: Pixels of the largest level of a pyramid.

    Raises:
        ValueError: If `max_pixels` is too small.
    """

    def __init__(
        self, store: BagStore, slides: Mapping[str, Path], colour_map: str, warning: str, max_pixels: int
    ) -> None:
        require_pixels(max_pixels)
        self.store = store
        self.slides = slides
        self.colour_map = colour_map
        self.warning = warning
        self.max_pixels = max_pixels

    def write(
        self, output: Path, bag: BagPrediction, name: str, answer: SlideAnswer, dense: DenseMap | None = None
    ) -> bool:
        """Write the page of a slide; the page itself comes last, so that one that exists is complete.

        Args:
            output: Output folder of the prediction.
            bag: The prediction of the slide.
            name: Name of its files, without an ending.
            answer: The answer for the slide.
            dense: The attention on all tissue, another layer.

        Returns:
            Whether there is a page: not of tiles without positions, nor of features whose slide is not at hand.
        """
        with self._source(bag) as found:
            if found is None:
                return False
            source, places, microns = found
            folder = output / VIEWER_DIR / SLIDES_DIR
            folder.mkdir(parents=True, exist_ok=True)
            for asset in (OPENSEADRAGON, LICENCE):
                if not (folder.parent / asset).exists():
                    write_bytes(folder.parent / asset, (ASSETS / asset).read_bytes())
            tiles = folder / f"{name}_files"
            shutil.rmtree(tiles, ignore_errors=True)
            for tile in pyramid_tiles(source):
                path = tiles / str(tile.level) / f"{tile.column}_{tile.row}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(path, durable=False) as partial:
                    partial.write_bytes(tile.jpeg)
            write_text(
                folder / f"{name}.html",
                self._html(bag, source, places, microns, answer=answer, dense=dense, folder=f"{quote(name)}_files"),
            )
        return True

    def inline(self, bag: BagPrediction) -> str | None:
        """Return the viewer of a slide as a single page without the answer; `None` where `write` writes none."""
        with self._source(bag) as found:
            if found is None:
                return None
            source, places, microns = found
            inline = {
                f"{each.level}/{each.column}_{each.row}": data_uri(each.jpeg, "jpeg") for each in pyramid_tiles(source)
            }
            return self._html(bag, source, places, microns, inline=inline)

    def write_index(self, output: Path, store: BagStore, answers: Mapping[str, SlideAnswer]) -> None:
        """Write the list of all pages.

        Args:
            output: Output folder of the prediction.
            store: The store that was predicted, of slides or of patients.
            answers: Name of a bag to its answer.
        """
        names, rows = store.slide_store.bags["bag_id"].tolist(), []
        for position, bag_id in enumerate(store.bags["bag_id"].tolist()):
            for part in store.slides_of(position) if bag_id in answers else ():
                page = f"{SLIDES_DIR}/{file_name(str(names[part.position]))}.html"
                there = (output / VIEWER_DIR / page).exists()
                rows.append(
                    {
                        "slide": str(names[part.position]), "bag": str(bag_id), "href": quote(page) if there else "",
                        "answer": answers[bag_id].in_words(),
                    }
                )  # fmt: skip
        (output / VIEWER_DIR).mkdir(exist_ok=True)
        write_text(output / VIEWER_DIR / "index.html", index_html(rows, self.warning, store.grouped))

    @contextmanager
    def _source(self, bag: BagPrediction) -> Iterator[tuple[Source, Level0Positions, float | None] | None]:
        """Yield the image of a slide, the places of the tiles in pixels of level 0, and the microns of such a pixel."""
        where = self.store.tile_slice(bag.position)
        places = level0_positions(self.store, where)
        if places is None:
            yield None
        elif bag.bag_id in self.slides:
            with open_slide(self.slides[bag.bag_id]) as slide:
                microns = microns_of_level0(self.store, where, slide.microns_per_pixel)
                yield slide_source(slide, self.max_pixels), places, microns
        elif len(self.store.tile_shape) == 3:
            downsample = places.size0 / self.store.tile_shape[0]
            side = min(_LONGEST_ASSEMBLED, int(self.max_pixels**0.5))
            pixels = np.asarray(self.store.tiles[where])
            picture, left, top = put_together(pixels, places.x0 / downsample, places.y0 / downsample, side)
            moved = Level0Positions(places.x0 - left * downsample, places.y0 - top * downsample, places.size0)
            microns = microns_of_level0(self.store, where)
            yield array_source(picture.pixels, downsample / picture.scale), moved, microns
        else:
            yield None

    def _html(
        self,
        bag: BagPrediction,
        source: Source,
        places: Level0Positions,
        microns: float | None,
        *,
        answer: SlideAnswer | None = None,
        dense: DenseMap | None = None,
        folder: str = "",
        inline: Mapping[str, str] | None = None,
    ) -> str:
        downsample = resolution_of(self.store, self.store.tile_slice(bag.position))[1]
        notes = []
        if bag.attention.max() * (bag.num_ranked or len(bag.attention)) < _EVEN:
            notes.append("The attention is almost even: no tile stands out.")
        if source.downsample > 1.01 * max(1.0, downsample):
            notes.append("The image is reduced; set viewer_pixels to a larger number for more detail.")
        return slide_html(
            bag.bag_id, source, self._layers(bag, source, places, dense), self._top_tiles(bag, places), answer=answer,
            warning=self.warning, note=" ".join(notes), folder=folder, inline=inline,
            microns_per_pixel=None if microns is None else microns * source.downsample,
        )  # fmt: skip

    def _layers(
        self, bag: BagPrediction, source: Source, places: Level0Positions, dense: DenseMap | None
    ) -> list[Layer]:
        """Return the layers: attention, the map of each class, unfamiliarity of the tiles, and the dense map."""
        size = source.width * source.downsample, source.height * source.downsample
        limits = bag.limits.get("attention") or attention_limits(bag.attention)
        share = 1 / (bag.num_ranked or len(bag.attention))
        layers = [draw_layer("Attention", bag.attention, *places, size, limits, self.colour_map, share)]
        of_maps = bag.limits if bag.limits else map_limits(bag.maps)
        for name, values in bag.maps.items():
            words, colours = map_in_words(name), SIGNED_MAP if is_signed(name) else self.colour_map
            layers.append(draw_layer(words[0].upper() + words[1:], values, *places, size, of_maps[name], colours))
        if bag.tile_unfamiliarity is not None:
            title = "Unfamiliarity, percent of validation tiles that are less so"
            layers.append(draw_layer(title, bag.tile_unfamiliarity, *places, size, (0.0, 100.0), self.colour_map))
        if dense is not None:
            title, weights = f"Attention on all tissue, {len(dense.attention):,} tiles", dense.attention
            # The dense map is counted from the corner of the plane, as the image of a slide is.
            places, limits = Level0Positions(dense.x0, dense.y0, dense.size0), attention_limits(weights)
            layers.append(draw_layer(title, weights, *places, size, limits, self.colour_map, 1 / len(weights)))
        return layers

    def _top_tiles(self, bag: BagPrediction, places: Level0Positions) -> list[TopTile]:
        """Return the tiles with the highest attention that have a position."""
        order = np.argsort(-bag.attention, kind="stable")
        chosen = order[~np.isnan(places.x0[order])][:_NUM_TILES]
        pixels = tile_pixels(self.store, bag.position, self.slides)
        images = [""] * len(chosen) if pixels is None else [_thumbnail(tile) for tile in pixels[chosen]]
        return [
            TopTile(
                int(tile),
                float(bag.attention[tile]),
                float(places.x0[tile]),
                float(places.y0[tile]),
                places.size0,
                image,
            )
            for tile, image in zip(chosen, images, strict=True)
        ]


def _thumbnail(tile: np.ndarray) -> str:
    """Return a small picture of a tile `(height, width, 3 or 1)` as a data URI."""
    picture = Image.fromarray(tile if tile.shape[2] == 3 else np.repeat(tile, 3, axis=2))
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return data_uri(file.getvalue(), "jpeg")
