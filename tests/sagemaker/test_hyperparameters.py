import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from milpath.sagemaker.hyperparameters import overrides_of


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
