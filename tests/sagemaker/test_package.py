"""The command that packs a network for an endpoint."""

import pytest

pytestmark = pytest.mark.command


@pytest.mark.parametrize("checkpoint", ["[a.ckpt,b.ckpt]", "table"])
def test_the_average_of_several_folds_is_refused_in_one_line(checkpoint, tmp_path, run_here):
    (tmp_path / "table").mkdir()
    status, error = run_here("milpath.sagemaker.package", f"checkpoint={checkpoint}", cwd=tmp_path)
    assert status == 1
    (line,) = error.splitlines()
    assert "an endpoint serves one network, not the average of several; give the best.ckpt of one run" in line
    assert list(tmp_path.iterdir()) == [tmp_path / "table"]


def test_weights_of_an_encoder_that_is_not_packed_are_refused(tmp_path, run_here):
    words = ["checkpoint=best.ckpt", "encoder_weights_path=weights.bin"]
    status, error = run_here("milpath.sagemaker.package", *words, cwd=tmp_path)
    assert status == 1
    assert "encoder_weights_path=weights.bin is packed with include_encoder=true; add it, or leave" in error
