"""Which bags an evaluation tests."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.commands import here
from tests.runs.test_resume import FEATURES, write_features, write_labels

EVALUATE = "milpath.evaluate"
WORDS = ["checkpoint=runs/a/checkpoints/best.ckpt", "trainer.accelerator=cpu", "report=false"]
OTHER = ["data=features", "data.path=other/feats", "data.labels=other/labels.csv"]
SAME = ["data=features", "data.path=in/feats", "data.labels=in/labels.csv"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    write_features(folder / "in", [0, 1] * 12)
    # Three bags of a class are too few for the five folds of training.
    write_features(folder / "other", [0] * 7 + [1] * 3)
    shutil.rmtree(folder / "other/feats")
    shutil.copytree(folder / "in/feats", folder / "other/feats")
    for path in sorted((folder / "other/feats").iterdir()):
        path.rename(path.with_name(path.name.replace("S", "X")))
    table = pd.read_csv(folder / "other/labels.csv")
    table["slide_id"] = table["slide_id"].str.replace("S", "X")
    table.to_csv(folder / "other/labels.csv", index=False)
    for path in sorted((folder / "other/feats").iterdir())[10:]:
        path.unlink()
    assert here("milpath.train", *FEATURES, "trainer.max_epochs=1", "run_name=a", cwd=folder) == 0
    return folder


def rows_of(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "runs" / name / "predictions.csv")


def note_of(folder: Path, name: str) -> str:
    return json.loads((folder / "runs" / name / "provenance.json").read_text())["data"].get("tested", "")


def record_of(folder: Path, name: str) -> dict:
    return json.loads((folder / "runs" / name / "provenance.json").read_text())["data"]


def fitted(folder: Path) -> set[str]:
    splits = pd.read_csv(folder / "runs/a/splits.csv", dtype=str)
    return set(splits.loc[splits["split"] != "test", "id"])


def test_every_bag_of_other_data_is_tested(workplace):
    assert here(EVALUATE, *WORDS, *OTHER, "run_name=other", cwd=workplace) == 0
    predictions = rows_of(workplace, "other")
    assert len(predictions) == 10
    assert set(predictions["split"]) == {"test"}
    assert note_of(workplace, "other") == ""
    # They are copies of the slides that the network was trained on, under other names.
    record, copies = record_of(workplace, "other"), sum(f"S{number:03}" in fitted(workplace) for number in range(10))
    said = f"same tiles: {copies} pairs of bags have the same tiles, {copies} of them in two splits"
    assert record["check"].startswith(f"data check: LEAK, {said}")
    assert record["warning"] == said


@pytest.mark.parametrize(
    ("words", "num_tested", "reason"),
    [
        (["data.num_folds=3"], 7, "7 of 10 bags are tested: 3 are in the split 'train' (data.num_folds=3 data.fold=0)"),
        (["data.exclude=[bad.csv]"], 9, "9 of 10 bags are tested: 1 are left out (data.exclude)"),
        (
            ["data.splits=split.csv"],
            1,
            "1 of 10 bags are tested: 1 are in the split 'train' (data.splits=split.csv), 8 are ",
        ),
    ],
    ids=["folds", "exclude", "splits"],
)
def test_where_not_every_bag_is_tested_the_summary_says_how_many_and_why(workplace, capfd, words, num_tested, reason):
    (workplace / "bad.csv").write_text("slide_id\nX001\n")
    (workplace / "split.csv").write_text("id,split\nX001,test\nX002,train\n")
    name = f"why_{num_tested}"
    assert here(EVALUATE, *WORDS, *OTHER, *words, f"run_name={name}", cwd=workplace) == 0
    assert len(rows_of(workplace, name)) == num_tested
    assert reason in capfd.readouterr().out
    assert note_of(workplace, name).startswith(reason)


def test_the_data_it_was_trained_on_keep_the_split_of_the_run(workplace):
    assert here(EVALUATE, *WORDS, *SAME, "run_name=same", cwd=workplace) == 0
    assert here(EVALUATE, *WORDS, "run_name=own", cwd=workplace) == 0
    pd.testing.assert_frame_equal(rows_of(workplace, "same"), rows_of(workplace, "own"))
    assert "train" not in set(rows_of(workplace, "same")["split"])
    assert note_of(workplace, "same").startswith("10 of 24 bags are tested: 14 are in the split 'train'")
    of_training = record_of(workplace, "a")["check"].partition("(")[0]
    assert of_training == record_of(workplace, "own")["check"].partition("(")[0]


@pytest.mark.parametrize("more", [[], ["trainer.precision=bf16-mixed"]])
def test_a_training_in_mixed_precision_has_the_results_of_its_checkpoint(workplace, more):
    name = f"mixed{len(more)}"
    if not (workplace / "runs/mixed").exists():
        words = [*FEATURES, "trainer.max_epochs=1", "trainer.precision=bf16-mixed", "run_name=mixed"]
        assert here("milpath.train", *words, cwd=workplace) == 0
    words = ["checkpoint=runs/mixed/checkpoints/best.ckpt", *WORDS[1:], "splits=[train,val,test]", f"run_name={name}"]
    assert here(EVALUATE, *words, *more, cwd=workplace) == 0
    first, again = ((workplace / "runs" / each / "predictions.csv").read_text() for each in ("mixed", name))
    assert again == first


def test_features_are_rounded_as_in_the_training_also_if_the_data_are_given(workplace):
    words = [*FEATURES, "trainer.max_epochs=1", "data.dtype=float16", "run_name=half"]
    assert here("milpath.train", *words, cwd=workplace) == 0
    words = ["checkpoint=runs/half/checkpoints/best.ckpt", *WORDS[1:], *SAME, "splits=[train,val,test]"]
    assert here(EVALUATE, *words, "run_name=half_e", cwd=workplace) == 0
    first, again = ((workplace / "runs" / each / "predictions.csv").read_text() for each in ("half", "half_e"))
    assert again == first


def test_who_asks_for_the_bags_it_was_trained_on_is_told(workplace):
    assert here(EVALUATE, *WORDS, *SAME, "data.num_folds=1", "run_name=all", cwd=workplace) == 0
    assert len(rows_of(workplace, "all")) == 24
    assert note_of(workplace, "all").startswith("14 of the tested bags have the name of a training bag (first: S")
    count = len(fitted(workplace))
    said = f"data check: LEAK, trained bags: {count} of 24 bags to test are training or validation bags of the network"
    assert record_of(workplace, "all")["check"].startswith(said)


@pytest.mark.parametrize("words", [[], SAME], ids=["from the checkpoint", "given"])
def test_labels_that_changed_do_not_move_trained_bags_into_the_test_in_silence(workplace, run_here, tmp_path, words):
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "stores")
    write_labels(tmp_path / "in/labels.csv", [1, 1, 0, 0] + [0, 1] * 10)
    status, error = run_here(EVALUATE, *WORDS, *words, "run_name=changed", cwd=tmp_path)
    assert status == 1
    assert "now give a split other than the one it was trained with" in error
    assert "data.splits=runs/a/splits.csv" in error
    typed = [*SAME, "data.splits=runs/a/splits.csv", "run_name=typed"]
    assert run_here(EVALUATE, *WORDS, *typed, cwd=tmp_path)[0] == 0
    assert len(rows_of(tmp_path, "typed")) == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["slides_dir=nowhere"], "slides_dir=nowhere does not exist; give the folder of the whole slides"),
        (["report_pdf=true"], "report_pdf=true prints report.html, which report=false does not write; set report=true"),
        (["splits=[val,tset]"], "splits=['val', 'tset']: 'tset' is not one of train, val, test"),
        (["id_column=slide_id"], "id_column=slide_id is an option of slides=FOLDER labels=CSV; leave it out, or give"),
        (["resolutions=microns.csv"], "resolutions=microns.csv is an option of slides=FOLDER labels=CSV; leave it out"),
        (["mixed_resolution=skip"], "mixed_resolution=skip is unknown"),
        (["on_error=skpi"], "on_error=skpi is unknown"),
        (["+data.exclude=[bad.csv]"], "data.exclude is an option of a data set; give data=NAME with it"),
        (
            ["slides=in/feats", "labels=in/labels.csv", "resolutions=microns.csv"],
            "resolutions=microns.csv is only for whole slides; in/feats holds features; leave it out",
        ),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(words, message, workplace, run_here):
    status, said = run_here(EVALUATE, *WORDS, *words, "run_name=refused", cwd=workplace)
    assert status == 1
    assert message in said
    assert said.count("\n") == 1
    assert not (workplace / "runs/refused/metrics.json").exists()


def test_what_the_split_of_the_run_would_replace_is_refused_with_the_way_to_have_it(workplace, run_here):
    tested = rows_of(workplace, "a").query("split == 'test'")["id"]
    (workplace / "few.csv").write_text(f"slide_id\n{tested.iloc[0]}\n")
    for number, word in enumerate(["data.max_bags=5", "data.max_bags_per_class=2", "data.group_column=label"]):
        status, said = run_here(EVALUATE, *WORDS, *SAME, word, f"run_name=no_{number}", cwd=workplace)
        assert status == 1
        assert f"{word} changes nothing: these are the data of the run, whose split is tested as it was; add" in said
        assert "data.splits=runs/a/splits.csv" in said
    again = [*SAME, "data.max_bags=24", "data.splits=runs/a/splits.csv", "data.exclude=[few.csv]", "run_name=fewer"]
    assert run_here(EVALUATE, *WORDS, *again, cwd=workplace)[0] == 0
    assert set(rows_of(workplace, "fewer")["split"]) == {"val", "test"}
    assert tested.iloc[0] not in set(rows_of(workplace, "fewer")["id"])
    # What takes no tested bag away is no error.
    assert run_here(EVALUATE, *WORDS, *SAME, "data.max_bags=24", "run_name=all_24", cwd=workplace)[0] == 0


def test_labels_that_were_corrected_since_an_evaluation_began_are_not_those_of_before(workplace, run_here):
    words = [*WORDS, "slides=other/feats", "labels=corrected.csv", "run_name=corrected"]
    table = pd.read_csv(workplace / "other/labels.csv")
    table.assign(label=table["label"].where(table.index > 0)).to_csv(workplace / "corrected.csv", index=False)
    assert "1 slide has no label" in run_here(EVALUATE, *words, cwd=workplace)[1]
    table.to_csv(workplace / "corrected.csv", index=False)
    said = run_here(EVALUATE, *words, cwd=workplace)[1]
    assert "was built with another label table, or an earlier state of it, than labels=corrected.csv now; set" in said
    assert run_here(EVALUATE, *words, "overwrite=true", cwd=workplace)[0] == 0
    assert len(rows_of(workplace, "corrected")) == 10


def test_columns_of_another_clinic_are_named_for_a_target_of_several(workplace, run_here):
    table = pd.read_csv(workplace / "in/labels.csv").assign(time=range(1, 25), event=[1, 1, 0] * 8)
    table.to_csv(workplace / "months.csv", index=False)
    words = [*FEATURES, "data.labels=months.csv", "target=survival", "monitor=val/loss", "trainer.max_epochs=1"]
    assert here("milpath.train", *words, "report=false", "run_name=survival", cwd=workplace) == 0
    other = pd.read_csv(workplace / "other/labels.csv").assign(time=[3, 1, 4, 1, 5, 9, 2, 6, 5, 3], event=1)
    other.to_csv(workplace / "same_names.csv", index=False)
    # Their `time` is something else.
    other.rename(columns={"time": "os", "event": "dead"}).assign(time=7).to_csv(workplace / "names.csv", index=False)
    words = ["checkpoint=runs/survival/checkpoints/best.ckpt", *WORDS[1:]]
    slides, columns = "slides=other/feats", "label_column={time:os,event:dead}"
    for name, given in {
        "as_is": [slides, "labels=same_names.csv"],
        "slides": [slides, "labels=names.csv", columns],
        "data": [*OTHER, "data.labels=names.csv", f"data.{columns}"],
    }.items():
        assert run_here(EVALUATE, *words, *given, f"run_name=named_{name}", cwd=workplace) == (0, "")
    expected = rows_of(workplace, "named_as_is")
    assert expected["label_time"].tolist() == other["time"].tolist()
    for name in ("slides", "data"):
        pd.testing.assert_frame_equal(rows_of(workplace, f"named_{name}"), expected)
    said = run_here(EVALUATE, *words, slides, "labels=names.csv", "run_name=no", cwd=workplace)[1]
    assert said.endswith("or for a trained network label_column={event:NAME}\n")
    said = run_here(EVALUATE, *words, "label_column=os", "run_name=no", cwd=workplace)[1]
    assert "label_column=os is an option of slides=FOLDER" in said


def test_a_refusal_of_labels_says_the_options_of_slides(workplace, run_here):
    pd.read_csv(workplace / "other/labels.csv").rename(columns={"label": "msi"}).to_csv(
        workplace / "msi.csv", index=False
    )
    words = [*WORDS, "slides=other/feats"]
    of_msi = [*words, "labels=msi.csv", "run_name=msi"]
    assert run_here(EVALUATE, *of_msi, cwd=workplace)[1].endswith("; choose one with label_column=NAME\n")
    assert run_here(EVALUATE, *of_msi, "label_column=msi", cwd=workplace)[0] == 0
    pd.read_csv(workplace / "other/labels.csv").assign(label=None).to_csv(workplace / "no_label.csv", index=False)
    said = run_here(EVALUATE, *words, "labels=no_label.csv", "run_name=no_label", cwd=workplace)[1]
    assert "data.on_missing_label=skip (with data=bag_store data.path=" in said
