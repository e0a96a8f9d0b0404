import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milpath.data.loading import batch_plan
from milpath.data.loading.batch_plan import EvaluationPlan, TrainingPlan


def as_process(monkeypatch, rank, world_size):
    monkeypatch.setattr(batch_plan, "process_rank", lambda: (rank, world_size))


def shares(make_plan, world_size):
    """The batches of each process."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        processes = []
        for rank in range(world_size):
            as_process(monkeypatch, rank, world_size)
            plan = make_plan()
            batches = list(plan)
            assert len(batches) == len(plan)
            processes.append(batches)
    return processes


@settings(max_examples=150)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5), st.integers(0, 3), st.booleans())
def test_processes_together_make_the_batches_of_one(num_bags, batch_size, world_size, epoch, ragged):
    lengths = np.arange(num_bags) % 7 + 1 if ragged else np.full(num_bags, 4)

    def plan(size):
        made = TrainingPlan(np.arange(num_bags) % 2, lengths, size, seed=3)
        made.set_epoch(epoch)
        return made

    [alone] = shares(lambda: plan(batch_size * world_size), 1)
    processes = shares(lambda: plan(batch_size), world_size)
    assert {len(batches) for batches in processes} == {len(alone)}
    for step, batch in enumerate(alone):
        parts = [batches[step].indices for batches in processes]
        assert sorted(np.concatenate(parts)) == sorted(batch.indices)
        assert all(len(part) <= batch_size for part in parts)
        assert {batches[step].global_size for batches in processes} == {len(batch.indices)}
    assert sorted(np.concatenate([batch.indices for batch in alone])) == list(range(num_bags))
    sizes = [len(batch.indices) for batch in alone]
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=150)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_evaluation_counts_every_bag_once_on_any_number_of_processes(num_bags, batch_size, world_size, ragged):
    lengths = np.arange(num_bags) % 7 + 1 if ragged else np.full(num_bags, 4)
    processes = shares(lambda: EvaluationPlan(lengths, batch_size), world_size)
    indices = np.concatenate([batch.indices for batches in processes for batch in batches])
    assert sorted(indices) == list(range(num_bags))
    assert all(len(batch.indices) <= batch_size for batches in processes for batch in batches)
    assert len({len(batches) for batches in processes}) == 1
    assert world_size > 1 or all(len(batch.indices) for batch in processes[0])


def test_the_seed_of_a_step_is_that_of_seed_epoch_step_and_process():
    plan = TrainingPlan(np.zeros(4, int), np.ones(4, int), 2, 7)
    plan.set_epoch(3)
    for step, batch in enumerate(plan):
        expected = np.random.SeedSequence([7, 3, step, 0]).generate_state(1, np.uint64)[0] >> np.uint64(1)
        assert batch.seed == int(expected)
    assert [batch.seed for batch in EvaluationPlan(np.ones(4, int), 2)] == [0, 0]


def test_an_epoch_has_its_own_order_which_a_seed_repeats():
    def order(seed, epoch):
        plan = TrainingPlan(np.zeros(50, int), np.ones(50, int), 8, seed)
        plan.set_epoch(epoch)
        return [batch.indices.tolist() for batch in plan], [batch.seed for batch in plan]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0)[0] != order(0, 1)[0]
    assert order(0, 0)[0] != order(1, 0)[0]
    assert len({seed for epoch in range(3) for seed in order(0, epoch)[1]}) == 3 * 7


def test_bags_of_like_length_come_together_and_padding_is_small():
    lengths = np.random.default_rng(0).lognormal(5, 1, 1000).astype(int) + 1
    plan = TrainingPlan(np.zeros(1000, int), lengths, 16)
    padded = sum(lengths[batch.indices].max() * len(batch.indices) for batch in plan)
    assert padded < 1.25 * lengths.sum()
    shuffled = np.random.default_rng(1).permutation(1000).reshape(-1, 20)
    assert sum(lengths[batch].max() * 20 for batch in shuffled) > 3 * lengths.sum()


def test_batches_of_like_length_come_in_random_order():
    lengths = np.arange(400)
    plan = TrainingPlan(np.zeros(400, int), lengths, 8)
    means = [lengths[batch.indices].mean() for batch in plan]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


def test_the_balanced_sampler_draws_classes_alike_and_every_rare_bag():
    labels = np.array([0] * 90 + [1] * 10)
    plan = TrainingPlan(labels, np.ones(100, int), 10, sampler="balanced")
    counts = np.bincount(np.concatenate([batch.indices for batch in plan]), minlength=100)
    assert counts[labels == 1].tolist() == [5] * 10
    assert counts[labels == 0].sum() == 50
    assert counts[labels == 0].max() == 1
    seen = np.zeros(100, int)
    for epoch in range(8):
        plan.set_epoch(epoch)
        seen[np.concatenate([batch.indices for batch in plan])] += 1
    assert (seen > 0).all()


def test_an_unknown_sampler_is_refused():
    with pytest.raises(ValueError, match=r"^data.sampler is 'weighted'; it must be one of shuffle, balanced$"):
        TrainingPlan(np.zeros(4, int), np.ones(4, int), 2, sampler="weighted")
