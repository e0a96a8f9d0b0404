"""One slide image, cut into tiles as the network's slides were for training."""

from milpath.models.checkpoint import Card
from milpath.sagemaker.endpoint.bad_request import BadRequestError
from milpath.sagemaker.endpoint.request_limits import Limits
from milpath.sagemaker.endpoint.tile_bag import TileBag
from milpath.sagemaker.endpoint.uploaded_picture import SLIDE_FORMATS, read_picture
from milpath.slides.tile_selection import cut_darkest


def read_slide(data: bytes, card: Card, limits: Limits) -> TileBag:
    """Return the tiles of a slide image at the resolution that the network was trained at.

    Args:
        data: A PNG, JPEG or TIFF picture.
        card: Says how slides became tiles.
        limits: Bounds on the picture.

    Raises:
        BadRequestError: If it is no such picture, or the network's rule needs more than a picture.
    """
    # Ready-made tiles call it their rule.
    method = card.tiling.get("method", card.tiling.get("rule"))
    if method != "darkest" or card.tiling.get("overlap") or not card.tiling.get("num_tiles"):
        rule = f"the rule {method!r} {dict(card.tiling)}" if method else "no rule for slides"
        raise BadRequestError(f"this network was trained with {rule}, which an endpoint cannot repeat; send tiles", 415)
    image = read_picture(data, "the slide", SLIDE_FORMATS, limits.max_pixels)
    tiles = cut_darkest(image, int(card.tiling["tile_size"]), int(card.tiling["num_tiles"]))
    corners = tuple((int(x), int(y)) for x, y in zip(tiles.x, tiles.y, strict=True))
    return TileBag(tiles.pixels, corners=corners)
