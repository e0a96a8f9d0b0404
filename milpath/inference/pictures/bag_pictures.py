"""Pictures and annotations of predicted bags."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import resolution_of
from milpath.drawing.heatmap import draw_overlay
from milpath.drawing.montage import draw_montage
from milpath.drawing.picture_frame import colour_table
from milpath.drawing.warning_strip import with_warning
from milpath.inference.annotations.annotation_files import GEOJSON, AnnotationFiles
from milpath.inference.annotations.slide_answer import SlideAnswer, read_answers
from milpath.inference.dense_map import DenseMap, DenseMapper
from milpath.inference.pictures.class_overlays import draw_class_overlays
from milpath.inference.pictures.mask_providers import providers_of
from milpath.inference.pictures.overlays import (
    SlidePicture,
    Truth,
    draw_bag_overlay,
    known_labels,
    read_mask,
    require_opacity,
)  # fmt: skip
from milpath.inference.pictures.sharpest_bags import draw_run_extremes, read_strongest
from milpath.inference.pictures.tile_pixels import Pixels, slide_picture, tile_pixels
from milpath.inference.predict_bags import BagPrediction
from milpath.inference.prediction_files import PREDICTIONS, table_path
from milpath.inference.prediction_folder import file_name as file_name
from milpath.inference.slide_page.slide_pages import SlidePages
from milpath.inference.slides_of_bags import by_slide
from milpath.records.atomic_files import atomic_path
from milpath.records.error_text import counted
from milpath.slides.mask import MASK_LABELS
from milpath.slides.readers.open_slide import open_slide

_log = logging.getLogger(__name__)
LONGEST_SIDE = 1000
QUALITY = 90
NUM_EXTREMES = 6


class BagPictures:
    """Write pictures of the attention of a network, slide by slide.

    `pictures/<slide>_montage.jpg` shows the bag with its weights, `_overlay.jpg` attention on the slide (or on the
    assembled tiles if the slide is not available) next to the ground truth if known, `_overlay_attention_<class>.jpg` and
    `_overlay_contribution_<class>.jpg` the maps of a network that has one per class, `_dense.jpg` attention on all tissue,
    `pictures/extremes.jpg` the tiles of the run with the most and the least attention; annotations of slides are in folders
    of their own (`AnnotationFiles`). Pictures that cannot be drawn are omitted: features have images only with their slide,
    tiles without positions have no overlay.

    Args:
        store: Store of the tiles, or of their features, that is predicted. Each slide of its bags has its own pictures; the
            methods that return one take a bag of `store.slide_store`.
        output: Output folder of the prediction.
        slides: Name of a slide to its file.
        masks: Name of a slide to the file of its mask; the store then has the column `data_provider`.
        mapper: Computes the dense maps of the slides; `None` draws none.
        alpha: Opacity of the highest attention, in [0, 1].
        colour_map: One of `milpath.drawing.picture_frame.COLOUR_MAPS`.
        warning: What the training data say against themselves, in words; written below each picture and beside each tile.
        formats: Formats of the annotations that are written.
        with_pictures: Whether `draw` writes pictures, or annotations only.
        viewer_pixels: Pixels of the image of a slide on its page; `None` writes no pages.

    Raises:
        ValueError: If the opacity or the colour map is invalid, or the provider of a mask is not known.
    """

    def __init__(
        self,
        store: BagStore,
        output: Path,
        slides: Mapping[str, Path] | None = None,
        masks: Mapping[str, Path] | None = None,
        mapper: DenseMapper | None = None,
        *,
        alpha: float = 0.6,
        colour_map: str = "viridis",
        warning: str = "",
        formats: Sequence[str] = (GEOJSON,),
        with_pictures: bool = True,
        viewer_pixels: int | None = None,
    ) -> None:
        require_opacity(alpha)
        colour_table(colour_map)
        self.bags = store
        self.store = store.slide_store
        self.output = output
        self.slides = slides or {}
        self.masks = masks or {}
        self.providers = providers_of(self.store.bags, self.masks)
        self.mapper = mapper
        self.alpha = alpha
        self.colour_map = colour_map
        self.warning = warning
        self.annotations = AnnotationFiles(self.store, output, formats, colour_map, warning)
        self.with_pictures = with_pictures
        self.pages: SlidePages | None = None
        if viewer_pixels is not None:
            self.pages = SlidePages(self.store, self.slides, colour_map, warning, viewer_pixels)
        self._without_page = 0

    def draw(self, bag: BagPrediction, answer: SlideAnswer | None = None) -> None:
        """Write montage, overlay, dense map, annotations and page of each slide of a bag.

        Args:
            bag: The prediction.
            answer: What it says in words and numbers, for annotations and pages; there are no pages without it.
        """
        for of_slide in by_slide(self.bags, bag):
            name, dense = file_name(of_slide.bag_id), None
            if self.with_pictures:
                self._draw_slide(of_slide)
            if self.mapper is not None and of_slide.bag_id in self.slides:
                dense = self._map_densely(of_slide, self.mapper)
                self.annotations.write_dense(dense, of_slide, name, answer)
                if self.with_pictures:
                    self._save(self._draw_dense(of_slide, dense), f"{name}_dense")
            self.annotations.write(of_slide, name, answer)
            if self.pages is not None and answer is not None:
                self._without_page += not self.pages.write(self.output, of_slide, name, answer, dense)

    def _draw_slide(self, bag: BagPrediction) -> None:
        """Write the pictures of a slide."""
        montage = self.montage(bag)
        if montage is not None:
            self._save(montage, f"{file_name(bag.bag_id)}_montage")
        picture = self.slide_picture(bag)
        overlay = self.overlay(bag, picture)
        if overlay is not None:
            self._save(overlay, f"{file_name(bag.bag_id)}_overlay")
        for name, of_class in self.class_overlays(bag, picture).items():
            self._save(of_class, f"{file_name(bag.bag_id)}_overlay_{file_name(name)}")

    def montage(self, bag: BagPrediction) -> Image.Image | None:
        """Return the tiles of a bag with their weights; `None` for features whose slide is not at hand."""
        labels = known_labels(self.store, self.store.tile_slice(bag.position))
        if (tiles := self.pixels(bag)) is None:
            return None
        return draw_montage(
            tiles, bag.attention, title=title_of(bag), tile_labels=labels, colour_map=self.colour_map,
            limits=bag.limits.get("attention"),
        )  # fmt: skip

    def pixels(self, bag: BagPrediction) -> Pixels | None:
        """Return the tiles of a bag, those of features from their slide; `None` if that is not at hand."""
        return tile_pixels(self.store, bag.position, self.slides)

    def overlay(self, bag: BagPrediction, picture: SlidePicture | None) -> Image.Image | None:
        """Return the attention overlay of a slide; `None` if the positions of the tiles are unknown.

        Args:
            bag: The prediction.
            picture: Result of `slide_picture`.
        """
        return draw_bag_overlay(
            self.store, self.store.tile_slice(bag.position), bag.attention, title_of(bag), picture,
            truth=None if picture is None else self._truth(bag, picture), alpha=self.alpha, colour_map=self.colour_map,
            limits=bag.limits.get("attention"),
        )  # fmt: skip

    def class_overlays(self, bag: BagPrediction, picture: SlidePicture | None) -> dict[str, Image.Image]:
        """Return an overlay for each map of a network with maps per class, by name."""
        return draw_class_overlays(
            self.store, self.store.tile_slice(bag.position), bag.maps, bag.bag_id, picture,
            alpha=self.alpha, colour_map=self.colour_map, limits=bag.limits,
        )  # fmt: skip

    def draw_extremes(self, first_class: str | None) -> None:
        """Write the tiles with the most and the least attention of the run, one tile per bag.

        Args:
            first_class: Only bags predicted as another class are used; if there are none, all bags. `None` uses all.
        """
        if len(self.store.tile_shape) != 3 and not self.slides:
            return
        strongest = read_strongest(self.output, first_class, NUM_EXTREMES)
        picture = draw_run_extremes(strongest, self.bags, NUM_EXTREMES, self.slides)
        if picture is not None:
            self._save(picture, "extremes")

    def list_pages(self) -> str:
        """Write the list of the pages; return what to say about slides without one, empty if there are none."""
        if self.pages is None:
            return ""
        self.pages.write_index(self.output, self.bags, read_answers(table_path(self.output, PREDICTIONS)))
        if not self._without_page:
            return ""
        return (
            f"{counted(self._without_page, 'slide')} without a page in viewer/: the positions of the tiles are unknown"
        )

    def _map_densely(self, bag: BagPrediction, mapper: DenseMapper) -> DenseMap:
        """Return the attention on all tissue of a slide, at the resolution at which its tiles were cut."""
        microns, downsample = resolution_of(self.store, self.store.tile_slice(bag.position))
        return mapper(self.slides[bag.bag_id], None if microns is None else microns / downsample)

    def _draw_dense(self, bag: BagPrediction, found: DenseMap) -> Image.Image:
        """Return a picture of the attention on all tissue of a slide."""
        picture = self.slide_picture(bag)
        assert picture is not None
        title = f"{bag.bag_id} · all tissue, {len(found.attention):,} tiles"
        return draw_overlay(
            picture.pixels, found.attention, found.x0, found.y0, found.size0, picture.scale, title=title,
            microns_per_pixel=picture.microns_per_pixel, alpha=self.alpha, colour_map=self.colour_map, outlines=False,
        )  # fmt: skip

    def slide_picture(self, bag: BagPrediction) -> SlidePicture | None:
        """Return the thumbnail of a slide; `None` if there is no slide."""
        return slide_picture(self.store, bag.position, self.slides, LONGEST_SIDE)

    def _truth(self, bag: BagPrediction, picture: SlidePicture) -> Truth | None:
        """Return the annotation of a slide; `None` if there is no mask of it."""
        if bag.bag_id not in self.masks:
            return None
        try:
            with open_slide(self.masks[bag.bag_id]) as mask:
                values = read_mask(mask, picture.pixels.shape[1], picture.pixels.shape[0])
        except ValueError as error:
            _log.warning("%s: no truth is drawn: %s", bag.bag_id, error)
            return None
        names = MASK_LABELS[self.providers[bag.bag_id]].names
        present = {value: name for value, name in names.items() if (values == value).any()}
        return Truth(values, present or {max(names): names[max(names)]})

    def _save(self, picture: Image.Image, name: str) -> None:
        """Write a picture as JPEG, atomically."""
        folder = self.output / "pictures"
        folder.mkdir(exist_ok=True)
        # Not flushed: after a power failure the slides whose rows are missing are drawn again.
        with atomic_path(folder / f"{name}.jpg", durable=False) as partial:
            with_warning(picture, self.warning).save(partial, "JPEG", quality=QUALITY, subsampling=0)


def title_of(bag: BagPrediction) -> str:
    """Return the title of a picture of attention: the slide, and of an average how far its folds agree on the tiles.

    Example:
        >>> import numpy as np
        >>> title_of(BagPrediction(0, "slide_1", np.ones(1), np.ones(2), agreement=0.4137))
        'slide_1 · attention of folds agrees 0.41'
    """
    return bag.bag_id if bag.agreement is None else f"{bag.bag_id} · attention of folds agrees {bag.agreement:.2f}"
