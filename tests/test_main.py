"""The command `milpath`, and the names that `import milpath` offers."""

import ast
import importlib.util
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import milpath
from milpath.__main__ import COMMANDS, help_text, main
from tests.commands import DDP, SMALL_RUN
from tests.conftest import REPOSITORY

# What pip writes into the `bin` folder of an environment for `milpath = "milpath.__main__:main"`.
SCRIPT = "import sys\nfrom milpath.__main__ import main\nsys.exit(main())\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> str:
    """The console script of this checkout."""
    path = tmp_path_factory.mktemp("bin") / "milpath"
    path.write_text(f"#!{sys.executable}\n{SCRIPT}")
    path.chmod(0o755)
    return str(path)


def run(*command: str, **options) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | options.pop("env", {})
    return subprocess.run(command, env=environment, capture_output=True, text=True, **options)


def cpu_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def typed(monkeypatch, *words: str) -> int:
    """Run `main` in this process; returns the exit status."""
    monkeypatch.setattr(sys, "argv", ["milpath", *words])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_help_lists_every_command_with_one_line(monkeypatch, capsys):
    assert typed(monkeypatch, "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    for name, line in COMMANDS.items():
        assert sum(text.split("  ")[1:2] == [name.replace(".", " ")] and text.endswith(line) for text in lines) == 1


def test_no_command_is_forgotten():
    found = set()
    for path in sorted((REPOSITORY / "milpath").rglob("*.py")):
        functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        decorators = [ast.unparse(decorator) for function in functions for decorator in function.decorator_list]
        if any(text.startswith("command(") for text in decorators):
            found.add(".".join(path.relative_to(REPOSITORY / "milpath").with_suffix("").parts).replace("_", "-"))
    assert found == set(COMMANDS)
    for name in COMMANDS:
        assert importlib.util.find_spec(f"milpath.{name.replace('-', '_')}") is not None


def test_the_version_is_that_of_the_package(monkeypatch, capsys):
    assert typed(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"milpath {milpath.__version__}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian", "seed=1"], "unknown command 'trian'; did you mean 'train'? milpath --help lists the commands"),
        (["sagemaker", "lunch"], "unknown command 'sagemaker lunch'; did you mean 'sagemaker launch'? "),
        (
            ["sagemaker"],
            "sagemaker needs a subcommand, one of launch, tune, rehearse, process, transform, package, register, deploy, score, delete, policy",
        ),
        (["xyzzy"], "unknown command 'xyzzy'; milpath --help lists the commands"),
    ],
)
def test_an_unknown_command_is_one_line_with_the_nearest_name(monkeypatch, capsys, words, expected):
    assert typed(monkeypatch, *words) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"milpath: {expected}")
    assert line.count("\n") == 1


def test_help_version_and_a_mistyped_command_load_neither_torch_nor_hydra_and_take_no_time(program):
    for words in (["--help"], ["--version"], ["trian"]):
        before = cpu_seconds_of_children()
        run(program, *words)
        # Time on the processor: a machine that is shared with others may keep a process waiting.
        assert cpu_seconds_of_children() - before < 1, words  # a tenth; torch takes two seconds or more
    code = "import sys; sys.argv = ['milpath', '--version']; from milpath.__main__ import main; main(); print(sorted(sys.modules))"
    loaded = set(ast.literal_eval(run(sys.executable, "-c", code).stdout.splitlines()[1]))
    assert loaded.isdisjoint({"torch", "hydra", "omegaconf", "numpy", "lightning", "pandas"})


def test_import_milpath_loads_nothing_and_names_the_public_interface():
    code = "import json, sys, milpath; print(json.dumps([sorted(sys.modules), dir(milpath), milpath.__all__]))"
    loaded, names, public = json.loads(run(sys.executable, "-c", code).stdout)
    assert {"torch", "numpy", "hydra", "lightning"}.isdisjoint(loaded)
    assert set(public) <= set(names)
    for name in public:
        assert getattr(milpath, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = milpath.nonsense


def test_a_type_checker_sees_the_public_interface():
    tree = ast.parse((REPOSITORY / "milpath/__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in ast.walk(block) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen | {"__version__"} == set(milpath.__all__)
    assert (REPOSITORY / "milpath/py.typed").is_file()


def test_the_help_names_what_the_shell_completes(program):
    command = next(line for line in help_text().splitlines() if line.startswith("eval")).split("    ")[0]
    assert command == 'eval "$(milpath -sc install=bash)"'
    folder = str(Path(program).parent)
    # The shell itself asks: the function that completes the words typed so far, as pressing TAB does.
    script = f"""
        PATH={folder}:$PATH
        {command}
        press_tab() {{
            COMP_LINE="$1"; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=($COMP_LINE); COMP_CWORD=$2
            hydra_bash_completion; echo "${{COMPREPLY[@]}}"
        }}
        press_tab "milpath tr" 1
        press_tab "milpath sagemaker la" 2
        press_tab "milpath train optimizer=" 2
        press_tab "milpath evaluate trainer.max_ep" 2
    """
    result = run("bash", "-c", script)
    assert result.stdout.splitlines() == [
        "train",
        "launch",
        "optimizer=adam optimizer=adamw optimizer=sgd",
        "trainer.max_epochs=",
    ], result.stderr


@pytest.fixture(scope="module")
def trained(program, tmp_path_factory) -> Path:
    """A folder in which `milpath train` ran on two processes."""
    folder = tmp_path_factory.mktemp("train")
    words = [*SMALL_RUN, *DDP, "trainer.devices=2", "trainer.max_epochs=1", "run_name=two", "seed=3"]
    result = run(program, "train", *words, cwd=folder)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_milpath_train_starts_its_other_processes_again(trained):
    predictions = pd.read_csv(trained / "runs/two/predictions.csv")
    assert len(predictions) == 24
    assert predictions["id"].is_unique
    # The second process found the folder of the first: nothing else was written.
    assert sorted(path.name for path in (trained / "runs").iterdir()) == ["two"]


@pytest.mark.slow
def test_the_run_records_the_command_that_was_typed(trained):
    command = json.loads((trained / "runs/two/provenance.json").read_text())["command"]
    assert command[:3] == ["milpath", "train", SMALL_RUN[0]]
    assert command[-1] == "seed=3"


@pytest.mark.slow
def test_a_sweep_runs_every_job(program, trained):
    words = [*SMALL_RUN, "trainer.max_epochs=1", "run_name=sweep", "seed=1,2", "test=false"]
    result = run(sys.executable, "-m", "milpath", "train", "-m", *words, cwd=trained)
    assert result.returncode == 0, result.stderr[-3000:]
    for number in (0, 1):
        record = json.loads((trained / f"runs/sweep/{number}/provenance.json").read_text())
        assert record["command"][:3] == ["milpath", "train", "-m"]


def test_a_command_of_sagemaker_is_two_words_or_one(tmp_path):
    for words in (["sagemaker", "launch"], ["sagemaker.launch"]):
        result = run(sys.executable, "-m", "milpath", *words, "--cfg", "job", cwd=tmp_path)
        assert "dry_run: false" in result.stdout, result.stderr[-2000:]


@pytest.mark.command
def test_an_interrupt_while_a_command_is_loaded_is_one_line(program, tmp_path):
    # A module that interrupts this process takes the place of one that every command loads.
    (tmp_path / "omegaconf.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    result = subprocess.run([program, "tile"], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "stopped\n")
