"""The benchmark itself, and a guard of speed: ratios within one process, with wide margins, in CPU time."""

import json
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))

import benchmark
from benchmarks import against_torchmil, cost, together, train
from benchmarks.article import ArticleNetwork
from benchmarks.counting import count
from benchmarks.streaming import streaming
from benchmarks.timing import record, speedup, turns
from milpath.data.loading.bag import Bag, collate_bags
from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import level0_positions
from milpath.models import AttentionMIL


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.command
def test_a_batched_step_is_faster_than_the_articles_three_passes_a_bag():
    tiles, labels = torch.rand(2, 16, 3, 128, 128), torch.tensor([0.0, 1.0])
    own = AttentionMIL().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(own.parameters(), lr=1e-4)
    batch = SimpleNamespace(tiles=tiles, network_mask=None, labels=labels)
    published = ArticleNetwork()

    def article() -> None:
        for bag, label in zip(tiles, labels, strict=True):
            published.zero_grad()
            probability, *_ = [published(bag).clamp(1e-5, 1 - 1e-5) for _ in range(3)]
            torch.nn.functional.binary_cross_entropy(probability[0, 0], label).backward()

    alternatives = {"article": article, "milpath": lambda: train.train_step(own, optimizer, batch, "32-true")}
    times = turns(alternatives, 1, clock=time.process_time)
    assert speedup(times["article"], times["milpath"]) > 1.3  # 3.8 on a quiet machine, with the article's optimizer


def test_batches_of_feature_bags_are_faster_than_a_loop_and_say_the_same():
    rng = np.random.default_rng(0)
    bags = [Bag(rng.standard_normal((length, 64), np.float32), 0, str(length)) for length in range(1, 33)]
    network = AttentionMIL(encoder={"name": "linear", "num_features": 64, "hidden_dims": [32]})
    results: dict[str, torch.Tensor] = {}

    def loop() -> None:
        parts = [network(torch.from_numpy(bag.tiles)[None]).logits for bag in bags]
        results["loop"] = torch.cat(parts)

    def batched() -> None:
        batch = collate_bags(bags)
        results["batched"] = network(batch.tiles, batch.network_mask).logits

    times = turns({"loop": loop, "batched": batched}, 9, clock=time.process_time)
    torch.testing.assert_close(results["batched"], results["loop"], atol=1e-5, rtol=0)
    assert speedup(times["loop"], times["batched"]) > 1.5


def test_flop_and_bytes_of_a_product_are_counted():
    a, b = torch.rand(8, 4), torch.rand(4, 6)
    assert count(lambda: (a @ b).t()) == (2 * 8 * 4 * 6, 4 * (8 * 4 + 4 * 6 + 8 * 6))


def test_memory_stays_flat_while_bags_are_streamed(tmp_path):
    rows = streaming(24, 1000, 256, tmp_path)
    # Three batches may be under way; a leak of every bag would be 36 of them.
    assert rows[-1]["ratio"] < 12


def test_without_torchmil_a_line_says_how_to_get_it_and_there_is_no_row(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert against_torchmil.against_torchmil([3, 3], tmp_path, 1, "cpu") == []
    assert "pip install torchmil" in capsys.readouterr().err


def test_json_has_one_record_a_row(tmp_path, monkeypatch):
    rows = [record("one", 2.0, "bags/s"), record("two", 4.0, "bags/s", 2.0, "one")]
    monkeypatch.setattr(train, "run", lambda options: rows)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "train", "--json", str(tmp_path / "rows.json")])
    benchmark.main()
    records = json.loads((tmp_path / "rows.json").read_text())["records"]
    assert records == rows
    assert records[1].keys() == {"name", "value", "unit", "ratio", "against"}


@pytest.mark.parametrize("name", benchmark.MODULES)
def test_every_subcommand_has_options_and_rows(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", name, "--help"])
    with pytest.raises(SystemExit) as stop:
        benchmark.main()
    assert stop.value.code == 0
    assert callable(getattr(sys.modules[benchmark.MODULES[name]], "run", None))


def test_costs_of_slides_and_features_are_measured_and_the_large_store_opens(tmp_path):
    found = {each["name"]: each["value"] for each in cost.features(tmp_path, num_bags=2, num_tiles=20)}
    assert found["features of 1,280 float16, per tile"] == pytest.approx(2560, abs=8)  # the header
    assert found["train, per tile and epoch"] > 0
    assert found["row of attention.csv, per tile"] > 20
    cost.table_store(tmp_path / "store", num_tiles=100, num_bags=4)
    store = BagStore.open(tmp_path / "store")
    assert store.num_tiles.tolist() == [25] * 4
    assert len(level0_positions(store, store.tile_slice(2)).x0) == 25


def test_all_measures_everything_that_can_be_measured():
    assert set(together.QUICK) == set(benchmark.MODULES) - {"all"}
