"""Settings that no training can have are refused with their option and range before any work."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from milpath.config.option_ranges import require_ranges
from milpath.search.composition import compose_training
from tests.commands import here

WRONG = {
    "trainer.accumulate_grad_batches=0": "must be a whole number of at least 1",
    "trainer.accumulate_grad_batches=-1": "must be a whole number of at least 1",
    "trainer.accumulate_grad_batches=1.5": "must be a whole number of at least 1",
    "trainer.accumulate_grad_batches=true": "must be a whole number of at least 1",
    "trainer.check_val_every_n_epoch=0": "must be a whole number of at least 1",
    "trainer.max_epochs=0": "must be a whole number of at least 1, or -1 for no limit",
    "trainer.max_epochs=-2": "must be a whole number of at least 1, or -1 for no limit",
    "trainer.max_epochs=thirty": "must be a whole number of at least 1, or -1 for no limit",
    "trainer.max_steps=0": "must be a whole number of at least 1, or -1 for no limit",
    "trainer.min_epochs=-1": "must be a whole number of at least 0",
    "trainer.limit_train_batches=0": "must be a number of batches of at least 1, or a fraction above 0 and up to 1.0",
    "trainer.limit_train_batches=-1": "must be a number of batches of at least 1, or a fraction above 0 and up to 1.0",
    "trainer.limit_val_batches=1.5": "must be a number of batches of at least 0, or a fraction from 0 to 1.0",
    "+trainer.overfit_batches=-1": "must be a number of batches of at least 0, or a fraction from 0 to 1.0",
    "+trainer.fast_dev_run=-1": "must be true, false or a number of batches",
    "+trainer.val_check_interval=0": "or a fraction above 0 and up to 1.0, or dd:hh:mm:ss",
    "+trainer.limit_test_batches=1": "must be 1.0 or left out: splits are predicted as a whole",
    "+trainer.limit_predict_batches=0.5": "must be 1.0 or left out: splits are predicted as a whole",
    "trainer.num_sanity_val_steps=-2": "must be a whole number of at least 0, or -1 for all validation batches",
    "trainer.log_every_n_steps=-1": "must be a whole number of at least 0",
    "trainer.gradient_clip_val=-1": "must be a number of at least 0",
    "trainer.devices=0": "must be auto, a number of processes of at least 1, -1 for all devices, or a list of devices",
    "trainer.devices=[]": "must be auto, a number of processes of at least 1, -1 for all devices, or a list of devices",
    "trainer.num_nodes=0": "must be a whole number of machines of at least 1",
    "data.batch_size=abc": "must be a whole number",
    "data.num_workers=1.5": "must be a whole number",
    "data.num_folds=1.5": "must be a whole number",
    "data.val_fraction=abc": "must be a number",
    "data.class_names=abc": "must be a list, such as [benign,malignant]",
    "decision.sensitivity=1.5": "must be a number above 0 and up to 1, such as 0.95",
    "decision.sensitivity=0.0": "must be a number above 0 and up to 1, such as 0.95",
    "decision.defer_fraction=1.0": "must be a number of at least 0 and below 1, such as 0.1",
    "model.attention_dim=0": "must be a whole number of at least 1",
    "model.attention_dim=12.5": "must be a whole number of at least 1",
    "seed=-1": "must be a whole number from 0 to 4294967295",
    "seed=4294967296": "must be a whole number from 0 to 4294967295",
    "data.split_seed=-1": "must be a whole number of at least 0",
    "data.drawing_seed=-1": "must be a whole number of at least 0",
}
ALLOWED = [
    "trainer.max_epochs=-1", "trainer.max_epochs=100.0", "trainer.max_steps=1e5", "+model.hidden_dims=[8,4]", "trainer.max_epochs=null", "trainer.max_steps=5",
    "trainer.limit_train_batches=0.5", "trainer.limit_train_batches=1", "trainer.limit_train_batches=1.0",
    "trainer.limit_train_batches=3", "trainer.limit_val_batches=0", "+trainer.overfit_batches=0.0",
    "+trainer.overfit_batches=2", "+trainer.fast_dev_run=true", "+trainer.fast_dev_run=3",
    "+trainer.limit_test_batches=1.0",
    "+trainer.val_check_interval=0.5", "+trainer.val_check_interval=00:00:10:00", "trainer.num_sanity_val_steps=-1",
    "trainer.check_val_every_n_epoch=null", "trainer.gradient_clip_val=0.5", "trainer.devices=auto", "trainer.devices=-1",
    "trainer.devices=[0,1]", "trainer=ddp", "trainer=sagemaker", "seed=4294967295", "data.split_seed=12345678901",
    "data.batch_size=1", "data.val_fraction=0", "data.class_names=[a,b]", "data.class_names=null", "decision.sensitivity=1",
    "decision.sensitivity=null", "decision.defer_fraction=0", "model.attention_dim=null", "model.attention_dim=1",
    "data=mnist_bags", "experiment=mnist_bags",
]  # fmt: skip


def composed(word):
    """Return the settings of a training with an override; Hydra composes those that it shares with others only once."""
    if "." not in word.partition("=")[0]:
        return compose_training([word])
    config = compose_training([])
    (given,) = OverridesParser.create().parse_overrides([word])
    OmegaConf.update(config, given.key_or_group, given.value(), force_add=True)
    return config


@pytest.mark.parametrize("word", WRONG)
def test_a_setting_out_of_its_range_is_named(word):
    option = word.removeprefix("+").replace("true", "True")
    with pytest.raises(ValueError) as refused:
        require_ranges(composed(word))
    assert str(refused.value).startswith(f"{option} must be ")
    assert str(refused.value).endswith(WRONG[word])


@pytest.mark.parametrize("word", ALLOWED)
def test_what_a_training_may_have_is_allowed(word):
    require_ranges(composed(word))


def test_a_configuration_of_any_command_can_be_checked():
    require_ranges(OmegaConf.create({"seed": None, "data": None, "trainer": {"max_epochs": "${no.such}"}}))
    with pytest.raises(ValueError, match="seed=-1 must be"):
        require_ranges(OmegaConf.create({"seed": -1}))


@pytest.mark.parametrize("option", ["jobs", "max_bags", "num_resamples"])
def test_a_command_counts_from_one(option):
    require_ranges(OmegaConf.create({option: 1}))
    with pytest.raises(ValueError, match=f"{option}=0 must be a whole number of at least 1"):
        require_ranges(OmegaConf.create({option: 0}))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("milpath.train", ["trainer.max_epochs=0"]),
        ("milpath.train", ["-m", "trainer.max_epochs=0", "optimizer.lr=0.1,0.2"]),
        ("milpath.evaluate", ["checkpoint=a.ckpt", "trainer.devices=0"]),
        ("milpath.check_data", ["seed=-1"]),
        ("milpath.table", ["methods=[attention]", "output=t", "trainer.max_epochs=0"]),
        ("milpath.table", ["methods=[attention]", "output=t", "seed=-1"]),
        ("milpath.table", ["methods=[attention]", "output=t", "search={trainer.max_epochs:[1,0]}"]),
        ("milpath.table", ["methods=[attention]", "output=t", "method_options={attention:{trainer.max_epochs:0}}"]),
        ("milpath.table", ["methods=[attention]", "output=t", "seed=4294967290"]),
    ],
)
def test_every_command_refuses_it_in_one_line_before_any_work(module, words, tmp_path, capsys):
    assert here(module, *words, cwd=tmp_path) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(" must be " in line and "ValueError" in line for line in lines if "sweep" not in line)
    assert not (tmp_path / "stores").exists()
    assert not list(tmp_path.rglob("predictions.csv"))


def test_what_lightning_refuses_is_one_line(tmp_path, capsys):
    assert here("milpath.train", "+trainer.gradient_clip_algorithm=middle", cwd=tmp_path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ValueError: the Trainer refuses its settings")


def test_parts_of_somebody_else_may_mean_anything():
    model, data = {"_target_": "mine.Network", "hidden_dim": [8, 4]}, {"_target_": "mine.Bags", "num_workers": "auto"}
    require_ranges(OmegaConf.create({"model": model, "data": data}))
    with pytest.raises(ValueError, match="model.hidden_dim="):
        require_ranges(OmegaConf.create({"model": model | {"_target_": "milpath.models.AttentionMIL"}}))
