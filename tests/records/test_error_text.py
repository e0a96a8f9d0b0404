import io
import pickle

import hydra
import numpy as np
import pytest
import torch

from milpath.records.error_text import one_line_of, reason_of, visible


class Attack:
    def __reduce__(self):
        return (print, ("ran",))


def refusal(load, *arguments, **named) -> Exception:
    with pytest.raises(Exception) as caught:
        load(*arguments, **named)
    return caught.value


def saved(content) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return file


def array(content) -> io.BytesIO:
    file = io.BytesIO()
    np.save(file, content, allow_pickle=True)
    file.seek(0)
    return file


def long_header() -> io.BytesIO:
    file = io.BytesIO()
    np.save(file, np.zeros(1, dtype=[(f"field_{number}", "u1") for number in range(2000)]))
    file.seek(0)
    return file


@pytest.mark.filterwarnings("ignore")
def test_the_advice_of_a_library_to_switch_a_protection_off_is_left_out():
    objects, code = "it holds Python objects, which are never loaded", "it holds code (print), which is never run"
    expected = {
        code: refusal(torch.load, saved(Attack()), weights_only=True),
        objects: refusal(np.load, array(np.array([Attack()], dtype=object)), allow_pickle=False),
        "its header has": refusal(np.load, long_header(), allow_pickle=False),
    }
    for reason, error in expected.items():
        assert reason_of(error).startswith(reason)
        for text in (reason_of(error), one_line_of(f"x.npy cannot be read ({error}); build it again")):
            assert text.isprintable()
            for switch in ("weights_only", "allow_pickle", "trust", "safe_globals", "max_header_size", "http"):
                assert switch not in text, text
    assert reason_of(refusal(np.load, io.BytesIO(pickle.dumps([1])), allow_pickle=False)) == objects


def test_a_blocked_target_is_refused_in_a_whole_sentence():
    with pytest.raises(hydra.errors.InstantiationException) as refused:
        hydra.utils.instantiate({"_target_": "os.system", "command": "true"})
    assert one_line_of(str(refused.value)) == "'os.system' can run any code, which no configuration may do"
    nested = one_line_of(f"{refused.value}\nfull_key: optimizer")
    assert nested == "'os.system' can run any code, which no configuration may do full_key: optimizer"


def test_what_is_no_advice_stays():
    assert reason_of(ValueError("expected 3 values; found 4 (line 2)")) == "expected 3 values; found 4 (line 2)"
    assert one_line_of("a.npy is damaged. Give allow_pickle=True to read it. Copy it again") == (
        "a.npy is damaged. Copy it again"
    )
    assert one_line_of("reading m (set trust_remote_code=True); copy it") == "reading m; copy it"
    assert reason_of(ValueError("")) == "ValueError"
    assert len(reason_of(ValueError("x" * 10_000))) == 300


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\x00", "\x9b", "\x7f", "\u202e", "\u2066", "\ufeff", "\u2028"])
def test_a_character_that_steers_a_terminal_is_shown(character):
    assert visible(f"a{character}b").isprintable()
    assert "\\" in visible(f"a{character}b")
    assert visible("Gewebe_ä 1") == "Gewebe_ä 1"
