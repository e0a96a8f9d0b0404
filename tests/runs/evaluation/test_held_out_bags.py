"""Which network is measured on which bags, and which pairs of networks share their training bags."""

from milpath.runs.evaluation.held_out_bags import (
    OTHER_BAGS,
    SAME_BAGS,
    HeldOutBags,
    bags_of_networks,
    held_out_bags,
    kinds_of_pairs,
)

BAGS = ["a", "b", "c", "d"]


def network(test: str, name: str = "one", *, same_tiles: bool = True) -> HeldOutBags:
    splits = {bag: "test" if bag in test else "train" for bag in BAGS}
    return HeldOutBags(name, splits, same_tiles, "".join(bag for bag in BAGS if bag not in test))


def test_each_network_has_the_bags_that_it_held_out():
    found, notes = bags_of_networks([network("ab"), network("bc")], ["a", "b"], ["test"], BAGS)
    assert found == {"a": [0], "b": [0, 1], "c": [1]}
    assert notes == [
        "each network is measured on the bags in test of its own run: 3 bags, each with 1 to 2 of 2 networks"
    ]


def test_seeds_of_one_fold_need_no_note():
    assert bags_of_networks([network("ab"), network("ab")], ["a", "b"], ["test"], BAGS) == (
        {"a": [0, 1], "b": [0, 1]},
        [],
    )


def test_bags_that_the_data_at_hand_lack_are_left_out():
    found, _ = bags_of_networks([network("ab"), network("bc")], ["a", "b"], ["test"], ["a", "b", "d"])
    assert found == {"a": [0], "b": [0, 1]}


def test_names_of_other_tiles_are_no_proof_and_are_said():
    found, notes = bags_of_networks([network("ab"), network("bc", "two", same_tiles=False)], ["a", "b"], ["test"], BAGS)
    assert found == {"a": [0, 1], "b": [0, 1]}
    assert notes == ["two was trained on 1 of the 2 bags, by their names"]


def test_a_run_without_a_record_is_said():
    found, notes = bags_of_networks([network("ab"), HeldOutBags("two", {}, False, "")], ["a", "b"], ["test"], BAGS)
    assert found == {"a": [0, 1], "b": [0, 1]}
    assert notes == ["two left no record of the bags that it was trained on"]
    assert held_out_bags("an average of three", "0") == HeldOutBags("an average of three", {}, False, "")


def test_pairs_are_told_apart_by_their_training_bags():
    networks = [network("ab"), network("ab"), network("bc"), HeldOutBags("two", {}, False, "")]
    assert kinds_of_pairs(networks) == {(0, 1): SAME_BAGS, (0, 2): OTHER_BAGS, (1, 2): OTHER_BAGS}
