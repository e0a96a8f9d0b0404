"""A configuration is composed once, and one that sweeps by itself is still found."""

import hydra._internal.config_loader_impl as loader
import pytest
import yaml

from milpath.config.roots import CONFIG_DIR
from milpath.config.run_mode import may_set_mode

OURS = [("hydra", "pkg://hydra.conf"), ("main", str(CONFIG_DIR)), ("schema", "structured://")]


def test_only_the_searches_of_this_library_set_the_mode():
    found = {
        path.relative_to(CONFIG_DIR).parts[0]
        for path in CONFIG_DIR.rglob("*.yaml")
        if "mode" in ((yaml.safe_load(path.read_text()) or {}).get("hydra") or {})
    }
    assert found == {"hparams_search"}


@pytest.mark.parametrize(
    ("words", "more", "expected"),
    [
        (["seed=1,2", "optimizer=sgd"], [], False),
        (["hydra.mode=MULTIRUN"], [], True),
        (["+hydra/launcher=x"], [], True),
        (["hydra.searchpath=[file:///own]"], [], True),
        (["hparams_search=attention_grid"], [], True),
        ([], [("command-line", "/own")], True),
        ([], [("main", "/own")], True),
    ],
)
def test_what_may_set_the_mode_is_composed_to_look(words, more, expected):
    assert may_set_mode(words, [*OURS, *more]) == expected


def test_a_command_composes_once(tmp_path, run_here, monkeypatch):
    counted, compose = [], loader.ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(
        loader.ConfigLoaderImpl, "load_configuration", lambda self, **words: counted.append(1) or compose(self, **words)
    )
    (tmp_path / "empty").mkdir()
    status, said = run_here("milpath.tile", "slides=empty", "output=out", cwd=tmp_path)
    assert status == 1
    assert "empty" in said
    assert len(counted) == 1


def test_a_folder_of_ones_own_may_say_that_it_sweeps(tmp_path, run_here):
    (tmp_path / "own/optimizer").mkdir(parents=True)
    (tmp_path / "own/optimizer/two.yaml").write_text("# @package _global_\nhydra:\n  mode: MULTIRUN\n")
    said = run_here("milpath.tile", "--config-dir", "own", "+optimizer=two", "slides=a,b", "output=out", cwd=tmp_path)[
        1
    ]
    assert "no slides at a" in said
