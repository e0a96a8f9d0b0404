"""Commands on a disk that is full or cannot be written to: one line, and nothing half written."""

import resource
import signal
from collections.abc import Iterator

import pytest

from milpath.data.store.bag_store import BagStore
from tests.commands import SMALL_RUN
from tests.pyramids import tissue, write_pyramid


@pytest.fixture
def no_room() -> Iterator[None]:
    """No file may grow beyond 400 kB, more than the slides take: a write fails half way, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_checkpoint_that_finds_no_room_is_one_line_that_names_it(tmp_path, run_here, no_room):
    words = [*SMALL_RUN, "run_name=a", "trainer.max_epochs=1", "model.encoder.embedding_dim=1024"]
    status, said = run_here("milpath.train", *words, cwd=tmp_path)
    assert status == 1
    (line,) = said.splitlines()
    assert line.startswith("OSError: cannot write to ")
    assert line.endswith("best.ckpt (File too large); free some disk space and run the same command again")
    assert not [path for path in (tmp_path / "runs").rglob("*") if path.suffix in (".ckpt", ".partial")]


def test_features_that_find_no_room_are_one_line_and_the_rest_goes_on_with_room(tmp_path, run_here, request):
    pytest.importorskip("timm")
    for seed in range(2):
        write_pyramid(tmp_path / f"slides/slide {seed}.tiff", tissue(260, 240, seed), factors=(4, 1))
    words = ["slides=slides", "encoder=efficientnet_lite0", "tile_size=32", "microns_per_pixel=1", "dtype=float32"]
    words += ["min_tissue=0.01", "device=cpu", "output=out"]
    request.getfixturevalue("no_room")
    status, said = run_here("milpath.extract", *words, cwd=tmp_path)
    assert status == 1
    line = said.splitlines()[-1]
    assert line.startswith(
        "ValueError: cannot write to out: [Errno 27] File too large; make room and run the same command"
    )
    assert not (tmp_path / "out/store.json").exists()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    status, said = run_here("milpath.extract", *words, cwd=tmp_path)
    assert status == 0, said
    assert BagStore.open(tmp_path / "out").tiles.nbytes > 400_000


@pytest.mark.parametrize("words", [["milpath.train", "run_name=a"], ["milpath.train", "-m", "seed=0,1"]])
def test_a_run_folder_that_cannot_be_made_is_one_line(tmp_path, run_here, words):
    (tmp_path / "file").write_text("")
    status, said = run_here(*words, *SMALL_RUN, "paths.runs_dir=file/runs", cwd=tmp_path)
    assert status == 1
    (line,) = said.splitlines()
    assert line.startswith("NotADirectoryError: ")
    assert "file/runs" in line
