import numpy as np
import pytest

from milpath.inference.faithfulness import MeasureOptions, question_of
from milpath.inference.faithfulness.measure_bags import MeasuredBag
from milpath.metrics.faithfulness.perturbation_curves import KEPT, REMOVED, area
from milpath.reports.faithfulness import summarise
from tests.inference.faithfulness.bags_with_truth import CARD


def drawn(gains, explained="malignant", num_bags=20, top=1.0, drop=0.2, flat=False):
    """Return bags whose orders are better than random ones by a gain, half of it under each curve.

    Args:
        gains: Order to its gain over random orders.
        explained: Predicted class.
        num_bags: Number of bags.
        top: Part of the gain that the first step shows.
        drop: By how much the answer falls over the whole random curve.
        flat: Whether all tiles have the same attention.
    """
    inner = np.clip(REMOVED / 0.1, 0, 1) * np.where(REMOVED < 0.3, top, 1.0)
    inner /= area(inner)
    rows = []
    for number, noise in enumerate(np.linspace(0.9, 1.1, num_bags)):
        deletion, insertion = {}, {}
        for order, gain in {**gains, "random": 0.0}.items():
            removed = 0.9 - drop * REMOVED - noise * gain / 2 * inner
            kept = 0.9 - drop * (1 - KEPT) + noise * gain / 2 * inner[::-1]
            deletion[order], insertion[order] = np.stack([removed] * 2), np.stack([kept] * 2)
        rows.append(
            MeasuredBag(
                f"{explained}_{number}", 0, 20, explained, np.array([0.9, 2.2]), deletion, insertion, {}, flat, {}, {}
            )
        )
    return rows


def judged(*rows):
    return summarise([row for each in rows for row in each], question_of(CARD), MeasureOptions(), None, 100)


def test_at_least_half_of_the_gain_of_the_best_order_is_faithful_and_the_share_is_named():
    record = judged(drawn({"attention": 0.4, "single tile": 0.5, "occlusion": 0.1}))
    assert record["finding"] == "faithful"
    assert record["share_of_best"][0] == pytest.approx(0.8, abs=0.01)
    assert (
        "attention points at what the network uses, 0.80 (no interval) of what the best order, single tile, gains"
        in record["verdict"]
    )


def test_the_share_has_an_interval_over_bags_and_one_that_holds_a_half_does_not_tell_the_grades_apart():
    sure = judged(
        drawn({"attention": 0.5, "single tile": 0.7}, num_bags=30),
        drawn({"attention": 0.3, "single tile": 0.5}, num_bags=30),
    )
    value, low, high = sure["share_of_best"]
    assert value == pytest.approx(0.8 / 1.2, abs=0.01)
    assert 0.62 < low < value < high < 0.71
    assert f"{value:.2f} ({low:.2f} to {high:.2f}) of what the best order, single tile, gains" in sure["verdict"]
    assert "too few bags" not in sure["verdict"]
    few = judged(
        drawn({"attention": 0.5, "single tile": 0.7}, num_bags=3),
        drawn({"attention": 0.1, "single tile": 0.5}, num_bags=3),
    )
    value, low, high = few["share_of_best"]
    assert low < 0.5 < high
    assert few["finding"] == ("faithful" if value >= 0.5 else "in part")
    assert "too few bags to tell from 0.50, where the grade changes" in few["verdict"]


def test_the_best_order_is_said_to_be_the_best_of_those_it_was_compared_with():
    record = judged(drawn({"attention": 0.5, "occlusion": 0.1}))
    assert (record["finding"], record["share_of_best"]) == ("faithful", [1.0, None, None])
    assert "no other order compared gains more on random ones (occlusion)" in record["verdict"]


def test_less_than_half_of_the_gain_of_the_best_order_is_in_part():
    record = judged(drawn({"attention": 0.2, "single tile": 0.5}))
    assert record["finding"] == "in part"
    assert (
        "attention points in part at what the network uses, 0.40 (no interval) of what the best order, single tile, gains on random ones"
        in record["verdict"]
    )


def test_either_side_of_half_of_the_best_order_is_another_grade():
    findings = [judged(drawn({"attention": gain, "single tile": 0.4}))["finding"] for gain in (0.196, 0.204)]
    assert findings == ["in part", "faithful"]


@pytest.mark.parametrize(("gain", "finding", "words"), [(-0.2, "worse", "points away"), (0.0, "chance", "no better than random")])  # fmt: skip
def test_what_is_no_better_than_random_does_not_show_what_the_network_uses(gain, finding, words):
    record = judged(drawn({"attention": gain, "single tile": 0.5}))
    assert record["finding"] == finding
    assert "attention does not show what the network uses, it " in record["verdict"]
    assert words in record["verdict"]


def test_nothing_is_said_where_the_best_order_changes_a_probability_by_less_than_five_hundredths():
    record = judged(drawn({"attention": 0.04, "single tile": 0.045}, drop=0.0))
    assert (record["finding"], record["share_of_best"]) == ("insensitive", None)
    assert "the answer hardly depends on which tiles are removed" in record["verdict"]
    assert "points" not in record["verdict"]
    # All orders are alike where any tile does.
    assert judged(drawn({"attention": 0.04, "single tile": 0.045}, drop=0.8))["finding"] == "insensitive"


def test_top_tiles_without_which_the_answer_stays_are_never_called_faithful():
    record = judged(drawn({"attention": 0.4, "single tile": 0.4}, top=0.0, drop=0.01))
    assert record["parts"][0]["orders"]["attention"]["probability"]["drop"][0] < 0.005
    assert record["finding"] == "in part"
    assert "by 0.00" in record["verdict"]
    assert "without so few tiles the answer hardly changes, in no order by more than 0.00" in record["verdict"]


def test_the_other_class_has_a_sentence_of_its_own():
    record = judged(
        drawn({"attention": 0.4, "single tile": 0.5}), drawn({"attention": -0.15, "single tile": 0.16}, "benign")
    )
    assert record["headline"] == "malignant"
    assert record["finding"] == "faithful"
    assert record["verdict"].endswith(
        "In 20 bags predicted benign, attention does not show what the network uses, it points away from it (attention gains "
        "-0.15 on random orders, single tile 0.16)."
    )
    few = judged(drawn({"attention": 0.4}), drawn({"attention": 0.4}, "benign", num_bags=3))
    assert "In 3 bags predicted benign, too few bags, or patients, to tell attention from random" in few["verdict"]
    flat = judged(drawn({"attention": 0.4}), drawn({"attention": 0.0, "occlusion": 0.4}, "benign", flat=True))
    assert "In 20 bags predicted benign, all tiles have the same attention" in flat["verdict"]


def test_a_half_is_only_called_the_change_of_grade_where_it_is():
    rows = drawn({"attention": 0.4, "single tile": 0.55})
    for number, row in enumerate(rows):  # better than random while tiles are removed, undecided while they are put back
        row.deletion["attention"] = row.deletion["random"] - 0.3
        row.insertion["attention"] = row.insertion["random"] + (0.3 if number % 2 else -0.31)
    record = judged(rows)
    _, low, high = record["share_of_best"]
    assert (record["finding"], low < 0.5 < high) == ("in part", True)
    assert "the grade changes" not in record["verdict"]
    few = {"top": 0.0, "drop": 0.01, "num_bags": 3}
    record = judged(
        drawn({"attention": 0.6, "single tile": 0.7}, **few), drawn({"attention": 0.3, "single tile": 0.7}, **few)
    )
    assert record["share_of_best"][1] < 0.5 < record["share_of_best"][2]
    assert "the grade changes" not in record["verdict"]


def test_there_is_no_share_of_a_best_order_that_gains_nothing():
    record = judged(drawn({"attention": -0.3, "occlusion": -0.5}))
    assert (record["finding"], record["share_of_best"]) == ("worse", None)
    rows = drawn({"attention": 0.0, "occlusion": -0.1})
    for number, row in enumerate(rows):
        row.deletion["attention"] = row.deletion["random"] - 0.2
        row.insertion["attention"] = row.insertion["random"] + (0.7 if number % 2 else -1.3)
    record = judged(rows)
    assert (record["finding"], record["share_of_best"]) == ("in part", None)
    assert (
        "no order compared gains on random ones over both curves (attention -0.10, occlusion -0.10)"
        in record["verdict"]
    )


def test_a_sentence_says_of_each_kind_of_tiles_whether_it_raises_or_lowers_the_value():
    against = judged(drawn({"attention": -0.3, "occlusion": 0.5}, drop=0.4))["verdict"]
    assert (
        "raises the probability of the predicted class by 0.12 (0.12 to 0.12), removing random tiles lowers it by 0.04:"
        in against
    )
    with_it = judged(drawn({"attention": -0.3, "occlusion": 0.5}, drop=-0.4))["verdict"]
    assert (
        "raises the probability of the predicted class by 0.20 (0.20 to 0.20), removing random tiles by 0.04:"
        in with_it
    )
    flat = judged(drawn({"attention": 0.0, "occlusion": 0.5}, flat=True, top=0.0, drop=-0.3))["verdict"]
    assert (
        "by occlusion raises the probability of the predicted class by 0.03 (no interval), removing random tiles by 0.03."
        in flat
    )


def test_without_attention_that_differs_it_is_not_called_the_first_order():
    record = judged(drawn({"attention": 0.0, "occlusion": -0.5}, flat=True))
    assert record["finding"] == "no attention"
    assert record["verdict"].endswith("whose order could be tested.")


def test_an_area_below_zero_keeps_its_sign():
    record = judged(drawn({"attention": -0.3, "occlusion": 0.5}))
    assert record["parts"][0]["orders"]["attention"]["probability"]["relevance_gain"][0] == pytest.approx(
        -0.3, abs=0.01
    )
    assert "0.50 (0.49 to 0.51); attention has -0.30 (-0.31 to -0.29), random orders 0.00." in record["verdict"]
