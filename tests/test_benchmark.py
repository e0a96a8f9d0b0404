"""The benchmark itself, and a guard of speed: ratios within one process, with wide margins, in CPU time."""

import argparse
import importlib
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import Interval
from torch.profiler import ProfilerActivity

from tests.conftest import REPOSITORY
from tests.waiting import is_alive, wait_until

sys.path.insert(0, str(REPOSITORY / "scripts"))

import benchmark
from benchmarks import against_torchmil, cost, device_idle, gpu, one_card, together, train
from benchmarks.article import ArticleNetwork
from benchmarks.counting import count
from benchmarks.features import feature_bags
from benchmarks.streaming import streaming
from benchmarks.timing import PANDA_BAGS, record, speedup, turns
from benchmarks.training_loops import make_datamodule, training_loader
from milpath.data.loading.bag import Bag, collate_bags
from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import level0_positions
from milpath.models import AttentionMIL
from milpath.training.steps.step_loop import StepLoop


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
    rows = streaming(24, 4000, 256, tmp_path)
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


def test_busy_time_is_the_length_of_the_union_of_intervals():
    assert device_idle.busy_time([]) == 0
    assert device_idle.busy_time([(0, 2), (5, 6)]) == 3
    assert (
        device_idle.busy_time([(5, 6), (0, 4), (1, 2), (3, 5), (5, 5)]) == 6
    )  # unsorted, inside, overlapping, touching


def test_idle_is_what_work_leaves_of_the_time_from_the_first_to_the_last():
    assert device_idle.idle_share([(10, 12), (11, 13), (18, 20)]) == pytest.approx(0.5)
    assert device_idle.idle_share([(10, 20)]) == 0
    for nothing in ([], [(3, 3)]):
        with pytest.raises(ValueError, match="no work on the device was recorded"):
            device_idle.idle_share(nothing)


def test_only_work_on_the_device_counts_as_busy():
    def event(start, end, device_type=DeviceType.CUDA, **known):
        return SimpleNamespace(time_range=Interval(start, end), device_type=device_type, **known)

    found = device_idle.work_intervals(
        [
            event(0, 1, activity_type="kernel", is_user_annotation=False),
            event(2, 3, activity_type="gpu_memcpy", is_user_annotation=False),
            event(4, 5),  # of a version that says no more
            event(0, 9, DeviceType.CPU),
            event(0, 9, activity_type="gpu_user_annotation", is_user_annotation=True),
            event(0, 9, activity_type="cuda_sync", is_user_annotation=False),
        ]
    )
    assert found == [(0, 1), (2, 3), (4, 5)]


@pytest.mark.command
@pytest.mark.filterwarnings("ignore")
def test_the_clock_of_epochs_records_the_last_one_and_leaves_steps_plain(tmp_path, monkeypatch):
    """On a CPU with the events of the CPU: what differs on a GPU is their kind."""
    plain = []
    run = StepLoop.advance
    monkeypatch.setattr(
        StepLoop, "advance", lambda loop, data: plain.append(loop._hooks is not None) or run(loop, data)
    )
    clock = device_idle.EpochClock(ProfilerActivity.CPU)
    fit = feature_bags.own_fit(feature_bags.write_store([3] * 8, 4, tmp_path / "store"), 2, "cpu")
    fit(3, clock)
    assert plain == [True] * 12
    assert len(clock.seconds) == 3
    assert min(clock.seconds) > 0
    intervals = device_idle.work_intervals(clock.profiler.events(), DeviceType.CPU)
    # The profiler counts in microseconds, and of one epoch only.
    assert 0 < device_idle.busy_time(intervals) < 1e6 * clock.seconds[2]
    assert 0 <= device_idle.idle_share(intervals) < 1


@pytest.mark.gpu
@pytest.mark.command
@pytest.mark.filterwarnings("ignore")
def test_a_gpu_is_neither_always_nor_never_idle_in_small_steps(tmp_path):
    fit = feature_bags.own_fit(feature_bags.write_store([3] * 64, 4, tmp_path / "store"), 2, "cuda")
    rows = device_idle.idle_rows("small steps", "cuda", fit)
    assert [row["unit"] for row in rows] == ["%", "%", "s", "GB"]
    assert 0 < rows[0]["value"] < 100


def test_a_cpu_has_no_row_of_an_idle_device(capsys):
    assert device_idle.idle_rows("training", "cpu", lambda epochs, clock: 1 / 0) == []
    assert capsys.readouterr().err == "device idle, training: not measured, no GPU\n"


def test_the_cost_of_a_bag_in_a_larger_batch_follows_from_small_ones():
    flop, num_bytes = train.cost_of_a_bag(3, half=True)
    counted = train._cost_of_a_step(3, half=True)
    assert (flop, num_bytes) == pytest.approx((counted[0] / 3, counted[1] / 3), rel=1e-3)


def test_an_epoch_of_another_length_repeats_the_bags(tmp_path):
    datamodule = make_datamodule(tmp_path, 6, 4, num_drawn=4)
    loader = training_loader(datamodule, 15)
    batches = [loaded.to("cpu") for loaded in loader]
    assert [len(batch.labels) for batch in batches] == [4, 4, 4, 3]
    seen = [bag_id for batch in batches for bag_id in batch.bag_ids]
    assert sorted(seen.count(each) for each in set(seen)) == [2, 2, 2, 3, 3, 3]
    assert set(seen) == set(datamodule.train_dataloader().split.bag_ids)


def test_an_epoch_is_called_measured_only_if_it_was():
    assert train.whole_epoch(PANDA_BAGS, 256, 5308.0) == record(
        "an epoch of 10,616 bags, measured, 256 bags repeated", 2.0, "s"
    )
    assert train.whole_epoch(48, 48, 5308.0)["name"] == "an epoch of 10,616 bags, projected from this rate"


def test_everything_a_gpu_shows_ends_within_eight_minutes():
    # The rest is for the start of the command, and for reading the name of the card.
    assert sum(gpu.LIMITS.values()) <= gpu.ALL - 15


def parsed(name, words):
    parser = argparse.ArgumentParser()
    importlib.import_module(benchmark.MODULES[name]).add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("name", together.QUICK)
def test_quick_options_are_those_of_their_benchmark(name):
    parsed(name, together.QUICK[name])


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("name", gpu.PARTS)
def test_options_of_every_part_are_those_of_its_benchmark(name, device):
    part = gpu.PARTS[name]
    options = parsed(part.benchmark, gpu.words_of(part, device, "stores"))
    assert options.device == device
    assert (getattr(options, "stores", None) is not None) is part.reads


def test_tests_that_need_a_gpu_are_all_run_by_the_benchmark():
    marked = [path for path in (REPOSITORY / "tests").rglob("test_*.py") if "@pytest.mark.gpu\n" in path.read_text()]
    assert sorted(str(path.relative_to(REPOSITORY)) for path in marked) == sorted(gpu.GPU_TESTS)


def test_why_two_processes_cannot_share_a_card_is_said():
    nccl = ["torch.distributed.DistBackendError: NCCL error in: NCCLUtils.cpp:77, invalid usage", "Last error:",
            "Duplicate GPU detected : rank 0 and rank 1 both on CUDA device 6000",
            "[rank0]:[W] Warning: destroy_process_group() was not called"]  # fmt: skip
    assert one_card.reason_in(["\n".join(nccl), ""]) == nccl[2]
    assert one_card.reason_in(["RuntimeError: no such backend\na warning", ""]) == "RuntimeError: no such backend"
    assert one_card.reason_in(["", "killed\n"]) == "killed"
    assert one_card.reason_in(["", ""]) == "failed"


@pytest.mark.command
def test_a_part_that_takes_too_long_ends_with_what_it_started(tmp_path):
    started = tmp_path / "started"
    with pytest.raises(subprocess.TimeoutExpired):
        together.run_whole(["sh", "-c", f"sleep 300 & echo $! > {started}; wait"], 3)
    child = int(started.read_text())
    wait_until(lambda: not is_alive(child))
    assert together.run_whole([sys.executable, "-c", "import sys; sys.exit('too small')"], 60) == (1, "too small\n")


def test_the_machine_of_a_run_on_the_cpu_is_the_cpu_even_if_there_is_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "driver" not in benchmark.machine("cpu")


def test_the_version_of_the_driver_is_what_its_program_says():
    assert benchmark.driver_version(["printf", "570.124.06\\n570.124.06\\n"]) == "570.124.06"
    assert benchmark.driver_version(["no-such-program"]) == "unknown"
