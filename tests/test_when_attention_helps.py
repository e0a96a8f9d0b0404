"""The experiment on when attention beats the mean, with a few small bags of drawn digits."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.drawn_data import draw_digits

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])
    import planted_bags
    import when_attention_helps

    yield when_attention_helps, planted_bags
    for name in ("planted_bags", "when_attention_helps"):
        sys.modules.pop(name, None)


def test_bags_have_the_planted_number_of_positive_tiles(experiment, tmp_path):
    _, planted = experiment
    plan = planted.Plan({8: (1, 4)}, {"mnist": (6,)}, 4, 2, 1)
    path = draw_digits(tmp_path / "mnist")
    nines = np.concatenate([np.load(path / "mnist.npz")[f"y_{part}"] for part in ("train", "test")]) == 9
    bags = planted.mnist_pool(path, plan).draw(0, 8, 6)
    assert bags.train.shape == (2, 6, 8)
    assert bags.test.shape == (2, 4, 8)
    assert nines[bags.train].sum(-1).tolist() == [[1, 0] * 3, [4, 0] * 3]
    assert bags.train.max() < 2000 <= bags.test.min()  # training digits, test digits


def test_slides_of_training_and_test_differ_and_malignant_ones_hold_the_lesions(experiment, tmp_path):
    _, planted = experiment
    plan = planted.Plan({8: (1, 4)}, {"synthetic": (100,)}, 400, 8, 1)
    lesion = np.zeros((planted.SLIDES, planted.SLIDE_TILES), bool)
    lesion[1::2, : planted.LESIONS] = True
    features = np.zeros((lesion.size, 1), np.float32)
    np.savez(tmp_path / "synthetic.npz", features=features, lesion=lesion.ravel())
    pool = planted.synthetic_pool(tmp_path, plan)
    drawn = [pool.draw(seed, 8, 100) for seed in range(8)]
    assert lesion.ravel()[drawn[3].train].sum(-1).tolist() == [[1, 0] * 50, [4, 0] * 50]
    slides = [[set((part // planted.SLIDE_TILES).ravel().tolist()) for part in bags] for bags in drawn]
    assert all(not train & test and len(train) == 100 and len(test) == 400 for train, test in slides)
    assert len(set.union(*(train for train, _ in slides))) == planted.SLIDES


def test_networks_side_by_side_learn_as_each_by_itself_and_the_run_continues(experiment, tmp_path, capsys):
    script, planted = experiment
    plan = planted.Plan({4: (1, 3)}, {"mnist": (10, 20)}, 20, 2, 3)
    path = draw_digits(tmp_path / "mnist")
    script.run(tmp_path / "out", path, plan, synthetic=False)
    assert capsys.readouterr().out == "mnist/4/10 is done\nmnist/4/20 is done\n"
    table = json.loads((tmp_path / "out/when_attention_helps.json").read_text())
    assert [row[:2] for row in table["rows"]] == [["mnist", "1 of 4"], ["mnist", "3 of 4"]]
    assert table["columns"][2:] == ["10 training bags", "20 training bags"]
    assert all(row["low"] <= row["difference"] <= row["high"] for row in table["values"])
    assert "<svg" in (tmp_path / "out/when_attention_helps.svg").read_text()
    cells = json.loads((tmp_path / "out/cells.json").read_text())
    # One network of the second seed by itself, in the place of four side by side.
    pool = planted.mnist_pool(path, plan)
    alone = script.cell(
        pool._replace(draw=lambda seed, size, bags: pool.draw(seed, size, bags)), 4, 10, plan._replace(seeds=1)
    )
    assert alone["attention"] == [[values[0]] for values in cells["mnist/4/10"]["attention"]]
    script.run(tmp_path / "out", path, plan, synthetic=False)
    assert capsys.readouterr().out == ""  # nothing is trained again


def test_an_interval_is_wider_where_seeds_share_training_bags(experiment):
    script, _ = experiment
    attention, mean = np.array([0.8, 0.9, 0.85, 0.8]), np.array([0.7, 0.7, 0.75, 0.8])
    apart, shared = (script.difference(attention, mean, ratio) for ratio in (None, 1.0))
    assert apart["difference"] == shared["difference"] == pytest.approx(0.1)
    assert shared["low"] < apart["low"] < 0.1 < apart["high"] < shared["high"]
    equal = script.difference(mean, mean, None)
    assert equal == {"difference": 0.0, "low": 0.0, "high": 0.0}
