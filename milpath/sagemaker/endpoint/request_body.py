"""Parsing of request bodies into bags."""

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from milpath.models.checkpoint import Card
from milpath.records.tile_resolution import describe_range, differs, trained_range
from milpath.sagemaker.endpoint.input_spec import InputSpec, TileBag
from milpath.sagemaker.endpoint.npy_body import read_npy
from milpath.sagemaker.endpoint.picture_body import read_slide, read_tile, read_zip
from milpath.sagemaker.endpoint.request_limits import DESCRIBE, BadRequestError, Limits

NPY, ZIP, JSON = "application/x-npy", "application/zip", "application/json"
PICTURES = ("image/png", "image/jpeg", "image/tiff")
CONTENT_TYPES = (NPY, ZIP, JSON, *PICTURES)
_JSON_KEYS = "npy, tiles, slide, s3_uri or bags"


@dataclass(frozen=True)
class BodyReader:
    """Parse request bodies for one network.

    Args:
        spec: The bags that the network accepts.
        card: The card, with the tiling options.
        limits: Limits of requests.
        encoded: Tiles that the packaged encoder of a network of features accepts; `None` without one.
    """

    spec: InputSpec
    card: Card
    limits: Limits
    encoded: InputSpec | None = None

    def read(self, body: bytes, content_type: str) -> list[TileBag]:
        """Return the bags of a body; none of `DESCRIBE`, which asks for the card of the network.

        Args:
            body: The body of the request.
            content_type: One of `CONTENT_TYPES`; of the parameters after `;` only `microns_per_pixel=NUMBER` counts: the
                resolution of the tiles, as the key of this name in JSON.

        Raises:
            BadRequestError: With a one-line message and the status of the error.
        """
        if len(body) > self.limits.max_body_bytes:
            raise BadRequestError(
                f"the body has {len(body)} bytes; at most {self.limits.max_body_bytes} are allowed: send an s3_uri", 413
            )
        bags = self._read(body, content_type, references=True)
        stated = stated_resolution(content_type)
        return [self._placed(bag if stated is None else bag._replace(microns_per_pixel=stated)) for bag in bags]

    def _placed(self, bag: TileBag) -> TileBag:
        """Refuse a bag that states another resolution than that of the training."""
        trained, microns = trained_range(self.card.tiling), bag.microns_per_pixel
        if microns is not None and trained is not None and differs(microns, trained):
            raise BadRequestError(
                f"the tiles have {microns:g} microns per pixel; the network was trained at {describe_range(*trained)}: "
                "send tiles of that resolution"
            )
        return bag

    def _read(self, body: bytes, content_type: str, references: bool) -> list[TileBag]:
        """Return the bags of a body of any size."""
        kind = content_type.partition(";")[0].strip().lower()
        if kind not in CONTENT_TYPES:
            raise BadRequestError(
                f"the content type {kind[:80]!r} is not supported; send {', '.join(CONTENT_TYPES)}", status=415
            )
        if not body:
            raise BadRequestError(f"the body is empty; send {kind}")
        if kind == NPY:
            return self._bags(read_npy(body))
        if kind == ZIP:
            return self._checked([read_zip(body, self._pictures(), self._of_pictures.channels)])
        if kind in PICTURES:
            return self._checked([self._slide(body)])
        return self._checked(self._read_json(_parse(body), references))

    def _read_json(self, content: object, references: bool) -> list[TileBag]:
        """Return the bags of a JSON body."""
        if not isinstance(content, dict):
            raise BadRequestError(f"the JSON body must be an object with {_JSON_KEYS}")
        if content == DESCRIBE:
            return []
        if "bags" in content:
            entries = content["bags"]
            if not isinstance(entries, list) or not entries:
                raise BadRequestError("bags must be a list of at least one object with npy, tiles or slide")
            if any(isinstance(entry, dict) and ("bags" in entry or "s3_uri" in entry) for entry in entries):
                raise BadRequestError("an entry of bags must have npy, tiles or slide, and cannot be nested")
            found: list[TileBag] = []
            for entry in entries:
                # One by one: each may unpack to as much as a request may have.
                found += self._checked(self._read_json(entry, references=False))
                self.spec.bound(found, self.limits)
            return found
        bags = self._read_entry(content, references)
        if "microns_per_pixel" not in content:
            return bags
        stated = _resolution(content["microns_per_pixel"])
        return [bag._replace(microns_per_pixel=stated) for bag in bags]

    def _read_entry(self, content: dict[str, Any], references: bool) -> list[TileBag]:
        """Return the bags of a JSON object without `bags`."""
        if "s3_uri" in content:
            if not references:
                raise BadRequestError("a reference must not refer to another one")
            body, kind = fetch(content["s3_uri"], self.limits)
            return self._read(body, str(content.get("content_type") or kind), references=False)
        if "npy" in content:
            return self._bags(read_npy(_decode(content["npy"])))
        if "slide" in content:
            return [self._slide(_decode(content["slide"]))]
        if "tiles" in content:
            return [self._tiles(content["tiles"])]
        raise BadRequestError(f"the JSON body has none of {_JSON_KEYS}")

    def _tiles(self, entries: object) -> TileBag:
        """Return a bag of base64-encoded PNG tiles."""
        limits = self._pictures()
        if not isinstance(entries, list) or not entries:
            raise BadRequestError("tiles must be a list of at least one PNG in base64")
        if len(entries) > limits.max_tiles:
            raise BadRequestError(f"got {len(entries)} tiles; at most {limits.max_tiles} are allowed", 413)
        tiles: list[np.ndarray] = []
        for number, entry in enumerate(entries):
            tile = read_tile(_decode(entry), f"tile {number}", limits, self._of_pictures.channels)
            if tiles and tile.shape != tiles[0].shape:
                raise BadRequestError(
                    f"tile {number} is {tile.shape}, the first is {tiles[0].shape}; send tiles of one size"
                )
            tiles.append(tile)
            if len(tiles) * tile.nbytes > limits.max_decoded_bytes:
                raise BadRequestError(f"the tiles hold more than {limits.max_decoded_bytes} bytes; send fewer", 413)
        return TileBag(np.stack(tiles))

    def _slide(self, data: bytes) -> TileBag:
        """Return the tiles of a slide image."""
        self._pictures()
        return read_slide(data, self.card, self.limits)

    @property
    def _of_pictures(self) -> InputSpec:
        """What tiles must be: the encoder takes them if the network does not."""
        return self.encoded or self.spec

    def _bags(self, array: NDArray[Any]) -> list[TileBag]:
        """Return the bag or bags in an array: features have 2 or 3 dimensions, tiles 4 or 5."""
        return (self._of_pictures if array.ndim > 3 else self.spec).bags(array, self.limits)

    def _pictures(self) -> Limits:
        """Refuse pictures if the network takes features and its encoder is not here."""
        if self._of_pictures.num_features is not None:
            raise BadRequestError(
                f"this network takes features, not pictures; send {NPY} of {self.spec} (the endpoint encodes tiles if the "
                "model was packaged with include_encoder=true)",
                415,
            )
        return self.limits

    def _checked(self, bags: list[TileBag]) -> list[TileBag]:
        """Return the bags if the network, or its encoder, accepts them all."""
        for bag in bags:
            (self._of_pictures if bag.tiles.ndim > 3 else self.spec).check(bag.tiles)
        self.spec.bound(bags, self.limits)
        return bags


def stated_resolution(content_type: str) -> float | None:
    """Return the parameter `microns_per_pixel` of a content type; None without one."""
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "microns_per_pixel":
            return _resolution(value.strip().strip('"'))
    return None


def _resolution(value: object) -> float:
    """Return a resolution as a request states it."""
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise BadRequestError(f"microns_per_pixel must be a positive number, not {str(value)[:80]!r}")
    return number


def _parse(body: bytes) -> Any:
    """Return the content of a JSON body; NaN and excessive nesting are refused."""
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadRequestError("the body is not valid JSON") from None


def _no_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which are not valid JSON."""
    raise ValueError(name)


def _decode(text: object) -> bytes:
    """Return the bytes of a base64 string."""
    if not isinstance(text, str):
        raise BadRequestError("binary data in JSON must be a base64 string")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequestError("a string in the JSON body is not valid base64") from None


def fetch(address: object, limits: Limits) -> tuple[bytes, str]:
    """Return an S3 object and its content type.

    Args:
        address: `s3://bucket/key`, under one of the endpoint's allowed prefixes.
        limits: Allowed prefixes and maximum size of an object.

    Raises:
        BadRequestError: If the address is not allowed or cannot be read.
    """
    prefixes = [prefix.strip() for prefix in limits.s3_prefixes.split(",") if prefix.strip()]
    # A bucket alone is not also that of another owner whose name begins like it.
    prefixes = [prefix if "/" in prefix.removeprefix("s3://") else f"{prefix}/" for prefix in prefixes]
    if not prefixes:
        raise BadRequestError(
            "this endpoint does not accept references; deploy it with s3_prefixes=s3://bucket/folder/"
        )
    if not isinstance(address, str) or not address.startswith(tuple(prefixes)) or ".." in address:
        raise BadRequestError(f"s3_uri must be under {' or '.join(prefixes)}", 403)
    bucket, _, key = address.removeprefix("s3://").partition("/")
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = boto3.client("s3").get_object(Bucket=bucket, Key=key)
        if answer["ContentLength"] > limits.max_reference_bytes:
            raise BadRequestError(f"{address} has more than {limits.max_reference_bytes} bytes", 413)
        return answer["Body"].read(), answer.get("ContentType", "")
    except (ClientError, BotoCoreError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        raise BadRequestError(
            f"{address} cannot be read ({code}); the endpoint's role needs s3:GetObject on it"
        ) from None
