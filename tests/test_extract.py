"""The command `milpath extract`, and that a kill at any moment changes no byte of its result."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from milpath.data.sources.features.feature_bags import FeatureBags
from milpath.data.store.bag_store import BagStore
from milpath.data.store.encoder_match import encoder_of
from milpath.data.store.store_build import open_or_build
from milpath.encoding.batch_encoder import BatchEncoder
from milpath.models import AttentionMIL, load_card, load_network
from milpath.models.checkpoint import save_network
from milpath.models.encoders import open_encoder
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_bags import build_slide_store
from tests.commands import milpath
from tests.pyramids import tissue, write_pyramid
from tests.warm_start import WarmCommand

pytest.importorskip("timm")
ENCODER = ["encoder=efficientnet_lite0", "device=cpu", "tile_size=64", "microns_per_pixel=1", "batch_size=8"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workplace")
    for seed in range(5):
        write_pyramid(folder / f"slides/slide {seed}.tiff", tissue(100 + 20 * seed, 130, seed), factors=(4, 1))
    (folder / "labels.csv").write_text("slide_id,label\n" + "".join(f"slide {seed},{seed % 2}\n" for seed in range(5)))
    return folder


def content(output: Path) -> dict[str, str]:
    files = (path for path in output.rglob("*") if path.is_file() and path.name != ".verified.json")
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def reference(workplace):
    words = ["slides=slides", "labels=labels.csv", "output=reference", "format=[store,h5]", *ENCODER]
    milpath("extract", *words, cwd=workplace)
    return workplace / "reference"


def test_the_command_writes_the_store_with_the_card_of_the_encoder(workplace, reference):
    store = BagStore.open(reference)
    assert store.tile_shape == (1280,)
    assert store.bags["label"].tolist() == [0, 1, 0, 1, 0]
    assert store.description["encoder"]["name"] == "efficientnet_lite0"
    assert len(store.description["encoder"]["weights_sha256"]) == 64
    assert sorted(path.name for path in (reference / "h5").iterdir()) == [f"slide {seed}.h5" for seed in range(5)]


def test_the_command_says_what_is_missing(workplace, run_here):
    words = ["slides=slides", "output=other", "device=cpu"]
    for more, message in (
        (["encoder=efficientnet_lite0"], "was not trained on slides and has no resolution of its own"),
        (["encoder=uni2_h"], "no weights of uni2_h on this machine: ask for access at"),
        (
            ["encoder=uni2_h"],
            "or give encoder.weights_path=FILE, or log in with hf auth login and give encoder.download=true",
        ),
        (["encoder=uni2_h", "encoder.weights_path=nowhere.bin"], " encoder.weights_path=nowhere.bin does not exist"),
        (
            [*ENCODER, "encoder.weights_path=labels.csv"],
            "labels.csv does not contain plain weights",
        ),
        (
            [*ENCODER, "method=grid", "min_tissue=0.9"],
            "min_tissue=0.9 changes nothing with method=grid; give method=tis",
        ),
        ([*ENCODER, "method=grid", "num_tiles=16"], "num_tiles=16 changes nothing with method=grid, which takes all"),
        ([*ENCODER, "level=-1", "microns_per_pixel=2"], "give level=-1 or microns_per_pixel=2.0, not both"),
        ([*ENCODER, "batch_size=many"], "batch_size=many must be auto or a whole number"),
        ([*ENCODER, "slides=nowhere"], "no slides at nowhere"),
    ):
        status, said = run_here("milpath.extract", *words, *more, cwd=workplace)
        assert status == 1
        assert message in said
    assert not (workplace / "other/store.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["microns_per_pixel=1.0"], "microns_per_pixel=1.0 says how slides are cut, but cut holds tiles"),
        (
            ["method=grid"],
            "method=grid says how slides are cut, but cut holds tiles that were cut before; leave it out",
        ),
        (["tile_size=64"], "tile_size=64 says how slides are cut, but cut holds tiles"),
        (["label_column=label"], "label_column=label is a column of labels; give labels=CSV, or leave it out"),
        (["id_column=slide_id"], "id_column=slide_id is a column of labels or resolutions; give one of them"),
        (["labels=labels.csv"], "labels=labels.csv is only for whole slides; the labels of cut are those it has"),
    ],
)
def test_options_of_slides_are_refused_for_tiles_that_were_cut(words, message, workplace, run_here):
    cut = TileOptions(method="darkest", tile_size=32, num_tiles=2, level=0)
    if not (workplace / "cut").exists():
        build_slide_store(workplace / "slides", workplace / "cut", cut, num_workers=1)
    # Those of the store are no error.
    same = ["method=darkest", "num_tiles=2", "level=0"] if not words[0].startswith("method") else []
    said = ["slides=cut", "output=of_tiles", "encoder=efficientnet_lite0", *same, *words]
    status, answer = run_here("milpath.extract", *said, cwd=workplace)
    assert status == 1
    assert message in answer
    assert not (workplace / "of_tiles").exists()


def test_features_do_not_depend_on_the_other_tiles_of_a_batch():
    """Bit for bit, in batches of one shape: what an interrupted run has in its batches differs."""
    encoder = open_encoder("efficientnet_lite0")
    tiles = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)

    def encode(batch):
        batches = BatchEncoder(encoder, 64, batch_size=8, dtype="float32")
        batches.buffer[: len(batch)] = batch
        batches.submit(len(batch))
        return batches.finish()[: len(batch)]

    expected = np.concatenate([encode(tiles[:8]), encode(tiles[8:])])
    order = np.random.default_rng(1).permutation(16)
    np.testing.assert_array_equal(np.concatenate([encode(tiles[order[:8]]), encode(tiles[order[8:]])]), expected[order])
    np.testing.assert_array_equal(encode(tiles[3:6]), expected[3:6])


@pytest.mark.gpu
def test_features_of_a_gpu_are_those_of_the_cpu_in_the_same_order():
    """A batch is filled while the one before is computed, in one of two buffers in turn."""
    encoder = open_encoder("efficientnet_lite0")
    tiles = np.random.default_rng(0).integers(0, 256, (4, 8, 64, 64, 3), np.uint8)

    def encode(device):
        batches = BatchEncoder(encoder, 64, device=device, batch_size=8, dtype="float32")
        found = []
        for batch in tiles:
            batches.buffer[:] = batch
            found.append(batches.submit(8))
        return np.concatenate([*found[1:], batches.finish()])

    expected, found = encode("cpu"), encode("cuda")
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_the_processes_that_read_slides_need_neither_torch_nor_matplotlib():
    code = (
        "import sys, milpath.encoding.tile_worker, milpath.tiling.worker; "
        "sys.exit(not {'torch', 'matplotlib', 'pandas'}.isdisjoint(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


UNKNOWN = "this checkpoint has no model of familiar slides: it cannot say whether it knows slides like these"


def other_than_progress(message: str) -> list[str]:
    """Return the lines of a command other than its progress, which a busy machine prints."""
    return [line for line in message.splitlines() if not line.startswith("slides encoded: ")]


def _predicted(folder):
    table = pd.read_csv(folder / "predictions.csv", index_col="id").sort_index()
    attention = pd.read_csv(folder / "attention.csv").sort_values(["id", "tile"])
    return table[["probability_a", "probability_b"]].to_numpy(), attention


@pytest.fixture(scope="module")
def checkpoint(workplace, reference):
    """A network of features, whose card holds the card of the encoder: as the files in h5 say it, not the store."""
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "linear", "num_features": 1280, "hidden_dims": [16]}).eval()
    store = open_or_build(FeatureBags(reference / "h5", workplace / "labels.csv"), workplace / "stores")
    words = {"tiling": store.description["tiling"], "encoder": encoder_of(store)}
    save_network(network, workplace / "network.pt", class_names=("a", "b"), **words)
    return workplace / "network.pt"


def test_slides_stores_and_files_of_features_give_the_same_predictions(workplace, reference, checkpoint, run_here):
    words = [f"checkpoint={checkpoint}", "device=cpu"]
    found = {}
    build_slide_store(
        workplace / "slides", workplace / "tiles", TileOptions.from_tiling(load_card(checkpoint).tiling), num_workers=1
    )
    for name, slides in (("slides", "slides"), ("store", "reference"), ("files", "reference/h5"), ("tiles", "tiles")):
        status, message = run_here("milpath.predict", *words, f"slides={slides}", f"output=from_{name}", cwd=workplace)
        assert status == 0
        assert other_than_progress(message) == [UNKNOWN]
        found[name] = _predicted(workplace / f"from_{name}")
    for name in ("slides", "files", "tiles"):
        np.testing.assert_allclose(found[name][0], found["store"][0], atol=1e-4)
        np.testing.assert_allclose(found[name][1]["weight"], found["store"][1]["weight"], atol=1e-4)
    # Only whole slides have pictures: the thumbnail, and tiles that are read again; places are known either way.
    assert len(list((workplace / "from_slides/pictures").iterdir())) == 2 * 5 + 1
    assert not (workplace / "from_store/pictures").exists()
    for name in ("slides", "store"):
        assert found[name][1]["x0"].notna().all()
        outlines = json.loads((workplace / f"from_{name}/geojson/slide 0.geojson").read_text())["features"][:-1]
        assert len(outlines) == (found[name][1]["id"] == "slide 0").sum()


def evaluated(run_here, workplace, checkpoint, name, *words):
    """Run `milpath evaluate` and return its predictions."""
    more = [f"checkpoint={checkpoint}", f"run_name={name}", "splits=[test]", "trainer.accelerator=cpu"]
    status, message = run_here("milpath.evaluate", *more, *words, cwd=workplace)
    assert status == 0, message
    table = pd.read_csv(workplace / f"runs/{name}/predictions.csv", index_col="id").sort_index()
    return table[["probability_a", "probability_b"]].to_numpy(), message


def test_slides_tiles_files_and_the_store_are_evaluated_alike(workplace, reference, checkpoint, run_here):
    options = TileOptions.from_tiling(load_card(checkpoint).tiling)
    build_slide_store(
        workplace / "slides", workplace / "labelled", options, labels=workplace / "labels.csv", num_workers=1
    )
    ways = {
        "store": ["data=bag_store", "data.path=reference", "data.class_names=[a,b]"],
        "tiles": ["data=bag_store", "data.path=labelled", "data.class_names=[a,b]"],
        "slides": ["slides=slides", "labels=labels.csv"],
        "files": ["slides=reference/h5", "labels=labels.csv"],
    }
    found = {name: evaluated(run_here, workplace, checkpoint, f"by_{name}", *words) for name, words in ways.items()}
    assert len(found["store"][0]) == 5
    for name in ("tiles", "slides", "files"):
        np.testing.assert_allclose(found[name][0], found["store"][0], atol=1e-4)
    # Pixels are at hand for tiles and slides; for features the report says what to give.
    for name in ("tiles", "slides"):
        assert len(list((workplace / f"runs/by_{name}/report_files").iterdir())) == 2 * 5
    page = (workplace / "runs/by_store/report.html").read_text()
    assert "features have no pictures of their own; give slides_dir=DIR, the folder of their slides" in page
    assert not (workplace / "runs/by_store/report_files").exists()
    evaluated(run_here, workplace, checkpoint, "with_slides", *ways["store"], "slides_dir=slides")
    drawn = workplace / "runs/with_slides/report_files"
    assert len(list(drawn.iterdir())) == 2 * 5
    for path in drawn.iterdir():  # read again from the slides: the same tiles at the same places
        again = picture_of(workplace / "runs/by_slides/report_files" / path.name)
        assert np.abs(picture_of(path) - again).mean() < 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["slides=slides"], "an evaluation of slides needs both"),
        (["slides=slides", "labels=labels.csv", "data=bag_store", "data.path=reference"], "or data=NAME, not both"),
        (["slides=reference", "labels=labels.csv"], "is a bag store, which has its labels; give data=bag_store"),
        (["slides=some", "labels=labels.csv"], "cannot be tested, see"),
        (["slides=slides", "labels=labels.csv", "encoder_weights_path=nowhere.pt"], "nowhere.pt"),
        (
            ["data=bag_store", "data.path=reference", "data.class_names=[a,b]", "slides_dir=empty"],
            "holds none of the slides",
        ),
    ],
)
def test_an_evaluation_of_slides_that_cannot_be_is_one_line(words, message, workplace, checkpoint, run_here):
    if not (workplace / "some").exists():
        (workplace / "some").mkdir()
        (workplace / "empty").mkdir()
        (workplace / "some/slide 0.tiff").symlink_to(workplace / "slides/slide 0.tiff")
        (workplace / "some/slide 1.tiff").write_bytes(b"II*")
    words = [f"checkpoint={checkpoint}", "run_name=refused", "overwrite=true", *words]
    status, said = run_here("milpath.evaluate", *words, "trainer.accelerator=cpu", cwd=workplace)
    assert status == 1
    assert message in said
    assert len(other_than_progress(said.strip())) == 1


def picture_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture, int)


@pytest.mark.parametrize("source", ["reference", "reference/h5"])
def test_features_have_the_pictures_of_their_slides_if_these_are_at_hand(
    source, workplace, checkpoint, run_here, tmp_path
):
    words = [f"checkpoint={checkpoint}", "device=cpu", "slides_dir=slides"]
    for name, slides in (("slides", "slides"), ("features", source)):
        status, message = run_here(
            "milpath.predict", *words, f"slides={slides}", f"output={tmp_path}/{name}", cwd=workplace
        )
        assert status == 0
        assert other_than_progress(message) == [UNKNOWN]
    names = sorted(path.name for path in (tmp_path / "slides/pictures").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "features/pictures").iterdir())
    for name in names:
        pictures = [
            np.asarray(Image.open(tmp_path / f"{kind}/pictures/{name}"), int) for kind in ("slides", "features")
        ]
        # Weights of features that were stored in float16 differ in the last digit that is written.
        assert np.mean(np.abs(pictures[0] - pictures[1])) < 0.5
    status, message = run_here(
        "milpath.predict",
        *words,
        f"slides={source}",
        "slides_dir=reference/overview",
        f"output={tmp_path}/none",
        cwd=workplace,
    )
    assert status == 1
    assert "slides_dir=reference/overview holds none of the slides of" in message


def test_an_encoder_with_other_weights_is_refused(workplace, checkpoint, run_here):
    content = torch.load(checkpoint, weights_only=True)
    network = load_network(checkpoint)
    encoder = content["milpath"]["encoder"] | {"weights_sha256": "0" * 64}
    card = {"class_names": ("a", "b"), "tiling": content["milpath"]["tiling"]}
    save_network(network, workplace / "other.pt", encoder=encoder, **card)
    words = ["slides=slides", "output=refused", "device=cpu"]
    status, message = run_here("milpath.predict", "checkpoint=other.pt", *words, cwd=workplace)
    assert status == 1
    assert "other weights of efficientnet_lite0 were asked for (000000000000) than were found" in message
    save_network(network, workplace / "short.pt", encoder={"name": "uni_v1"}, **card)
    status, message = run_here("milpath.predict", "checkpoint=short.pt", *words, cwd=workplace)
    assert status == 1
    assert "the network takes features of uni_v1, but slides holds none" in message


@pytest.mark.slow
def test_a_kill_at_any_moment_changes_no_byte(workplace, reference):
    """The process group is killed after random times, until a run comes to its end."""
    moments = random.Random(0)
    words = ["slides=slides", "labels=labels.csv", "output=killed", "format=[store,h5]", *ENCODER, "num_workers=2"]
    num_kills, output = 0, workplace / "killed"
    while True:
        process = WarmCommand("extract", words, workplace, new_session=True)
        # Some time after it began to write, later from kill to kill so that it comes to its end.
        while process.poll() is None and not (output / "parts").exists():
            time.sleep(0.05)
        try:
            assert process.wait(moments.uniform(0, 0.1 + num_kills)) == 0
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            num_kills += 1
    assert num_kills > 0
    assert content(output) == content(reference)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_tiles_of_a_slide(tmp_path):
    """Thousands of tiles have hundreds of megabytes of pixels; a few batches are far less."""
    path = write_pyramid(tmp_path / "slides/slide.tiff", tissue(560, 500, 2), factors=(16, 4, 1), tile=256)
    code = (
        "import sys, torch\n"
        "from milpath.encoding.extract_features import extract_features\n"
        "from milpath.slides.tiling_options import TileOptions\n"
        "from milpath.tiling.worker import peak_memory\n"
        "class Free(torch.nn.Module):\n"
        "    def forward(self, tiles): return tiles.mean((2, 3))\n"
        "count = int(sys.argv[2]) or None\n"
        "options = TileOptions(method='tissue', tile_size=224, num_tiles=count, level=0, overlap=168, min_tissue=0.01)\n"
        "card = {'name': 'free', 'embedding_dim': 3}\n"
        "summary = extract_features(sys.argv[1], sys.argv[3], Free(), card, options, device='cpu')\n"
        "print(peak_memory(), summary.peak_memory)\n"
    )
    found = []
    for count in (300, 0):
        words = [sys.executable, "-c", code, str(path), str(count), str(tmp_path / f"out{count}")]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        num_tiles = json.loads((tmp_path / f"out{count}/store.json").read_text())["num_tiles"]
        found.append((num_tiles, *(int(number) for number in said.split())))
    (few, *before), (many, *after) = found
    grown = (many - few) * 224 * 224 * 3
    assert grown > 600 << 20  # the peak of one run differs from that of another by up to 60 MB
    for one, other in zip(before, after, strict=True):
        assert other < one + grown / 3
