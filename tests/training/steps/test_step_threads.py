"""Threads of a training: one for small steps, no more than the cores that it has."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from milpath.data import BagDataModule, StoredBags
from milpath.data.loading.threads import JOBS, num_cores
from milpath.models import AttentionMIL
from milpath.training.steps.step_threads import operations_of_step, use_threads_of_fit


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    with threadpool_limits():  # restored at the end
        yield
    torch.set_num_threads(before)


@pytest.fixture
def data(make_store, tmp_path):
    def build(tile_shape=(4,), **options):
        path = make_store([1, 3, 2, 2, 4, 6], tile_shape=tile_shape, name=f"store_{len(tile_shape)}_{len(options)}")
        datamodule = BagDataModule(
            StoredBags(path), num_folds=3, batch_size=2, stores_dir=str(tmp_path / "stores"), **options
        )
        datamodule.setup()
        return datamodule

    return build


def network(width):
    return AttentionMIL(encoder={"name": "linear", "num_features": 4, "hidden_dims": [width, width]})


def test_operations_grow_with_weights_and_with_the_tiles_that_are_drawn(data):
    module = network(8)
    weights = sum(weight.numel() for weight in module.parameters())
    assert operations_of_step(module, data()) == 6 * weights * 3 * 2
    assert operations_of_step(module, data(max_tiles=2)) == 6 * weights * 2 * 2
    assert operations_of_step(module, data(tile_shape=(6, 6, 3))) == float("inf")


def test_small_steps_get_one_thread_and_large_ones_the_cores_of_their_process(data, monkeypatch):
    monkeypatch.setattr("milpath.training.steps.step_threads.num_cores", lambda: 8)
    datamodule, large = data(), network(4000)
    use_threads_of_fit(network(8), datamodule, environment={})
    assert torch.get_num_threads() == 1
    for processes, environment, expected in ((1, {}, 8), (2, {}, 4), (1, {JOBS: "4"}, 2), (16, {}, 1)):
        use_threads_of_fit(large, datamodule, processes, environment)
        assert torch.get_num_threads() == expected


def threads_of_numpy():
    assert np.linalg.inv(np.eye(2)).shape == (2, 2)  # its library is loaded
    found = {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}
    return found or pytest.skip("numpy has a library here whose threads cannot be set")


def test_numpy_multiplies_matrices_with_as_many_threads_as_a_step_has(data, monkeypatch):
    monkeypatch.setattr("milpath.training.steps.step_threads.num_cores", lambda: 2)
    datamodule = data()
    use_threads_of_fit(network(4000), datamodule, environment={})
    assert threads_of_numpy() == {2}
    use_threads_of_fit(network(4000), datamodule, environment={"OPENBLAS_NUM_THREADS": "1", JOBS: "2"})
    assert threads_of_numpy() == {2}
    use_threads_of_fit(network(8), datamodule, environment={})
    assert threads_of_numpy() == {1}


def test_the_choice_of_the_user_stays(data):
    torch.set_num_threads(2)
    use_threads_of_fit(network(8), data(), environment={"OMP_NUM_THREADS": "2"})
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "5000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_container_has_the_cores_of_its_quota(files, expected, tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert num_cores(tmp_path) == (expected or 64)
