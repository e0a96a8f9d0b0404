"""A run goes on as what it was, and as nothing else."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from milpath.models import load_network
from milpath.models.checkpoint import load_card, update_card
from milpath.records.folder_lock import FolderLock
from tests.commands import here
from tests.warm_start import WarmCommand

TRAIN = "milpath.train"
FEATURES = [
    "data=features", "data.path=in/feats", "data.labels=in/labels.csv", "model/encoder=linear",
    "model.encoder.hidden_dims=[16]", "trainer.accelerator=cpu", "logger=csv", "callbacks.progress=null", "report=false",
]  # fmt: skip
# Trained on, noise is learned by heart.
BY_HEART = [
    *FEATURES, "data.standardize=true", "optimizer.lr=0.01", "callbacks.early_stopping=null", "monitor=val/loss",
    "monitor_mode=min", "trainer.max_epochs=40", "resume_from=auto",
]  # fmt: skip
SHORT = [*FEATURES, "trainer.max_epochs=2", "run_name=cv"]


def write_features(folder: Path, labels: list[int]) -> None:
    """Write a slide of four tiles of pure noise for each label."""
    rng = np.random.default_rng(0)
    (folder / "feats").mkdir(parents=True)
    for number in range(len(labels)):
        torch.save(torch.from_numpy(rng.normal(size=(4, 16)).astype(np.float32)), folder / f"feats/S{number:03d}.pt")
    write_labels(folder / "labels.csv", labels)


def write_labels(path: Path, labels: list[int]) -> None:
    names = [f"S{number:03d}" for number in range(len(labels))]
    pd.DataFrame({"slide_id": names, "label": labels}).to_csv(path, index=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    write_features(folder / "in", [0, 1] * 12)
    assert here(TRAIN, *SHORT, cwd=folder) == 0
    return folder


@pytest.fixture
def workplace(trained, tmp_path) -> Path:
    """A copy of a folder with data and a run, to do anything with."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def files_of(run_dir: Path) -> dict[str, bytes]:
    names = ("splits.csv", "config.yaml", "identity.json", "metrics.json", "predictions.csv", "checkpoints/last.ckpt")
    return {name: (run_dir / name).read_bytes() for name in names if (run_dir / name).exists()}


def make_old(run_dir: Path) -> None:
    """Turn a run folder into one of version 0.1.0, which kept no identity."""
    (run_dir / "identity.json").unlink()
    for path in (run_dir / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        del content["milpath_run"], content["milpath"]["digests"]
        torch.save(content, path)


@pytest.mark.parametrize("old", [False, True], ids=["", "of version 0.1.0"])
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.fold=1", "runs/cv was trained with other values: data.fold=0 (now 1); give another run_name"),
        ("data.split_seed=1", "data.split_seed=0 (now 1)"),
        ("optimizer.lr=0.1", "optimizer.lr=0.0001 (now 0.1)"),
        ("scheduler=cosine", "scheduler=null (now torch.optim.lr_scheduler.CosineAnnealingLR)"),
        ("model=dsmil", "model=milpath.models.AttentionMIL (now milpath.models.DSMIL)"),
        ("seed=1", "seed=0 (now 1)"),
        ("data.labels=in/other.csv", "the labels (S000 0, now 1)"),
        ("data.path=in/other", "the tiles or features (data.path=in/feats, now in/other)"),
    ],
)
def test_another_run_is_not_resumed_and_nothing_of_the_first_is_touched(workplace, run_here, old, word, message):
    write_labels(workplace / "in/other.csv", [1, 1, 0, 0] + [0, 1] * 10)
    shutil.copytree(workplace / "in/feats", workplace / "in/other")
    torch.save(torch.ones(4, 16), workplace / "in/other/S003.pt")
    run_dir = workplace / "runs/cv"
    if old:
        make_old(run_dir)
    before = files_of(run_dir)
    status, error = run_here(TRAIN, *SHORT, "resume_from=auto", word, cwd=workplace)
    assert status == 1
    assert message in error
    assert "Traceback" not in error
    assert files_of(run_dir) == before


@pytest.mark.parametrize("old", [False, True], ids=["", "of version 0.1.0"])
def test_the_same_run_goes_on_from_other_folders_and_a_store_that_was_built_again(workplace, run_here, old):
    if old:
        make_old(workplace / "runs/cv")
    (workplace / "runs/cv/metrics.json").unlink()
    shutil.rmtree(workplace / "stores")
    (workplace / "in").rename(workplace / "moved")
    (workplace / "runs").rename(workplace / "elsewhere")
    words = [
        "data.path=moved/feats",
        "data.labels=moved/labels.csv",
        "paths.runs_dir=elsewhere",
        "paths.stores_dir=built",
    ]
    status, error = run_here(TRAIN, *SHORT, "resume_from=auto", *words, "data.num_workers=0", cwd=workplace)
    assert status == 0, error
    assert (workplace / "elsewhere/cv/metrics.json").is_file()


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # the best epoch of the old folder is not here
def test_a_checkpoint_that_was_moved_still_says_what_it_was_trained_with(workplace, run_here):
    shutil.move(workplace / "runs/cv/checkpoints/last.ckpt", workplace / "moved.ckpt")
    words = [*SHORT, "run_name=new", "resume_from=moved.ckpt"]
    status, error = run_here(TRAIN, *words, "data.fold=1", cwd=workplace)
    assert status == 1
    assert "moved.ckpt was trained with other values: data.fold=0 (now 1)" in error
    assert not (workplace / "runs/new").exists()
    assert run_here(TRAIN, *words, cwd=workplace)[0] == 0


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # the best epoch of the old folder is not here
def test_a_checkpoint_of_version_0_1_0_that_was_moved_is_compared_with_its_card(workplace, run_here):
    make_old(workplace / "runs/cv")
    shutil.move(workplace / "runs/cv/checkpoints/last.ckpt", workplace / "moved.ckpt")
    words = [*SHORT, "run_name=new", "resume_from=moved.ckpt"]
    status, error = run_here(TRAIN, *words, "data.fold=1", cwd=workplace)
    assert (status, "data.fold=0 (now 1)" in error) == (1, True)
    status, error = run_here(TRAIN, *words, cwd=workplace)
    assert status == 0
    assert (
        "moved.ckpt has no record of its tiles and labels; they are not compared"
        in (workplace / "runs/new/train.log").read_text()
    )


@pytest.mark.parametrize("left", ["checkpoints/best.ckpt", "metrics.json"])
def test_without_resume_a_folder_that_holds_anything_of_a_run_is_left_alone(workplace, run_here, left):
    run_dir = workplace / "runs/cv"
    for path in [*run_dir.glob("checkpoints/*"), run_dir / "metrics.json"]:
        if path != run_dir / left:
            path.unlink()
    before = files_of(run_dir)
    status, error = run_here(TRAIN, *SHORT, cwd=workplace)
    assert status == 1
    assert "already holds a run; give another run_name, or resume_from=auto to continue it" in error
    assert files_of(run_dir) == before


def test_a_run_that_ended_before_its_first_checkpoint_starts_again_as_itself_alone(workplace, run_here):
    run_dir = workplace / "runs/cv"
    shutil.rmtree(run_dir / "checkpoints")
    (run_dir / "metrics.json").unlink()
    status, error = run_here(TRAIN, *SHORT, "optimizer.lr=0.1", cwd=workplace)
    assert (status, "optimizer.lr=0.0001 (now 0.1)" in error) == (1, True)
    assert run_here(TRAIN, *SHORT, cwd=workplace)[0] == 0


def test_a_smoke_run_of_a_few_batches_leaves_its_folder_to_the_training(workplace, run_here):
    words = [TRAIN, *SHORT[:-1], "run_name=smoke"]
    assert run_here(*words, "+trainer.fast_dev_run=true", cwd=workplace)[0] == 0
    assert not (workplace / "runs/smoke/identity.json").exists()
    assert run_here(*words, cwd=workplace)[0] == 0
    assert (workplace / "runs/smoke/metrics.json").is_file()


def test_a_folder_of_an_evaluation_is_not_trained_into_and_one_of_a_training_not_evaluated_into(workplace, run_here):
    words = ["checkpoint=runs/cv/checkpoints/best.ckpt", "trainer.accelerator=cpu", "report=false"]
    before = files_of(workplace / "runs/cv")
    status, error = run_here("milpath.evaluate", *words, "run_name=cv", "overwrite=true", cwd=workplace)
    assert (status, "holds a training run, which an evaluation never overwrites" in error) == (1, True)
    assert files_of(workplace / "runs/cv") == before
    assert run_here("milpath.evaluate", *words, "run_name=tested", cwd=workplace)[0] == 0
    status, error = run_here(TRAIN, *SHORT, "run_name=tested", "resume_from=auto", cwd=workplace)
    assert (status, "runs/tested holds an evaluation; give another run_name to train" in error) == (1, True)


def test_a_run_that_is_continued_for_more_epochs_equals_one_that_had_them_from_the_start(workplace, run_here):
    words = ["trainer.max_epochs=5"]
    assert run_here(TRAIN, *SHORT, *words, "run_name=long", cwd=workplace)[0] == 0
    assert run_here(TRAIN, *SHORT, *words, "resume_from=auto", cwd=workplace)[0] == 0
    assert "continued: " in (log := (workplace / "runs/cv/train.log").read_text())
    assert "trainer.max_epochs was 2, is now 5" in log
    for name in ("last.ckpt", "best.ckpt"):
        long, continued = (load_network(workplace / f"runs/{run}/checkpoints/{name}") for run in ("long", "cv"))
        torch.testing.assert_close(continued.state_dict(), long.state_dict(), atol=0, rtol=0)
    status, error = run_here(TRAIN, *SHORT, "resume_from=auto", cwd=workplace)
    assert (status, "trainer.max_epochs=5 (now 2)" in error) == (1, True)
    assert "; 5 epochs are already done" in error
    # Planned for nine epochs and stopped before the first one ended: fewer are fine.
    assert (
        run_here(
            TRAIN, *SHORT, "trainer.max_epochs=9", "trainer.max_time=00:00:00:00", "run_name=planned", cwd=workplace
        )[0]
        == 0
    )
    assert (
        run_here(TRAIN, *SHORT, "trainer.max_epochs=4", "run_name=planned", "resume_from=auto", cwd=workplace)[0] == 0
    )


def test_a_checkpoint_is_written_again_only_if_the_results_change_its_card(workplace, run_here):
    words = ["callbacks=no_validation", "callbacks.progress=null", "data.val_fraction=0", "run_name=fixed"]
    best = workplace / "runs/fixed/checkpoints/best.ckpt"
    assert run_here(TRAIN, *SHORT, *words, cwd=workplace)[0] == 0
    written = best.stat().st_mtime_ns
    assert run_here(TRAIN, *SHORT, *words, "resume_from=auto", cwd=workplace)[0] == 0
    assert best.stat().st_mtime_ns == written
    assert load_card(best).threshold == 0.5
    update_card(best, threshold=0.9)  # as with another decision
    assert run_here(TRAIN, *SHORT, *words, "resume_from=auto", cwd=workplace)[0] == 0
    assert load_card(best).threshold == 0.5


def test_a_record_that_was_edited_is_not_believed(workplace, run_here):
    path = workplace / "runs/cv/identity.json"
    path.write_text(path.read_text().replace('"data.fold": 0', '"data.fold": 1'))
    status, error = run_here(TRAIN, *SHORT, "resume_from=auto", "data.fold=1", cwd=workplace)
    assert status == 1
    assert "holds a run whose record cannot be read" in error


def test_a_folder_another_process_trains_into_is_refused_with_its_name(workplace, run_here):
    with FolderLock(workplace / "runs/cv"):
        status, error = run_here(TRAIN, *SHORT, "resume_from=auto", cwd=workplace)
    assert status == 1
    assert f"another process (pid {os.getpid()} on " in error
    assert "give another run_name" in error
    with FolderLock(workplace / "runs/tested"):
        words = ["checkpoint=runs/cv/checkpoints/best.ckpt", "run_name=tested", "trainer.accelerator=cpu"]
        status, error = run_here("milpath.evaluate", *words, cwd=workplace)
    assert (status, "another process (pid " in error) == (1, True)


@pytest.mark.slow
def test_of_two_trainings_started_at_once_one_is_refused_and_the_other_whole(workplace):
    words = [*SHORT, "run_name=race", "resume_from=auto", "trainer.max_epochs=60", "callbacks.early_stopping=null"]
    both = [WarmCommand("train", words, workplace) for _ in "ab"]
    errors = [process.communicate(600)[1] for process in both]
    # One may be done before the other looks: then the other finds a finished run and tests it again.
    refused = [error for process, error in zip(both, errors, strict=True) if process.returncode]
    assert len(refused) <= 1
    assert [error for error in refused if "another process (pid " not in error or "Traceback" in error] == []
    assert (workplace / "runs/race/metrics.json").is_file()
    assert len(pd.read_csv(workplace / "runs/race/logs/csv/metrics.csv")["train/loss"].dropna()) == 60


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True], ids=["", "of version 0.1.0"])
def test_a_finished_trial_of_a_search_is_no_result_of_other_data(workplace, run_here, old):
    words = [
        *FEATURES[:-2],
        "hparams_search=attention_grid",
        "trainer.max_epochs=1",
        "model.gated=true",
        "optimizer.lr=1e-3,1e-2",
    ]
    search = workplace / "runs/attention_grid"
    assert run_here(TRAIN, *words, cwd=workplace)[0] == 0
    before = {path: path.read_bytes() for path in search.glob("trial_*/metrics.json")}
    assert len(before) == 2
    for path in before if old else []:
        make_old(path.parent)
    assert run_here(TRAIN, *words, cwd=workplace)[0] == 0
    assert {path: path.read_bytes() for path in before} == before
    write_labels(workplace / "in/labels.csv", [1, 1, 0, 0] + [0, 1] * 10)
    status, error = run_here(TRAIN, *words, cwd=workplace)
    assert status == 1
    assert "none of the 2 trials succeeded" in error
    assert "the labels (S000 0, now 1)" in error
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_pure_noise_is_never_predicted_from_a_fold_that_was_trained_on(tmp_path, run_here):
    labels = np.random.default_rng(1).permutation([0, 1] * 60).tolist()
    write_features(tmp_path / "in", labels)
    for fold in range(5):
        status, error = run_here(TRAIN, *BY_HEART, f"data.fold={fold}", "run_name=cv", cwd=tmp_path)
        assert (status, f"data.fold=0 (now {fold}); give another run_name" in error) == (
            (1, True) if fold else (0, False)
        )
    assert set(pd.read_csv(tmp_path / "runs/cv/splits.csv").query("split == 'test'")["id"]) == set(
        pd.read_csv(tmp_path / "runs/cv/predictions.csv").query("split == 'test'")["id"]
    )
    found = []
    for fold in range(5):
        assert run_here(TRAIN, *BY_HEART, f"data.fold={fold}", f"run_name=fold_{fold}", cwd=tmp_path)[0] == 0
        metrics = json.loads((tmp_path / f"runs/fold_{fold}/metrics.json").read_text())
        found.append(metrics["test"]["auroc"])
    # Twelve bags of each class a fold: one AUROC has a standard deviation of 0.12 by chance, the mean of five 0.055.
    assert abs(np.mean(found) - 0.5) < 0.15, found
    assert max(found) < 0.9, found


def test_settings_of_old_files_are_read_as_text(workplace, run_here):
    make_old(workplace / "runs/cv")
    path = workplace / "runs/cv/config.yaml"
    content = yaml.safe_load(path.read_text())
    content["seed"] = "${oc.env:HOME}"
    path.write_text(yaml.safe_dump(content))
    status, error = run_here(TRAIN, *SHORT, "resume_from=auto", cwd=workplace)
    assert status == 1
    assert "seed=${oc.env:HOME} (now 0)" in error
