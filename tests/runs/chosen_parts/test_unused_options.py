"""Options that change nothing beside the others are refused, or said, before a training."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from milpath.runs.chosen_parts.unused_options import refuse_unused, refuse_unused_decision, unused_options
from milpath.runs.slides_as_labels import take_slides_for_labels
from milpath.targets import Regression, target_named


def with_checkpoint(name="best_checkpoint", **options):
    entry = {"_target_": "milpath.training.checkpoint_files.BestCheckpoint", "dirpath": "runs/a/checkpoints", **options}
    return {"paths": {"run_dir": "runs/a"}, "callbacks": {name: entry}}


REFUSED = [
    ({"report": False, "report_pdf": True}, "report_pdf=true prints report.html, which report=false does not write"),
    ({"decision": {"coverage_by_class": True}}, "changes nothing without prediction sets; add decision.coverage=0.9"),
    (
        {"decision": {"familiarity": False, "refer_unfamiliar": 0.2}},
        "decision.refer_unfamiliar=0.2 refers no slide with decision.familiarity=false",
    ),
    (with_checkpoint(filename="mine"), "filename=mine: a run is tested from checkpoints/best.ckpt in its folder"),
    (with_checkpoint(dirpath="elsewhere"), "callbacks.best_checkpoint.dirpath=elsewhere: a run is tested"),
    (with_checkpoint(save_top_k=2), "save_top_k=2: best.ckpt is one file, which each of several epochs would replace"),
    (with_checkpoint(save_top_k=0), "which 0 never writes; leave it out, or give callbacks.best_checkpoint=null"),
    ({"data": {"slide_column": "scan"}}, "data.slide_column=scan is a column of data.slides; give data.slides=CSV"),
]
USED = [
    {},
    with_checkpoint(filename="best", save_top_k=1),
    with_checkpoint("timed_checkpoint", filename="timed", dirpath="elsewhere"),
    with_checkpoint("mine", filename="mine", save_top_k=2),
    {"callbacks": {"best_checkpoint": None}},
    {"report": True, "report_pdf": True},
    {"decision": {"coverage_by_class": True, "coverage": 0.9}},
    {"decision": {"familiarity": False, "refer_unfamiliar": 0.01}},
    {"decision": {"familiarity": False, "refer_unfamiliar": None}},
    {"data": {"slide_column": "scan", "slides": "slides.csv"}},
]


@pytest.mark.parametrize(("config", "message"), REFUSED)
def test_an_option_that_another_one_contradicts_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        refuse_unused(OmegaConf.create(config))


@pytest.mark.parametrize("config", USED)
def test_an_option_that_has_an_effect_is_taken(config):
    refuse_unused(OmegaConf.create(config))


BINARY, EMPTY = target_named("binary"), {"train": [4, 4], "test": [2, 2]}
WITH = EMPTY | {"val": [2, 2]}
DECISIONS = [
    ("binary", WITH, {"sensitivity": 0.9, "calibrate": True, "defer_fraction": 0.3}, None),
    ("binary", EMPTY, {"defer_fraction": 0.1}, None),
    ("binary", EMPTY, {"defer_fraction": 0}, None),
    ("regression", WITH, {"defer_fraction": 0}, None),
    (
        "binary",
        EMPTY,
        {"defer_fraction": 0.3},
        "decision.defer_fraction=0.3 is chosen on the validation split, which is",
    ),
    (
        "binary",
        EMPTY,
        {"sensitivity": 0.9},
        "decision.sensitivity=0.9 is chosen on the validation split, which is empty",
    ),
    ("binary", EMPTY | {"val": [3, 0]}, {"calibrate": True}, "which has bags of only one class; set data.val_fraction"),
    ("nominal", WITH, {"sensitivity": 0.9}, "decision.sensitivity=0.9 needs a binary task, not a nominal one"),
    ("regression", WITH, {"defer_fraction": 0.3}, "decision.defer_fraction=0.3 is for classes, and a regression task"),
]


@pytest.mark.parametrize(("task", "counts", "wished", "message"), DECISIONS)
def test_what_cannot_be_decided_on_the_validation_split_is_refused_before_the_training(task, counts, wished, message):
    target = Regression() if task == "regression" else target_named(task)
    data = SimpleNamespace(fitted_target=target, splits=list(counts), class_counts=counts.__getitem__)
    config = OmegaConf.create({"decision": wished})
    if message is None:
        refuse_unused_decision(config, data)
        return
    with pytest.raises(ValueError, match=message):
        refuse_unused_decision(config, data)


def of(name, **options):
    return {"_target_": f"milpath.{name}", **options}


def logging_of(interval, *more):
    rates = {"_target_": "lightning.pytorch.callbacks.LearningRateMonitor", "logging_interval": interval}
    callbacks = {"rates": rates, "none": None, **{name: {"_target_": name} for name in more}}
    return {"trainer": {"log_every_n_steps": 1}, "callbacks": callbacks}


SAID = [
    ({"data": {"augmentation": "turns", "stain_jitter": 0.4}}, "data.stain_jitter=0.4 changes nothing with data.augm"),
    ({"data": of("data.ImageTiles", rule="grid", num_tiles=8)}, "data.num_tiles=8 changes nothing with data.rule=grid"),
    (
        {"data": {"split_column": "part", "splits": "s.csv"}},
        "data.split_column=part changes nothing: the split is in data.",
    ),
    (
        {"data": {"label_column": "os"}, "target": of("targets.Survival", time_column="months", event_column="died")},
        "data.label_column=os changes nothing for a survival task, which reads target.time_column=months and target.event",
    ),
    (logging_of("epoch"), "trainer.log_every_n_steps=1 changes nothing: loss and metrics have a row per epoch"),
    ({"data": {"patient_column": "case"}}, "data.group_column=case does"),
    (
        {"model": of("models.EmbeddingPoolMIL", pooling="mean", sharpness=8)},
        "model.sharpness=8 changes nothing with model.pooling=mean; model.pooling=log_sum_exp has it",
    ),
    (
        {"target": of("targets.Regression", loss="squared", delta=2)},
        "target.delta=2 changes nothing with target.loss=squ",
    ),
    ({"target": of("targets.Survival", loss="cox", num_intervals=4)}, "target.num_intervals=4 changes nothing"),
]
UNSAID = [
    logging_of("step"),
    logging_of("epoch", "my_parts.StepLog"),
    {"data": {"augmentation": "full", "stain_jitter": 0.4}},
    {"data": {"augmentation": "turns", "stain_jitter": 0.1}},
    {"data": of("data.ImageTiles", rule="darkest", num_tiles=8)},
    {"data": of("data.ImageTiles", rule="grid", num_tiles=16)},
    *(
        {"data": {"patient_column": "case", name: "x"}}
        for name in ("patients", "slides", "group_column", "aggregate", "splits")
    ),
    {"model": of("models.EmbeddingPoolMIL", pooling="log_sum_exp", sharpness=8)},
    {"model": {"_target_": "my_parts.PoolMIL", "pooling": "mean", "sharpness": 8}},
    {"target": of("targets.Regression", loss="huber", delta=2)},
    {"target": of("targets.Survival", loss="hazard", num_intervals=4)},
]


@pytest.mark.parametrize(("config", "message"), SAID)
def test_an_option_without_effect_is_said(config, message):
    (line,) = unused_options(OmegaConf.create(config))
    assert message in line


@pytest.mark.parametrize("config", UNSAID)
def test_of_an_option_with_an_effect_nothing_is_said(config):
    assert list(unused_options(OmegaConf.create(config))) == []


def test_a_column_of_labels_that_are_not_given_is_refused():
    words = {"slides": "slides.csv", "labels": None, "id_column": "scan", "slide_column": None}
    with pytest.raises(
        ValueError, match=r"data.id_column=scan is a column of data.labels, which is null: .*slide_column=scan"
    ):
        take_slides_for_labels(OmegaConf.create(words))
    for same in ({"id_column": None}, {"slide_column": "scan"}):
        take_slides_for_labels(config := OmegaConf.create(words | same))
        assert config.labels == "slides.csv"
