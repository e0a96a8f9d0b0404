"""The truth of the drawn cohort: what the tables say is what was planted, with the hazard ratio and the noise that were asked."""

import numpy as np
import pandas as pd
import pytest

from milpath.data import SyntheticCohort
from milpath.data.datamodule import BagDataModule
from milpath.data.sources.drawn_tissue import stain_tiles
from milpath.data.store.bag_store import BagStore
from milpath.data.store.store_build import open_or_build
from milpath.targets import Multilabel, Regression

MANY = 2000


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> tuple[SyntheticCohort, BagStore]:
    cohort = SyntheticCohort(num_patients=24, num_tiles=6, tile_size=32)
    return cohort, open_or_build(cohort, tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="module")
def many() -> SyntheticCohort:
    """A cohort of which only the tables are drawn."""
    return SyntheticCohort(num_patients=MANY, hazard_ratio=6.0, marker_noise=3.0)


def test_the_planted_lesions_of_a_patient_are_the_share_in_the_clinical_table(drawn):
    cohort, store = drawn
    tiles = store.tiles_table.merge(store.bags[["bag_id", "patient_id"]], on="bag_id")
    shares = 100 * tiles.groupby("patient_id")["tile_label"].mean()
    clinical = cohort.clinical_table().set_index("patient_id")
    np.testing.assert_allclose(shares, clinical["tumour_percent"], atol=0.01)
    assert ((shares > 0) == (clinical["diagnosis"] == "malignant")).all()
    assert set(clinical["grade"]) == {"none", "low", "high"}
    assert store.bags.groupby("patient_id").size().between(1, 4).all()
    assert store.warning == "synthetic slides: says nothing about real tissue"


@pytest.mark.filterwarnings("ignore")  # lifelines warns about the pandas of today
def test_cox_on_the_planted_share_finds_the_hazard_ratio_and_nothing_else(many):
    lifelines = pytest.importorskip("lifelines", reason="needs lifelines (uv pip install -e '.[dev]')")
    table = many.clinical_table().dropna()
    columns = pd.DataFrame(
        {"x": table["tumour_percent"] / 50, "age": (table["age"] - 66) / 9, "female": table["sex"] == "female",
         "current": table["smoking"] == "current", "time": table["time"], "event": table["event"]}
    ).astype(float)  # fmt: skip
    fitted = lifelines.CoxPHFitter().fit(columns, "time", "event").summary
    assert abs(fitted.loc["x", "coef"] - np.log(6.0)) < 2 * fitted.loc["x", "se(coef)"]
    assert (fitted.loc[["age", "female", "current"], "p"] > 0.01).all()
    assert 0.2 < table["event"].mean() < 0.8


def test_censoring_does_not_depend_on_the_risk(many):
    table, truth = many.clinical_table(), many.truth_table()
    # Among patients followed for long enough that nobody is censored before, the censored are those without an event.
    censored = table["event"] == 0
    assert table.loc[censored, "time"].between(12, 96).all()
    assert truth["log_hazard"].max() == pytest.approx(np.log(6.0) * table["tumour_percent"].max() / 50, abs=1e-3)


def test_the_marker_has_the_noise_that_was_asked(many):
    table = many.clinical_table()
    noise = table["marker"] - (20 + 50 * table["tumour_percent"] / 100)
    assert noise.std() == pytest.approx(3.0, abs=4 * 3.0 / np.sqrt(2 * MANY))
    assert abs(noise.mean()) < 4 * 3.0 / np.sqrt(MANY)


def test_some_cells_are_empty_and_words_are_words(many):
    table = many.clinical_table()
    assert table["age"].isna().mean() == pytest.approx(0.1, abs=0.03)
    assert table["smoking"].isna().mean() == pytest.approx(0.1, abs=0.03)
    assert set(table["smoking"].dropna()) == {"never", "former", "current"}
    assert not table.drop(columns=["age", "smoking"]).isna().any().any()


@pytest.mark.parametrize("shortcut", [0.0, 0.8, 1.0])
def test_the_scanner_says_the_diagnosis_as_often_as_asked(shortcut):
    cohort = SyntheticCohort(num_patients=1000, shortcut=shortcut)
    slides = cohort.slides_table().drop_duplicates("patient_id").merge(cohort.clinical_table(), on="patient_id")
    same = (slides["scanner"] == "beta") == (slides["diagnosis"] == "malignant")
    assert same.mean() == pytest.approx(0.5 + shortcut / 2, abs=0.06)


def test_the_second_scanner_shifts_the_colours_as_stated(drawn):
    store = drawn[1]
    means = np.stack([store.read(index).mean((0, 1, 2)) for index in range(len(store))])
    beta = (store.bags["scanner"] == "beta").to_numpy()
    shift = means[beta].mean(0) / means[~beta].mean(0)
    np.testing.assert_allclose(shift, (0.86, 0.94, 1.0), atol=0.03)


def test_a_patient_does_not_depend_on_their_number_and_does_on_the_seed():
    few, more = SyntheticCohort(num_patients=3), SyntheticCohort(num_patients=30)
    pd.testing.assert_frame_equal(few.clinical_table(), more.clinical_table().head(3))
    np.testing.assert_array_equal(few._draw_slide((2, 0))[0], more._draw_slide((2, 0))[0])
    assert not few.clinical_table().equals(SyntheticCohort(num_patients=3, drawing_seed=1).clinical_table())


def test_a_tile_wholly_beyond_the_tissue_is_white():
    amounts = np.zeros((2, 2, 8, 8), np.float32)
    amounts[1] = 0.4
    tiles = stain_tiles(amounts, (1.0, 1.0), np.random.default_rng(0))
    assert tiles[0].min() > 220
    assert tiles[1].mean() < tiles[0].mean()


def test_the_folder_has_the_tables_of_a_study_beside_a_store_without_labels(tmp_path):
    cohort = SyntheticCohort(num_patients=3, num_tiles=2, tile_size=16)
    folder = cohort.write_folder(tmp_path / "study")
    clinical, slides = pd.read_csv(folder / "clinical.csv"), pd.read_csv(folder / "slides.csv")
    store = BagStore.open(folder / "store")
    assert list(store.bags.columns) == ["bag_id", "start", "num_tiles"]
    assert store.bags["bag_id"].tolist() == slides["slide_id"].tolist()
    assert list(slides.columns) == ["slide_id", "patient_id", "scanner"]
    assert slides["patient_id"].unique().tolist() == clinical["patient_id"].tolist()
    assert store.warning == "synthetic slides: says nothing about real tissue"


def test_slides_of_a_patient_stay_in_one_split(drawn, tmp_path):
    module = BagDataModule(
        drawn[0], label_column="diagnosis", group_column="patient_id", num_folds=4, stores_dir=str(tmp_path)
    )
    module.setup()
    assert module.class_names == ("benign", "malignant")
    assert module.label_frame.groupby("patient_id")["split"].nunique().max() == 1


@pytest.mark.parametrize(
    "option", [{"hazard_ratio": 0.0}, {"hazard_ratio": float("inf")}, {"marker_noise": -1.0}, {"shortcut": 1.5}]
)
def test_an_option_out_of_range_is_named(option):
    with pytest.raises(ValueError, match=rf"data\.{next(iter(option))} is "):
        SyntheticCohort(**option)


def test_classes_are_the_diagnosis_and_other_targets_name_their_columns(drawn, tmp_path):
    options = {"bag_column": "patient_id", "num_folds": 3, "stores_dir": str(tmp_path)}

    def opened(**more):
        data = BagDataModule(drawn[0], **options, **more)
        data.setup()
        return data

    assert opened().class_names == ("benign", "malignant")
    assert opened(label_column="grade", task="ordinal", class_names=["none", "low", "high"]).label_column == "grade"
    marker = opened(task=Regression(["marker"]))
    assert marker.class_names == ("marker",)
    assert marker.label_column is None
    assert opened(task=Multilabel(["sex", "diagnosis"])).class_names == ("sex", "diagnosis")
    with pytest.raises(ValueError, match="'label'"):
        opened(task="regression")
