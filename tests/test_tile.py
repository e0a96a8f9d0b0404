import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from milpath.data import BagDataModule, StoredBags
from milpath.data.store.bag_store import BagStore
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_bags import build_slide_store
from tests.drawn_data import draw_panda
from tests.pyramids import level2, tissue, write_pyramid

NAME = "0018ae58b01bdadc8e347995b69f99aa"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder as Kaggle's archive has it."""
    panda = draw_panda(tmp_path_factory.mktemp("drawn") / "panda")
    folder = tmp_path_factory.mktemp("tile") / 'Gewebe ü, [2020] it\'s=a "test"'
    for name in (NAME, "002a4db09dad406c85505a00fb6f6144"):
        write_pyramid(folder / "train_images" / f"{name}.tiff", level2(panda, name), factors=(2, 1), tile=512)
    mask = np.array(level2(panda, f"../masks_level2/{NAME}_mask"))
    write_pyramid(folder / "train_label_masks" / f"{NAME}_mask.tiff", mask, factors=(2, 1), tile=512, compression="lzw")
    (folder / "train.csv").write_bytes((panda / "labels.csv").read_bytes())
    return folder


def words(folder, output="out"):
    return [
        f"slides={folder}/train_images", f"labels={folder}/train.csv", f"masks={folder}/train_label_masks",
        f"output={folder}/{output}", "num_workers=1",
    ]  # fmt: skip


def test_the_command_makes_a_store_that_trains(workplace, run_here, capfd):
    status, message = run_here("milpath.tile", *words(workplace), "write_png=true", cwd=workplace)
    assert (status, message) == (0, "")
    store = BagStore.open(workplace / "out")
    assert store.num_tiles.tolist() == [16, 16]
    assert len(list((workplace / "out/png").iterdir())) == 32
    assert (workplace / "out/overview/sheet_0001.jpg").is_file()
    assert list(pd.read_csv(workplace / "out/tiles.csv")) == [
        "bag_id", "x", "y", "level", "x0", "y0", "size0", "tile_label", "cancer_fraction", "gleason_pattern",
    ]  # fmt: skip
    assert not {path.name for path in workplace.iterdir()} - {"train_images", "train_label_masks", "train.csv", "out"}
    datamodule = BagDataModule(StoredBags(workplace / "out"), target="malignant", num_folds=1, num_workers=0)
    datamodule.setup()
    batch = next(iter(datamodule.dataloader("test"))).to("cpu")
    assert sorted(batch.labels.tolist()) == [0, 1]


def test_the_summary_says_what_was_done_and_where_to_look(workplace, monkeypatch, capfd):
    import milpath.tile as door

    monkeypatch.setattr(sys, "argv", ["tile", *words(workplace, "said")])
    door.main()
    said = capfd.readouterr().out
    assert "1 of 2 slides have no mask: '002a4db09dad406c85505a00fb6f6144'" in said
    assert re.search(r"2 slides cut, [\d.]+ slides/s, \d+ MB peak memory per worker", said)
    assert f"the bag store is complete: {workplace}/said; check the tiles in {workplace}/said/overview" in said


def test_help_explains_every_option(monkeypatch, capsys):
    import milpath.tile as door
    from milpath.config.roots import TileConfig

    monkeypatch.setattr(sys, "argv", ["tile", "--help"])
    door.main()
    said = capsys.readouterr().out
    assert said.startswith("milpath tile slides=DIR output=DIR")
    for name in TileConfig.__dataclass_fields__:
        assert re.search(rf"^  {name}: .+ # .{{5,}}", said, re.MULTILINE), name


def test_a_failed_slide_ends_the_command_with_status_1_unless_it_is_skipped(tmp_path, run_here, capfd):
    write_pyramid(tmp_path / "in/good.tiff", tissue(80, 80))
    (tmp_path / "in/bad.tiff").write_bytes(b"II*\0")
    call = ["slides=in", "output=out", "tile_size=32", "num_workers=1"]
    status, said = run_here("milpath.tile", *call, cwd=tmp_path)
    assert status == 1
    assert "1 slide failed, see out/failures.csv (first: 'bad': bad.tiff is a damaged TIFF" in said
    assert "add on_error=skip to leave them out" in said
    assert not (tmp_path / "out/store.json").exists()
    status, _ = run_here("milpath.tile", *call, "on_error=skip", cwd=tmp_path)
    assert status == 0
    assert pd.read_csv(tmp_path / "out/failures.csv")["slide"].tolist() == ["bad"]
    assert len(BagStore.open(tmp_path / "out")) == 1
    status, said = run_here("milpath.tile", *call, cwd=tmp_path)
    assert status == 1
    assert "1 slide failed" in said
    assert "the store leaves them out: fix them and add overwrite=true, or add on_error=skip" in said


def test_an_interrupt_says_that_nothing_is_lost(tmp_path, run_here, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("milpath.tiling.slide_bags.build_slide_store", interrupt)
    status, said = run_here("milpath.tile", "slides=in", "output=out", cwd=tmp_path)
    assert (status, said) == (130, "stopped; finished slides are kept; run the same command to continue\n")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["slides=nowhere"], "FileNotFoundError: no slides at nowhere"),
        (["slides=in", "methods=grid"], "methods"),
        (["slides=in", "method=lightest"], "ValueError: method=lightest is unknown"),
        (["slides=in", "tile_size=large"], "tile_size"),
        (
            ["slides=in", "min_tissue=0.9"],
            "min_tissue=0.9 changes nothing with method=darkest background=white; give method=tis",
        ),
        (
            ["slides=in", "min_tissue=0.9", "method=grid"],
            "min_tissue=0.9 changes nothing with method=grid; give method=tissue",
        ),
        (
            ["slides=in", "tissue_threshold=20"],
            "tissue_threshold=20 changes nothing with method=darkest background=white; give",
        ),
        (["slides=in", "method=grid", "num_tiles=8"], "num_tiles=8 changes nothing with method=grid, which takes all"),
        ([], "slides must be given: add slides=..."),
    ],
)
def test_a_mistake_is_one_line(tmp_path, run_here, more, message):
    write_pyramid(tmp_path / "in/good.tiff", tissue(80, 80))
    status, said = run_here("milpath.tile", "output=out", *more, cwd=tmp_path)
    assert status == 1
    assert message in said
    assert "Traceback" not in said


def test_the_command_starts_without_torch():
    """A task of a cluster that cuts a few hundred slides has no seconds and no gigabyte to spare for it."""
    code = "import sys, milpath.tile, milpath.tiling.slide_bags; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "torchvision", "lightning", "sklearn"} & set(modules)


def test_a_launcher_can_do_the_shards(tmp_path, run_here):
    for seed in range(4):
        write_pyramid(tmp_path / f"in/{seed}.tiff", tissue(80, 80, seed))
    call = ["-m", "shard=1/2,2/2", "slides=in", "output=out", "tile_size=32", "num_workers=1"]
    assert run_here("milpath.tile", *call, cwd=tmp_path)[0] == 0
    assert len(BagStore.open(tmp_path / "out")) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_a_slide_that_fails_in_one_shard_of_a_launcher_does_not_stop_the_others(tmp_path, run_here):
    for seed in range(3):
        write_pyramid(tmp_path / f"in/{seed}.tiff", tissue(80, 80, seed))
    (tmp_path / "in/0 bad.tiff").touch()
    call = ["-m", "shard=1/2,2/2", "slides=in", "output=out", "tile_size=32", "num_workers=1"]
    assert run_here("milpath.tile", *call, cwd=tmp_path)[0] == 1
    assert len(list((tmp_path / "out/parts").glob("*.zip"))) == 3


def test_a_run_that_is_killed_goes_on_to_the_same_bytes(tmp_path):
    picture = tissue(300, 200)
    for number in range(40):
        write_pyramid(tmp_path / f"in/{number:02}.tiff", np.roll(picture, 7 * number, axis=0), factors=(1,))
    call = [sys.executable, "-m", "milpath.tile", f"slides={tmp_path}/in", f"output={tmp_path}/out", "num_workers=1"]
    process = subprocess.Popen([*call, "tile_size=32"], stdout=subprocess.DEVNULL)
    parts = tmp_path / "out/parts"
    until(lambda: len(list(parts.glob("*.zip"))) >= 2 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out/store.json").exists()
    options = TileOptions(tile_size=32)
    finished = build_slide_store(tmp_path / "in", tmp_path / "out", options, num_workers=1)
    assert 2 <= finished.num_before < 40
    assert finished.num_cut == 40 - finished.num_before
    build_slide_store(tmp_path / "in", tmp_path / "whole", options, num_workers=2)
    for name in ("tiles.npy", "bags.csv", "tiles.csv", "store.json", "overview/sheet_0002.jpg"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not parts.exists()


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_partial_files_of_a_killed_run_are_gone_when_the_store_is_complete(tmp_path):
    write_pyramid(tmp_path / "in/a.tiff", tissue(80, 80))
    (tmp_path / "out").mkdir()

    def leave():
        partial = tmp_path / "out/.failures.csv.4711.0badcafe.partial"
        partial.touch()
        build_slide_store(tmp_path / "in", tmp_path / "out", TileOptions(tile_size=32), num_workers=1)
        return not partial.exists()

    assert leave()
    assert leave()  # the store was complete before
