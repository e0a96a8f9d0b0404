"""Folders of tables of somebody else, whose checkpoints are looked for."""

from pathlib import Path

import pytest

from milpath.inference.ensemble.fold_checkpoints import fold_checkpoints

HEADER = "method,repeat,fold,chosen\n"


def table(folder: Path, plan: str = "[]", choices: bytes = HEADER.encode() + b"a,0,0,True\n") -> Path:
    """Write the folder of a table of one method with one candidate."""
    run = folder / "runs/a/repeat_0/fold_0_candidate_0/checkpoints"
    run.mkdir(parents=True)
    (run / "best.ckpt").touch()
    (folder / "plan.json").write_text(plan)
    (folder / "choices.csv").write_bytes(choices)
    return folder


def test_the_chosen_candidate_is_found(tmp_path):
    (found,) = fold_checkpoints(table(tmp_path))
    assert found == tmp_path / "runs/a/repeat_0/fold_0_candidate_0/checkpoints/best.ckpt"


@pytest.mark.parametrize("plan", ["1", "{}", "[" * 100_000, '"a"', "null"])
def test_a_plan_that_no_table_wrote_is_one_line(plan, tmp_path):
    with pytest.raises(ValueError, match=r"plan\.json (must be a list of trainings|is not JSON)"):
        fold_checkpoints(table(tmp_path, plan))


@pytest.mark.parametrize("choices", [b"fold\n1\n", b"method,fold\na,1\n", b"\xff\n", b"method\n" + b"a" * 200_000])
def test_choices_that_no_table_wrote_are_one_line(choices, tmp_path):
    with pytest.raises(ValueError, match=r"choices\.csv cannot be read [^\n]*; run milpath table again$"):
        fold_checkpoints(table(tmp_path, choices=choices))
