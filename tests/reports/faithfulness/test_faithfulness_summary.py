import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.inference.faithfulness import MeasureOptions, measure_bags, question_of
from milpath.models.checkpoint import Card
from milpath.reports.faithfulness import summarise, write_faithfulness
from milpath.reports.faithfulness.verdict import verdict_of
from tests.inference.faithfulness.bags_with_truth import CARD, NUM_TILES, MarkerNetwork, write_planted


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_planted(tmp_path_factory.mktemp("planted") / "store")


def measured(store, *networks, card=CARD, groups=None):
    question, options = question_of(card), MeasureOptions(num_random=5)
    rows = measure_bags(
        networks, store, range(len(store)), [question] * len(networks), options, tile_labels=store.tile_labels
    )
    found = [row for each in rows for row in each]
    return found, summarise(found, question, options, groups, 200)


def test_attention_to_the_tile_that_decides_is_faithful_and_the_sentence_says_how_far_the_answer_falls(store):
    _, record = measured(store, MarkerNetwork())
    assert record["finding"] == "faithful"
    assert record["verdict"].startswith(
        "In 30 bags, removing the 10% most attended tiles lowers the probability of the predicted class by 0.96"
    )
    assert "attention points at what the network uses, and no other order compared gains more" in record["verdict"]
    assert record["share_of_best"] == [1.0, None, None]
    assert record["truth"]["attention"]["auroc"][0] == 1.0


@pytest.mark.parametrize("attended", [1, 2, 3])
def test_attention_that_is_random_is_no_better_than_random(store, attended):
    _, record = measured(store, MarkerNetwork(attended))
    assert record["finding"] == "chance"
    assert "attention does not show what the network uses, it is no better than random" in record["verdict"]
    # What does show it is named: the network itself is not at fault.
    exact = "occlusion|single tile|gradient x input"
    assert re.search(rf"Of the orders compared, ({exact}) has the largest area", record["verdict"])
    orders = record["parts"][0]["orders"]
    low, high = orders["attention"]["probability"]["deletion_gain"][1:]
    assert low < 0 < high
    assert orders["occlusion"]["probability"]["deletion_gain"][1] > 0.3
    assert abs(record["truth"]["attention"]["auroc"][0] - 0.5) < 0.15


def test_attention_to_all_other_tiles_points_away(store):
    _, record = measured(store, MarkerNetwork(0, -5.0))
    assert record["finding"] == "worse"


def test_where_a_tenth_of_the_tiles_changes_nothing_the_whole_curves_are_told(tmp_path):
    with BagStoreWriter(tmp_path / "store") as writer:
        for number in range(6):
            tiles = np.zeros((NUM_TILES, 6), np.float32)
            tiles[:8, 0] = 1  # the marker is in eight tiles: nothing is lost before all of them are removed
            writer.add(f"bag_{number}", tiles, {"label": 1}, {"tile_label": tiles[:, 0].astype(np.int64)})
    _, record = measured(BagStore.open(tmp_path / "store"), MarkerNetwork())
    assert record["finding"] == "in part"  # nothing is known of the top tiles
    assert "without so few tiles the answer hardly changes, in no order by more than 0.00" in record["verdict"]
    assert "Over the whole curves attention gains 0.5" in record["verdict"]


def test_a_network_that_weighs_all_tiles_equally_has_no_attention_to_test(store):
    _, record = measured(store, MarkerNetwork(sharpness=0.0))
    assert record["finding"] == "no attention"
    assert "this network has no attention whose order could be tested" in record["verdict"]


def test_a_network_that_answers_the_same_whatever_is_removed_cannot_be_judged(store):
    always = Card({}, ("benign", "malignant"), "binary", temperature=1e6)
    _, record = measured(store, MarkerNetwork(), card=always)
    assert record["finding"] == "insensitive"
    assert "cannot be seen here" in record["verdict"]


def test_the_verdict_is_about_the_bags_with_the_class_to_detect(store):
    # Above this threshold no bag with the marker is malignant, below it all are.
    rows, record = measured(store, MarkerNetwork())
    benign, _ = measured(store, MarkerNetwork(), card=Card({}, CARD.class_names, "binary", threshold=0.99))
    assert {row.explained for row in benign} == {"benign"}
    both = [*rows[:10], *benign[10:]]
    record = summarise(both, question_of(CARD), MeasureOptions(num_random=5), None, 100)
    assert [part["name"] for part in record["parts"]] == ["all bags", "benign", "malignant"]
    assert record["headline"] == "malignant"
    assert record["verdict"].startswith("In 10 bags predicted malignant, ")


def test_intervals_draw_patients_and_bags_of_several_networks_as_a_whole(store):
    groups = {f"bag_{number}": f"P{number // 2}" for number in range(30)}
    _, alone = measured(store, MarkerNetwork(1), groups={name: name for name in groups})
    _, grouped = measured(store, MarkerNetwork(1), groups=groups)
    _, twice = measured(store, MarkerNetwork(1), MarkerNetwork(1))
    name = ("parts", 0, "orders", "attention", "probability", "deletion_gain")
    one, of_patients, of_two = (get(record, name) for record in (alone, grouped, twice))
    assert grouped["num_groups"] == 15
    assert one[0] == pytest.approx(of_patients[0])
    assert one != of_patients
    # A second equal network is no further evidence: its rows belong to the same bags.
    assert of_two == pytest.approx(one)
    assert twice["between"]["spearman"][0] == pytest.approx(1)


def get(record, path):
    for key in path:
        record = record[key]
    return record


def test_the_folder_holds_the_record_a_row_per_bag_and_a_picture(store, tmp_path):
    rows, record = measured(store, MarkerNetwork())
    record |= {"networks": [{"path": "a.ckpt", "sha256": "0" * 64}], "title": "x<y", "warning": "", "notes": ["said"], "seconds": 1.0}  # fmt: skip
    page = write_faithfulness(tmp_path, rows, record).read_text()
    assert record["verdict"] in page
    assert "x&lt;y" in page
    assert json.loads((tmp_path / "faithfulness.json").read_text()) == json.loads(json.dumps(record))
    table = list(csv.DictReader(io.StringIO((tmp_path / "faithfulness.csv").read_text())))
    assert [row["bag_id"] for row in table] == store.bags["bag_id"].tolist()
    drops = np.array([float(row["drop_attention"]) for row in table])
    assert drops.mean() == pytest.approx(record["parts"][0]["orders"]["attention"]["probability"]["drop"][0])
    assert {row["tile_auroc_attention"] for row in table} == {"1"}
    picture = ElementTree.fromstring((tmp_path / "faithfulness.svg").read_text())
    assert picture.tag.endswith("svg")
    text = "".join(picture.itertext())
    assert all(name in (tmp_path / "faithfulness.svg").read_text() or name in text for name in ("attention", "random"))


def test_too_few_bags_give_no_verdict(store):
    rows, _ = measured(store, MarkerNetwork())
    record = summarise(rows[:1], question_of(CARD), MeasureOptions(), None, 50)
    assert record["finding"] == "undecided"
    assert verdict_of(record, record["parts"][0] | {"num_units": 5})["finding"] == "faithful"
    with pytest.raises(ValueError, match="nothing to remove"):
        summarise([], question_of(CARD), MeasureOptions())
