import asyncio
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from milpath.config.own_parts import OwnParts
from milpath.inference.predict_slides import predict_slides
from milpath.models import CLAMMB, AttentionMIL, MILOutput, save_network
from milpath.models.checkpoint import load_card, load_network
from milpath.models.familiarity import say_unknown
from milpath.targets.regression import Regression
from milpath.viewer.result_page import render_answer
from milpath.viewer.server import sweep
from milpath.viewer.session_history import remember, render_history
from milpath.viewer.upload_answer import Analyst
from milpath.viewer.upload_check import Limits
from milpath.viewer.upload_folder import Uploads
from tests.pyramids import tissue, write_pyramid
from tests.viewer.conftest import BAD, TILE, png, write_zip

LIMITS = Limits(max_upload_mb=3, max_tiles=40, max_seconds=60)


@pytest.fixture(scope="module")
def analyst(checkpoint) -> Analyst:
    return Analyst(checkpoint, LIMITS)


@pytest.fixture
def ask(analyst, tmp_path):
    """Upload copies of files, ask, and see that nothing is left."""
    folder = tmp_path / "app"
    folder.mkdir()
    uploads = Uploads(folder)

    def ask_(*files: Path):
        payload = []
        for number, path in enumerate(files):
            target = uploads.incoming / f"hash{number}" / path.name
            target.parent.mkdir()
            shutil.copy(path, target)
            payload.append({"path": str(target), "meta": {"_type": "gradio.FileData"}})
        with uploads.take(payload) as (taken, work):
            return analyst.answer(taken, work)

    ask_.uploads = uploads
    yield ask_
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert sorted(path.name for path in folder.rglob("*")) == ["answering", "incoming"]


def _predict(run_here, checkpoint, slides, tmp_path) -> tuple[dict, pd.DataFrame]:
    words = [f"checkpoint={checkpoint}", f"slides={slides}", "output=out", "device=cpu", "num_workers=1"]
    status, message = run_here("milpath.predict", *words, cwd=tmp_path)
    assert status == 0, message
    (row,) = pd.read_csv(tmp_path / "out/predictions.csv").to_dict("records")
    return row, pd.read_csv(tmp_path / "out/attention.csv")


def test_a_slide_is_answered_as_predict_answers_it(ask, checkpoint, run_here, tmp_path, monkeypatch):
    slide = write_pyramid(tmp_path / "slide 7.tiff", tissue(80, 60, seed=3), factors=(2, 1))
    shown = []
    from milpath.viewer import upload_answer as module

    real = module.draw_top_tiles
    monkeypatch.setattr(module, "draw_top_tiles", lambda store, bag: shown.append(bag.attention) or real(store, bag))
    answer = ask(slide)
    row, attention = _predict(run_here, checkpoint, slide, tmp_path)
    expected = row["probability_benign"], row["probability_malignant"]
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(shown[0], attention["weight"], atol=1e-6)
    assert (answer.name, answer.predicted, answer.threshold) == (row["id"], row["predicted"], row["threshold"])
    assert answer.deferred == row["defer"] == (max(answer.probabilities) < 0.999)
    assert answer.num_tiles == 6
    assert answer.overlay is not None


def test_tiles_are_answered_as_predict_answers_them_whether_zipped_or_not(ask, checkpoint, run_here, tmp_path):
    tiles = {f"slide_{number}.png": png(seed=number) for number in (10, *range(10))}
    (tmp_path / "tiles").mkdir()
    paths = [tmp_path / "tiles" / name for name in tiles]
    for path in paths:
        path.write_bytes(tiles[path.name])
    packed = write_zip(tmp_path / "any name.zip", tiles | {"__MACOSX/._slide_0.png": b"litter"})
    row, _ = _predict(run_here, checkpoint, write_zip(tmp_path / "clean.zip", tiles), tmp_path)
    for answer in (ask(packed), ask(*paths)):
        np.testing.assert_allclose(answer.probabilities[1], row["probability_malignant"], atol=1e-6)
        assert answer.name == row["id"] == "slide"
        assert answer.num_tiles == 11
        assert answer.overlay is None


def test_a_plain_picture_is_a_slide(ask, tmp_path):
    Image.fromarray(tissue(90, 70)).save(tmp_path / "photo.jpeg", quality=95)
    assert ask(tmp_path / "photo.jpeg").name == "photo"


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_answered_is_refused_in_one_line_and_deleted(kind, ask, bad_files):
    files, words = bad_files[kind]
    with pytest.raises(ValueError) as error:
        ask(*files)
    line = ask.uploads.one_line(error.value)
    assert words in line
    assert str(ask.uploads.incoming.parent) not in line
    assert "/" not in line.replace("../../evil_0.png", "")
    assert "\n" not in line


def test_a_slide_that_takes_too_long_is_given_up(checkpoint, tmp_path):
    # Large enough to take far longer than the limit, also where this process has to wait for its core.
    slide = write_pyramid(tmp_path / "slide.tiff", tissue(3000, 2000), factors=(1,))
    (tmp_path / "work").mkdir()
    with pytest.raises(ValueError, match=r"0\.01 s"):
        Analyst(checkpoint, Limits(max_seconds=0.01)).answer([slide], tmp_path / "work")


def test_a_path_that_was_not_uploaded_is_neither_read_nor_deleted_nor_fetched(ask, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png())
    incoming = ask.uploads.incoming
    paths = [
        str(secret),
        f"{incoming}/../../secret.png",
        str(incoming),
        "http://192.0.2.1/slide.png",
        "/etc/passwd",
        7,
        "\0",
    ]
    for path in paths:
        for payload in ([{"path": path}], [{"path": path, "url": "http://192.0.2.1/slide.png"}], [path]):
            with pytest.raises(ValueError, match="not an uploaded file"), ask.uploads.take(payload):
                pass
    for payload in (None, [], {}, "x"):
        with pytest.raises(ValueError, match="there is no file"), ask.uploads.take(payload):
            pass
    assert secret.exists()
    link = incoming / "link.png"
    link.symlink_to(secret)
    with pytest.raises(ValueError, match="not an uploaded file"), ask.uploads.take([{"path": str(link)}]):
        pass
    link.unlink()


def test_files_are_deleted_also_when_the_app_itself_fails(ask, tmp_path, monkeypatch):
    slide = write_pyramid(tmp_path / "slide.tiff", tissue(80, 60), factors=(2, 1))
    monkeypatch.setattr("milpath.viewer.upload_answer.predict_bags", lambda *words, **more: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ask(slide)


def test_an_upload_nobody_asked_about_is_forgotten_and_a_new_one_kept(tmp_path):
    uploads = Uploads(tmp_path)
    for name, age in (("old", 100), ("new", 1)):
        path = uploads.incoming / name / "slide.tiff"
        path.parent.mkdir()
        path.write_bytes(b"1")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    uploads.forget_older_than(50)
    assert [path.relative_to(uploads.incoming).as_posix() for path in sorted(uploads.incoming.rglob("*"))] == [
        "new",
        "new/slide.tiff",
    ]
    with pytest.raises(ValueError, match=r"slide\.tiff no longer exists; upload the file again"):
        with uploads.take([{"path": str(uploads.incoming / "old" / "slide.tiff")}]):
            pass


def test_the_server_forgets_while_it_runs(tmp_path):
    uploads = Uploads(tmp_path)
    (uploads.incoming / "slide.tiff").write_bytes(b"1")

    async def run_until_it_is_forgotten():
        sweeping = asyncio.create_task(sweep(uploads, 0.05))
        async with asyncio.timeout(60):
            while any(uploads.incoming.iterdir()):
                await asyncio.sleep(0.01)
        assert not sweeping.done()
        sweeping.cancel()

    asyncio.run(run_until_it_is_forgotten())


def test_a_network_that_reads_tiles_alone_says_so_of_a_slide(tmp_path, checkpoint):
    card = load_card(checkpoint)
    save_network(load_network(checkpoint), tmp_path / "tiles.pt", card, tiling={"tile_size": TILE})
    slide = write_pyramid(tmp_path / "slide.tiff", tissue(80, 60), factors=(2, 1))
    (tmp_path / "work").mkdir()
    with pytest.raises(ValueError, match="this network only accepts tiles"):
        Analyst(tmp_path / "tiles.pt", LIMITS).answer([slide], tmp_path / "work")


def test_a_network_of_features_is_refused_at_the_start(tmp_path):
    network = AttentionMIL(encoder={"name": "linear", "num_features": 4})
    save_network(network, tmp_path / "features.pt")
    with pytest.raises(ValueError, match="was not trained on image tiles"):
        Analyst(tmp_path / "features.pt", LIMITS)
    save_network(network, tmp_path / "encoded.pt", tiling={"tile_size": TILE})
    with pytest.raises(ValueError, match="features"):
        Analyst(tmp_path / "encoded.pt", LIMITS)


def test_limits_must_let_something_through():
    with pytest.raises(ValueError, match="max_tiles=0 must be greater than 0"):
        Limits(max_tiles=0)


class OwnNetwork(nn.Module):
    """A network of the user's own, without an encoder of this library."""

    def __init__(self, num_outputs: int = 1) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        self.layer = nn.Linear(3, num_outputs)

    def forward(self, tiles, mask=None):
        attention = torch.full(tiles.shape[:2], 1 / tiles.shape[1])
        return MILOutput(self.layer(tiles.mean((1, 3, 4))), attention)


def test_the_app_answers_with_a_network_of_the_users_own_if_it_is_given(tmp_path):
    save_network(OwnNetwork(), tmp_path / "own.pt", tiling={"rule": "darkest", "tile_size": TILE, "num_tiles": 4})
    analyst = Analyst(tmp_path / "own.pt", LIMITS, parts=OwnParts(networks=(OwnNetwork,)))
    tiles = [tmp_path / f"tile_{number}.png" for number in range(2)]
    for number, tile in enumerate(tiles):
        tile.write_bytes(png(seed=number))
    answer = analyst.answer(tiles, tmp_path)
    assert sum(answer.probabilities) == pytest.approx(1)
    with pytest.raises(ValueError, match="unknown network 'OwnNetwork'"):
        Analyst(tmp_path / "own.pt", LIMITS)


def test_a_network_with_attention_per_class_shows_a_map_for_each(tmp_path):
    torch.manual_seed(0)
    network = CLAMMB(encoder={"name": "tile_cnn", "tile_size": TILE, "embedding_dim": 8}, hidden_dim=8)
    tiling = {"method": "darkest", "tile_size": TILE, "num_tiles": 6, "level": -1}
    save_network(network, tmp_path / "network.pt", class_names=("benign", "malignant"), tiling=tiling)
    slide = write_pyramid(tmp_path / "slide.tiff", tissue(80, 60, seed=3), factors=(2, 1))
    (tmp_path / "work").mkdir()
    answer = Analyst(tmp_path / "network.pt", LIMITS).answer([slide], tmp_path / "work")
    assert [words for words, _ in answer.class_overlays] == ["attention for benign", "attention for malignant"]
    page = render_answer(answer)
    assert page.count("<img ") == 5
    assert "Attention for malignant, on one scale for all classes." in page


def test_an_upload_of_another_resolution_is_refused_and_an_unknown_one_is_said(checkpoint, tmp_path):
    network, card = load_network(checkpoint), load_card(checkpoint)
    trained = tmp_path / "trained.pt"
    tiling = {**card.tiling, "trained_microns_per_pixel": [1.0, 1.0]}
    save_network(network, trained, class_names=card.class_names, threshold=card.threshold, tiling=tiling)
    analyst = Analyst(trained, LIMITS)
    slide = write_pyramid(tmp_path / "a.tiff", tissue(80, 60), factors=(2, 1))  # its smallest level has 1 micron
    assert analyst.answer([slide], tmp_path / "first").resolution == ""
    coarse = write_pyramid(tmp_path / "b.tiff", tissue(80, 60), factors=(8, 1))
    with pytest.raises(ValueError, match=r"another resolution than the network was trained at \(1 microns per pixel"):
        analyst.answer([coarse], tmp_path / "second")
    Image.fromarray(tissue(80, 60)).save(tmp_path / "c.png")
    answer = analyst.answer([tmp_path / "c.png"], tmp_path / "third")
    assert "the network was trained at 1 microns per pixel" in answer.resolution
    assert "<p>The resolution of 1 of 1 bags is unknown" in render_answer(answer)


def test_numbers_of_a_network_of_drawn_slides_are_referred_as_predict_refers_them(checkpoint, tmp_path):
    words = {"class_names": ("age",), "task": "regression", "warning": "drawn slides: says nothing about tissue"}
    state, tiling = Regression(["age"], mean=[60.0], scale=[10.0]).state(), load_card(checkpoint).tiling
    save_network(load_network(checkpoint), tmp_path / "n.pt", **words, target_state=state, tiling=tiling)
    slide = write_pyramid(tmp_path / "a.tiff", tissue(80, 60, seed=3), factors=(2, 1))
    (predicted,) = predict_slides(tmp_path / "n.pt", slide, num_workers=1, device="cpu")
    (tmp_path / "work").mkdir()
    answer = Analyst(tmp_path / "n.pt", LIMITS).answer([slide], tmp_path / "work")
    assert answer.deferred
    assert predicted.refer
    assert "Refer to a person, whatever the prediction." in render_answer(answer)
    assert "refer to a person" in render_history(remember([], answer))


def test_a_decision_that_was_chosen_on_patients_is_said_of_a_slide(checkpoint, tmp_path, caplog):
    save_network(load_network(checkpoint), tmp_path / "n.pt", load_card(checkpoint), data={"aggregate": "mean"})
    slide = write_pyramid(tmp_path / "a.tiff", tissue(80, 60, seed=3), factors=(2, 1))
    list(predict_slides(tmp_path / "n.pt", slide, num_workers=1, device="cpu"))
    (tmp_path / "work").mkdir()
    page = render_answer(Analyst(tmp_path / "n.pt", LIMITS).answer([slide], tmp_path / "work"))
    said = "chosen on patients with aggregate=mean and are used for single bags: they may not fit these"
    assert said in page
    logged = [record.message for record in caplog.records]
    assert [message for message in logged if message.endswith(said)]
    assert say_unknown() in logged


def test_stains_that_were_not_normalised_are_said_of_their_slide_alone(tmp_path):
    target = {"mean": [70.0, 20.0, -10.0], "std": [12.0, 9.0, 6.0]}
    encoder = {"name": "tile_cnn", "tile_size": TILE, "embedding_dim": 8, "stain_normalisation": "reinhard"}
    save_network(
        AttentionMIL(encoder=encoder | {"stain_target": target}), tmp_path / "n.pt", class_names=("benign", "malignant"),
        tiling={"tile_size": TILE},
    )  # fmt: skip
    analyst, notes = Analyst(tmp_path / "n.pt", LIMITS), []
    for number, value in enumerate((None, 255, None)):
        (tmp_path / f"{number}/work").mkdir(parents=True)
        tiles = [tmp_path / f"{number}/a_{tile}.png" for tile in range(3)]
        for seed, path in enumerate(tiles):
            path.write_bytes(png(seed=seed))
            if value is not None:
                Image.new("RGB", (TILE, TILE), (value, value, value)).save(path)
        notes.append(analyst.answer(tiles, tmp_path / f"{number}/work").notes)
    said = "the stains of 1 of 1 bags were not normalised: too little stained tissue, or other stains than the target"
    assert notes == [(), (said,), ()]
