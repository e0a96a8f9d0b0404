"""The main job, from the command line to the run folder."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from milpath.models import load_card, load_network
from tests.commands import SMALL_RUN, here, milpath
from tests.warm_start import WarmCommand


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("train")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_network(path).state_dict()


@pytest.fixture(scope="module")
def run_dir(workplace) -> Path:
    milpath("train", *SMALL_RUN, "run_name=first", "trainer.max_epochs=2", cwd=workplace)
    return workplace / "runs" / "first"


def test_a_run_folder_holds_what_others_script_against(run_dir):
    metrics = json.loads((run_dir / "metrics.json").read_text())
    for split in ("val", "test"):
        assert {"auroc", "accuracy"} <= metrics[split].keys()
    predictions = pd.read_csv(run_dir / "predictions.csv")
    splits = pd.read_csv(run_dir / "splits.csv")
    assert {"id", "split", "label", "predicted", "probability_benign", "probability_malignant", "attention"} <= set(
        predictions
    )
    assert len(predictions) == len(splits) == 24
    assert predictions["id"].is_unique
    attention = np.array([json.loads(cell) for cell in predictions["attention"]])
    assert attention.shape == (24, 4)
    np.testing.assert_allclose(attention.sum(1), 1, atol=1e-5)
    for name in (
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "config.yaml",
        "provenance.json",
        "logs/csv/metrics.csv",
    ):
        assert (run_dir / name).is_file(), name


def test_the_checkpoint_carries_its_network_and_its_classes(run_dir):
    card = load_card(run_dir / "checkpoints" / "best.ckpt")
    assert card.class_names == ("benign", "malignant")
    network = load_network(run_dir / "checkpoints" / "best.ckpt")
    assert network.tile_encoder.network.tile_size == 32


def test_evaluate_gives_the_same_numbers_again(run_dir, workplace, run_here):
    words = [f"checkpoint={run_dir}/checkpoints/best.ckpt", "run_name=again", "report=false"]
    assert run_here("milpath.evaluate", *words, cwd=workplace)[0] == 0
    first, again = (json.loads((workplace / "runs" / name / "metrics.json").read_text()) for name in ("first", "again"))
    for split in ("val", "test"):
        assert again[split] == pytest.approx(first[split], abs=1e-6)


def test_two_runs_with_one_seed_have_equal_losses_to_the_last_bit(run_dir, workplace, run_here):
    run_here("milpath.train", *SMALL_RUN, "run_name=second", "trainer.max_epochs=2", cwd=workplace)
    first, second = (pd.read_csv(workplace / "runs" / name / "logs/csv/metrics.csv") for name in ("first", "second"))
    pd.testing.assert_series_equal(first["train/loss"], second["train/loss"], check_exact=True)
    torch.testing.assert_close(
        weights(run_dir / "checkpoints/last.ckpt"),
        weights(workplace / "runs/second/checkpoints/last.ckpt"),
        atol=0,
        rtol=0,
    )


def test_another_seed_gives_other_weights(run_dir, workplace, run_here):
    run_here("milpath.train", *SMALL_RUN, "run_name=third", "seed=1", "trainer.max_epochs=1", cwd=workplace)
    name = "classification_layer.weight"
    other = weights(workplace / "runs/third/checkpoints/last.ckpt")[name]
    assert not torch.equal(other, weights(run_dir / "checkpoints/last.ckpt")[name])


@pytest.mark.slow
@pytest.mark.parametrize("timed", [False, True], ids=["at_the_end_of_an_epoch", "in_mid_epoch"])
def test_a_run_killed_in_mid_epoch_and_resumed_ends_with_the_weights_of_the_uninterrupted_one(workplace, timed):
    name = f"killed_{timed}"
    # Enough epochs to be killed in the middle: six are over within a second of the first checkpoint.
    words = [*SMALL_RUN, "trainer.max_epochs=15", "data.augmentation=full", "callbacks.early_stopping=null"]
    if timed:
        words += ["callbacks.timed_checkpoint.train_time_interval.minutes=0.00001"]
    if not (workplace / "runs/whole").exists():
        here("milpath.train", *words, "run_name=whole", cwd=workplace)
    process = WarmCommand("train", [*words, f"run_name={name}"], workplace)
    last = workplace / "runs" / name / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 300
    while not (last.exists() and resumable(torch.load(last, weights_only=True), mid_epoch=timed)):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (workplace / "runs" / name / "metrics.json").exists()
    here("milpath.train", *words, f"run_name={name}", "resume_from=auto", cwd=workplace)
    for checkpoint in ("last.ckpt", "best.ckpt"):
        whole, resumed = (weights(workplace / "runs" / run / "checkpoints" / checkpoint) for run in ("whole", name))
        torch.testing.assert_close(resumed, whole, atol=0, rtol=0)
    whole, resumed = (
        load_card(workplace / "runs" / run / "checkpoints/best.ckpt").familiarity for run in ("whole", name)
    )
    for part in ("bags", "tiles"):
        torch.testing.assert_close(resumed[part], whole[part], atol=0, rtol=0)
    assert torch.equal(resumed["scores"], whole["scores"])
    whole, resumed = ((workplace / "runs" / run / "logs/csv/metrics.csv").read_text() for run in ("whole", name))
    assert resumed == whole


def resumable(checkpoint: dict, mid_epoch: bool) -> bool:
    """Whether a checkpoint is far enough; an epoch has four steps."""
    return checkpoint["epoch"] >= 1 and (checkpoint["global_step"] % 4 != 0) == mid_epoch


def test_a_sweep_makes_one_run_for_each_value(workplace, run_here):
    words = [*SMALL_RUN, "data.num_slides=16", "run_name=sweep", "trainer.max_epochs=1", "model.gated=true,false"]
    run_here("milpath.train", "-m", *words, cwd=workplace)
    gated = [load_network(workplace / f"runs/sweep/{job}/checkpoints/best.ckpt").gated for job in (0, 1)]
    assert gated == [True, False]


BAD_WORDS = {
    "an unknown key": (["data.tils=here"], "tils"),
    "an unknown group option": (["model=transformer"], "transformer"),
    "no data at the path": (
        ["data=panda_tiles", "data.tiles=missing", "data.labels=missing.csv"],
        "kaggle",
    ),
    "a run that is there already": (["run_name=first"], "resume_from=auto"),
    "a checkpoint that is not there": (["resume_from=nothing.ckpt"], "resume_from=nothing.ckpt does not exist"),
    "no bag to validate on": (["data.val_fraction=0.02"], "callbacks=no_validation"),
    "an undefined monitor": (
        ["data.val_fraction=0.15"],
        "with 0, 1 validation bags per class, give monitor= one of val/brier, ",
    ),
    "a monitor that is no metric": (["monitor=val/auc"], "callbacks.best_checkpoint monitors val/auc; "),
    "a key that the data have not": (["+data.foo=3"], "SyntheticBags does not accept its arguments"),
    "a rate that is no number": (["optimizer.lr=abc"], "optimizer.lr=abc"),
    "a negative rate": (["optimizer.lr=-1"], "Invalid learning rate: -1): optimizer.lr=-1"),
    "a sweep over processes": (["-m", "trainer.devices=2", "seed=0,1"], "each process would relaunch the sweep"),
    "no slides at the path": (
        ["slides_dir=nowhere"],
        "slides_dir=nowhere does not exist; give the folder of the whole",
    ),
    "a loss of another network": (
        ["auxiliary_loss=clam_clustering"],
        "set model=clam_sb or model=clam_mb, or auxiliary_loss",
    ),
    "a loss of another task": (
        ["model=dsmil", "auxiliary_loss=dsmil_max_instance", "auxiliary_loss.task=nominal"],
        "auxiliary_loss.task=nominal, but the task of the data is binary; leave it out",
    ),
    "unknown class weights": (["class_weights=heavy"], "none, balanced"),
}


@pytest.mark.parametrize("words", BAD_WORDS)
def test_bad_words_get_one_line_that_says_what_to_type(run_dir, workplace, words, run_here):
    overrides, expected = BAD_WORDS[words]
    bad = f"bad_{list(BAD_WORDS).index(words)}"
    name = [] if any(word.startswith("run_name") for word in overrides) else [f"run_name={bad}"]
    small = [word for word in SMALL_RUN if not (word.startswith("data") and "data=panda_tiles" in overrides)]
    status, output = run_here("milpath.train", *overrides, *small, *name, cwd=workplace)
    assert status != 0
    assert expected.lower() in output.lower()
    assert "Traceback" not in output or "-m" in overrides
    assert not (workplace / "runs" / bad).exists() or "-m" in overrides  # a run that never began leaves nothing


@pytest.mark.parametrize(
    ("precision", "clip"), [("bf16-mixed", "null"), ("bf16-mixed", 1.0), ("bf16-true", 1.0), ("64-true", "null")]
)
def test_a_network_trains_in_other_precisions(workplace, run_here, precision, clip):
    name = f"{precision}_{clip}"
    words = [f"trainer.precision={precision}", f"run_name={name}", "trainer.max_epochs=1"]
    status, output = run_here("milpath.train", *SMALL_RUN, *words, f"trainer.gradient_clip_val={clip}", cwd=workplace)
    assert status == 0, output
    metrics = json.loads((workplace / f"runs/{name}/metrics.json").read_text())
    assert 0 <= metrics["test"]["auroc"] <= 1


def test_a_loss_that_is_no_number_stops_the_run_and_names_step_and_bags(workplace, run_here):
    words = [*SMALL_RUN, "run_name=nan", "optimizer.lr=1e30", "trainer.max_epochs=3"]
    status, output = run_here("milpath.train", *words, cwd=workplace)
    assert status == 1
    assert "FloatingPointError: train/loss is" in output
    assert "bags '" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "words",
    [
        ["model=dsmil", "auxiliary_loss=dsmil_max_instance"],
        [
            "model=dsmil",
            "auxiliary_loss=dsmil_max_instance",
            "data.task=ordinal",
            "data.target=isup",
            "data.num_slides=60",
        ],
        ["model=clam_sb", "auxiliary_loss=clam_clustering"],
    ],
    ids=["dsmil", "dsmil-ordinal", "clam"],
)
def test_a_network_trains_with_the_loss_of_its_paper(workplace, request, words):
    name = request.node.callspec.id
    status = here("milpath.train", *SMALL_RUN, *words, f"run_name={name}", "trainer.max_epochs=1", cwd=workplace)
    assert status == 0
    assert (workplace / "runs" / name / "metrics.json").exists()
