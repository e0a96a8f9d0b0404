import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from milpath.sagemaker.jobs.hyperparameters import overrides_of
from milpath.sagemaker.jobs.training_job import compose_words


def test_the_words_of_the_toolkit_become_overrides():
    words = ["--model__gated", "True", "--optimizer__lr", "0.001", "--resume_from", "", "-s", "1"]
    assert overrides_of(words) == ["model.gated=True", "optimizer.lr=0.001", "resume_from=null", "s=1"]


def test_a_negative_number_is_a_value():
    assert overrides_of(["--trainer__max_steps", "-1"]) == ["trainer.max_steps=-1"]


@pytest.mark.parametrize("word", ["optimizer", "--optimizer", "--a b=1", "=3", "--(x)=1"])
def test_a_word_without_a_key_and_a_value_is_refused(word):
    with pytest.raises(ValueError, match="hyperparameter"):
        overrides_of([word])


@given(st.text(st.characters(codec="ascii", exclude_characters="\n\r\t\0"), min_size=1).map(str.strip).filter(bool))
def test_any_text_arrives_as_one_value(text):
    override = OverridesParser.create().parse_override(overrides_of([f"--name={text}"])[0])
    assert override.key_or_group == "name"
    assert not override.is_sweep_override()


@pytest.mark.parametrize(
    "word",
    [
        "--model__%s=os.system", "--optimizer.%s=os.system", "%s=os.system", "--callbacks={x: {%s: os.system}}",
        "--callbacks={x: [1, {%s: os.system}]}", "--data@%s=features", "--a/%s=b",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["_target_", "_args_", "_partial_", "_recursive_", "_convert_", "_"])
def test_a_hyperparameter_cannot_name_code(word, key):
    with pytest.raises(ValueError, match=r"names code or a setting of Hydra and is refused"):
        overrides_of([word % key])


def test_what_the_grammar_does_not_know_is_text():
    words = overrides_of(["--run_name={x: [{'_target_': os.system}]}"])
    assert compose_words("train", ["data=synthetic", *words]).run_name == "{x: [{'_target_': os.system}]}"


@pytest.mark.parametrize(
    "word",
    ["hydra.run.dir=/", "hydra__searchpath=[file:///tmp]", "hydra/launcher=joblib", "hydra=other", "hydra={a: 1}"],
)
def test_a_hyperparameter_cannot_change_how_hydra_works(word):
    with pytest.raises(ValueError, match="a setting of Hydra"):
        overrides_of([f"--{word}"])


@pytest.mark.parametrize("word", ["++model._target_=x", "+a=1", "~model=1", "--~a=1", "--+a=1"])
def test_a_hyperparameter_neither_adds_nor_removes_keys(word):
    with pytest.raises(ValueError, match="is not a configuration key"):
        overrides_of([word])


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:MILPATH_SECRET}", "a/${oc.env:MILPATH_SECRET}/b", "[${oc.env:MILPATH_SECRET}]", "'${oc.env:MILPATH_SECRET}'",
        "${oc.decode:${oc.env:MILPATH_SECRET}}", "\\\\${oc.env:MILPATH_SECRET}", "{a: ${oc.env:MILPATH_SECRET}}",
        "${ oc.env : MILPATH_SECRET }", "${${x}:MILPATH_SECRET}", "${x}${oc.env:MILPATH_SECRET}", "${now:%Y}",
        '"${oc.env:MILPATH_SECRET}"', "\\${oc.env:MILPATH_SECRET}", "${oc.env:\\\nMILPATH_SECRET}", "${oc.env:'MILPATH_SECRET'}",
    ],
)  # fmt: skip
def test_a_resolver_in_a_hyperparameter_is_text(value, monkeypatch):
    monkeypatch.setenv("MILPATH_SECRET", "the-secret")
    config = compose_words("train", ["data=synthetic", *overrides_of([f"--run_name={value}"])])
    assert "the-secret" not in str(OmegaConf.to_container(config, resolve=True))
    assert config.run_name.count("${") >= 1


def test_another_value_of_the_configuration_can_be_named():
    words = overrides_of(["--data__stores_dir=${paths.data_dir}/stores", "--paths__data_dir=/data"])
    assert compose_words("train", ["data=synthetic", *words]).data.stores_dir == "/data/stores"
