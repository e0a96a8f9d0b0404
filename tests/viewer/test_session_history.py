"""What a session remembers of its answers."""

from milpath.viewer.session_history import LONGEST, Earlier, remember, render_history
from milpath.viewer.upload_answer import Analyst
from milpath.viewer.upload_check import Limits
from tests.viewer.conftest import png


def test_a_history_is_text_and_empty_without_answers():
    assert render_history([]) == ""
    page = render_history([Earlier("09:05", "<b>a</b>", "malignant, probability 0.912", True)])
    assert "&lt;b&gt;a&lt;/b&gt;" in page
    assert "refer to a person" in page
    assert "<b>" not in page


def test_the_oldest_of_many_answers_are_forgotten(checkpoint, tmp_path):
    tiles = []
    for number in range(3):
        tiles.append(tmp_path / f"case 9_{number}.png")
        tiles[-1].write_bytes(png(seed=number))
    (tmp_path / "work").mkdir()
    (answer,) = Analyst(checkpoint, Limits()).answers(tiles, tmp_path / "work")
    history = [Earlier("09:05", f"slide {number}", "benign", False) for number in range(LONGEST)]
    history = remember(history, answer)
    assert (len(history), history[0].name, history[-1].name) == (LONGEST, "case 9", f"slide {LONGEST - 2}")
    probability = dict(zip(answer.class_names, answer.probabilities, strict=True))[answer.predicted]
    assert history[0].call == f"{answer.predicted}, probability {probability:.3f}"
