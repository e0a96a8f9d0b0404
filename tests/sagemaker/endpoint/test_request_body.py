import json
import struct
import zipfile
import zlib
from dataclasses import replace

import boto3
import numpy as np
import pytest
from moto import mock_aws

from milpath.sagemaker.endpoint import request_body
from milpath.sagemaker.endpoint.handlers import Endpoint
from milpath.sagemaker.endpoint.request_body import BodyReader
from milpath.sagemaker.endpoint.request_limits import BadRequestError, Limits
from milpath.slides.tile_selection import cut_darkest
from tests.sagemaker.request_bodies import TILE_SIZE, npy, png, text, zipped

NPY, ZIP, JSON = "application/x-npy", "application/zip", "application/json"


@pytest.fixture
def reader(endpoint):
    return endpoint.reader


def small(reader, **limits):
    return BodyReader(reader.spec, reader.card, Limits(**limits))


@pytest.fixture(scope="module")
def bodies(tiles):
    """The same bag in each of the ways it can be sent."""
    files = {f"slide_{number}.png": png(tile) for number, tile in enumerate(tiles)}
    return {
        "npy": (npy(tiles), NPY),
        "npy with parameters": (npy(tiles), "Application/X-NPY; charset=binary"),
        "float npy": (npy((tiles / 255).astype(np.float32)), NPY),
        "zip": (zipped(files), ZIP),
        "JSON of tiles": (json.dumps({"tiles": [text(data) for data in files.values()]}).encode(), JSON),
        "JSON of npy": (json.dumps({"npy": text(npy(tiles))}).encode(), JSON),
        "JSON of bags": (json.dumps({"bags": [{"npy": text(npy(tiles))}]}).encode(), JSON),
    }


WAYS = ["npy", "npy with parameters", "float npy", "zip", "JSON of tiles", "JSON of npy", "JSON of bags"]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_sending_a_bag_gives_the_same_tiles(reader, bodies, tiles, way):
    (bag,) = reader.read(*bodies[way])
    found = bag.tiles if bag.tiles.dtype == np.uint8 else bag.tiles * 255
    np.testing.assert_allclose(found, tiles, atol=1e-4)


def test_many_bags_may_come_at_once(reader, tiles):
    bags = reader.read(npy(np.stack([tiles, tiles])), NPY)
    assert [bag.tiles.shape for bag in bags] == [tiles.shape, tiles.shape]
    content = {"bags": [{"npy": text(npy(tiles))}, {"tiles": [text(png(tiles[0]))]}]}
    assert [len(bag.tiles) for bag in reader.read(json.dumps(content).encode(), JSON)] == [5, 1]


def test_numbers_in_names_sort_as_numbers(reader, tiles):
    files = {f"slide_{number}.png": png(tiles[number % 5]) for number in (10, 9, *range(1, 9))}
    (bag,) = reader.read(zipped(files), ZIP)
    assert bag.names == tuple(f"slide_{number}.png" for number in range(1, 11))
    np.testing.assert_array_equal(bag.tiles[0], tiles[1])


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_a_slide_image_is_cut_as_in_training(reader, file_format):
    image = np.random.default_rng(1).integers(0, 256, (100, 90, 3), dtype=np.uint8)
    (bag,) = reader.read(png(image, file_format), f"image/{file_format.lower()}")
    expected = cut_darkest(image, TILE_SIZE, 4)
    np.testing.assert_array_equal(bag.tiles, expected.pixels)
    assert bag.corners == tuple(zip(expected.x.tolist(), expected.y.tolist(), strict=True))
    (again,) = reader.read(json.dumps({"slide": text(png(image))}).encode(), JSON)
    np.testing.assert_array_equal(again.tiles, bag.tiles)


def test_filler_tiles_have_no_place_and_a_blank_slide_no_answer(reader):
    image = np.random.default_rng(1).integers(0, 256, (40, TILE_SIZE, 3), dtype=np.uint8)
    (bag,) = reader.read(png(image), "image/png")
    assert bag.corners == ((0, -12), (0, 20), None, None)
    with pytest.raises(
        BadRequestError, match=r"the slide is blank: all its tiles have one colour \(values from 240 to 240\)"
    ):
        reader.read(png(np.full((40, 40, 3), 240, np.uint8)), "image/png")


def test_ready_made_tiles_call_their_method_a_rule(reader):
    image = np.random.default_rng(1).integers(0, 256, (100, 90, 3), dtype=np.uint8)
    tiling = {"rule": "darkest", "num_tiles": 4, "tile_size": TILE_SIZE}
    other = BodyReader(reader.spec, replace(reader.card, tiling=tiling), reader.limits)
    np.testing.assert_array_equal(
        other.read(png(image), "image/png")[0].tiles, reader.read(png(image), "image/png")[0].tiles
    )


def test_transparent_pixels_are_white(reader, tiles):
    rgba = np.concatenate([tiles[0], np.zeros((TILE_SIZE, TILE_SIZE, 1), np.uint8)], axis=2)
    (bag,) = reader.read(zipped({"a.png": png(rgba)}), ZIP)
    assert (bag.tiles == 255).all()


def bomb_png(side):
    """A PNG of a few bytes whose header promises side x side pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


TILE = np.zeros((TILE_SIZE, TILE_SIZE, 3), np.uint8)
BAD = {
    "empty": (b"", NPY, 400, "the body is empty"),
    "no type": (b"x", "", 415, "content type ''"),
    "wrong type": (b"x", "text/csv", 415, "content type 'text/csv' is not supported"),
    "npy of four dimensions too few": (npy(np.zeros((5, 5), np.float32)), NPY, 400, "shape (5, 5)"),
    "npy of another size": (npy(np.zeros((1, 31, 32, 3), np.uint8)), NPY, 400, "expected (tiles, 32, 32, 3)"),
    "npy with channels first": (npy(np.zeros((1, 3, 32, 32), np.uint8)), NPY, 400, "expected (tiles, 32, 32, 3)"),
    "NaN": (npy(np.full((1, 32, 32, 3), np.nan, np.float32)), NPY, 400, "NaN or infinity"),
    "floats up to 255": (npy(np.full((1, 32, 32, 3), 255.0, np.float32)), NPY, 400, "divide by 255"),
    "zip that is none": (b"PK\x03\x04 no", ZIP, 400, "the zip is not a zip archive"),
    "zip truncated": (zipped({"a.png": png(TILE)})[:-30], ZIP, 400, "the zip is not a zip archive"),
    "zip empty": (zipped({}), ZIP, 400, "the zip contains no files"),
    "zip of text": (zipped({"a.txt": b"x"}), ZIP, 400, "contains 'a.txt'; give only PNG tiles"),
    "zip of broken PNG": (zipped({"a.png": png(TILE)[:60]}), ZIP, 400, "tile 'a.png' is not a valid PNG picture"),
    "zip of JPEG": (zipped({"a.png": png(TILE, "JPEG")}), ZIP, 400, "is not a PNG image"),
    "zip of two sizes": (zipped({"a.png": png(TILE), "b.png": png(TILE[:16])}), ZIP, 400, "send tiles of one size"),
    "path traversal": (zipped({"../../etc/a.png": png(TILE)}), ZIP, 400, "which points outside of the archive"),
    "absolute path": (zipped({"/etc/a.png": png(TILE)}), ZIP, 400, "which points outside of the archive"),
    "path of Windows": (zipped({"..\\a.png": png(TILE)}), ZIP, 400, "which points outside of the archive"),
    "zip of one name twice": (
        zipped([("a_0.png", png(TILE)), ("a_0.png", png(TILE))]),
        ZIP,
        400,
        "contains two files named 'a_0.png'",
    ),
    "zip of one number twice": (
        zipped({"a_1.png": png(TILE), "a_01.png": png(TILE)}),
        ZIP,
        400,
        "'a_01.png' and 'a_1.png'",
    ),
    "zip of one name in two cases": (zipped({"a.png": png(TILE), "A.png": png(TILE)}), ZIP, 400, "'A.png' and 'a.png'"),
    "zip of one name in two forms": (
        zipped({"\u00e4.png": png(TILE), "a\u0308.png": png(TILE)}),
        ZIP,
        400,
        "the same name or number for many programs",
    ),
    "zip with a gap": (
        zipped({f"a_{number}.png": png(TILE) for number in (0, 1, 3)}),
        ZIP,
        400,
        "none with the number 2",
    ),
    "zip of bzip2": (zipped({"a.png": png(TILE)}, zipfile.ZIP_BZIP2), ZIP, 400, "compressed in an unusual way"),
    "zip bomb": (zipped({"a.png": png(TILE) + b"\0" * 7_000_000}), ZIP, 413, "is larger than 6,291,456 bytes"),
    "PNG bomb": (zipped({"a.png": bomb_png(50_000)}), ZIP, 413, "px"),
    "slide bomb": (bomb_png(20_000), "image/png", 413, "px"),
    "slide that is none": (b"no picture", "image/png", 400, "the slide is not a valid PNG or JPEG or TIFF picture"),
    "JSON that is none": (b"{", JSON, 400, "the body is not valid JSON"),
    "JSON in bytes of no alphabet": (b"\xff\xfe\xfa", JSON, 400, "the body is not valid JSON"),
    "JSON with NaN": (b'{"tiles": NaN}', JSON, 400, "the body is not valid JSON"),
    "JSON without end": (b"[" * 100_000, JSON, 400, "the body is not valid JSON"),
    "JSON of a list": (b"[1]", JSON, 400, "must be an object"),
    "JSON of nothing known": (b'{"instances": []}', JSON, 400, "none of npy, tiles, slide, s3_uri or bags"),
    "JSON of no text": (b'{"tiles": [1]}', JSON, 400, "must be a base64 string"),
    "JSON of no base64": (b'{"tiles": ["%%%"]}', JSON, 400, "not valid base64"),
    "JSON of no tiles": (b'{"tiles": []}', JSON, 400, "at least one PNG"),
    "JSON of no bags": (b'{"bags": []}', JSON, 400, "at least one object"),
    "JSON of bags in bags": (b'{"bags": [{"bags": []}]}', JSON, 400, "cannot be nested"),
    "reference": (b'{"s3_uri": "s3://slides/a.npy"}', JSON, 400, "does not accept references"),
    "too long": (bytes(6 * 2**20 + 1), NPY, 413, "at most 6291456 are allowed"),
    "50 MB": (bytes(50_000_000), ZIP, 413, "at most 6291456 are allowed"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_bad_body_is_refused_with_one_line(reader, kind):
    body, content_type, status, message = BAD[kind]
    with pytest.raises(BadRequestError) as caught:
        reader.read(body, content_type)
    assert message in str(caught.value)
    assert caught.value.status == status
    assert "\n" not in str(caught.value)


def test_limits_hold_for_tiles_and_for_what_they_unpack_to(reader, tiles):
    files = {f"{number}.png": png(tile) for number, tile in enumerate(tiles)}
    content = json.dumps({"tiles": [text(data) for data in files.values()]}).encode()
    for body, kind in ((npy(tiles), NPY), (zipped(files), ZIP), (content, JSON)):
        for limits in ({"max_tiles": 4}, {"max_decoded_bytes": 4 * 3072}):
            with pytest.raises(BadRequestError) as caught:
                small(reader, **limits).read(body, kind)
            assert caught.value.status == 413


def test_each_of_many_bags_is_checked_before_the_next_is_unpacked(reader, tiles, monkeypatch):
    unpacked = []
    read = request_body.read_tile
    monkeypatch.setattr(request_body, "read_tile", lambda *words: unpacked.append(1) or read(*words))
    large = {"tiles": [text(png(np.zeros((512, 512, 3), np.uint8)))]}
    with pytest.raises(BadRequestError, match=r"got a bag of shape \(1, 512, 512, 3\)"):
        reader.read(json.dumps({"bags": [large] * 100}).encode(), JSON)
    assert len(unpacked) == 1
    content = {"bags": [{"tiles": [text(png(tile))]} for tile in tiles]}
    with pytest.raises(BadRequestError, match="a request may have at most 2") as caught:
        small(reader, max_tiles=2).read(json.dumps(content).encode(), JSON)
    assert caught.value.status == 413
    assert len(unpacked) == 1 + 3


def test_features_are_read_where_the_network_takes_them(feature_path, tiles):
    reader = Endpoint(feature_path).reader
    assert [bag.tiles.shape for bag in reader.read(npy(np.zeros((2, 7, 5), np.float16)), NPY)] == [(7, 5), (7, 5)]
    for body, kind in ((npy(np.zeros((7, 6), np.float32)), NPY), (npy(tiles), NPY)):
        with pytest.raises(BadRequestError, match=r"\(tiles, 5\) float"):
            reader.read(body, kind)
    for body, kind in ((zipped({"a.png": png(TILE)}), ZIP), (png(TILE), "image/png")):
        with pytest.raises(BadRequestError, match="takes features, not pictures"):
            reader.read(body, kind)


def test_a_network_without_a_rule_for_slides_says_so(reader):
    darkest = {"method": "darkest", "num_tiles": 4, "tile_size": TILE_SIZE}
    for tiling, words in (
        ({}, "no tiling rule"),
        ({"method": "tissue"}, "the rule 'tissue'"),
        (darkest | {"overlap": 8}, "the rule 'darkest'"),
        (darkest | {"background": "mask", "min_tissue": 0.1}, "the rule 'darkest'"),
        (darkest | {"min_inside": 0.5}, "the rule 'darkest'"),
    ):
        other = BodyReader(reader.spec, replace(reader.card, tiling=tiling), reader.limits)
        with pytest.raises(BadRequestError, match=words) as caught:
            other.read(png(TILE), "image/png")
        assert caught.value.status == 415


@pytest.fixture
def bucket(monkeypatch, tiles):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="slides")
        client.put_object(Bucket="slides", Key="in/a.npy", Body=npy(tiles), ContentType=NPY)
        client.put_object(Bucket="slides", Key="in/b", Body=npy(tiles))
        client.put_object(
            Bucket="slides", Key="in/c.json", Body=b'{"s3_uri": "s3://slides/in/a.npy"}', ContentType=JSON
        )
        yield client


def refer(reader, **content):
    return small(reader, s3_prefixes="s3://slides/in/, s3://other/").read(json.dumps(content).encode(), JSON)


def test_a_large_body_may_wait_in_s3(bucket, reader, tiles):
    for content in ({"s3_uri": "s3://slides/in/a.npy"}, {"s3_uri": "s3://slides/in/b", "content_type": NPY}):
        (bag,) = refer(reader, **content)
        np.testing.assert_array_equal(bag.tiles, tiles)


@pytest.mark.parametrize(
    ("address", "status", "message"),
    [
        ("s3://slides/secret.npy", 403, "must be under s3://slides/in/ or s3://other/"),
        ("s3://slides/in/../secret.npy", 403, "must be under"),
        (["s3://slides/in/a.npy"], 403, "must be under"),
        ("s3://slides/in/missing.npy", 400, "cannot be read (NoSuchKey)"),
        ("s3://other/a.npy", 400, "cannot be read (NoSuchBucket)"),
        ("s3://slides/in/c.json", 400, "must not refer to another"),
    ],
)
def test_a_reference_is_followed_within_its_folder_and_once(bucket, reader, address, status, message):
    with pytest.raises(BadRequestError) as caught:
        refer(reader, s3_uri=address)
    assert message in str(caught.value)
    assert caught.value.status == status


def test_a_bucket_is_not_one_whose_name_begins_like_it(bucket, reader):
    open_to_all = small(reader, s3_prefixes="s3://slides")
    assert len(open_to_all.read(b'{"s3_uri": "s3://slides/in/a.npy"}', JSON)) == 1
    with pytest.raises(BadRequestError, match="must be under s3://slides/$"):
        open_to_all.read(b'{"s3_uri": "s3://slides-of-others/a.npy"}', JSON)


def test_an_object_that_is_too_large_is_not_read(bucket, reader):
    with pytest.raises(BadRequestError, match="has more than 100 bytes"):
        small(reader, s3_prefixes="s3://slides/in/", max_reference_bytes=100).read(
            b'{"s3_uri": "s3://slides/in/a.npy"}', JSON
        )


def test_limits_come_from_the_environment():
    assert Limits.from_environment({"MILPATH_S3_PREFIXES": "s3://a/"}) == Limits(s3_prefixes="s3://a/")
    for value in ("many", "0", "-1", "1.5"):
        with pytest.raises(ValueError, match=f"MILPATH_MAX_TILES={value} must be a positive integer"):
            Limits.from_environment({"MILPATH_MAX_TILES": value})


def trained_at(endpoint, low, high):
    """Return a reader whose card states the resolution of the training."""
    tiling = {**endpoint.card.tiling, "trained_microns_per_pixel": [low, high]}
    return BodyReader(endpoint.reader.spec, replace(endpoint.card, tiling=tiling), Limits())


def test_a_stated_resolution_is_compared_with_that_of_the_training(endpoint, tiles):
    reader = trained_at(endpoint, 0.5, 0.5)
    content = {"npy": text(npy(tiles))}
    for stated in (0.5, 0.46):
        (bag,) = reader.read(npy(tiles), f"{NPY}; microns_per_pixel={stated}")
        assert bag.microns_per_pixel == stated
        (bag,) = reader.read(json.dumps(content | {"microns_per_pixel": stated}).encode(), JSON)
        assert bag.microns_per_pixel == stated
    for body, kind in (
        (npy(tiles), f"{NPY}; microns_per_pixel=8"),
        (json.dumps(content | {"microns_per_pixel": 8}).encode(), JSON),
        (json.dumps({"bags": [content, content | {"microns_per_pixel": 8.0}]}).encode(), JSON),
    ):
        with pytest.raises(
            BadRequestError, match=r"the tiles have 8 microns per pixel; the network was trained at 0\.5"
        ):
            reader.read(body, kind)
    (bag,) = reader.read(npy(tiles), NPY)
    assert bag.microns_per_pixel is None


@pytest.mark.parametrize("stated", ["abc", "0", "-1", "nan", "inf", "1e999", ""])
def test_what_is_no_resolution_is_refused(endpoint, tiles, stated):
    with pytest.raises(BadRequestError, match="microns_per_pixel must be a positive number"):
        endpoint.reader.read(npy(tiles), f"{NPY};microns_per_pixel={stated}")
    content = {"npy": text(npy(tiles)), "microns_per_pixel": [stated]}
    with pytest.raises(BadRequestError, match="microns_per_pixel must be a positive number"):
        endpoint.reader.read(json.dumps(content).encode(), JSON)


def test_the_answer_says_the_resolution_of_the_training_and_that_of_the_request(endpoint, tiles):
    from milpath.sagemaker.endpoint.response import write_answers

    card = trained_at(endpoint, 0.5, 0.5).card
    bags = [endpoint.reader.read(npy(tiles), kind)[0] for kind in (NPY, f"{NPY}; microns_per_pixel=0.5")]
    said = json.loads(write_answers(endpoint.predict(bags), card, JSON))
    assert said["trained_microns_per_pixel"] == [0.5, 0.5]
    assert [bag["microns_per_pixel"] for bag in said["predictions"]] == [None, 0.5]


def test_a_picture_of_several_images_is_refused(reader):
    from io import BytesIO

    from PIL import Image

    pages = [Image.new("RGB", (128, 128), colour) for colour in ("white", "black")]
    body = BytesIO()
    pages[0].save(body, "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(BadRequestError, match="holds 2 images; send one picture"):
        reader.read(body.getvalue(), "image/tiff")
