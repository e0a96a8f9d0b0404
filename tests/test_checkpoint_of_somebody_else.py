"""A checkpoint that somebody else wrote, on every way in: what its card says is data and never acts."""

import importlib
import io
from pathlib import Path

import joblib
import pytest
import torch
from hydra.utils import instantiate

from milpath.models import AttentionMIL, load_card, load_network, save_network
from milpath.models.checkpoint import read_checkpoint, write_checkpoint
from milpath.runs.build import build_described_datamodule

DATA = {
    "_target_": "milpath.data.SyntheticBags",
    "num_slides": 12,
    "tile_size": 32,
    "num_tiles": 4,
    "target": "malignant",
    "num_folds": 3,
}


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 32, "embedding_dim": 8})
    save_network(
        network, tmp_path / "network.pt", class_names=("benign", "malignant"), data=DATA, tiling={"tile_size": 32}
    )
    return tmp_path / "network.pt"


def with_card(path: Path, **fields) -> Path:
    content = read_checkpoint(path)
    content["milpath"] |= fields
    content["milpath"].pop("digests", None)
    torch.save(content, path)
    return path


def attack(marker: Path) -> dict:
    """Return a mapping that makes a file where Hydra instantiates it."""
    return {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": [str(marker)]}]}


def joblib_attack(marker: Path) -> dict:
    """Return a mapping that unpickles bytes: how code was run."""

    class Code:
        def __reduce__(self):
            return (Path.touch, (marker,))

    content = io.BytesIO()
    joblib.dump(Code(), content)
    data = {"_target_": "builtins.bytes", "_args_": [list(content.getvalue())]}
    return {"_target_": "joblib.load", "_args_": [{"_target_": "io.BytesIO", "_args_": [data]}], "_convert_": "all"}


PLACES = {
    "an argument of the data set": lambda code: {"data": DATA | {"seed": code}},
    "an option of the data module": lambda code: {"data": DATA | {"class_names": code}},
    "a list": lambda code: {"data": DATA | {"exclude": [[code]]}},
    "an unknown argument": lambda code: {"data": DATA | {"other": {"a": {"b": code}}}},
    "the tiling": lambda code: {"tiling": {"tile_size": 32, "other": [code]}},
    "the network": lambda code: {"network": {"name": "AttentionMIL", "arguments": {"encoder": code}}},
}
WAYS_IN = {
    "evaluate": ("milpath.evaluate", ["trainer.accelerator=cpu"]),
    "predict": ("milpath.predict", ["slides=slides", "output=predicted"]),
    "app": ("milpath.app", ["port=0"]),
}


@pytest.mark.parametrize("make", [attack, joblib_attack])
def test_the_attack_is_one(make, tmp_path):
    instantiate(make(tmp_path / "ran"))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("make", [attack, joblib_attack])
@pytest.mark.parametrize("place", PLACES)
def test_a_nested_target_never_runs(place, make, checkpoint, tmp_path):
    marker = tmp_path / "ran"
    with_card(checkpoint, **PLACES[place](make(marker)))
    for load in (load_card, load_network):
        with pytest.raises(ValueError, match=r"network\.pt: .*'_target_'.*begin with an underscore"):
            load(checkpoint)
    serve = importlib.import_module("milpath.sagemaker.endpoint.handlers")
    with pytest.raises(ValueError, match="begin with an underscore"):
        serve.Endpoint(checkpoint)
    assert not marker.exists()


@pytest.mark.parametrize("make", [attack, joblib_attack])
def test_no_command_runs_a_nested_target(make, checkpoint, tmp_path, run_here):
    marker = tmp_path / "ran"
    with_card(checkpoint, data=DATA | {"class_names": make(marker)})
    for module, words in WAYS_IN.values():
        status, error = run_here(module, f"checkpoint={checkpoint}", *words, cwd=tmp_path)
        assert status == 1, error
        assert "begin with an underscore" in error
        assert len(error.strip().splitlines()) == 1, error
    assert not marker.exists()


@pytest.mark.parametrize("key", ["_target_", "_args_", "_partial_", "_recursive_", "_convert_", "__class__", "_"])
def test_every_key_with_an_underscore_below_the_name_of_the_data_set_is_refused(key, checkpoint):
    with_card(checkpoint, data=DATA | {"target": {key: "os.getcwd"}})
    with pytest.raises(ValueError, match="target in data of the card has the key"):
        load_card(checkpoint)
    if key != "_target_":
        with_card(checkpoint, data=DATA | {key: True})
        with pytest.raises(ValueError, match="data of the card has the key"):
            load_card(checkpoint)


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:MILPATH_SECRET}",
        "${oc.decode:${oc.env:MILPATH_SECRET}}",
        "${now:%Y}",
        "${trial_folder:a}",
        "${hydra:runtime.cwd}",
        "???",
        "${target}",
    ],
)
def test_an_interpolation_in_a_card_is_text(text, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("MILPATH_SECRET", "the-secret")
    with_card(checkpoint, data=DATA | {"target": text})
    assert load_card(checkpoint).data["target"] == text
    datamodule = build_described_datamodule(load_card(checkpoint).data, stores_dir=str(tmp_path / "stores"))
    assert datamodule.target == text
    with_card(checkpoint, data={"_target_": "milpath.data.StoredBags", "path": f"/nowhere/{text}"})
    source = build_described_datamodule(load_card(checkpoint).data).source
    assert str(source.path) == f"/nowhere/{text}"
    with_card(checkpoint, data=DATA | {text: 1})
    with pytest.raises(ValueError, match="SyntheticBags does not accept") as caught:
        build_described_datamodule(load_card(checkpoint).data)
    assert "the-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "target",
    [
        "os.system", "subprocess.run", "joblib.load", "milpath.data.BagDataModule", "milpath.data.SOURCES",
        "milpath.data.sources.synthetic.SyntheticBags", "milpath.data.import_module", "milpath.data.", "milpath.data.__getattr__",
        None, ["milpath.data.SyntheticBags"], 3, {"a": 1}, "SyntheticBags", "milpath.data.SyntheticBags\n",
    ],
)  # fmt: skip
def test_a_name_that_is_not_a_data_set_is_refused(target, checkpoint, tmp_path, run_here):
    with pytest.raises(ValueError, match="names no data set of milpath"):
        build_described_datamodule(DATA | {"_target_": target})


def test_evaluate_says_what_to_type_where_the_card_names_no_data_set(checkpoint, tmp_path, run_here):
    with_card(checkpoint, data={"_target_": "os.system", "command": "true"})
    status, error = run_here("milpath.evaluate", f"checkpoint={checkpoint}", cwd=tmp_path)
    assert status == 1
    assert f"{checkpoint} names no data set of milpath (found 'os.system'); give data=NAME" in error


@pytest.mark.parametrize(
    "data",
    [
        DATA | {"num_slides": "many"},
        DATA | {"source": "x"},
        DATA | {"no_such_option": 1},
        DATA | {"stratify_by": 3},
        {"_target_": "milpath.data.StoredBags"},
        {"_target_": "milpath.data.StoredBags", "path": {"a": 1}},
        {"_target_": "milpath.data.FeatureBags", "path": [1], "labels": None},
    ],
)
def test_values_that_a_data_set_does_not_take_are_one_line(data):
    with pytest.raises(ValueError):  # the class or the data module says which
        build_described_datamodule(data).setup()


def test_where_stores_are_written_is_not_for_a_card_to_say(checkpoint, tmp_path):
    with_card(checkpoint, data=DATA | {"stores_dir": str(tmp_path / "theirs")})
    card = load_card(checkpoint)
    build_described_datamodule(card.data, stores_dir=str(tmp_path / "own")).setup()
    assert (tmp_path / "own").is_dir()
    assert not (tmp_path / "theirs").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_names": ["a", "b", "c"]}, "a binary task has 2 classes, not 3"),
        ({"class_names": ["a"]}, "at least 2 classes"),
        ({"class_names": []}, "at least 2 classes"),
        ({"class_names": ["a", "b", "c"], "task": "nominal"}, "the network has 1 outputs, but a nominal task of 3"),
        ({"class_names": ["a", "b", "c"], "task": "ordinal"}, "the network has 1 outputs, but a ordinal task of 3"),
        ({"task": "nominal"}, "1 outputs, but a nominal task of 2 classes needs 2"),
        ({"class_names": ["a", "a"]}, "'a' more than once"),
        ({"class_names": ["a", " a "]}, "'a' more than once"),
        ({"class_names": ["a", "  "]}, "empty name at position 1"),
    ],
)
def test_class_names_that_do_not_fit_the_outputs_are_refused_on_every_way_in(fields, message, checkpoint):
    with_card(checkpoint, **fields)
    for load in (load_card, load_network):
        with pytest.raises(ValueError, match=message):
            load(checkpoint)


def test_outputs_are_those_of_the_network_whatever_its_description_leaves_out(checkpoint):
    content = read_checkpoint(checkpoint)
    del content["milpath"]["network"]["arguments"]["num_outputs"]
    content["milpath"] |= {"class_names": ["a", "b", "c"], "task": "nominal"}
    write_checkpoint(content, checkpoint)
    with pytest.raises(ValueError, match="the network has 1 outputs, but a nominal task of 3 classes needs 3"):
        load_network(checkpoint)


@pytest.mark.parametrize(
    "encoder",
    [
        {"name": "timm/hf-hub:somebody/model"}, {"name": "timm/hf_hub:somebody/model"}, {"name": "timm/local-dir:/tmp"},
        {"name": "timm/resnet18.a/../local-dir:/tmp"}, {"name": "timm/resnet18.hf-hub:x/y"}, {"name": "timm/timm/resnet18"},
        {"name": "timm/"}, {"name": "os.system"}, {"name": "milpath.models.AttentionMIL"}, {"name": "hub:a/b"},
        {"name": "resnet18", "weights": "DEFAULT"}, {"name": "resnet18", "checkpoint_path": "/etc/passwd"},
        {"name": "timm/resnet18", "pretrained_cfg": {"file": "/etc/passwd"}}, {"name": "timm/resnet18", "file": "/etc/passwd"},
        {"name": "timm/resnet18", "pretrained_cfg_overlay": {"url": "http://localhost"}}, {"name": "resnet18", "progress": 1},
        {"name": "tile_cnn", "norm_layer": "os.system"}, "timm/hf-hub:a/b", ["tile_cnn"], {"name": ["tile_cnn"]}, {},
    ],
)  # fmt: skip
def test_an_encoder_is_looked_up_in_a_list_and_reads_no_file_or_network(encoder, checkpoint, monkeypatch):
    def refuse(*arguments, **named):
        raise AssertionError(f"opened {arguments}")

    content = read_checkpoint(checkpoint)
    content["milpath"]["network"]["arguments"]["encoder"] = encoder
    write_checkpoint(content, checkpoint)
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    with pytest.raises(ValueError) as caught:
        load_network(checkpoint)
    assert "\n" not in str(caught.value)
    assert "opened" not in str(caught.value)


def test_deep_shared_and_huge_values_are_refused_and_end(checkpoint):
    deep: list = []
    for _ in range(50):
        deep = [deep]
    shared: list = [0] * 10
    for _ in range(12):
        shared = [shared] * 10
    for value, message in (
        (deep, "nested more than 16 levels deep"),
        (shared, "values"),
        ("x" * (2 << 20), "too long"),
    ):
        for field in ("data", "tiling"):
            with_card(checkpoint, **{"data": {}, "tiling": {}, field: {"path": value}})
            with pytest.raises(ValueError, match=message) as caught:
                load_card(checkpoint)
            assert len(str(caught.value)) < 500
    with_card(checkpoint, class_names=deep, data={}, tiling={})
    with pytest.raises(ValueError, match="class_names of the card is nested"):
        load_card(checkpoint)


def test_a_name_with_terminal_codes_is_shown_escaped(checkpoint, tmp_path, run_here):
    with_card(checkpoint, class_names=["\x1b[2Jbenign", "\u202emalignant"])
    status, error = run_here("milpath.evaluate", f"checkpoint={checkpoint}", "trainer.accelerator=cpu", cwd=tmp_path)
    assert status == 1
    assert "\\x1b[2Jbenign" in error
    assert "\x1b" not in error
    assert "\u202e" not in error
