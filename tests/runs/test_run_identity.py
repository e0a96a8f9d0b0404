"""What is part of a run and what is not."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import OmegaConf

from milpath.config.roots import CONFIG_DIR
from milpath.records.digests import sha256_of_values
from milpath.runs.earlier_run import identity_in_folder, require_same_run
from milpath.runs.run_identity import (
    IdentityInCheckpoint,
    RunIdentity,
    _defaults_of,
    bags_of,
    digest_of_splits,
    settings_of,
)

WHERE = Path("runs/cv")


@cache  # composed once for all comparisons with it
def identity(*words: str, num_processes: int | None = 1) -> RunIdentity:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        plain = OmegaConf.to_container(compose("train", ["run_name=a", *words]), resolve=True)
    return RunIdentity(settings_of(plain, num_processes), {}, defaults=_defaults_of(plain))


PART = [
    ("data.fold=1", "data.fold=0 (now 1)"),
    ("data.num_folds=4", "data.num_folds=5 (now 4)"),
    ("data.split_seed=1", "data.split_seed=0 (now 1)"),
    ("data.val_fraction=0.2", "data.val_fraction=null (now 0.2)"),
    ("data.sampler=balanced", "data.sampler=shuffle (now balanced)"),
    ("data.target=isup", "data.target=malignant (now isup)"),
    ("data.augmentation=none", "data.augmentation=turns (now none)"),
    ("data.batch_size=16", "data.batch_size x processes=8 (now 16)"),
    ("seed=1", "seed=0 (now 1)"),
    ("optimizer.lr=0.1", "optimizer.lr=0.0001 (now 0.1)"),
    ("optimizer=sgd", "optimizer=torch.optim.Adam (now torch.optim.SGD)"),
    ("scheduler=step", "scheduler=null (now torch.optim.lr_scheduler.StepLR)"),
    ("model=dsmil", "model=milpath.models.AttentionMIL (now milpath.models.DSMIL)"),
    ("model.gated=true", "model.gated=false (now true)"),
    ("model.encoder.stain_normalisation=macenko", "model.encoder.stain_normalisation=none (now macenko)"),
    ("model/encoder=resnet18", "model.encoder=tile_cnn (now resnet18)"),
    ("auxiliary_loss=dsmil_max_instance", "auxiliary_loss=null (now "),
    ("class_weights=balanced", "class_weights=none (now balanced)"),
    ("monitor=val/brier", "monitor=val/auroc (now val/brier)"),
    ("monitor_mode=min", "monitor_mode=max (now min)"),
    ("decision.sensitivity=0.9", "decision.sensitivity=null (now 0.9)"),
    ("trainer.precision=bf16-mixed", "trainer.precision=32-true (now bf16-mixed)"),
    ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches=1 (now 2)"),
    ("trainer.gradient_clip_val=1", "trainer.gradient_clip_val=null (now 1)"),
    ("trainer.max_epochs=3", "trainer.max_epochs=30 (now 3)"),
    ("callbacks.early_stopping.patience=2", "callbacks.early_stopping.patience=10 (now 2)"),
    ("+callbacks.swa._target_=lightning.pytorch.callbacks.StochasticWeightAveraging", "callbacks.swa=null (now "),
    ("+optimizer.amsgrad=true", "optimizer.amsgrad=false (now true)"),
]


@pytest.mark.parametrize(("word", "expected"), PART)
def test_what_decides_what_is_trained_is_part_of_a_run(word, expected):
    with pytest.raises(
        ValueError, match=r"runs/cv was trained with other values: .*; give another run_name, or "
    ) as error:
        require_same_run(identity(), identity(word), WHERE)
    assert expected in str(error.value)


def test_where_how_fast_and_how_visibly_a_run_is_trained_is_no_part_of_it():
    words = [
        "run_name=b", "paths.runs_dir=/elsewhere", "paths.stores_dir=/tmp/stores", "paths.data_dir=/data", "logger=none",
        "data.num_workers=4", "data.device_cache=never", "data.eval_batch_size=1", "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false", "callbacks.progress=null", "callbacks.learning_rate=null",
        "callbacks.attention_montages.num_bags=1", "report=false", "test=false", "compile=true", "resume_from=auto",
        "profiler=torch", "trainer.max_time=00:01:00:00", "model.encoder.tile_micro_batch=8",
        "callbacks.timed_checkpoint.train_time_interval.minutes=1", "+optimizer.amsgrad=false",
    ]  # fmt: skip
    assert require_same_run(identity(), identity(*words), WHERE) is None


def test_processes_count_by_the_bags_of_a_step():
    one, two = identity("data.batch_size=8"), identity("data.batch_size=4", "trainer=ddp", num_processes=2)
    assert require_same_run(one, two, WHERE) is None
    with pytest.raises(ValueError, match=r"data.batch_size x processes=8 \(now 16\)"):
        require_same_run(one, identity("data.batch_size=8", num_processes=2), WHERE)


def test_an_option_that_a_later_version_adds_changes_no_earlier_run():
    now = identity()
    added = ("data.stain_jitter", "trainer.min_epochs", "model.encoder.stain_normalisation")
    assert set(added) - {"trainer.min_epochs"} <= now.settings.keys()
    earlier = {key: value for key, value in now.settings.items() if key not in added}
    assert require_same_run(replace(now, settings=earlier), now, WHERE) is None
    with pytest.raises(ValueError, match=r"data.stain_jitter=0.1 \(now 0.4\)"):
        require_same_run(replace(now, settings=earlier), identity("data.stain_jitter=0.4"), WHERE)


@pytest.mark.parametrize("scheduler", ["none", "step"])
def test_more_epochs_are_a_continuation_where_the_rate_does_not_know_how_many_there_are(scheduler):
    words = [f"scheduler={scheduler}"]
    continued = require_same_run(identity(*words), identity(*words, "trainer.max_epochs=40"), WHERE)
    assert continued == "trainer.max_epochs was 30, is now 40"


def test_fewer_epochs_are_a_continuation_unless_more_are_done():
    before, now = identity(), identity("trainer.max_epochs=10")
    assert require_same_run(before, now, WHERE, {"trainer.max_epochs": 10}) == "trainer.max_epochs was 30, is now 10"
    with pytest.raises(ValueError, match=r"max_epochs=30 \(now 10\); give .*; 11 epochs are already done"):
        require_same_run(before, now, WHERE, {"trainer.max_epochs": 11})
    with pytest.raises(ValueError, match=r"max_epochs=30 \(now 10\)"):
        require_same_run(before, now, WHERE)
    before, now = identity("scheduler=cosine"), identity("scheduler=cosine", "trainer.max_epochs=10")
    with pytest.raises(ValueError, match="the learning rate would fall faster"):
        require_same_run(before, now, WHERE, {"trainer.max_epochs": 3})


@pytest.mark.parametrize("fixed", [[], ["scheduler.T_max=30"]], ids=["of the run", "typed"])
def test_a_cosine_does_not_climb_again(fixed):
    before, now = (identity("scheduler=cosine", *fixed, *words) for words in ([], ["trainer.max_epochs=40"]))
    with pytest.raises(
        ValueError, match=r"max_epochs=30 \(now 40\) and a CosineAnnealingLR, .* rise again; give another"
    ):
        require_same_run(before, now, WHERE)


def test_leaving_out_early_stopping_is_a_continuation_and_putting_it_in_is_not():
    without = identity("callbacks.early_stopping=null")
    assert "callbacks.early_stopping was" in require_same_run(identity(), without, WHERE)
    with pytest.raises(ValueError, match=r"callbacks.early_stopping=null \(now "):
        require_same_run(without, identity(), WHERE)


def test_many_differences_are_counted_and_the_data_come_first():
    words = ["optimizer.lr=1", "seed=3", "monitor_mode=min", "data.fold=2"]
    with pytest.raises(ValueError, match=r"values: data\.fold=0 \(now 2\), data\.seed=0 \(now 3\), .*, \d more; "):
        require_same_run(identity(), identity(*words), WHERE)


def test_another_split_names_the_first_bag_that_moved(tmp_path):
    def split(**bags: str) -> RunIdentity:
        table = {name: (where, "0") for name, where in bags.items()}
        return replace(identity(), contents={"splits_sha256": digest_of_splits(table)}, bags=table)

    assert require_same_run(split(a="train", b="test"), split(b="test", a="train"), WHERE) is None
    with pytest.raises(ValueError, match=r"the split \(b test, now train\)"):
        require_same_run(split(a="train", b="test"), split(a="train", b="train"), WHERE)
    with pytest.raises(ValueError, match=r"the split \(with c, now without it\)"):
        require_same_run(split(a="train", c="test"), split(a="train"), WHERE)


def test_weights_of_an_encoder_count_by_their_content_not_by_their_path(tmp_path):
    for name, value in (("a.pth", 0), ("b.pth", 0), ("c.pth", 1)):
        torch.save({"weight": torch.full((2,), value)}, tmp_path / "x.pth")
        (tmp_path / "x.pth").rename(tmp_path / name)
    runs = [
        identity("model/encoder=resnet18", f"model.encoder.weights_path={tmp_path / name}")
        for name in ("a.pth", "b.pth", "c.pth")
    ]
    assert require_same_run(runs[0], runs[1], WHERE) is None
    with pytest.raises(ValueError, match="model.encoder.weights_path="):
        require_same_run(runs[0], runs[2], WHERE)


def test_a_record_is_plain_json_and_holds_no_path_where_it_travels():
    run = replace(identity(), origin={"data.path": "/home/somebody/slides"})
    assert json.loads(json.dumps(run.as_record())) == run.as_record()
    assert "somebody" not in json.dumps(run.as_record(origin=False))


def test_bags_are_named_with_split_and_label():
    import pandas as pd

    assert bags_of(pd.DataFrame({"id": ["a"], "split": ["val"], "label": [1]})) == {"a": ("val", "1")}


def restored(folder: Path, **changes) -> dict:
    """Return the state of a ModelCheckpoint of a folder as a resumed run restores it from a checkpoint with changes."""
    callback = ModelCheckpoint(folder, "best", monitor="val/auroc")
    paths = {name: str(folder / "best.ckpt") for name in ("best_model_path", "kth_best_model_path")}
    state = callback.state_dict() | paths | {"best_k_models": {str(folder / "best.ckpt"): torch.tensor(0.5)}} | changes
    checkpoint = {"callbacks": {callback.state_key: state}}
    trainer = SimpleNamespace(checkpoint_callbacks=[callback])
    IdentityInCheckpoint(identity()).on_load_checkpoint(trainer, None, checkpoint)
    return checkpoint["callbacks"][callback.state_key]


OUTSIDE = [
    "{folder}/../../precious",
    "../precious",
    "/precious",
    "s3://bucket/precious",
    "local://{folder}/../x",
    "{folder}/link/x",
]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("name", ["best_model_path", "last_model_path", "kth_best_model_path", "best_k_models"])
def test_a_checkpoint_that_names_files_of_others_as_its_best_is_refused(name, path, tmp_path):
    folder = tmp_path / "run/checkpoints"
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    path = path.format(folder=folder)
    for dirpath in (str(folder), None):
        with pytest.raises(ValueError, match="which training would delete, but it is not in .*/run/checkpoints"):
            restored(folder, dirpath=dirpath, **{name: {path: torch.tensor(0.1)} if name == "best_k_models" else path})


def test_a_checkpoint_of_another_folder_takes_over_the_files_that_moved_with_it_and_no_other(tmp_path):
    old = {"dirpath": "/old", "best_model_path": "/old/best.ckpt", "kth_best_model_path": "/old/best.ckpt"}
    left = restored(tmp_path, **old, best_k_models={"/old/best.ckpt": torch.tensor(0.5)})
    assert left == {**left, "dirpath": "/old", "best_model_path": ""}
    (tmp_path / "best.ckpt").touch()
    moved = restored(tmp_path, **old, best_k_models={"/old/best.ckpt": torch.tensor(0.5)})
    assert moved == restored(tmp_path) | {"best_k_models": moved["best_k_models"]}
    assert [*moved["best_k_models"]] == [str(tmp_path / "best.ckpt")]
    with pytest.raises(ValueError, match="would delete"):
        restored(
            tmp_path, **(old | {"last_model_path": "/old/.."}), best_k_models={"/old/best.ckpt": torch.tensor(0.5)}
        )


@pytest.mark.parametrize("changes", [{"best_k_models": None}, {"best_model_path": 3}, {"last_model_path": "a\0b"}])
def test_a_checkpoint_with_a_damaged_list_of_the_best_is_refused(changes, tmp_path):
    with pytest.raises(ValueError, match="damaged list of the best checkpoints"):
        restored(tmp_path, **changes)


@pytest.mark.parametrize(
    "text", ["a: &a [1]\nmodel: [*a, *a]\n", "model: !!python/name:os.system x\n", "model: x\n" * 200_000]
)
def test_a_configuration_of_somebody_else_that_unpacks_to_any_size_is_refused(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match="record cannot be read .*(YAML aliases or tags|more than 1,048,576 bytes)"):
        identity_in_folder(tmp_path)


@pytest.mark.parametrize("changes", [{"settings": 3}, {"contents": ["a"]}, {"origin": None}])
def test_an_identity_of_other_kinds_is_refused_though_its_digest_is_right(changes, tmp_path):
    record = {"format_version": 1, "settings": {}, "contents": {}} | changes
    digest = sha256_of_values({key: record[key] for key in ("format_version", "settings", "contents")})
    (tmp_path / "identity.json").write_text(json.dumps({"origin": {}} | record | {"digest": digest}))
    with pytest.raises(ValueError, match="settings, contents and origin must be mappings"):
        identity_in_folder(tmp_path)
