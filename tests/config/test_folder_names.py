import re

import pytest

from milpath.config.folder_names import check_working_folder
from tests.commands import SMALL_RUN, here
from tests.nobody import hidden_from_user

ONE_EPOCH = [*SMALL_RUN, "trainer.max_epochs=1"]


def refused(run, *words, cwd) -> str:
    status, error = run("milpath.train", *ONE_EPOCH, *words, cwd=cwd)
    assert status == 1
    assert error.count("\n") == 1, error
    return error


def test_a_working_folder_that_hydra_cannot_read_is_named(tmp_path, run_here):
    folder = tmp_path / "a ${b}"
    folder.mkdir()
    assert re.search(r"the working folder .*/a \$\{b\} has \$\{ in its name", refused(run_here, cwd=folder))
    assert not any(folder.iterdir())


def test_a_working_folder_that_was_deleted_is_named(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ValueError, match="the working folder no longer exists"):
        check_working_folder([])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run_name=a ${b}"], "the run folder runs/a ${b} has ${ in its name, which Hydra reads as a reference"),
        (["paths.runs_dir=a ${b}"], "the run folder a ${b}/"),
        (["-m", "seed=1,2", "run_name=a ${b}"], "the run folder runs/a ${b} has ${ in its name"),
        (["run_name=null"], "run_name=null stands for no name in a configuration"),
        (["run_name=???"], "run_name=??? stands for no name in a configuration"),
        (['run_name="???"'], 'run_name="???" stands for no name in a configuration'),
        (["run_name=.."], "run_name=.. is not the name of a folder below paths.runs_dir"),
        (["run_name=a/../../b"], "run_name=a/../../b is not the name of a folder below paths.runs_dir"),
        (["run_name=."], "run_name=. is not the name of a folder below paths.runs_dir"),
        (["run_name="], "run_name= is not the name of a folder below paths.runs_dir"),
    ],
)
def test_a_name_that_is_no_folder_is_refused_before_anything_is_written(tmp_path, run_here, words, message):
    assert message in refused(run_here, *words, cwd=tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b"])
def test_a_database_of_mlflow_is_never_written_under_another_name(tmp_path, run_here, name):
    error = refused(run_here, "logger=mlflow", f"paths.runs_dir={name}", cwd=tmp_path)
    assert f"logger.mlflow.tracking_uri is the database {name}/mlflow.db, whose name has {name[1]}" in error
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a?b", "a%20b"])
def test_a_database_of_optuna_is_never_written_under_another_name(tmp_path, run_here, name):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    error = refused(run_here, "-m", "hparams_search=attention_optuna", f"run_name={name}", cwd=tmp_path)
    assert f"hydra.sweeper.storage is the database runs/{name}/study.db, whose name has {name[1]}" in error
    assert not any(tmp_path.iterdir())


def test_a_name_that_another_grammar_reads_as_a_value_is_a_name(tmp_path):
    assert here("milpath.train", *ONE_EPOCH, "run_name=true", cwd=tmp_path) == 0
    assert (tmp_path / "runs/true/metrics.json").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ("tile", "slides=slides"),
        ("extract", "slides=slides", "encoder=resnet50"),
        ("table", "methods=[attention]"),
        ("predict", "checkpoint=best.ckpt", "slides=slides"),
        ("compare", "runs=[a,b]"),
        ("faithfulness", "checkpoint=best.ckpt"),
        ("check_data", "slides=slides"),
    ],
    ids=lambda words: words[0],
)
def test_an_output_that_is_a_file_is_refused_before_any_work(words, tmp_path, run_here):
    (tmp_path / "file").write_text("mine")
    expected = "FileExistsError: output=file is a file; set a folder\n"
    assert run_here(f"milpath.{words[0]}", *words[1:], "output=file", cwd=tmp_path) == (1, expected)
    expected = "NotADirectoryError: output=file/sub is below file, which is a file; set a folder\n"
    assert run_here(f"milpath.{words[0]}", *words[1:], "output=file/sub", cwd=tmp_path) == (1, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_output_without_permission_is_refused_before_any_work(tmp_path, run_here):
    (tmp_path / "kept").mkdir()
    run_here("milpath.tile", "slides=slides", "output=other", cwd=tmp_path)
    for words in (["output=kept/sub"], ["output=kept/sub/sub"]):
        with hidden_from_user(tmp_path / "kept"):
            status, said = run_here("milpath.tile", "slides=slides", *words, cwd=tmp_path)
        assert (status, said.count("\n")) == (1, 1)
        assert re.match("PermissionError: .*kept", said), said
    labels = tmp_path / "labels.csv"
    labels.write_text("slide_id,label\n")
    (tmp_path / "out").mkdir(mode=0o777)
    (tmp_path / "out").chmod(0o777)
    words = [f"labels={labels}", "output=out"]
    run_here("milpath.check_data", *words, cwd=tmp_path)  # loads its modules, which nobody may not read here
    with hidden_from_user(labels):
        status, said = run_here("milpath.check_data", *words, cwd=tmp_path)
    expected = f"PermissionError: no access to {labels} (Permission denied); give a file or folder that you may use, or"
    assert said.startswith(expected)


def test_runs_that_would_be_below_a_file_are_refused(tmp_path, run_here):
    (tmp_path / "file").write_text("mine")
    message = run_here("milpath.train", "data=synthetic", "paths.runs_dir=file", "run_name=one", cwd=tmp_path)
    expected = "NotADirectoryError: the run folder file/one is below file, which is a file; set a folder\n"
    assert message == (1, expected)
