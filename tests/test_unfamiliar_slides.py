"""A network says whether it knows slides like these, everywhere it answers, and refers those that it does not know."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from milpath.data import SyntheticBags
from milpath.inference.ensemble import open_predictor
from milpath.inference.predict_slides import predict_slides
from milpath.models.checkpoint import load_card, load_network, save_network, update_card
from milpath.models.familiarity import say_unknown
from milpath.runs.familiar_bags import fitting_probe, require_familiarity
from milpath.sagemaker import inference
from milpath.sagemaker.jobs.model_archive import write_model_dir
from milpath.viewer.result_page import render_answer
from milpath.viewer.upload_answer import Analyst
from milpath.viewer.upload_check import Limits
from tests.commands import SMALL_RUN, here
from tests.sagemaker.request_bodies import npy

pytestmark = pytest.mark.command
COLUMNS = ["unfamiliar", "unfamiliarity", "unfamiliarity_score"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run on drawn slides that no longer says that they are drawn, and tiles of two slides like them and of two others."""
    folder = tmp_path_factory.mktemp("unfamiliar")
    words = [*SMALL_RUN, "report=true", "data.num_slides=40", "data.val_fraction=0.4", "trainer.max_epochs=1"]
    assert here("milpath.train", *words, "run_name=r", cwd=folder) == 0
    # Every answer of a network of drawn slides is referred; this one stands for a network of tissue.
    best = folder / "runs/r/checkpoints/best.ckpt"
    card = load_card(best)
    save_network(load_network(best), folder / "best.ckpt", card, warning="", data={})
    SyntheticBags(num_slides=2, num_tiles=4, tile_size=32, drawing_seed=7).write_folder(folder / "png")
    generator = np.random.default_rng(0)
    for slide in ("noise-a", "noise-b"):
        for number in range(4):
            picture = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / "png/train" / f"{slide}_{number}.png")
    return folder


@pytest.fixture(scope="module")
def predicted(folder) -> pd.DataFrame:
    words = ["checkpoint=best.ckpt", "slides=png/train", "output=out", "device=cpu"]
    assert here("milpath.predict", *words, cwd=folder) == 0
    return pd.read_csv(folder / "out/predictions.csv").set_index("id")


def test_the_card_keeps_a_small_model_of_plain_tensors(folder):
    content = torch.load(folder / "runs/r/checkpoints/best.ckpt", weights_only=True)["milpath"]["familiarity"]
    tensors = [*content["bags"].values(), *content["tiles"].values(), content["scores"]]
    assert all(value.dtype == torch.float32 for value in tensors)
    assert sum(value.nbytes for value in tensors) < 20_000
    model = load_card(folder / "runs/r/checkpoints/best.ckpt").familiar
    assert model is not None
    splits = pd.read_csv(folder / "runs/r/splits.csv")["split"].value_counts()
    assert (model.num_bags, len(model.scores), model.refer) == (splits["train"], splits["val"], 0.01)


def test_the_run_and_its_evaluation_have_the_same_columns_and_shares(folder, capsys):
    words = [
        "checkpoint=runs/r/checkpoints/best.ckpt",
        "run_name=e",
        "trainer.accelerator=cpu",
        "splits=[train,val,test]",
    ]
    assert here("milpath.evaluate", *words, cwd=folder) == 0
    assert "unfamiliar slides: a bag that is more unfamiliar than all of the" in " ".join(
        capsys.readouterr().out.split()
    )
    first, again = ((folder / "runs" / name / "predictions.csv").read_text() for name in ("r", "e"))
    assert again == first
    table = pd.read_csv(io.StringIO(first))
    assert table.columns[-3:].tolist() == COLUMNS
    validation = table[table["split"] == "val"]
    assert sorted(validation["unfamiliarity"].round(2)) == [
        round(float(f"{100 * place / len(validation):.4g}"), 2) for place in range(len(validation))
    ]
    metrics = json.loads((folder / "runs/r/metrics.json").read_text())
    test = table[table["split"] == "test"]
    assert metrics["test"]["unfamiliar_share"] == test["unfamiliar"].mean()
    assert metrics["test"]["unfamiliar_share_low"] <= metrics["test"]["unfamiliar_share"]
    assert "unfamiliar_share" not in metrics["train"]


def test_the_report_shows_distribution_bound_and_reasons_of_referral(folder):
    page = (folder / "runs/r/report.html").read_text()
    for words in (
        "Does the network know these slides?",
        'id="plot-unfamiliarity"',
        "bags to the right of the dashed line",
        "more unfamiliar than validation",
        "Why bags of the test split are referred",
        "decided by the network",
        "more than 0% of validation bags",
    ):
        assert words in page, words


def test_slides_unlike_those_of_the_training_are_referred_and_others_are_not(folder, predicted, capsys):
    assert predicted[COLUMNS[0]].groupby(predicted.index.str.startswith("noise")).mean().tolist() == [0, 1]
    assert predicted.loc[["noise-a", "noise-b"], "defer"].tolist() == [1, 1]
    assert predicted.loc[["noise-a", "noise-b"], "unfamiliarity"].tolist() == [100, 100]
    tiles = pd.read_csv(folder / "out/attention.csv")
    noise = tiles["id"].str.startswith("noise")
    assert tiles.loc[noise, "unfamiliarity"].min() == 100
    assert tiles.loc[~noise, "unfamiliarity"].mean() < 90


def test_the_end_of_predict_says_how_many_are_unfamiliar(folder, capsys):
    words = ["checkpoint=best.ckpt", "slides=png/train", "output=said", "device=cpu", "pictures=false"]
    assert here("milpath.predict", *words, cwd=folder) == 0
    out = capsys.readouterr().out
    assert "unfamiliar, to refer to a person whatever the answer: 2 of 4 slides" in out
    assert "refer to a person: unfamiliar" in out


def test_a_checkpoint_without_the_model_says_so_in_one_line_and_answers_as_before(folder, predicted, capsys):
    card = load_card(folder / "best.ckpt")
    save_network(load_network(folder / "best.ckpt"), folder / "old.ckpt", card, familiarity={})
    words = ["checkpoint=old.ckpt", "slides=png/train", "output=old", "device=cpu", "pictures=false"]
    assert here("milpath.predict", *words, cwd=folder) == 0
    assert capsys.readouterr().err.splitlines().count(say_unknown()) == 1
    table = pd.read_csv(folder / "old/predictions.csv").set_index("id")
    assert not set(COLUMNS) & set(table.columns)
    left = [name for name in table.columns if name != "defer"]
    pd.testing.assert_frame_equal(table[left], predicted[left])
    assert table["defer"].tolist() == [0, 0, 0, 0] or not table["defer"].gt(predicted["defer"]).any()
    assert "unfamiliarity" not in pd.read_csv(folder / "old/attention.csv")


def test_the_endpoint_and_its_archive_answer_as_predict_does(folder, predicted):
    write_model_dir(folder / "best.ckpt", folder / "archive")
    endpoint = inference.model_fn(str(folder / "archive"))
    for slide in predicted.index:
        tiles = np.stack([np.asarray(Image.open(folder / f"png/train/{slide}_{n}.png")) for n in range(4)])
        row = predicted.loc[slide]
        answer = json.loads(endpoint.answer(npy(tiles), "application/x-npy")[0])["predictions"][0]
        assert answer["unfamiliar"] is bool(row["unfamiliar"])
        assert answer["unfamiliarity"] == pytest.approx(row["unfamiliarity"], abs=0.01)
        assert answer["unfamiliarity_score"] == pytest.approx(row["unfamiliarity_score"], abs=2e-4)
        assert answer["deferred"] is bool(row["defer"])
        body = np.load(io.BytesIO(endpoint.answer(npy(tiles), "application/x-npy", "application/x-npz")[0]))
        assert body["unfamiliar"].tolist() == [row["unfamiliar"]]
        assert body["deferred"].tolist() == [bool(row["defer"])]


@pytest.mark.parametrize(("slide", "refer"), [("noise-a", True), ("", False)])
def test_the_app_says_it_in_words(folder, predicted, tmp_path, slide, refer):
    slide = slide or next(name for name in predicted.index if not name.startswith("noise"))
    files = [folder / f"png/train/{slide}_{number}.png" for number in range(4)]
    answer = Analyst(folder / "best.ckpt", Limits()).answer(files, tmp_path)
    page = render_answer(answer)
    assert answer.unfamiliar is refer
    assert ("the network does not know slides like this one" in page) is refer
    assert f"More unfamiliar than {predicted.loc[slide, 'unfamiliarity']:.3g}% of the" in page


def test_the_app_of_a_checkpoint_without_the_model_says_that_it_does_not_know(folder, tmp_path):
    save_network(
        load_network(folder / "best.ckpt"), tmp_path / "old.ckpt", load_card(folder / "best.ckpt"), familiarity={}
    )
    (tmp_path / "work").mkdir()
    files = [folder / f"png/train/noise-a_{number}.png" for number in range(4)]
    answer = Analyst(tmp_path / "old.ckpt", Limits()).answer(files, tmp_path / "work")
    assert not answer.unfamiliar
    assert "This checkpoint has no model of familiar slides" in render_answer(answer)


def test_without_a_share_slides_are_ranked_but_none_is_referred(folder, capsys):
    card = load_card(folder / "best.ckpt")
    save_network(
        load_network(folder / "best.ckpt"),
        folder / "none.ckpt",
        card,
        familiarity=dict(card.familiarity) | {"refer": None},
    )
    words = ["checkpoint=none.ckpt", "slides=png/train", "output=none", "device=cpu", "pictures=false"]
    assert here("milpath.predict", *words, cwd=folder) == 0
    table = pd.read_csv(folder / "none/predictions.csv").set_index("id")
    assert table["unfamiliar"].isna().all()
    assert table.loc["noise-a", "unfamiliarity"] == 100
    assert "unfamiliar, to refer" not in capsys.readouterr().out
    answer = inference.model_fn
    write_model_dir(folder / "none.ckpt", folder / "none_archive")
    tiles = np.stack([np.asarray(Image.open(folder / f"png/train/noise-a_{n}.png")) for n in range(4)])
    answer = inference.model_fn(str(folder / "none_archive")).answer(npy(tiles), "application/x-npy")[0]
    assert json.loads(answer)["predictions"][0]["unfamiliar"] is None


def test_a_changed_model_in_a_checkpoint_is_refused(folder, tmp_path):
    path = tmp_path / "changed.ckpt"
    content = torch.load(folder / "best.ckpt", weights_only=True)
    content["milpath"]["familiarity"]["scores"] += 1
    torch.save(content, path)
    with pytest.raises(ValueError, match="its card was changed after it was written"):
        load_card(path)
    bad = dict(load_card(folder / "best.ckpt").familiarity) | {"scale": torch.zeros(2)}
    path.write_bytes((folder / "best.ckpt").read_bytes())
    with pytest.raises(ValueError, match="scale of familiarity of the card must be above 0"):
        update_card(path, familiarity=bad)


def test_options_that_mean_nothing_are_refused_and_false_fits_nothing():
    for share in (0, 1, -0.1, 2.0):
        with pytest.raises(ValueError, match="must be above 0 and below 1"):
            require_familiarity(OmegaConf.create({"decision": {"refer_unfamiliar": share}}))
    require_familiarity(OmegaConf.create({"decision": {"refer_unfamiliar": None}}))
    assert fitting_probe(OmegaConf.create({"decision": {"familiarity": False}}), None) is None  # type: ignore[arg-type]


def test_two_copies_as_folds_rank_among_the_validation_bags_of_both(folder):
    predictor = open_predictor(str(folder / "best.ckpt"))
    assert predictor.familiarity is not None
    one = predictor.familiarity
    from milpath.models.familiarity import Familiarity

    both = Familiarity([*one.models, *one.models])
    distances = np.exp(np.random.default_rng(0).normal(size=(20, 1, 2)))
    np.testing.assert_allclose(
        both.judge(np.repeat(distances, 2, axis=1)).percent, one.judge(distances).percent, atol=1e-9
    )
    assert len(both.scores) == 2 * len(one.scores)


def test_arrays_refer_the_same_slides_with_the_same_cells(folder, predicted):
    card = load_card(folder / "best.ckpt")
    for network, given in ((folder / "best.ckpt", None), (load_network(folder / "best.ckpt"), card)):
        slides = list(predict_slides(network, folder / "png/train", given, num_workers=1, device="cpu"))
        assert {slide.slide_id: slide.refer for slide in slides} == predicted["defer"].astype(bool).to_dict()
        for slide in slides:
            assert list(slide.cells) == COLUMNS
            assert [float(cell) for cell in slide.cells.values()] == predicted.loc[slide.slide_id, COLUMNS].tolist()
            assert slide.tile_unfamiliarity.shape == slide.attention.shape
