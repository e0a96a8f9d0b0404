"""`best.yaml` and `trial.yaml` of somebody else's search, refused before Hydra composes them."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from milpath.config.kept_configuration import check_command_line, is_kept, require_kept

GOOD = {
    "defaults": ["train", {"override /data": "synthetic"}, {"override /logger": None}, "_self_"],
    "optimizer": {"lr": 1e-3},
    "data": {"path": "${paths.data_dir}/features", "exclude": ["a.csv"]},
    "trainer": {"max_epochs": 2},
}
EVIL = {
    "a target": {"model": {"_target_": "os.system", "command": "true"}},
    "a nested target": {"data": {"exclude": [{"a": {"_target_": "os.system"}}]}},
    "arguments": {"model": {"_args_": [1]}},
    "a variable": {"run_name": "${oc.env:MILPATH_SECRET}"},
    "a variable in a list": {"data": {"exclude": ["${oc.env:MILPATH_SECRET}"]}},
    "a resolver": {"run_name": "${oc.decode:x}"},
    "a nested resolver": {"run_name": "${${a}:x}"},
    "callbacks of Hydra": {"hydra": {"callbacks": {"a": {"_target_": "os.system"}}}},
    "a search path": {"hydra": {"searchpath": ["file:///tmp"]}},
    "a group of somebody": {"defaults": ["train", {"override /model": "evil"}, "_self_"]},
    "a group elsewhere": {"defaults": ["train", {"override /model": "../../evil"}, "_self_"]},
    "a group of Hydra": {"defaults": ["train", {"override /hydra/launcher": "joblib"}, "_self_"]},
    "a package": {"defaults": ["train", {"override /model@data": "attention_mil"}, "_self_"]},
    "a root of somebody": {"defaults": ["evil", "_self_"]},
    "a file": {"defaults": ["/tmp/evil"]},
    "defaults that are no list": {"defaults": {"a": 1}},
}


def write(folder: Path, content, name: str = "best.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(OmegaConf.to_yaml(OmegaConf.create(content)))
    return folder / name


def test_what_a_search_writes_is_accepted(tmp_path):
    require_kept(write(tmp_path, GOOD), tmp_path)


@pytest.mark.parametrize("kind", EVIL)
def test_what_a_search_does_not_write_is_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("MILPATH_SECRET", "the-secret")
    path = write(tmp_path, GOOD | EVIL[kind])
    with pytest.raises(ValueError, match=r"best\.yaml") as caught:
        require_kept(path, tmp_path)
    assert "\n" not in str(caught.value)
    assert "the-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: *x\n",
        "a: !!python/object/apply:os.system ['true']\n",
        pytest.param("[" * 5000, marks=pytest.mark.command),
        "a: [\n",
        "- a\n",
        "\x00",
    ],
)
def test_yaml_that_does_more_than_hold_values_is_refused(text, tmp_path):
    (tmp_path / "best.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"best\.yaml"):
        require_kept(tmp_path / "best.yaml", tmp_path)


@pytest.mark.parametrize("name", ["train_schema.yaml", "hydra"])
def test_a_file_beside_it_cannot_take_the_place_of_a_schema(name, tmp_path):
    path = write(tmp_path, GOOD)
    (tmp_path / name).mkdir() if name == "hydra" else (tmp_path / name).write_text("a: 1")
    with pytest.raises(ValueError, match=f"{name} would replace"):
        require_kept(path, tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ["--config-dir", "theirs", "--config-name", "best"], ["-cd", "theirs", "-cn", "best"],
        ["--config-dir=theirs", "--config-name=best.yaml"], ["--config-d", "theirs", "--config-n", "best"],
        ["seed=1", "-cd=theirs", "-cn=best", "-m"], ["--config-dir", ".", "--config-name", "theirs/best"],
        ["--config-path", "theirs", "--config-name", "best"],
    ],
)  # fmt: skip
def test_every_way_to_name_the_file_is_seen(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "theirs", GOOD | EVIL["a target"])
    with pytest.raises(ValueError, match="begin with an underscore"):
        check_command_line(words)
    write(tmp_path / "theirs", GOOD)
    check_command_line(words)


@pytest.mark.parametrize("module", ["milpath.train", "milpath.table"])
def test_no_command_composes_such_a_file(module, tmp_path, run_here):
    marker = tmp_path / "ran"
    code = {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": [str(marker)]}]}
    for number, content in enumerate(({"hydra": {"callbacks": {"x": code}}}, {"data": {"seed": code}})):
        write(tmp_path / f"theirs_{number}", GOOD | content)
        status, error = run_here(module, "--config-dir", f"theirs_{number}", "--config-name", "best", cwd=tmp_path)
        assert status == 1
        assert len(error.strip().splitlines()) == 1, error
    assert not marker.exists()


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("optimizer.lr", 1e-3, True), ("data.path", "${paths.data_dir}/a", True), ("data.path", "${oc.env:A}", False),
        ("model._target_", "own.Network", False), ("data", {"a": [{"_target_": "x"}]}, False), ("hydra.run.dir", "/", False),
    ],
)  # fmt: skip
def test_what_a_file_may_not_say_stays_in_the_command(key, value, kept):
    assert is_kept(key, value) == kept
