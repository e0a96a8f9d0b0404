import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from milpath.data.sources.panda_tiles import PandaTiles
from milpath.data.sources.synthetic import SyntheticBags
from milpath.data.store.bag_store import BagStore
from milpath.data.store.store_build import open_or_build


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> BagStore:
    return open_or_build(SyntheticBags(num_slides=120, num_tiles=8, tile_size=48), tmp_path_factory.mktemp("stores"))


def test_columns_and_scores_are_those_of_panda(store):
    bags = store.bags
    assert {"data_provider", "isup_grade", "gleason_score"} <= set(bags.columns)
    assert set(bags["data_provider"]) == {"karolinska", "radboud"}
    assert bags["isup_grade"].value_counts().to_dict() == {0: 60, 1: 12, 2: 12, 3: 12, 4: 12, 5: 12}
    scores = {0: {"0+0"}, 1: {"3+3"}, 2: {"3+4"}, 3: {"4+3"}, 4: {"4+4", "3+5", "5+3"}, 5: {"4+5", "5+4", "5+5"}}
    for grade, score in zip(bags["isup_grade"], bags["gleason_score"], strict=True):
        assert score in scores[grade]
    assert bags["bag_id"].str.fullmatch("[0-9a-f]{32}").all()


def test_lesions_are_planted_in_malignant_slides_alone(store):
    lesions = store.tiles_table.groupby("bag_id")["tile_label"].sum()[store.bags["bag_id"]].to_numpy()
    grades = store.bags["isup_grade"].to_numpy()
    assert (lesions[grades == 0] == 0).all()
    assert (lesions[grades > 0] > 0).all()
    means = [lesions[grades == grade].mean() for grade in range(1, 6)]
    assert means == sorted(means)
    assert set(store.tile_labels) == {0, 1}


def test_the_share_of_lesions_can_be_set_for_every_grade():
    source = SyntheticBags(num_slides=12, num_tiles=16, tile_size=16, lesion_share=0.5)
    lesions = [int(source.draw_slide(slide)[2]["tile_label"].sum()) for slide in range(12)]
    assert lesions == [0, 8] * 6
    rare = SyntheticBags(num_slides=2, num_tiles=16, tile_size=16, lesion_share=0.01)
    assert rare.draw_slide(1)[2]["tile_label"].sum() == 1  # a malignant slide has a lesion
    assert source.describe() != rare.describe()
    assert "lesion_share" not in SyntheticBags().describe()  # stores of earlier versions are found


def test_tiles_come_darkest_first_as_in_panda(store):
    sums = store.tiles.sum(axis=(1, 2, 3), dtype=np.int64).reshape(len(store), -1)
    assert (np.diff(sums, axis=1) >= 0).all()


def test_slides_are_seeded_and_do_not_depend_on_their_number():
    one = SyntheticBags(num_slides=4, num_tiles=3, tile_size=32).draw_slide(2)
    other = SyntheticBags(num_slides=400, num_tiles=3, tile_size=32).draw_slide(2)
    np.testing.assert_array_equal(one[1], other[1])
    assert one[0] == other[0]
    another = SyntheticBags(num_slides=4, num_tiles=3, tile_size=32, drawing_seed=1).draw_slide(2)
    assert not np.array_equal(one[1], another[1])


def test_colours_are_those_of_stained_tissue(store):
    """Pink to purple on white: red over green, blue over green, as in real tiles of PANDA."""
    red, green, blue = store.tiles.reshape(-1, 3).mean(0) / 255
    assert green < blue < red
    # Means published with the real tile set, which has more white in it.
    assert abs(red - 0.9095) < 0.15
    assert abs(green - 0.8189) < 0.25
    assert abs(blue - 0.8780) < 0.15


def test_mean_colour_does_not_give_a_lesion_away(store):
    means = store.tiles.reshape(len(store.tiles), -1, 3).mean(1)
    for channel in range(3):
        assert abs(roc_auc_score(store.tile_labels, means[:, channel]) - 0.5) < 0.2
    bags = means.reshape(len(store), -1, 3)
    summary = np.concatenate([bags.mean(1), bags.min(1), bags.max(1), bags.std(1)], axis=1)
    labels = (store.bags["isup_grade"] > 0).to_numpy()
    half = np.arange(len(labels)) // 2 % 2 == 0
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(summary[half], labels[half])
    assert roc_auc_score(labels[~half], classifier.predict_proba(summary[~half])[:, 1]) < 0.75


def test_texture_does_give_a_lesion_away(store):
    """How dark the darkest places are at several scales: nuclei of a lesion are larger than others."""
    red = store.tiles[..., 0].astype(np.float64)
    scales = [
        np.percentile(box_mean(red, size).reshape(len(red), -1), [1, 5, 25, 50, 75], axis=1).T for size in (1, 3, 5, 7)
    ]
    features, labels = np.concatenate(scales, axis=1), store.tile_labels
    half = np.arange(len(labels)) // 16 % 2 == 0
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features[half], labels[half])
    assert roc_auc_score(labels[~half], classifier.predict_proba(features[~half])[:, 1]) > 0.9


def box_mean(images, size):
    sums = np.cumsum(np.cumsum(np.pad(images, ((0, 0), (1, 0), (1, 0))), 1), 2)
    return (sums[:, size:, size:] - sums[:, :-size, size:] - sums[:, size:, :-size] + sums[:, :-size, :-size]) / size**2


def test_the_folder_is_read_as_panda_is(synthetic_folder, tmp_path):
    table = pd.read_csv(synthetic_folder / "train.csv")
    assert list(table.columns) == ["image_id", "data_provider", "isup_grade", "gleason_score"]
    source = PandaTiles(synthetic_folder, synthetic_folder / "train.csv", num_tiles=4, tile_size=32)
    read = open_or_build(source, tmp_path)
    drawn = open_or_build(SyntheticBags(num_slides=10, num_tiles=4, tile_size=32), tmp_path)
    for index, bag_id in enumerate(drawn.bags["bag_id"]):
        position = read.bags["bag_id"].tolist().index(bag_id)
        np.testing.assert_array_equal(read.tiles[read.tile_slice(position)], drawn.tiles[drawn.tile_slice(index)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_slides": 1}, "data.num_slides is 1; it must be 2 or more"),
        ({"tile_size": 8}, "data.tile_size is 8"),
        ({"lesion_share": 0}, "data.lesion_share is 0; it must be more than 0"),
    ],
)
def test_impossible_numbers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SyntheticBags(**arguments)
