"""Slides joined with the tables of a study, and put together by patient."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milpath.data.datamodule import BagDataModule
from milpath.data.sources.features.feature_bags import FeatureBags
from milpath.data.splits.patient_bags import PatientOptions, grouped_table
from milpath.data.store.stored_bags import StoredBags
from tests.drawn_patients import draw_patients, num_slides_of
from tests.feature_files import write_trident


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return draw_patients(tmp_path_factory.mktemp("study"))


def by_patient(study, **options):
    data = BagDataModule(StoredBags(study.store), **study.options, bag_column="patient_id", **options)
    data.setup()
    return data


def by_slide(study, **options):
    data = BagDataModule(StoredBags(study.store), **study.options, **options)
    data.setup()
    return data


def test_sixty_patients_with_114_slides_are_sixty_bags_and_nothing_is_copied(study):
    before = {
        path: (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_size) for path in study.store.iterdir()
    }
    data = by_patient(study)
    assert len(data.store) == 60
    assert int(data.store.num_tiles.sum()) == len(data.store.tiles)
    assert sum(num_slides_of()) == 114 == len(data.store.slide_store)
    assert {
        path: (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_size) for path in study.store.iterdir()
    } == before
    labels = dict(zip(data.label_frame["bag_id"], data.label_frame["label"], strict=True))
    assert labels == {f"P{number:02d}": number % 2 for number in range(60)}
    batch = next(iter(data.dataloader("test"))).to("cpu")
    first = data.store.bags["bag_id"].tolist().index(batch.bag_ids[0])
    assert np.array_equal(batch.tiles[0, : data.store.num_tiles[first]].numpy(), data.store.read(first))


def test_a_patient_is_never_on_two_sides_whichever_is_the_bag(study):
    sides = by_slide(study, num_folds=4).label_frame.groupby("patient_id")["split"].nunique()
    assert (sides == 1).all()
    assert len(sides) == 60
    assert by_slide(study).groups["slide_02_0"] == "group P02"
    assert by_patient(study).groups is None  # a patient is the unit of intervals without a group


@pytest.mark.parametrize("options", [{"task": "regression", "label_column": "age"}, {"task": "survival"}])
def test_targets_without_classes_take_their_columns_from_the_clinical_table(study, options):
    data = by_patient(study, **options)
    expected = {"regression": (50,), "survival": None}[options["task"]]
    row = data.label_frame.set_index("bag_id").loc["P10"]
    assert len(data.label_frame) == 60
    assert expected is None or row["label"] == expected


def test_what_does_not_fit_the_data_is_named_or_left_out(study, tmp_path, caplog):
    lines = study.slides.read_text().splitlines()
    changed = tmp_path / "slides.csv"
    changed.write_text("\n".join([*lines[:-1], "slide_99_0,P00,A"]) + "\n")
    options = {"patients": str(study.patients), "slides": str(changed), "bag_column": "patient_id"}
    with pytest.raises(ValueError) as error:
        BagDataModule(StoredBags(study.store), **options).setup()
    assert "1 of 114 slides in" in str(error.value)
    assert "are not in" in str(error.value)
    assert "'slide_99_0'" in str(error.value)
    assert lines[-1].split(",")[0] in str(error.value)
    data = BagDataModule(StoredBags(study.store), **options, on_patient_mismatch="skip")
    with caplog.at_level(logging.WARNING):
        data.setup()
    assert "slide_99_0" in caplog.text
    assert len(data.store.slide_store) == 113


def test_a_label_of_a_slide_that_the_table_of_patients_replaces_is_named(tmp_path, caplog):
    (tmp_path / "clinical.csv").write_text("patient_id,label,grade\n01,a,1\n02,b,2\n")
    (tmp_path / "slides.csv").write_text("slide_id,patient_id,label,grade\nx,01,a,1.0\ny,01,b,\nz,02,b,2.0\n")
    options = PatientOptions(str(tmp_path / "clinical.csv"), str(tmp_path / "slides.csv"), "patient_id")
    rows = options.joined(pd.DataFrame({"bag_id": ["x", "y", "z"]}), "store")
    assert rows["label"].tolist() == ["a", "a", "b"]
    (record,) = caplog.records
    assert "column 'label' of" in record.getMessage()
    assert "for 1 of 3 slides (first: 'y' has b, its patient a); that of the patients is used" in record.getMessage()


def test_names_are_matched_without_suffix_and_capitals(study, tmp_path):
    text = study.slides.read_text().replace("slide_", "scans/SLIDE_").replace(",P", ".svs,P")
    (tmp_path / "slides.csv").write_text(text.replace("scans/SLIDE_id", "slide_id"))
    options = {"patients": str(study.patients), "slides": str(tmp_path / "slides.csv")}
    data = BagDataModule(StoredBags(study.store), **options, bag_column="patient_id")
    data.setup()
    assert len(data.store) == 60


def test_slides_of_a_patient_with_two_labels_are_refused_with_both():
    table = pd.DataFrame({"bag_id": ["a", "b", "c"], "case": ["P", "P", "Q"], "label": [0, 1, 1]})
    with pytest.raises(ValueError, match=r"'P' has slides with different values of 'label': 0 \(a\) and 1 \(b\)"):
        grouped_table(table, "case", ("label",))
    with pytest.raises(ValueError, match="did you mean 'case'"):
        grouped_table(table, "cases")


def test_an_empty_cell_is_no_second_label_and_other_columns_are_joined():
    table = pd.DataFrame(
        {"bag_id": ["b", "a", "c"], "case": [7.0, 7.0, 12.0], "label": [np.nan, 1, 0], "stain": ["HE", "PAS", "HE"]}
    )
    bags, members = grouped_table(table, "case", ("label",))
    assert bags["bag_id"].tolist() == ["12", "7"]
    assert [own.tolist() for own in members] == [[2], [0, 1]]
    assert bags["label"].tolist() == [0, 1]
    assert bags["stain"].tolist() == ["HE", "HE + PAS"]


def test_one_table_of_slides_is_enough_for_feature_files(tmp_path):
    for number in range(6):
        rng = np.random.default_rng(number)
        coords = np.arange(2 * (3 + number)).reshape(-1, 2)
        write_trident(tmp_path / "features" / f"s{number}.h5", rng.normal(size=(3 + number, 5)), coords)
    (tmp_path / "labels.csv").write_text(
        "slide_id,patient_id,label\n" + "".join(f"s{number},P{number // 2},{number // 2 % 2}\n" for number in range(6))
    )
    source = FeatureBags(tmp_path / "features", tmp_path / "labels.csv")
    data = BagDataModule(source, bag_column="patient_id", num_folds=1, stores_dir=str(tmp_path / "stores"))
    data.setup()
    assert data.store.num_tiles.tolist() == [7, 11, 15]
    assert data.bag_ids("test") == ["P0", "P1", "P2"]
    # The same store, by slide.
    other = BagDataModule(source, group_column="patient_id", num_folds=1, stores_dir=str(tmp_path / "stores"))
    other.setup()
    assert other.store.path.samefile(data.store.path)
    assert len(other.store) == 6


@pytest.mark.parametrize("column", ["patient_id", "case"])
def test_patients_in_one_label_table_keep_their_zeros(column, tmp_path):
    names = ["007", "7", "0120", "12345678901234567890", "1", "2"]
    for number in range(6):
        coords = np.arange(6).reshape(-1, 2)
        write_trident(tmp_path / "features" / f"s{number}.h5", np.full((3, 2), number, float), coords)
    rows = "".join(f"s{number},{names[number]},{number % 2},{number + 0.5}\n" for number in range(6))
    (tmp_path / "labels.csv").write_text(f"slide_id,{column},label,age\n{rows}")
    source = FeatureBags(tmp_path / "features", tmp_path / "labels.csv")
    for _ in range(2):  # from the table, and from the store that was built from it
        data = BagDataModule(source, bag_column=column, num_folds=1, stores_dir=str(tmp_path / "stores"))
        data.setup()
        assert sorted(data.bag_ids("test")) == sorted(names)
    stored = BagDataModule(StoredBags(data.tile_store.slide_store.path), bag_column=column, num_folds=1)
    stored.setup()
    assert sorted(stored.bag_ids("test")) == sorted(names)
    assert stored.tile_store.bags["age"].dtype.kind == "f"


@pytest.mark.parametrize("name", ["slide_00_0", "P00"])
def test_slides_and_patients_can_be_excluded_by_name(study, tmp_path, name):
    (tmp_path / "out.csv").write_text(f"id\n{name}\n")
    data = by_patient(study, exclude=[str(tmp_path / "out.csv")])
    assert "P00" not in set(data.label_frame["bag_id"])
    assert len(data.store.slide_store) == 114
    assert len(data.label_frame) == 59


def test_a_table_that_does_not_exist_is_said_before_any_work(study):
    with pytest.raises(FileNotFoundError, match="no table of patients at"):
        BagDataModule(StoredBags(study.store), patients=str(Path("nowhere.csv")), slides=str(study.slides)).setup()
