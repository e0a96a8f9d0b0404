"""A sample of the tiles of long bags while training: seeded, and the same after a resumption and for any process."""

import numpy as np
import pytest

from milpath.data.loading import batch_plan
from milpath.data.loading.bag_split import BagSplit
from milpath.data.loading.batch_plan import EvaluationPlan, TrainingPlan
from milpath.data.loading.batch_preparation import Preparation
from milpath.data.loading.device_cache import DeviceCache
from milpath.data.loading.loader import BagLoader
from milpath.data.loading.tile_sample import TileSample

LENGTHS = [3, 40, 5, 25, 9, 30, 4, 8]


def batches_of(store, epoch, position=0, seed=5, max_tiles=6):
    labels = store.bags["label"].to_numpy()
    plan = TrainingPlan(labels, store.num_tiles, 3, seed, max_tiles=max_tiles)
    plan.set_epoch(epoch)
    split = BagSplit(store, np.arange(len(store)), labels)
    loader = BagLoader(split, plan, Preparation(), DeviceCache(store, "never"))
    loader.load_state_dict({"epoch": epoch, "position": position})
    return [batch.to("cpu") for batch in loader]


def test_a_training_resumed_within_an_epoch_sees_the_same_tiles(open_store):
    store = open_store(LENGTHS, tile_shape=(4,))
    whole, resumed = batches_of(store, 1), batches_of(store, 1, position=1)
    assert len(resumed) == len(whole) - 1
    for one, other in zip(whole[1:], resumed, strict=True):
        assert one.bag_ids == other.bag_ids
        assert one.tiles.equal(other.tiles)


def test_a_bag_has_at_most_max_tiles_of_its_own_drawn_anew_in_each_epoch(open_store):
    store = open_store(LENGTHS, tile_shape=(4,))
    seen: dict[str, list[bytes]] = {}
    for epoch in range(3):
        for batch in batches_of(store, epoch):
            for bag_id, tiles, mask in zip(batch.bag_ids, batch.tiles, batch.mask, strict=True):
                index = store.bags["bag_id"].tolist().index(bag_id)
                rows = {row.tobytes() for row in store.read(index)}
                used = [row.tobytes() for row in tiles[mask].numpy()]
                assert len(used) == min(6, LENGTHS[index])
                assert set(used) <= rows
                assert len(set(used)) == len(used)
                seen.setdefault(bag_id, []).append(b"".join(used))
    assert len(set(seen["bag_001"])) == 3
    assert len(set(seen["bag_000"])) == 1


@pytest.mark.parametrize("num_processes", [2, 3])
def test_processes_draw_what_one_process_draws_and_count_each_bag_once(monkeypatch, num_processes):
    def steps(rank, world_size, batch_size):
        monkeypatch.setattr(batch_plan, "process_rank", lambda: (rank, world_size))
        plan = TrainingPlan(np.arange(12) % 2, np.array([9] * 12), batch_size, seed=1, max_tiles=4)
        return [(step.indices.tolist(), step.sample) for step in plan]

    alone = steps(0, 1, 2 * num_processes)
    shared = [steps(rank, num_processes, 2) for rank in range(num_processes)]
    for number, (indices, sample) in enumerate(alone):
        assert sorted(index for own in shared for index in own[number][0]) == sorted(indices)
        assert {own[number][1] for own in shared} == {sample}


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_an_evaluation_of_uneven_bags_takes_each_once_in_batches_of_bounded_size(monkeypatch, num_processes):
    lengths = np.array([300_000, 120_000, 100_000, 90_000, 50_000, *([100] * 30)])
    found, num_steps = [], set()
    for rank in range(num_processes):
        monkeypatch.setattr(batch_plan, "process_rank", lambda rank=rank: (rank, num_processes))
        plan = EvaluationPlan(lengths, 8)
        steps = [step.indices for step in plan]
        num_steps.add(len(steps))
        assert len(plan) == len(steps)
        for step in steps:
            found += step.tolist()
            assert len(step) <= 1 or len(step) * lengths[step].max() <= 2**18
    assert sorted(found) == list(range(len(lengths)))
    assert len(num_steps) == 1


def test_a_sample_does_not_depend_on_the_other_bags():
    sample = TileSample(5, seed=2, epoch=0)
    assert sample.chosen(3, 100).tolist() == sample.chosen(3, 100).tolist() != sample.chosen(4, 100).tolist()
