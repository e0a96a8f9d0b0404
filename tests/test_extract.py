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
import pytest

from milpath.data.store.bag_store import BagStore
from milpath.encoding.batch_encoder import BatchEncoder
from milpath.models.encoders import open_encoder
from tests.pyramids import tissue, write_pyramid

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
    subprocess.run([sys.executable, "-m", "milpath.extract", *words], cwd=workplace, check=True)
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
        (["encoder=uni2_h", "encoder.weights_path=nowhere.bin"], "weights_path=nowhere.bin does not exist"),
        ([*ENCODER, "batch_size=many"], "batch_size=many must be auto or a whole number"),
        ([*ENCODER, "slides=nowhere"], "no slides at nowhere"),
    ):
        status, said = run_here("milpath.extract", *words, *more, cwd=workplace)
        assert status == 1
        assert message in said
    assert not (workplace / "other/store.json").exists()


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


def test_the_reader_of_slides_needs_no_torch():
    code = "import sys, milpath.encoding.tile_worker; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_kill_at_any_moment_changes_no_byte(workplace, reference):
    """The process group is killed after random times, until a run comes to its end."""
    moments = random.Random(0)
    words = ["slides=slides", "labels=labels.csv", "output=killed", "format=[store,h5]", *ENCODER, "num_workers=2"]
    command = [sys.executable, "-m", "milpath.extract", *words]
    num_kills, output = 0, workplace / "killed"
    while True:
        process = subprocess.Popen(command, cwd=workplace, start_new_session=True, stdout=subprocess.DEVNULL)
        # Some time after it began to write, later from kill to kill so that it comes to its end.
        while process.poll() is None and not (output / "parts").exists():
            time.sleep(0.05)
        try:
            assert process.wait(moments.uniform(0, 1 + num_kills)) == 0
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            num_kills += 1
    assert num_kills > 0
    assert content(output) == content(reference)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_tiles_of_a_slide(tmp_path):
    """2,000 tiles of one slide are 300 MB; the features of a slide and a few batches are far less."""
    path = write_pyramid(tmp_path / "slides/slide.tiff", tissue(560, 500, 2), factors=(16, 4, 1), tile=256)
    code = (
        "import sys, torch\n"
        "from milpath.encoding.extract_features import extract_features\n"
        "from milpath.slides.tiling_options import TileOptions\n"
        "from milpath.tiling.worker import peak_memory\n"
        "class Free(torch.nn.Module):\n"
        "    def forward(self, tiles): return tiles.mean((2, 3))\n"
        "options = TileOptions(method='grid', tile_size=224, num_tiles=None, level=0, overlap=int(sys.argv[2]))\n"
        "summary = extract_features(sys.argv[1], sys.argv[3], Free(), {'name': 'free', 'embedding_dim': 3}, options, device='cpu')\n"
        "print(peak_memory(), summary.peak_memory)\n"
    )
    found = {}
    for overlap in (0, 104):
        words = [sys.executable, "-c", code, str(path), str(overlap), str(tmp_path / f"out{overlap}")]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        found[json.loads((tmp_path / f"out{overlap}/store.json").read_text())["num_tiles"]] = [
            int(x) for x in said.split()
        ]
    (few, before), (many, after) = sorted(found.items())
    assert many > 3 * few > 3000
    for one, other in zip(before, after, strict=True):
        assert other < one + (40 << 20)
