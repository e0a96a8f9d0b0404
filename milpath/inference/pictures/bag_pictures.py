"""Pictures and GeoJSON outlines of predicted bags."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import torch
from omegaconf import DictConfig
from PIL import Image
from torch.nn import Module

from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import bounds_offset, level0_positions, resolution_of
from milpath.drawing.heatmap import draw_overlay
from milpath.drawing.montage import draw_montage
from milpath.drawing.picture_frame import colour_table
from milpath.drawing.warning_strip import with_warning
from milpath.inference.dense_map import DenseMapper
from milpath.inference.geojson import tiles_to_geojson, write_geojson
from milpath.inference.pictures.class_overlays import draw_class_overlays
from milpath.inference.pictures.overlays import SlidePicture, Truth, draw_bag_overlay, known_labels, read_mask
from milpath.inference.pictures.sharpest_bags import draw_run_extremes, read_strongest
from milpath.inference.pictures.tile_pixels import Pixels, slide_paths, slide_picture, tile_pixels
from milpath.inference.predict_bags import BagPrediction
from milpath.inference.slides_of_bags import by_slide
from milpath.models.card import Card
from milpath.records.atomic_files import atomic_path
from milpath.records.data_warning import warning_in_words
from milpath.records.digests import sha256_of_text
from milpath.slides.mask import MASK_LABELS
from milpath.slides.readers.open_slide import open_slide
from milpath.slides.slide_files import find_masks
from milpath.slides.tiling_options import TileOptions

LONGEST_SIDE = 1000
QUALITY = 90
NUM_EXTREMES = 6
_LONGEST_NAME = 150


class BagPictures:
    """Write pictures of the attention of a network, slide by slide.

    `pictures/<slide>_montage.jpg` shows the bag with its weights, `_overlay.jpg` attention on the slide (or on the
    assembled tiles if the slide is not available) next to the ground truth if known, `_overlay_attention_<class>.jpg` and
    `_overlay_contribution_<class>.jpg` the maps of a network that has one per class, `_dense.jpg` attention on all tissue,
    `pictures/extremes.jpg` the tiles of the run with the most and the least attention; `geojson/<slide>.geojson` contains
    outlines for QuPath. Pictures that cannot be drawn are omitted: features have images only with their slide, tiles without
    positions have no overlay.

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

    Raises:
        ValueError: If the opacity or the colour map is invalid.
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
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha} must be in [0, 1]: the opacity of the highest attention")
        colour_table(colour_map)
        self.bags = store
        self.store = store.slide_store
        self.output = output
        self.slides = slides or {}
        self.masks = masks or {}
        self.mapper = mapper
        self.alpha = alpha
        self.colour_map = colour_map
        self.warning = warning

    def draw(self, bag: BagPrediction) -> None:
        """Write montage, overlay, dense map and outlines of each slide of a bag."""
        for of_slide in by_slide(self.bags, bag):
            self._draw_slide(of_slide)

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
        if self.mapper is not None and bag.bag_id in self.slides:
            self._save(self._dense(bag, self.mapper), f"{file_name(bag.bag_id)}_dense")
        self._write_outlines(bag)

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

    def _dense(self, bag: BagPrediction, mapper: DenseMapper) -> Image.Image:
        """Return a picture of the attention on all tissue of a slide."""
        microns, downsample = resolution_of(self.store, self.store.tile_slice(bag.position))
        of_slide = None if microns is None else microns / downsample
        picture, found = self.slide_picture(bag), mapper(self.slides[bag.bag_id], of_slide)
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
        """Return the annotation of a slide; `None` if there is no mask."""
        if bag.bag_id not in self.masks:
            return None
        provider = str(self.store.bags["data_provider"].iloc[bag.position]).strip().lower()
        with open_slide(self.masks[bag.bag_id]) as mask:
            values = read_mask(mask, picture.pixels.shape[1], picture.pixels.shape[0])
        names = MASK_LABELS[provider].names
        present = {value: name for value, name in names.items() if (values == value).any()}
        return Truth(values, present or {max(names): names[max(names)]})

    def _write_outlines(self, bag: BagPrediction) -> None:
        """Write the outlines of the tiles where QuPath shows them: it crops a slide to its scanned area."""
        where = self.store.tile_slice(bag.position)
        if (places := level0_positions(self.store, where)) is None:
            return
        folder = self.output / "geojson"
        folder.mkdir(exist_ok=True)
        left, top = bounds_offset(self.store, where)
        collection = tiles_to_geojson(
            bag.attention, places.x0 - left, places.y0 - top, places.size0, measurements=bag.maps, warning=self.warning,
            limits=bag.limits.get("attention"),
        )  # fmt: skip
        write_geojson(collection, folder / f"{file_name(bag.bag_id)}.geojson")

    def _save(self, picture: Image.Image, name: str) -> None:
        """Write a picture as JPEG, atomically."""
        folder = self.output / "pictures"
        folder.mkdir(exist_ok=True)
        # Not flushed: after a power failure the slides whose rows are missing are drawn again.
        with atomic_path(folder / f"{name}.jpg", durable=False) as partial:
            with_warning(picture, self.warning).save(partial, "JPEG", quality=QUALITY, subsampling=0)


def open_pictures(
    config: DictConfig, store: BagStore, network: Module, card: Card, device: str | torch.device
) -> BagPictures:
    """Return the writer of pictures; refuse options that these slides do not support before any work is done.

    Args:
        config: Root of the `predict` command.
        store: The bags that are predicted.
        network: A network in evaluation mode.
        card: Its card.
        device: Device of the network.

    Raises:
        ValueError: If an option needs whole slides, but there are only tiles.
    """
    slides = slide_paths(store, Path(config.slides_dir or config.slides))
    if config.slides_dir is not None and not slides:
        raise ValueError(f"slides_dir={config.slides_dir} holds none of the slides of {config.slides}; leave it out")
    for name in ("masks", "dense"):
        if config[name] is not None and not slides:
            raise ValueError(
                f"{name}={config[name]} needs whole slides, but {config.slides} contains tiles; leave it out"
            )
    mapper = None
    if config.dense is not None and len(store.tile_shape) != 3:
        raise ValueError(f"dense={config.dense} needs a network of tiles, but this one takes features; set dense=null")
    if config.dense is not None:
        mapper = DenseMapper(network, TileOptions.from_tiling(card.tiling), config.dense, device)
    masks = find_masks(Path(config.masks)) if config.masks else {}
    look = {"alpha": config.alpha, "colour_map": config.colour_map, "warning": warning_in_words(card.warning)}
    return BagPictures(store, Path(config.output), slides, masks, mapper, **look)


def title_of(bag: BagPrediction) -> str:
    """Return the title of a picture of attention: the slide, and of an average how far its folds agree on the tiles.

    Example:
        >>> import numpy as np
        >>> title_of(BagPrediction(0, "slide_1", np.ones(1), np.ones(2), agreement=0.4137))
        'slide_1 · attention of folds agrees 0.41'
    """
    return bag.bag_id if bag.agreement is None else f"{bag.bag_id} · attention of folds agrees {bag.agreement:.2f}"


def file_name(bag_id: str) -> str:
    """Return a file name for a slide of any name that is valid and stays in its folder.

    Example:
        >>> file_name("../<script>"), file_name("slide_1")
        ('%2E%2E%2F%3Cscript%3E', 'slide_1')
    """
    name = quote(bag_id, safe=" ")
    name = name.replace(".", "%2E") if name.startswith(".") else name
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{sha256_of_text(bag_id)[:16]}"
    return name
