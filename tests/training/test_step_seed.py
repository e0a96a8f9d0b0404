from milpath.training.step_seed import step_seed


def test_seeds_differ_between_steps_ranks_and_runs():
    seeds = {step_seed(seed, step, rank) for seed in range(5) for step in range(50) for rank in range(8)}
    assert len(seeds) == 5 * 50 * 8
    assert all(0 <= seed < 2**63 for seed in seeds)
