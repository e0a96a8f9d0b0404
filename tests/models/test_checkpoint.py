import contextlib
import pickle
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from milpath.inference.ensemble import open_predictor
from milpath.models import AttentionMIL, load_card, load_network, save_network
from milpath.models.checkpoint import open_checkpoint, read_checkpoint, update_card, write_checkpoint


@pytest.fixture
def network() -> AttentionMIL:
    return AttentionMIL(encoder={"name": "linear", "num_features": 4, "hidden_dims": [8]}, gated=True)


@pytest.fixture
def path(network, tmp_path):
    save_network(network, tmp_path / "network.pt", class_names=("benign", "malignant"), threshold=0.3)
    return tmp_path / "network.pt"


def test_the_card_comes_back_as_it_was_saved(path):
    card = load_card(path)
    assert card.class_names == ("benign", "malignant")
    assert card.threshold == 0.3
    assert card.network["name"] == "AttentionMIL"
    assert update_card(path, temperature=2.0) == replace(card, temperature=2.0) == load_card(path)


def test_the_network_and_its_card_come_from_one_reading(path, monkeypatch):
    read, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *arguments, **options: read.append(1) or load(*arguments, **options))
    opened, card = open_checkpoint(path)
    predictor = open_predictor(path)
    assert len(read) == 2
    expected = load_network(path)
    assert card == predictor.card == load_card(path)
    for found in (opened, predictor.network):
        assert not found.training
        torch.testing.assert_close(found.state_dict(), expected.state_dict(), atol=0, rtol=0)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nothing\.ckpt"):
        load_network(tmp_path / "nothing.ckpt")


def test_a_file_with_code_is_refused_and_the_code_does_not_run(tmp_path):
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save({"milpath": Attack(), "state_dict": {}}, tmp_path / "attack.ckpt")
    with pytest.raises(ValueError, match="not a milpath checkpoint"):
        load_network(tmp_path / "attack.ckpt")
    assert not marker.exists()
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ValueError, match="not a milpath checkpoint"):
        load_network(tmp_path / "plain.ckpt")
    assert not marker.exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_is_an_interruption_and_leaves_the_previous_file(tmp_path, monkeypatch, stop):
    # torch's writer reported "unexpected pos" then, and a training that was stopped had failed.
    path = tmp_path / "last.ckpt"
    write_checkpoint({"state_dict": {"first": torch.zeros(1)}}, path)
    before, open_file, writes = path.read_bytes(), Path.open, []

    @contextlib.contextmanager
    def open_and_interrupt(path, *arguments):
        with open_file(path, *arguments) as file:

            def write(data):
                writes.append(file.write(data))
                if len(writes) == 3:
                    raise stop  # as the handler of SIGINT or SIGTERM does, between two writes

            yield SimpleNamespace(write=write, flush=file.flush)

    with monkeypatch.context() as patch, pytest.raises(stop):
        patch.setattr(Path, "open", open_and_interrupt)
        write_checkpoint({"state_dict": {f"weight{i}": torch.zeros(4000) for i in range(9)}}, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("size", [0, 1, 100, 2000])
def test_a_truncated_file_is_refused(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="not a milpath checkpoint, or it is truncated"):
        load_network(path)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(ValueError, match="not a milpath checkpoint"):
        load_network(tmp_path / "text.ckpt")
    torch.save({"weights": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="it has no card"):
        load_network(tmp_path / "other.pt")


@pytest.mark.parametrize("name", ["os.system", "Nonsense", "MILOutput", "load_network", None, ["AttentionMIL"]])
def test_a_name_that_is_no_network_is_refused(path, name):
    content = read_checkpoint(path)
    content["milpath"]["network"]["name"] = name
    write_checkpoint(content, path)
    with pytest.raises(ValueError, match="unknown network .*; this version of milpath has"):
        load_network(path)


def test_weights_of_another_network_are_refused(path):
    content = read_checkpoint(path)
    content["milpath"]["network"]["arguments"]["gated"] = False
    write_checkpoint(content, path)
    with pytest.raises(ValueError, match="the weights do not fit the network"):
        load_network(path)


def test_unknown_arguments_are_refused(path):
    content = read_checkpoint(path)
    content["milpath"]["network"]["arguments"]["heads"] = 2
    write_checkpoint(content, path)
    with pytest.raises(ValueError, match="network AttentionMIL: .*heads"):
        load_network(path)


def test_a_format_of_the_future_is_refused(path):
    content = read_checkpoint(path)
    content["milpath"]["format_version"] = 99
    write_checkpoint(content, path)
    with pytest.raises(ValueError, match="the card has format 99, this version of milpath reads 1; update milpath"):
        load_card(path)


def test_loading_downloads_nothing_and_needs_no_file_of_the_machine_it_was_trained_on(tmp_path, monkeypatch):
    network = AttentionMIL(encoder={"name": "resnet18", "weights_path": None})
    network.encoder = {"name": "resnet18", "pretrained": True, "weights_path": "/nowhere/weights.pth"}
    save_network(network, tmp_path / "network.pt")
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    load_network(tmp_path / "network.pt")


def change(path, **fields):
    content = read_checkpoint(path)
    content["milpath"] |= fields
    write_checkpoint(content, path)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ([["name", "resnet18"], ["pretrained", True]], "encoder must be a name or a mapping"),
        ({"name": "timm/hf-hub:nobody/nothing"}, "has no architecture"),
        ({"name": "linear", "num_features": "4"}, "encoder linear"),
        ({"name": "linear", "num_features": -4}, "network AttentionMIL"),
        ({"name": "linear", "num_features": 4, "hidden_dims": 8}, "network AttentionMIL|encoder linear"),
        ({"name": "linear", "num_features": 10**12, "hidden_dims": [10**9]}, "weights do not fit|network AttentionMIL"),
        (3, "encoder must be a name or a mapping"),
    ],
)
def test_a_card_cannot_reach_the_network_or_take_memory_that_its_weights_do_not_have(path, encoder, message):
    change(path, network={"name": "AttentionMIL", "arguments": {"encoder": encoder, "gated": True}})
    with pytest.raises(ValueError, match=message) as caught:
        load_network(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_weights_that_repeat_one_stored_number_are_refused(path):
    content = read_checkpoint(path)
    shape = (10**5, 10**5)
    content["state_dict"]["network.tile_encoder.network.layers.0.weight"] = torch.zeros(1).expand(shape)
    write_checkpoint(content, path)
    with pytest.raises(ValueError, match="smaller than the weights it claims to hold"):
        load_network(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": 5}, "network of the card must be a mapping"),
        ({"network": {"name": "AttentionMIL", "arguments": [1]}}, "must be described by a name and a mapping"),
        ({"class_names": 5}, "class_names of the card must be a list of names, not 5"),
        ({"class_names": ["a", " "]}, "class_names has an empty name at position 1"),
        ({"class_names": ["a", "b\ud800"]}, r"class_names has 'b\\ud800', which is no text"),
        ({"class_names": "ab"}, "class_names of the card must be a list of names"),
        ({"task": "x"}, "task 'x' of the card is not one of binary, nominal, ordinal"),
        ({"task": ["binary"]}, "task .* of the card is not one of"),
        ({"temperature": 0}, "temperature of the card must be a number"),
        ({"threshold": "a"}, r"threshold of the card must be a number in \[0, 1\], not 'a'"),
        ({"defer_below": float("nan")}, "defer_below of the card must be a finite number"),
        ({"tiling": 3}, "tiling of the card must be a mapping"),
    ],
)
def test_a_card_that_cannot_be_true_is_refused_by_field(path, fields, message):
    change(path, **fields)
    with pytest.raises(ValueError, match=message):
        load_network(path)


def test_a_card_that_lacks_a_field_is_refused(path):
    content = read_checkpoint(path)
    del content["milpath"]["task"]
    write_checkpoint(content, path)
    with pytest.raises(ValueError, match=r"network\.pt: the card lacks task"):
        load_card(path)


@pytest.mark.parametrize("missing", [True, False])
def test_missing_and_foreign_weights_are_named(path, missing):
    content = read_checkpoint(path)
    if missing:
        del content["state_dict"]["network.classification_layer.bias"]
    else:
        content["state_dict"]["network.head"] = torch.ones(1)
    write_checkpoint(content, path)
    with pytest.raises(
        ValueError, match="1 are missing, first 'classification_layer.bias'|1 are unexpected, first 'head'"
    ):
        load_network(path)


def test_a_damaged_file_never_fails_in_another_way(path, tmp_path):
    whole = bytearray(path.read_bytes())
    rng = random.Random(0)
    damaged = tmp_path / "damaged.pt"
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 4, 30])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        damaged.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        with contextlib.suppress(ValueError):
            load_network(damaged)


def test_the_number_of_outputs_must_be_that_of_the_task(tmp_path):
    network = AttentionMIL(encoder={"name": "linear", "num_features": 4}, num_outputs=6)
    with pytest.raises(
        ValueError, match="6 outputs, but a binary task of 2 classes needs 1; give class_names and task"
    ):
        save_network(network, tmp_path / "network.pt")
    assert list(tmp_path.iterdir()) == []
    save_network(network, tmp_path / "network.pt", class_names=tuple("abcdef"), task="nominal")
    assert load_network(tmp_path / "network.pt").num_outputs == 6


def test_numbers_of_numpy_in_the_arguments_can_be_read_again_and_other_things_are_refused(tmp_path):
    network = AttentionMIL(encoder={"name": "linear", "num_features": np.int64(4), "hidden_dims": (8, 4)})
    save_network(network, tmp_path / "network.pt")
    assert load_network(tmp_path / "network.pt").encoder["num_features"] == 4
    network.attention_dim = {1, 2}
    with pytest.raises(
        ValueError, match=r"AttentionMIL\.attention_dim is a set; a checkpoint stores only plain numbers"
    ):
        save_network(network, tmp_path / "other.pt")


def test_nothing_half_written_is_left_behind(network, tmp_path):
    with pytest.raises(FileNotFoundError):
        save_network(network, tmp_path / "missing" / "network.pt")
    with pytest.raises(TypeError):
        save_network(network, tmp_path / "network.pt", colour="red")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_the_old_file_as_it_was(network, path, monkeypatch):
    before = path.read_bytes()

    def full_disk(content, target):
        target.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_network(network, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
