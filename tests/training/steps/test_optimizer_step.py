"""The quick step of an optimizer moves the weights as its own, and calls whoever takes part in steps."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import StepLR
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.profiler import ProfilerActivity, profile

from milpath.models.weights_digest import digest_of
from milpath.training.steps import optimizer_step
from milpath.training.steps.optimizer_step import quick_step


def records_of_steps(optimizer) -> int:
    """Return how many records of its step a profiler gets from the step of the loop."""
    step = quick_step(optimizer)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step()
    return sum(event.count for event in seen.key_averages() if event.key.startswith("Optimizer.step#"))


def adam() -> Adam:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    return Adam([parameter], lr=0.1)


def test_the_step_of_an_optimizer_leaves_no_record_for_a_profiler_but_moves_the_weights_alike():
    optimizer, other = adam(), adam()
    assert records_of_steps(optimizer) == 0
    other.step()
    assert torch.equal(optimizer.param_groups[0]["params"][0], other.param_groups[0]["params"][0])


def test_hooks_of_all_optimizers_are_called():
    called = []
    handle = register_optimizer_step_post_hook(lambda *_: called.append(1))
    try:
        quick_step(adam())()
    finally:
        handle.remove()
    assert called == [1]


def test_a_step_that_somebody_replaced_is_called():
    optimizer, called = adam(), []
    optimizer.step = functools.wraps(optimizer.step)(lambda: called.append(1))
    quick_step(optimizer)()
    assert called == [1]


def test_a_step_that_somebody_replaced_in_the_class_is_called(monkeypatch):
    optimizer, called = adam(), []
    monkeypatch.setattr(Adam, "step", functools.wraps(Adam.step)(lambda _: called.append(1)))
    quick_step(optimizer)()
    assert called == [1]


def test_a_scheduler_sees_the_first_step_and_costs_no_record_after_it(recwarn):
    optimizer = adam()
    scheduler = StepLR(optimizer, 1)
    assert [records_of_steps(optimizer), records_of_steps(optimizer)] == [1, 0]
    scheduler.step()
    assert not [str(warning.message) for warning in recwarn if "scheduler" in str(warning.message)]


def test_somebody_who_replaced_the_step_that_a_scheduler_watches_is_called():
    optimizer, called = adam(), []
    StepLR(optimizer, 1)
    optimizer.step()
    optimizer.step = functools.wraps(optimizer.step)(lambda: called.append(1))
    quick_step(optimizer)()
    assert called == [1]


Make = Callable[[list[dict[str, Any]]], Optimizer]
# What the step of each of these is made of: one call of the fused kernel for each group, or what torch does itself.
OPTIMIZERS: dict[str, tuple[bool, Make]] = {
    "adam": (True, lambda groups: Adam(groups, lr=0.01, weight_decay=0.1, fused=True)),
    "adamw": (True, lambda groups: AdamW(groups, lr=0.01, betas=(0.5, 0.7), eps=1e-3, fused=True)),
    "maximized": (True, lambda groups: Adam(groups, lr=0.01, maximize=True, fused=True)),
    "amsgrad": (False, lambda groups: Adam(groups, lr=0.01, amsgrad=True, fused=True)),
    "rate as a tensor": (False, lambda groups: AdamW(groups, lr=torch.tensor(0.01), fused=True)),
    "several kernels": (False, lambda groups: Adam(groups, lr=0.01, foreach=True)),
    "sgd": (False, lambda groups: SGD(groups, lr=0.01, momentum=0.9)),
}


def trained(make: Make, quick: bool, steps: int = 12, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], dict]:
    """Return the weights and the state after steps in two epochs, of which some leave a parameter without a gradient."""
    torch.manual_seed(0)
    layers = [nn.Linear(7, 5).to(dtype), nn.Linear(5, 3).to(dtype), nn.Linear(3, 1).to(dtype)]
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    optimizer = make([{"params": parameters[:3], "weight_decay": 0.2}, {"params": parameters[3:]}])
    for epoch in range(2):
        step = quick_step(optimizer) if quick else optimizer.step
        for index in range(steps):
            optimizer.param_groups[0]["lr"] *= 0.9  # as a scheduler of steps does
            hidden = layers[1](layers[0](torch.randn(4, 7, dtype=dtype)).relu()).relu()
            optimizer.zero_grad()
            (layers[2](hidden) if epoch == 0 or index % 4 else hidden).square().mean().backward()
            step()
        # A resumed run goes on with other tensors.
        optimizer.load_state_dict(optimizer.state_dict())
    return parameters, optimizer.state_dict()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_and_state_are_those_of_the_own_step_to_the_last_bit(name):
    weights, state = trained(OPTIMIZERS[name][1], quick=True)
    expected, other = trained(OPTIMIZERS[name][1], quick=False)
    assert all(torch.equal(one, two) for one, two in zip(weights, expected, strict=True))
    assert digest_of(state) == digest_of(other)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_fused_adam_calls_its_own_step_only_once_and_where_a_gradient_is_missing(name, monkeypatch):
    quick, make = OPTIMIZERS[name]
    own = make([{"params": [nn.Parameter(torch.ones(1))]}])
    called, inner = [], type(own).step.__wrapped__
    monkeypatch.setattr(type(own).step, "__wrapped__", lambda self: called.append(1) or inner(self))
    trained(make, quick=True)
    # Of two epochs of twelve steps: the first of each, and two of the second without a gradient of the last layer.
    assert len(called) == (4 if quick else 24)


def test_weights_in_float64_keep_their_own_step(monkeypatch):
    called, inner = [], Adam.step.__wrapped__
    monkeypatch.setattr(Adam.step, "__wrapped__", lambda self: called.append(1) or inner(self))
    trained(OPTIMIZERS["adam"][1], quick=True, dtype=torch.float64)
    assert len(called) == 24


@pytest.mark.parametrize("change", ["group", "loaded", "cleared", "tensor"])
def test_what_is_changed_on_the_optimizer_within_an_epoch_counts_from_the_next_step_on(change):
    def weights(quick: bool) -> list[Tensor]:
        first, second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
        optimizer = Adam([first], lr=0.1, fused=True)
        before, step = None, quick_step(optimizer) if quick else optimizer.step
        for index in range(8):
            if index == 2:
                before = copy.deepcopy(optimizer.state_dict())
            if index == 5:
                if change == "group":
                    optimizer.add_param_group({"params": [second], "lr": 0.01})
                elif change == "loaded":
                    optimizer.load_state_dict(before)
                elif change == "cleared":
                    optimizer.state.clear()
                else:
                    optimizer.state[first]["exp_avg"] = torch.full((3,), 0.5)
            first.grad, second.grad = torch.arange(3.0) - index, torch.arange(2.0) + index
            step()
        return [first, second, optimizer.state[first]["step"]]

    for found, expected in zip(weights(True), weights(False), strict=True):
        assert torch.equal(found, expected)


def test_a_torch_without_the_kernel_keeps_its_own_step(monkeypatch):
    expected, _ = trained(OPTIMIZERS["adam"][1], quick=False)
    monkeypatch.setattr(optimizer_step, "_KERNELS", {False: "_of_another_name_", True: "_of_another_name_"})
    weights, _ = trained(OPTIMIZERS["adam"][1], quick=True)
    assert all(torch.equal(one, two) for one, two in zip(weights, expected, strict=True))
