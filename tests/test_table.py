"""One command a table."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from milpath.models import load_network
from milpath.records.digests import sha256_of_values
from milpath.search.composition import compose_training
from milpath.search.cross_validation import METHODS, plan_trainings, run_trainings
from tests.commands import SMALL_RUN, here
from tests.models.networks.test_feather_mil import feather_file
from tests.runs.test_resume import FEATURES, write_features

OVERRIDES = [word for word in SMALL_RUN if not word.startswith(("callbacks", "report"))]
WORDS = [
    "experiment=panda_attention",
    "methods=[attention,embedding_mean]",
    "folds=2",
    "repeats=2",
    "output=table",
    *OVERRIDES,
    "trainer.max_epochs=1",
    "data.val_fraction=0.3",
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    broken = folder / "table/runs/embedding_mean/repeat_1/fold_0/checkpoints"
    broken.mkdir(parents=True)
    (broken / "last.ckpt").write_text("no checkpoint")
    assert here("milpath.table", *WORDS, cwd=folder) == 1  # a table with a hole is an error
    return folder


def test_a_table_has_every_method_and_names_the_fold_that_failed(workplace):
    table = json.loads((workplace / "table/table.json").read_text())
    rows = {row["method"]: row for row in table["rows"]}
    assert rows["attention"]["folds_done"] == rows["attention"]["folds_planned"] == 4
    assert rows["embedding_mean"]["folds_done"] == 3
    assert "repeat 1, fold 0: ValueError" in rows["embedding_mean"]["failed"][0]
    assert "FAILED repeat 1, fold 0" in (workplace / "table/table.md").read_text()
    record = table["record"]
    assert record["command"][-len(WORDS) :] == WORDS
    assert (record["num_trainings"], record["seeds"], record["version"]) == (7, [0, 1, 2, 3], version("milpath"))
    trainings = [json.loads(path.read_text()) for path in (workplace / "table").rglob("provenance.json")]
    assert record["minutes"] == pytest.approx(sum(each["minutes"] for each in trainings if "minutes" in each), abs=1e-2)
    assert record["minutes"] > 0
    assert {path.suffix for path in (workplace / "table").glob("table.*")} == {".md", ".csv", ".json", ".tex"}


@pytest.mark.parametrize(
    ("words", "logs"),
    [([], {"csv"}), (["logger=[csv,tensorboard]"], {"csv", "tensorboard"}), (["logger=tensorboard"], {"tensorboard"})],
)
def test_a_training_of_a_table_logs_to_csv_and_to_what_the_command_names(words, logs, tmp_path):
    small = [word for word in OVERRIDES if not word.startswith("logger")]
    plan = plan_trainings([*small, "trainer.max_epochs=1", *words], ["attention"], 3, 1, tmp_path)
    assert run_trainings(plan[:1]) == []
    assert {path.name for path in (plan[0].run_dir / "logs").iterdir()} == logs


@pytest.mark.parametrize(
    ("logger", "logs"),
    [
        (
            "own: {_target_: lightning.pytorch.loggers.CSVLogger, save_dir: '${paths.run_dir}/logs', name: own}",
            "own csv",
        ),
        ("tensorboard: {default_hp_metric: true}", "csv"),
    ],
)
def test_loggers_that_an_experiment_of_ones_own_changes_are_kept(logger, logs, tmp_path):
    experiment = tmp_path / "own/experiment/logged.yaml"
    experiment.parent.mkdir(parents=True)
    experiment.write_text(f"# @package _global_\nlogger:\n  {logger}\n")
    small = [word for word in OVERRIDES if not word.startswith("logger")]
    words = [*small, "trainer.max_epochs=1", f"hydra.searchpath=[file://{tmp_path}/own]", "experiment=logged"]
    plan = plan_trainings(words, ["attention"], 3, 1, tmp_path / "runs")
    assert run_trainings(plan[:1]) == []
    assert {path.name for path in (plan[0].run_dir / "logs").iterdir()} == {"tensorboard", *logs.split()}


def test_methods_are_compared_on_the_same_folds_and_repeats_differ(workplace):
    def splits(method: str, repeat: int) -> str:
        return (workplace / f"table/runs/{method}/repeat_{repeat}/fold_1/splits.csv").read_text()

    assert splits("attention", 0) == splits("embedding_mean", 0)
    assert splits("attention", 0) != splits("attention", 1)


def test_the_same_command_goes_on_where_it_stopped(workplace, run_here):
    before = {path: path.stat().st_mtime_ns for path in workplace.rglob("metrics.json")}
    broken = workplace / "table/runs/embedding_mean/repeat_1/fold_0/checkpoints/last.ckpt"
    broken.unlink()
    assert run_here("milpath.table", *WORDS, cwd=workplace)[0] == 0
    after = {path: path.stat().st_mtime_ns for path in workplace.rglob("metrics.json")}
    assert len(after) == len(before) + 1 == 8
    assert all(after[path] == time for path, time in before.items())
    assert json.loads((workplace / "table/table.json").read_text())["complete"]


def test_the_same_command_on_features_goes_on_where_it_stopped(tmp_path):
    write_features(tmp_path / "in", [0, 1] * 8)
    words = [f"{word.replace('=in/', f'={tmp_path}/in/')}" for word in FEATURES if "encoder" not in word]
    plan = plan_trainings(
        [*words, "trainer.max_epochs=1", "data.val_fraction=0.3"], ["attention"], 2, 1, tmp_path / "t"
    )
    assert run_trainings(plan[:1]) == []
    trained = (plan[0].run_dir / "checkpoints/last.ckpt").stat().st_mtime_ns
    assert run_trainings(plan) == []
    assert (plan[0].run_dir / "checkpoints/last.ckpt").stat().st_mtime_ns == trained


def test_what_was_trained_on_other_data_is_not_put_into_the_table(workplace, run_here):
    folder = workplace / "table/runs/attention/repeat_0/fold_0"
    record = json.loads((folder / "identity.json").read_text())
    content = {key: record[key] for key in ("format_version", "settings", "contents")}
    content["contents"]["tiles_sha256"] = "0" * 64
    changed = content | {"digest": sha256_of_values(content), "origin": record["origin"]}
    (folder / "identity.json").write_text(json.dumps(changed))
    status, error = run_here("milpath.table", *WORDS, cwd=workplace)
    (folder / "identity.json").write_text(json.dumps(record))
    assert status == 1
    assert "repeat_0/fold_0 was trained with other values: the tiles or features (sha256 000000000000, now " in error


def test_two_tables_are_not_mixed_in_one_folder(workplace, run_here):
    words = [word.replace("folds=2", "folds=3") for word in WORDS]
    status, output = run_here("milpath.table", *words, cwd=workplace)
    assert status == 1
    assert "holds another table" in output


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("metric=accurancy", "metric 'accurancy' is not one of auroc"),
        ("published={gated:0.9}", "published has gated, which is not in methods=[attention,embedding_mean]"),
        ("data.split_seed=3", "a table chooses data.split_seed for each of its trainings; set seed"),
        ("++data.fold=1", "a table chooses data.fold for each of its trainings; set folds instead"),
        ("data.num_folds=7", "set folds instead"),
        ("run_name=mine", "set output instead"),
        ("paths.run_dir=mine", "a table chooses paths.run_dir for each of its trainings; set output instead"),
        ("model=trans_mil", "model=trans_mil: a table chooses model for each of its trainings; set methods (your own"),
        ("test=no", "a table compares methods on the test splits; leave it out"),
        ("resume_from=last.ckpt", "a table continues each training that was interrupted; leave it out"),
        ("decision.coverage_by_class=true", "decision.coverage_by_class=true changes nothing without prediction sets"),
        (
            "search={optimizer.rate:[1,2]}",
            "unknown option 'optimizer.rate'; did you mean 'optimizer.lr'? milpath table --help lists the options",
        ),
        ("search={optimzer.lr:[1,2]}", "unknown option 'optimzer.lr'; did you mean 'optimizer.lr'?"),
        ("search={optimizer:[adam,adma]}", "unknown option optimizer=adma; did you mean optimizer=adam?"),
        (
            "method_options={embedding_mean:{model.poling:max}}",
            "unknown option 'model.poling'; did you mean 'model.pooling'?",
        ),
        ("method_options={attention:[1]}", "must give values for keys, such as {attention: {model.attention_dim: 64}}"),
        ("method_options=3", "method_options=3 must give values for keys"),
        ('search="{optimizer.lr:[1,2]}"', "such as {optimizer.lr: [1e-4, 5e-4]}, without quotes within the option"),
        ("search=[1]", "search=[1] must give values for keys, such as {optimizer.lr: [1e-4, 5e-4]}"),
        ("published={attention:abc}", "published has 'abc' for attention, which is no number, such as 0.892"),
        ("jobs=0", "jobs=0 must be a whole number of at least 1"),
        ("published=[0.8]", "published=[0.8] must give values for methods"),
    ],
)
def test_names_that_only_the_table_needs_are_looked_at_before_any_training(word, message, tmp_path, run_here):
    status, output = run_here("milpath.table", *WORDS, word, cwd=tmp_path)
    assert status == 1
    assert message in output
    assert output.count("\n") == 1
    assert not (tmp_path / "table").exists()


def test_a_loss_that_chooses_epochs_does_not_compare_methods_and_the_message_says_what_does(tmp_path, run_here):
    status, output = run_here("milpath.table", *WORDS, "monitor=val/loss", "monitor_mode=min", cwd=tmp_path)
    assert status == 1
    assert "monitor=val/loss only chooses the epoch of each training: 'loss' is not a metric of a binary task" in output
    assert "give metric= one of auroc, average_precision" in output
    assert not (tmp_path / "table").exists()


def test_a_search_makes_candidates_that_differ_in_what_is_searched(tmp_path):
    plan = plan_trainings([], ["attention"], 2, 1, tmp_path, search={"optimizer.lr": [0.1, 0.2]})
    assert len(plan) == 4
    assert [training.candidate for training in plan[:2]] == [("optimizer.lr=0.1",), ("optimizer.lr=0.2",)]
    assert len({training.run_dir for training in plan}) == 4


def test_no_is_false_also_in_a_search_and_in_the_options_of_a_method(tmp_path):
    options = {"attention": {"model.gated": "no"}}
    plan = plan_trainings(
        [], ["attention"], 2, 1, tmp_path, search={"data.standardize": ["yes", "no"]}, method_options=options
    )
    assert [training.candidate for training in plan[:2]] == [("data.standardize=true",), ("data.standardize=false",)]
    assert "model.gated=false" in plan[0].overrides


def test_a_pretrained_head_is_compared_with_a_network_of_its_own_options(make_store, tmp_path):
    make_store([2] * 24, tile_shape=(768,), name="features")
    feather_file(tmp_path / "feather.bin", 768)
    words = ["data=bag_store", "data.path=features", "folds=2", "repeats=1", "output=table", "trainer.max_epochs=1"]
    words += ["methods=[attention,feather_mil]", "data.val_fraction=0.3", "trainer.accelerator=cpu", "monitor=val/loss"]
    words += ["method_options={feather_mil:{model.weights_path:feather.bin},attention:{model.attention_dim:7}}"]
    assert here("milpath.table", *words, "monitor_mode=min", "metric=auroc", "optimizer.lr=1e-12", cwd=tmp_path) == 0
    rows = json.loads((tmp_path / "table/table.json").read_text())["rows"]
    assert {row["method"]: row["folds_done"] for row in rows} == {"attention": 2, "feather_mil": 2}
    found = {
        method: load_network(tmp_path / f"table/runs/{method}/repeat_0/fold_0/checkpoints/best.ckpt").attention_pooling
        for method in ("attention", "feather_mil")
    }
    assert found["attention"].tanh_layer.out_features == 7
    published = torch.load(tmp_path / "feather.bin", weights_only=True)["model.global_attn.attention_a.0.weight"]
    torch.testing.assert_close(found["feather_mil"].tanh_layer.weight.data, published)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_composes(method, tmp_path):
    own = {"feather_mil": {"model.weights_path": "feather.bin"}} if method == "feather_mil" else None
    words = ["experiment=panda_attention", "data=synthetic"]
    training = plan_trainings(words, [method], 2, 1, tmp_path, method_options=own)[0]
    assert compose_training(training.overrides).model._target_.startswith("milpath.models.")


def test_a_method_may_be_a_network_of_the_users_own_folder(tmp_path):
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/my_network.yaml").write_text("_target_: my_parts.MyNetwork\nwidth: 16\n")
    words = ["data=synthetic"]
    plan = plan_trainings(words, ["attention", "my_network"], 2, 1, tmp_path, config_dirs=[f"file://{tmp_path}/conf"])
    assert [training.method for training in plan] == ["attention", "attention", "my_network", "my_network"]
    assert plan[2].run_dir == tmp_path / "runs/my_network/repeat_0/fold_0"
    assert compose_training(plan[2].overrides).model == {"_target_": "my_parts.MyNetwork", "width": 16}
    for name in ("../model/my_network", "missing"):
        with pytest.raises(ValueError, match="unknown methods .* your own model/NAME.yaml"):
            plan_trainings(words, [name], 2, 1, tmp_path, config_dirs=[f"file://{tmp_path}/conf"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["magic"]}, "unknown methods magic"),
        ({"methods": ["attention", "attention"]}, "name each method once"),
        ({"folds": 1}, "folds >= 2"),
        ({"methods": ["feather_mil"]}, r"give method_options=\{feather_mil:\{model.weights_path:FILE\}\}"),
        ({"search": {"seed": [0, 1]}}, "seed is set by the table itself for each training"),
        ({"search": {"optimizer.lr": [1], "data.fold": [0]}}, "data.fold is set by the table itself"),
        ({"method_options": {"attention": {"data.num_folds": 3}}}, "data.num_folds is set by the table itself"),
        ({"method_options": {"acmil": {}}}, r"method_options has acmil, which is not in methods=\[attention\]"),
    ],
)
def test_bad_words_are_refused(arguments, message, tmp_path):
    words = {"words": [], "methods": ["attention"], "folds": 2, "repeats": 1, "output": tmp_path} | arguments
    with pytest.raises(ValueError, match=message):
        plan_trainings(**words)
