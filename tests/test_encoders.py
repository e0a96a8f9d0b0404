"""`milpath encoders`: the list of pretrained encoders, and the check of one."""

import importlib
import sys

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from milpath import encoders
from milpath.config.roots import CONFIG_DIR
from milpath.models.encoders import encoder_card, encoder_names
from milpath.runs.chosen_parts.build_encoder import build_encoder, encoder_facts
from milpath.search.composition import compose_training
from tests.conftest import REPOSITORY

pytest.importorskip("timm", reason="comes with the extra backbones")


def composed(*words: str):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("encoders", encoders.overrides(words))


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder of weights named by the environment."""
    monkeypatch.setenv("MILPATH_WEIGHTS", str(tmp_path))
    return tmp_path


def test_the_list_names_every_encoder_and_says_what_is_here_and_what_to_do(weights):
    (weights / "uni.pth").write_bytes(b"")
    lines = encoders.run(composed())
    rows = {line.split()[0]: line for line in lines if line and line.split()[0] in encoder_names()}
    assert set(rows) == set(encoder_names())
    assert f"present: {weights}/uni.pth" in rows["uni"]
    assert "missing: https://huggingface.co/MahmoodLab/UNI2-h" in rows["uni2_h"]
    assert rows["uni2_h"].split()[1:7] == ["1,536", "224", "px", "0.5", "CC-BY-NC-ND-4.0", "yes"]
    assert lines[-1] == "milpath encoders check NAME loads an encoder and runs a tile"


def test_a_check_loads_the_weights_and_runs_tiles(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["milpath", "check", "efficientnet_lite0", "device=cpu"])
    encoders.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("encoder   efficientnet_lite0 (1,280 features of tiles of 224 px, weights ")
    assert "4 drawn tiles of 224 px: 1,280 features" in lines[-2]
    assert lines[-1] == "ok"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "uni2_h"], "no weights of uni2_h on this machine: ask for access at"),
        (["check", "uni", "weights_path=none.pth"], "weights_path=none.pth does not exist"),
        (["check", "timm"], "encoder.name must be given"),
    ],
)
def test_a_check_that_fails_is_one_line_and_status_1(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["milpath", *words])
    with pytest.raises(SystemExit) as caught:
        encoders.main()
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_weights_are_found_in_the_folder_of_the_environment(weights):
    torch.manual_seed(0)
    import timm

    network = timm.create_model("resnet50", num_classes=0)
    torch.save(network.state_dict(), weights / "resnet50.pth")
    encoder = build_encoder(composed("check", "resnet50").encoder)
    assert torch.equal(encoder.network.conv1.weight, network.conv1.weight)
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_a_class_of_the_user_is_named_by_its_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_encoder_parts.py").write_text(
        "from torch import nn\n\nclass Mean(nn.Module):\n    takes = 'tiles'\n    embedding_dim = 3\n\n"
        "    def forward(self, tiles):\n        return tiles.mean((2, 3))\n"
    )
    config = OmegaConf.create({"_target_": "own_encoder_parts.Mean", "tile_size": 16})
    encoder = build_encoder(config)
    tiles = torch.rand(2, 3, 16, 16)
    assert torch.equal(encoder(tiles), tiles.mean((2, 3)))
    assert encoder.card.architecture == "Mean"


def test_facts_are_known_before_weights_are_read(tmp_path, monkeypatch):
    known = encoder_card("uni2_h").to_dict()
    assert encoder_facts(composed("check", "uni2_h").encoder) == {
        name: value for name, value in known.items() if name != "weights_sha256"
    }
    facts = encoder_facts(composed("check", "timm", "encoder.name=timm/resnet10t").encoder)
    assert (facts["tile_size"], facts["embedding_dim"], facts["microns_per_pixel"]) == (176, 512, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_facts_parts.py").write_text("class Own:\n    pass\n")
    own = encoder_facts(OmegaConf.create({"_target_": "own_facts_parts.Own", "tile_size": 16}))
    assert own == {"name": "Own", "tile_size": 16}


@pytest.mark.parametrize("name", encoder_names())
def test_every_encoder_is_an_option_of_training_too(name):
    config = compose_training([f"model/encoder={name}"]).model.encoder
    assert config.name == name
    assert "frozen" in config
    if "library" in config:  # those without a file of their own in model/encoder
        facts = encoder_card(name).to_dict()
        del facts["weights_sha256"]
        assert {key: OmegaConf.to_container(config)[key] for key in facts} == facts
        assert config.pretrained
        assert config.weights_dir is None


def test_drawn_tiles_are_the_same_everywhere_and_differ_from_each_other():
    tiles = encoders.drawn_tiles(3, 32)
    assert tiles.shape == (3, 3, 32, 32)
    assert tiles.min() >= 0
    assert tiles.max() <= 1
    assert float(abs(tiles[0] - tiles[1]).max()) > 0.3


def test_the_table_of_the_documentation_has_a_row_for_every_encoder(monkeypatch):
    pytest.importorskip("mkdocs")
    monkeypatch.setattr(sys, "path", [str(REPOSITORY / "scripts"), *sys.path])
    page = importlib.import_module("documentation").pages()["reference/encoders.md"]
    for name in encoder_names():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| [`{name}`]")]
        card = encoder_card(name)
        assert f"| {card.embedding_dim:,} | {card.tile_size} px |" in row
        assert card.licence in row
        assert f"[{'on request' if card.gated else 'open'}]({card.access})" in row
