"""Paths and text with any character, on the command line of every command."""

import inspect
import re
import sys
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_object
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from milpath.__main__ import COMMANDS
from milpath.config.command_line import flags_first, is_path, literal_overrides, override, quoted
from milpath.config.roots import CONFIG_DIR
from milpath.data.datamodule import BagDataModule
from milpath.models.encoders import TileEncoder
from milpath.runs.instantiation import instantiate_entry
from tests.commands import here

CHARACTERS = "aZ0/.:- \täß漢字ï,()[]{}=#&'\"$;~%@!\\?*|<>^`+\n"
NAMES = st.text(st.sampled_from(CHARACTERS), min_size=1, max_size=12)
UGLY = "Präparate 漢字, (a) [b] {c} = # & ' \" $ ; ~ % @ ! ${d} ${oc.env:HOME} \\"
ODD = [
    UGLY,
    "-x",
    "[a,b]",
    "{a: b}",
    "a,b",
    "choice(a,b)",
    "1e3",
    "true",
    "${x}",
    "glob(*)",
    " a",
    "~/x",
    "a\\",
    "x=y=z",
]
PATHS = {
    "tile": ["slides", "output", "labels", "masks", "resolutions", "shard"],
    "extract": ["slides", "output", "labels", "resolutions", "shard", "encoder.weights_path", "encoder.weights_dir"],
    "encoders": ["paths.weights_dir"],
    "train": [
        "data.stores_dir",
        "data.splits",
        "data.groups",
        "paths.data_dir",
        "paths.runs_dir",
        "resume_from",
        "run_name",
    ],
    "evaluate": ["checkpoint", "paths.runs_dir"],
    "predict": ["checkpoint", "slides", "output", "labels", "masks", "resolutions"],
    "app": ["checkpoint", "temporary_dir"],
    "table": ["output", "data.splits", "paths.data_dir"],
    "compare": ["runs", "output"],
    "faithfulness": ["checkpoint", "output", "data.path", "encoder_weights_path", "paths.stores_dir"],
    "check-data": [
        "slides",
        "labels",
        "output",
        "checkpoint",
        "splits_path",
        "id_column",
        "split_column",
        "paths.stores_dir",
    ],
    "sagemaker.launch": ["data.splits", "paths.data_dir", "sagemaker.requirements"],
    "sagemaker.tune": ["data.splits", "paths.data_dir", "sagemaker.requirements"],
    "sagemaker.package": ["checkpoint", "output"],
    "sagemaker.register": ["run", "archive"],
    "sagemaker.deploy": ["archive"],
    "sagemaker.score": ["paths.runs_dir", "data.path"],
    "sagemaker.delete": [],
    "sagemaker.rehearse": ["paths.data_dir"],
    "sagemaker.process": ["slides", "output"],
    "sagemaker.transform": ["checkpoint"],
    "sagemaker.policy": ["file"],
}
ALSO = {
    "sagemaker.score": ["data=bag_store", "endpoint=x"],
    "sagemaker.delete": ["endpoint=x"],
    "tile": ["level=-1"],
    "faithfulness": ["data=bag_store"],
    "extract": ["encoder=resnet50"],
}
KEPT = ("null", "???")  # no value, and a value that is required: `./null` is the file of this name
parser = OverridesParser.create()


def read(word: str, key: str) -> object:
    """Return what the configuration holds after an override: parsed, set, and its interpolations resolved."""
    parsed = parser.parse_override(word)
    assert not parsed.is_sweep_override()
    config = OmegaConf.create({})
    OmegaConf.update(config, key, parsed.value())
    return OmegaConf.select(config, key)


@settings(max_examples=1500)
@given(NAMES)
@example("a\\${b}")
@example("\\\\${")
@example("x\\")
def test_a_path_of_any_characters_arrives_as_typed(name):
    assume(name not in KEPT and not re.fullmatch(r"""(".*"|'.*')""", name, re.DOTALL))
    for key in ("data.path", "checkpoint.x_dir"):
        assert read(literal_overrides([f"{key}={name}"])[0], key) == name
    assert read(override("a.path", Path(name)), "a.path") == str(Path(name))
    assert read(f"a={quoted(name)}", "a") == name


@settings(max_examples=300)
@given(st.lists(NAMES, max_size=3))
def test_a_list_of_paths_arrives_as_typed(names):
    assume(not any(set("\"',") & set(name) or name != name.strip() or name in KEPT for name in names))
    (word,) = literal_overrides([f"data.exclude=[{','.join(names)}]"])
    assert list(read(word, "data.exclude")) == names
    assert list(read(override("a.b", names), "a.b")) == names


@settings(max_examples=300)
@given(NAMES)
def test_a_folder_of_the_configuration_stays_a_reference(name):
    assume(not any(mark in name for mark in "\"'"))
    config = OmegaConf.create({"paths": {"data_dir": "/data"}})
    (word,) = literal_overrides([f"data.path={name}${{paths.data_dir}}{name}"])
    OmegaConf.update(config, "data.path", parser.parse_override(word).value())
    assert config.data.path == f"{name}/data{name}"


@pytest.mark.parametrize("name", ODD)
def test_a_path_in_a_sweep_is_text_unless_it_is_quoted(name):
    (word,) = literal_overrides([f"data.path={name}"])
    assert not parser.parse_override(word).is_sweep_override()
    swept = parser.parse_override(literal_overrides(['data.path="a, b","c"'])[0])
    assert swept.is_sweep_override()
    assert [item.text for item in swept.sweep_iterator()] == ["a, b", "c"]
    assert parser.parse_override(literal_overrides(["optimizer.lr=1e-3,1e-4"])[0]).is_sweep_override()


def test_words_of_other_keys_may_have_any_letters():
    words = {
        "data.class_names=[gutartig,bösartig]": ["gutartig", "bösartig"],
        "data.label_column=Größe": "Größe",
        "data.label_column=MSI #1; grade & stage": "MSI #1; grade & stage",
        "data.label_column={time: OS months,event:tot}": {"time": "OS months", "event": "tot"},
        "published={attention: 0.8}": {"attention": 0.8},
    }
    for word, expected in words.items():
        assert read(literal_overrides([word])[0], word.partition("=")[0]) == expected
    for unchanged in (
        "a=1e-3,1e-4",
        "a=${oc.env:HOME}",
        "~a",
        "-m",
        "--config-dir=ä",
        "a='ä'",
        "a=[x,{y: 1}]",
        "a=choice(1,2)",
    ):
        assert literal_overrides([unchanged]) == [unchanged]


def test_a_plain_path_is_not_changed():
    """The plan of a table holds its overrides as typed: an unfinished one goes on."""
    for word in (
        "data.path=/data/slides",
        "output=tables/musk1",
        "checkpoint=runs/a b/best.ckpt",
        "resume_from=auto",
        "labels=null",
    ):
        assert literal_overrides([word]) == [word]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_any_path(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    keys = PATHS[command]
    for name in (UGLY, "[a,b]"):
        # A list of checkpoints is averaged, one of runs compared: a single one in brackets is quoted.
        words = [
            f'{key}="{name}"' if key in ("checkpoint", "runs") and name[:1] == "[" else f"{key}={name}" for key in keys
        ]
        assert (
            here(f"milpath.{command.replace('-', '_')}", "--cfg", "job", *ALSO.get(command, []), *words, cwd=tmp_path)
            == 0
        )
        config = OmegaConf.create(capsys.readouterr().out)
        for key in keys:
            assert OmegaConf.select(config, key) == name, key


def test_every_argument_that_is_a_path_is_known():
    """A key of a group is an argument of what the group makes: one annotated as a path must be read as one."""
    makers = {("data", BagDataModule), ("model.encoder", TileEncoder)}
    for path in CONFIG_DIR.rglob("*/*.yaml"):
        target = (yaml.safe_load(path.read_text()) or {}).get("_target_")
        if target and target.startswith("milpath."):
            makers.add((path.parent.relative_to(CONFIG_DIR).as_posix().replace("/", "."), get_object(target)))
    found = set()
    for group, maker in makers:
        for name, parameter in inspect.signature(maker).parameters.items():
            if "Path" in str(parameter.annotation):
                found.add(f"{group}.{name}")
    assert {"data.path", "data.labels", "data.tiles"} <= found
    assert [key for key in sorted(found) if not is_path(key)] == []


# A comment that begins like this explains a file or a folder.
ABOUT_A_PATH = re.compile(
    r"(?:.*(?:or a |to this )|a |the |[\w, ]+: |local )?"
    r"(?:(?:local |text )?(?:folders?|file\b(?!s)|files\b(?! of| per)|table \w+,\w+|table with)|CSV|table \(CSV|best\.ckpt|model\.tar\.gz)\b"
)
NO_PATHS = ("prefix", "bucket", "input_mode", "compress_output")  # of S3


def test_every_option_that_is_explained_as_a_file_or_folder_is_known():
    known, unknown = 0, []
    for path in sorted(CONFIG_DIR.rglob("*.yaml")):
        group = path.parent.relative_to(CONFIG_DIR).as_posix().replace("/", ".")
        for name, comment in re.findall(r"^ *(\w+):[^#\n]*#(.*)$", path.read_text(), re.MULTILINE):
            if ABOUT_A_PATH.match(comment.strip()) and name not in NO_PATHS:
                key = name if group == "." else f"{group}.{name}"
                known += is_path(key)
                unknown += [] if is_path(key) else [f"{key}: {comment.strip()}"]
    assert unknown == []
    assert known > 12


def test_a_path_with_a_dollar_reaches_the_object_that_is_made(tmp_path):
    config = OmegaConf.create({"_target_": "pathlib.PurePosixPath", "_args_": ["${path}"]})
    root = OmegaConf.create({"path": "a\\${b}/c", "entry": config})
    assert str(instantiate_entry(root.entry)) == "a${b}/c"


def test_the_record_of_a_run_shows_what_was_typed(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("milpath.sagemaker.package.run", lambda config: seen.append((sys.argv[1:], config.checkpoint)))
    here("milpath.sagemaker.package", "checkpoint=a, b", "output=ä.tar.gz", cwd=tmp_path)
    assert seen == [(["checkpoint=a, b", "output=ä.tar.gz"], "a, b")]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a=1", "-m", "b=1,2"], ["-m", "a=1", "b=1,2"]),
        (["a=1", "--cfg", "job", "b=x", "--resolve", "c=-1"], ["--cfg", "job", "--resolve", "a=1", "b=x", "c=-1"]),
        (["-m", "a=1"], ["-m", "a=1"]),
        (["a=-x", "~b"], ["a=-x", "~b"]),
        (["a=1", "-cd", "conf", "-cn", "best", "b=2"], ["-cd", "conf", "-cn", "best", "a=1", "b=2"]),
    ],
)
def test_flags_may_stand_anywhere(words, expected):
    assert flags_first(words) == expected


def test_an_option_written_as_a_flag_is_one_line(tmp_path, run_here):
    status, error = run_here("milpath.train", "data=features", "--run-name", "first", cwd=tmp_path)
    assert (status, error.count("\n")) == (1, 1)
    assert "unknown flag '--run-name'; options are given as key=value, without hyphens: run_name=..." in error
