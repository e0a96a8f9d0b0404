"""A table composes what its trainings share once; each must get what Hydra would give it alone."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf

from milpath.config.roots import CONFIG_DIR
from milpath.search import cross_validation
from milpath.search.composition import compose_training
from milpath.search.cross_validation import plan_trainings, run_trainings


def as_hydra_composes(words):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", overrides=list(words))


def test_every_training_has_the_configuration_that_hydra_composes(tmp_path):
    output = tmp_path / "a, [b] = 'c'"
    words = ["experiment=musk1", "data.path=musk1.npz"]
    search = {"optimizer.lr": [1e-4, 5e-4]}
    for training in plan_trainings(words, ["attention", "embedding_mean"], 3, 2, output, search=search)[::5]:
        found = OmegaConf.to_yaml(compose_training(training.overrides))
        assert found == OmegaConf.to_yaml(as_hydra_composes(training.overrides))


def test_what_one_training_changes_does_not_reach_the_next():
    words = ["experiment=musk1", "data.path=musk1.npz", "data.fold=1"]
    compose_training(words).optimizer.lr = 7.0
    assert compose_training(words).optimizer.lr != 7.0


def test_a_key_that_the_configuration_lacks_is_the_error_of_hydra():
    with pytest.raises(HydraException, match="num_fold"):
        compose_training(["experiment=musk1", "data.num_fold=3", "data.fold=1"])


def test_a_training_gets_its_settings_resolved_and_one_that_cannot_be_is_why_it_failed(tmp_path, monkeypatch):
    words, given = ["experiment=musk1", "data.path=musk1.npz"], []
    monkeypatch.setattr(cross_validation, "run", lambda config, **_: given.append(config))
    plan = plan_trainings([*words, "monitor='${oc.env:MILPATH_NOT_SET}'"], ["attention"], 2, 1, tmp_path / "bad")[:1]
    assert run_trainings(plan) == plan
    assert "MILPATH_NOT_SET" in (plan[0].run_dir / "failure.txt").read_text(encoding="utf-8")
    run_trainings(plan_trainings(words, ["attention"], 2, 1, tmp_path / "good")[:1])
    (config,) = given
    assert config.paths.run_dir.endswith("good/runs/attention/repeat_0/fold_0")
    assert "${" not in OmegaConf.to_yaml(config, resolve=False)


def test_text_that_looks_like_an_interpolation_stays_text(tmp_path, monkeypatch):
    given, words = [], ["experiment=musk1", r"data.path='folder of \${name}'"]
    monkeypatch.setattr(cross_validation, "run", lambda config, **_: given.append(config))
    assert run_trainings(plan_trainings(words, ["attention"], 2, 1, tmp_path)[:1])
    (config,) = given
    assert config.data.path == "folder of ${name}"
    assert OmegaConf.to_container(config, resolve=True)["data"]["path"] == "folder of ${name}"
