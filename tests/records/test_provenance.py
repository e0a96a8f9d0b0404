import subprocess
import sys
from types import SimpleNamespace

from milpath.records.provenance import describe_environment


def test_the_command_is_recorded_as_it_can_be_typed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/milpath/train.py", "seed=1", "data.class_names=[a,b]"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", SimpleNamespace(name="milpath.train"))
    assert describe_environment()["command"] == ["python", "-m", "milpath.train", "seed=1", "data.class_names=[a,b]"]
    for program in ("/somewhere/bin/milpath", "milpath.exe", "/somewhere/milpath/__main__.py"):
        monkeypatch.setattr(sys, "argv", [program, "seed=1", "data.class_names=[a,b]"])
        assert describe_environment()["command"] == ["milpath", "train", "seed=1", "data.class_names=[a,b]"]
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", SimpleNamespace(name="milpath.sagemaker.launch"))
    assert describe_environment()["command"][:3] == ["milpath", "sagemaker", "launch"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/milpath/train.py", "seed=1", "data.class_names=[a,b]"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert describe_environment()["command"] == ["train.py", "seed=1", "data.class_names=[a,b]"]


def test_the_python_that_runs_a_module_tells_its_name(tmp_path):
    code = "from milpath.records.provenance import describe_environment; print(describe_environment()['command'])"
    (tmp_path / "job.py").write_text(code)
    result = subprocess.run([sys.executable, "-m", "job", "x=1"], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.strip() == "['python', '-m', 'job', 'x=1']", result.stderr
