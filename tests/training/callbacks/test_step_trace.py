import gzip
import json
from types import SimpleNamespace

import pytest

from milpath.training.callbacks.step_trace import StepTrace
from tests.commands import SMALL_RUN


@pytest.fixture
def trace(tmp_path, run_here):
    """Train for some steps with `profiler=torch`; returns the run folder."""

    def run(*words):
        small = [*SMALL_RUN, "callbacks=none", "logger=none", "trainer.enable_progress_bar=false", "run_name=traced"]
        words = [word for word in small if not word.startswith("callbacks.")] + ["profiler=torch", *words]
        status, said = run_here("milpath.train", *words, cwd=tmp_path)
        assert status == 0, said
        return tmp_path / "runs" / "traced"

    return run


def test_profiler_torch_leaves_a_trace_of_a_few_steps_in_the_run_folder(trace):
    run_dir = trace("trainer.max_epochs=2", "profiler.skip=1", "profiler.steps=2")
    with gzip.open(run_dir / "profile" / "steps.json.gz") as file:
        names = [event.get("name") for event in json.load(file)["traceEvents"]]
    # Two steps: one backward pass through the attention's softmax each, and one step of the optimizer.
    assert names.count("aten::_softmax_backward_data") == 2
    assert sum(name.startswith("Optimizer.step") for name in names if name) == 2
    assert "aten::convolution" in (run_dir / "profile" / "operators.txt").read_text()
    assert sorted(path.name for path in (run_dir / "profile").iterdir()) == ["operators.txt", "steps.json.gz"]


def test_a_run_too_short_for_a_trace_says_so(tmp_path, caplog):
    trace, trainer = StepTrace(tmp_path / "profile", skip=2), SimpleNamespace(global_rank=0)
    for _ in range(2):
        trace.on_train_batch_start(trainer, None, None, 0)
        trace.on_train_batch_end(trainer, None, None, None, 0)
    trace.on_train_end(trainer, None)
    assert "no trace: the run had 2 training steps and profiler.skip is 2" in caplog.text
    assert not trace.folder.exists()


def test_a_run_that_ends_within_the_trace_still_writes_it(trace):
    run_dir = trace("trainer.max_steps=2", "profiler.skip=1")
    assert (run_dir / "profile" / "steps.json.gz").is_file()


def test_a_trace_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="profiler.steps >= 1"):
        StepTrace(tmp_path, steps=0)
