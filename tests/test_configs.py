"""Every option of every group composes and builds; every experiment trains a batch."""

import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from milpath import models
from milpath.config.roots import CONFIG_DIR
from milpath.runs.build import build_classifier, build_datamodule, build_network
from milpath.runs.build_trainer import build_trainer
from milpath.search.composition import compose_training

GROUPS = (
    "data",
    "model",
    "model/encoder",
    "optimizer",
    "scheduler",
    "auxiliary_loss",
    "trainer",
    "callbacks",
    "logger",
    "profiler",
    "paths",
    "experiment",
)
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONFIG_DIR / group).glob("*.yaml"))]
# Data sets that lie on the user's disk: without them they must say where they looked.
ON_DISK = {"panda", "panda_tiles", "ucsb_breast", "ucsb_breast_patches", "glas", "musk1", "musk2", "fox", "tiger", "elephant", "colon_cancer", "features", "bag_store", "mnist_bags"}  # fmt: skip
NO_DATA_SET = {"options", "from_checkpoint"}
# Groups whose every option is composed by a test that builds it too, or, of experiments, trains it: `tests/test_experiments.py`.
BUILT = ("data", "model", "model/encoder", "experiment")
NEEDS = {
    ("data", "panda_tiles"): ["data.tiles=tiles", "data.labels=labels.csv"],
    ("data", "bag_store"): ["data.path=nowhere"],
    ("data", "features"): ["data.path=nowhere", "data.labels=labels.csv"],
    ("auxiliary_loss", "clam_clustering"): ["model=clam_sb"],
    ("auxiliary_loss", "dsmil_max_instance"): ["model=dsmil"],
}


@pytest.fixture(scope="module")
def datamodule(tmp_path_factory):
    words = [
        "data.num_slides=12",
        "data.tile_size=32",
        "data.num_tiles=2",
        f"paths.stores_dir={tmp_path_factory.mktemp('stores')}",
    ]
    datamodule = build_datamodule(compose_training(words).data)
    datamodule.setup()
    return datamodule


@pytest.mark.parametrize(
    ("group", "option"), [(group, option) for group, option in OPTIONS if group not in BUILT], ids=str
)
def test_every_option_of_every_group_composes(group, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    word = f"{group}=[{option}]" if group == "logger" else f"{group}={option}"
    config = compose_training([word, *NEEDS.get((group, option), [])])
    assert config.seed == 0


@pytest.mark.parametrize("option", sorted(path.stem for path in (CONFIG_DIR / "encoder").glob("*.yaml")))
def test_every_encoder_composes_for_an_extraction(option):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("extract", overrides=["slides=slides", "output=output", f"encoder={option}"])
    assert config.encoder.weights_path is None or option == "onnx"


@pytest.mark.parametrize(
    "option", [option for group, option in OPTIONS if group == "data" and option not in NO_DATA_SET]
)
def test_every_data_set_builds_or_says_where_it_looked(option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = compose_training([f"data={option}", "paths.data_dir=nowhere", *NEEDS.get(("data", option), [])])
    if option in ON_DISK:
        with pytest.raises(FileNotFoundError, match=r"nowhere|tiles|labels"):
            build_datamodule(config.data).setup()
    else:
        build_datamodule(config.data)


MODELS = [option for group, option in OPTIONS if group == "model"]


@pytest.mark.parametrize("option", MODELS)
def test_every_model_builds(option, datamodule):
    config = compose_training([f"model={option}", "data.tile_size=32"])
    assert build_network(config.model, datamodule).num_outputs == 1


@pytest.mark.parametrize(
    "option", [option for group, option in OPTIONS if group == "model/encoder" and option != "linear"]
)
def test_every_encoder_builds(option, datamodule):
    config = compose_training([f"model/encoder={option}", "data.tile_size=32"])
    assert build_network(config.model, datamodule).tile_encoder.name == config.model.encoder.name
    assert option.startswith(config.model.encoder.name)


def test_a_cosine_over_no_number_of_epochs_is_refused_before_training(datamodule):
    """Torch takes a period of -1, with which the rate jumps between its ends from epoch to epoch."""
    words = ["scheduler=cosine", "trainer.max_steps=100", "data.tile_size=32", "run_name=run"]
    for limit in ("-1", "null"):
        config = compose_training([*words, f"trainer.max_epochs={limit}"])
        with pytest.raises(
            ValueError, match=r"^scheduler.T_max is (-1|None) and must be a number of epochs, at least 1"
        ):
            build_classifier(config, datamodule)
    config = compose_training([*words, "trainer.max_epochs=-1", "scheduler.T_max=20"])
    assert build_classifier(config, datamodule).make_scheduler.keywords["T_max"] == 20


@pytest.mark.parametrize("experiment", [option for group, option in OPTIONS if group == "experiment"])
def test_a_recipe_takes_every_model(experiment):
    """What a recipe sets must not be an argument that only its own model has: a table of methods would fail fold by fold."""
    arguments = OmegaConf.load(CONFIG_DIR / f"experiment/{experiment}.yaml").get("model", {})
    for option in MODELS:
        target = OmegaConf.load(CONFIG_DIR / f"model/{option.removeprefix('gated_')}.yaml")["_target_"]
        network = getattr(models, target.rpartition(".")[2])
        assert set(arguments) <= set(inspect.signature(network).parameters), option


@pytest.mark.parametrize("encoder", ["resnet18", "lenet5"])
@pytest.mark.parametrize("experiment", ["panda_attention", "panda_article"])
def test_a_recipe_takes_another_encoder(experiment, encoder, datamodule):
    config = compose_training([f"experiment={experiment}", "data=synthetic", f"model/encoder={encoder}"])
    assert build_network(config.model, datamodule).tile_encoder.name == encoder


@pytest.mark.parametrize("option", ["default", "cpu", "demo", "ddp"])
def test_trainers_build_on_this_machine(option, tmp_path):
    words = [
        f"trainer={option}",
        "trainer.accelerator=cpu",
        "trainer.devices=1",
        f"paths.runs_dir={tmp_path}",
        "logger=csv",
    ]
    trainer = build_trainer(compose_training(words))
    assert {type(callback).__name__ for callback in trainer.callbacks} >= {
        "ModelCheckpoint",
        "EarlyStopping",
        "StepSeed",
    }


def test_a_typing_error_is_an_error_when_the_configuration_is_composed():
    for words in (["sed=1"], ["data.tils=here"], ["model.gate=true"]):
        with pytest.raises(ConfigCompositionException):
            compose_training(words)


def test_every_experiment_says_how_to_run_it_and_what_it_should_give():
    for path in sorted(Path(CONFIG_DIR / "experiment").glob("*.yaml")):
        lines = path.read_text().splitlines()
        assert lines[0] == "# @package _global_", path
        assert lines[1].startswith("# python -m milpath.train experiment="), path
