"""What a mistyped command line is told, and what --help prints."""

import re

import pytest

from milpath.__main__ import COMMANDS
from milpath.config.command_help import ONLY_TRAINING, help_text
from milpath.config.composition_errors import with_booleans
from milpath.config.option_reference import defaults_of, keys_of, root_path
from milpath.config.roots import CONFIG_DIR
from tests.commands import SMALL_RUN, here

WRONG = {
    ("train", "sed=1"): "milpath train: unknown option 'sed'; did you mean 'seed'? milpath train --help lists the options",
    ("train", "data.tile_sizes=1"): "unknown option 'data.tile_sizes'; did you mean 'data.tile_size'?",
    ("train", "lr=1"): "unknown option 'lr'; did you mean 'optimizer.lr'?",
    ("train", "max_epochs=1"): "unknown option 'max_epochs'; did you mean 'trainer.max_epochs'?",
    ("train", "optimiser=adam"): "unknown option 'optimiser'; did you mean 'optimizer'?",
    ("train", "optimizer=adma"): "unknown option optimizer=adma; did you mean optimizer=adam? optimizer is one of adam, adamw, sgd",
    ("train", "experiment=msuk1"): "did you mean experiment=musk1?",
    ("train", "experiment=musk/one"): "unknown option experiment=musk/one; did you mean experiment=musk2?",
    ("train", "optimizer=3"): "unknown option optimizer=3; optimizer is one of adam, adamw, sgd",
    ("table", "methods=attention"): "milpath table: methods=attention: must be a list, such as methods=[attention]",
    ("train", "model/encoder=resnet81"): "did you mean model/encoder=resnet18?",
    ("extract", "encodr=uni"): "milpath extract: unknown option 'encodr'; did you mean 'encoder'?",
    ("extract", "slides=x"): "encoder must be given: add encoder=NAME to the command, one of conch, ",
    ("train", "xyzzy=1"): "milpath train: unknown option 'xyzzy'; milpath train --help lists the options",
    ("train", "seed=abc"): "milpath train: seed=abc: Value 'abc' of type 'str' could not be converted to Integer",
    ("train", "sed"): "'sed' is not an option; give key=value",
    ("train", "seed=[1"): """cannot read 'seed=[1'; put the option in quotes, which the shell leaves alone: 'seed=...'""",
    ("tile", "level=null"): "milpath tile: level=null: must have a value",
    ("table", "search=optimizer.lr:[1e-4"): "put the option in quotes, which the shell leaves alone: 'search=...'",
    ("train", "seed=1,2"): "'seed=1,2' has several values; add -m for a sweep over them",
    ("train", "logger=null"): "logger=null is not a choice; give logger=none",
    ("evaluate", "logger=null"): "milpath evaluate: unknown option 'logger'; milpath evaluate --help lists the options",
    ("evaluate", "chekpoint=x"): "unknown option 'chekpoint'; did you mean 'checkpoint'?",
    ("predict", "slide=x"): "unknown option 'slide'; did you mean 'slides'?",
    ("tile", "tilesize=x"): "unknown option 'tilesize'; did you mean 'tile_size'?",
    ("app", "prot=1"): "unknown option 'prot'; did you mean 'port'?",
    ("table", "fold=1"): "unknown option 'fold'; did you mean 'folds'?",
    ("table", "output='my ${x} table'"): "output has ${ in its value, which is read as the name of another",
    ("sagemaker.launch", "sagemaker.spto=true"): "milpath sagemaker launch: unknown option 'sagemaker.spto'; did you mean 'sagemaker.spot'?",
    ("sagemaker.package", "chekpoint=x"): "did you mean 'checkpoint'?",
    ("sagemaker.deploy", "mod=x"): "did you mean 'mode'?",
    ("sagemaker.score", "data=nothing"): "unknown option data=nothing; data is one of bag_store,",
    ("sagemaker.score", "endpoint=x"): "data",
    ("sagemaker.delete", "endpont=x"): "did you mean 'endpoint'?",
    ("sagemaker.tune", "tune.max_job=x"): "did you mean 'tune.max_jobs'?",
}  # fmt: skip


@pytest.mark.parametrize(("command", "word"), WRONG, ids=str)
def test_a_mistyped_option_is_one_line_with_the_nearest_name(command, word, tmp_path, capfd):
    assert here(f"milpath.{command.replace('-', '_')}", word, cwd=tmp_path) == 1
    said = capfd.readouterr().err
    assert WRONG[command, word] in said
    assert said.count("\n") == 1
    assert "hydra" not in said.lower()


def test_a_mistyped_option_of_a_sweep_is_one_line(tmp_path, capfd):
    for words in (["-m", "seed=1,2", "sed=1"], ["-m", "hparams_search=attention_grid", "sed=1"]):
        assert here("milpath.train", *words, cwd=tmp_path) == 1
        said = capfd.readouterr().err
        assert "unknown option 'sed'; did you mean 'seed'?" in said
        assert said.count("\n") == 1, said


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_every_option_and_group_with_its_comment(command, tmp_path, capsys):
    assert here(f"milpath.{command.replace('-', '_')}", "--help", cwd=tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"{lines[0]} ".startswith(f"milpath {command.replace('.', ' ')} ")
    for key in keys_of(root_path(command)):
        if key.value:
            (line,) = [line for line in lines if line.startswith(f"  {key.name}: ")]
            assert key.comment
            assert re.search(rf"^  {re.escape(key.name)}: {re.escape(key.value)} +# {re.escape(key.comment)}$", line)
    assert any("--cfg job" in line for line in lines)
    assert all(line.count("\n") == 0 for line in lines)


def test_help_shows_the_keys_of_the_options_that_are_typed(tmp_path, capsys):
    words = ["data=bag_store", "model/encoder=linear", "experiment=frozen_encoder", "seed=1"]
    assert here("milpath.train", *words, "--help", cwd=tmp_path) == 0
    said = capsys.readouterr().out
    assert re.search(r"^data: bag_store +# bag_store \| ", said, re.MULTILINE)
    for line in (
        "  data.path: ???",
        "  model.encoder.hidden_dims: [512]",
        "  optimizer.lr: 2.0e-4",
        "  trainer.max_epochs: 40",
    ):
        assert f"\n{line}" in said, line
    for line in ("data.num_slides", "model.encoder.invert", "experiment.data"):
        assert line not in said, line


def test_help_of_training_has_every_group_with_its_choices_and_the_keys_of_the_default():
    lines = help_text("train").splitlines()
    composed = {*defaults_of(root_path("train")), "model/encoder"}
    assert len(composed) > 12
    for group in composed:
        (line,) = [line for line in lines if line.startswith(f"{group}: ")]
        names = {path.stem for path in (CONFIG_DIR / group).glob("*.yaml")} - {"options"}
        assert set(line.split("# ")[1].split(" | ")) == names
    said = "\n".join(lines)
    assert re.search(r"^  data\.target: malignant +# label \| malignant \| isup$", said, re.MULTILINE)
    assert re.search(r"^  model\.encoder\.frozen: false +# always in evaluation mode", said, re.MULTILINE)
    assert "python -m" not in said


def test_help_of_a_command_that_only_predicts_leaves_out_what_only_training_reads():
    known = {key.name for key in keys_of(CONFIG_DIR / "trainer/default.yaml")}
    assert set(ONLY_TRAINING) < known
    shown = re.compile(r"^  trainer\.(\w+):", re.MULTILINE)
    for words in ((), ("trainer=demo",)):
        said = help_text("evaluate", words)
        assert set(shown.findall(said)) == known - {"_target_", *ONLY_TRAINING}
        assert f"  # without effect here, only in training: {', '.join(ONLY_TRAINING)}" in said.splitlines()
    said = help_text("train")
    assert set(shown.findall(said)) == known - {"_target_"}
    assert "without effect" not in said


@pytest.mark.parametrize(
    ("command", "words", "read"),
    [
        ("train", ["model.gated=no"], ["model.gated=false"]),
        ("train", ["model=gated_attention_mil", "model.gated=Off"], ["model=gated_attention_mil", "model.gated=false"]),
        ("train", ['data.standardize="true"', "data=features"], ["data.standardize=true", "data=features"]),
        ("train", ["-m", "model.gated=yes,no"], ["-m", "model.gated=true,false"]),
        ("extract", ["encoder=phikon", "encoder.download=no"], ["encoder=phikon", "encoder.download=false"]),
        ("train", ["data.label_column=no", "run_name=on", "data.class_names=[no,yes]"], None),
        ("train", ["model.gated=false", "model.nothing=no"], None),
    ],
)
def test_yes_and_no_are_booleans_where_the_option_is_one(command, words, read):
    assert with_booleans(words, command) == (words if read is None else read)


def test_no_trains_without_and_other_words_stay(tmp_path, run_here):
    assert with_booleans(["trainer.deterministic=no,warn"], "train") == ["trainer.deterministic=false,warn"]
    words = [*SMALL_RUN, "trainer.max_epochs=1", "model.gated=no", "run_name=one"]
    assert run_here("milpath.train", *words, cwd=tmp_path) == (0, "")
    assert "gated: false" in (tmp_path / "runs/one/config.yaml").read_text()
