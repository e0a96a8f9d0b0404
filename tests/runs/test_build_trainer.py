"""The Trainer of a configuration takes the callbacks of installed packages, for which it looks once in a process."""

import importlib.metadata
import sys
from contextlib import nullcontext

import pytest
import torch
from lightning.fabric.utilities import registry
from omegaconf import OmegaConf

from milpath.runs import build, build_trainer
from milpath.search.composition import compose_training

CONFIG = {"trainer": {"_target_": "lightning.pytorch.Trainer", "accelerator": "cpu", "logger": False}, "seed": 0}


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A package that gives each Trainer a callback."""
    package = tmp_path / "site/mil_plugin-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mil-plugin\nVersion: 1.0\n", encoding="utf-8")
    entry = "[lightning.pytorch.callbacks_factory]\nlast_word = mil_plugin:callbacks\n"
    (package / "entry_points.txt").write_text(entry, encoding="utf-8")
    code = (
        "from lightning.pytorch import Callback\nclass LastWord(Callback): pass\ndef callbacks(): return LastWord()\n"
    )
    (package.parent / "mil_plugin.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(package.parent)
    build_trainer._entry_points.cache_clear()
    yield
    build_trainer._entry_points.cache_clear()
    sys.modules.pop("mil_plugin", None)


def of_plugin():
    """Return the callbacks of the package in a Trainer."""
    callbacks = build_trainer.build_trainer(OmegaConf.create(CONFIG)).callbacks
    return [callback for callback in callbacks if type(callback).__name__ == "LastWord"]


def test_each_trainer_gets_callbacks_of_its_own_from_packages_that_were_looked_through_once(plugin, monkeypatch):
    (first,) = of_plugin()
    monkeypatch.setattr(importlib.metadata, "distributions", None)
    (second,) = of_plugin()
    assert second is not first
    assert registry.entry_points is importlib.metadata.entry_points


def test_somebody_elses_way_to_find_packages_is_kept(plugin, monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    assert of_plugin() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.precision=16-mixed"], "add optimizer.fused=false"),
        (["trainer.precision=16"], "add optimizer.fused=false"),
        (["trainer.precision=16-mixed", "optimizer.fused=false"], None),
        (["trainer.precision=bf16-mixed"], None),
        (["trainer.precision=bf16"], None),
    ],
)
def test_clipping_scaled_gradients_with_an_optimizer_that_unscales_them_is_refused_before_a_training(words, message):
    config = compose_training([*words, "trainer.gradient_clip_val=1.0"])
    with nullcontext() if message is None else pytest.raises(ValueError, match=message):
        make = build._optimizer(config.optimizer, config.trainer)
        assert not getattr(make([torch.nn.Parameter(torch.zeros(1))]), "_step_supports_amp_scaling", False)
