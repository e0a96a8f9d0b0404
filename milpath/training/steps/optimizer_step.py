"""The step of an optimizer of torch, without what it does again in every step although nothing has changed."""

import operator
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

# The float that torch's own step adds would become a tensor for each parameter; so would this one without `alpha=1.0`.
_ONE = torch.tensor(1.0, dtype=torch.float32)
# Keyed by whether weight decay is decoupled from the gradient, as in AdamW.
_KERNELS: dict[Any, str] = {False: "_fused_adam_", True: "_fused_adamw_"}
# Options under which Adam keeps more state or is called differently.
_OTHERWISE = ("amsgrad", "capturable", "differentiable")
_KEPT = ("exp_avg", "exp_avg_sq", "step")


def quick_step(optimizer: Optimizer) -> Callable[[], Any]:
    """Return the step of an optimizer of torch, which moves the weights as its own does, to the last bit.

    Torch makes a record of each step for a profiler, in the place where it calls the hooks of steps. An optimizer with such
    hooks keeps its own step; so does one whose step somebody replaced. A scheduler does that to see that there was a first
    step, and is passed by after that. The fused Adam also checks and sorts its tensors in each step, which on a CPU takes
    longer than the arithmetic of a small network; here that is done once, and again when a group of parameters is added or a
    state is loaded. Hooks that are registered within an epoch are called from the next one on.

    Args:
        optimizer: The optimizer.
    """
    step, of_class, of_all = optimizer.step, type(optimizer).step, sys.modules[Optimizer.__module__]
    seen = getattr(step, "_wrapped_by_lr_sched", False) and getattr(optimizer, "_opt_called", False)
    own = getattr(step, "__wrapped__" if seen else "__func__", None)
    # None of this is torch's interface: where something has another name, the optimizer keeps its own step as well.
    hooks = [getattr(of_all, f"_global_optimizer_{when}_hooks", True) for when in ("pre", "post")]
    hooks += [getattr(optimizer, f"_optimizer_step_{when}_hooks", True) for when in ("pre", "post")]
    inner = getattr(of_class, "__wrapped__", None)
    hooked = getattr(of_class, "hooked", False) and not getattr(inner, "hooked", False)
    if not (inner and hooked and own is of_class and not any(hooks)):
        return step
    quick: Callable[[], Any] = partial(inner, optimizer)
    return _FusedAdam(optimizer, quick) if type(optimizer) in (Adam, AdamW) else quick


class _Group(NamedTuple):
    """A group of parameters of an Adam and what it keeps of each."""

    kernel: Callable[..., None]
    settings: dict[str, Any]
    parameters: list[Tensor]
    states: list[dict[str, Tensor]]


class _FusedAdam:
    """The step of a fused Adam, whose groups are looked through once, after a step of torch's own, which makes the state."""

    def __init__(self, optimizer: Optimizer, step: Callable[[], Any]) -> None:
        self._optimizer = optimizer
        self._step = step
        self._groups: list[_Group] | None = None
        self._known: list[Any] = []

    def __call__(self) -> None:
        if self._groups is None or not self._is_known():
            self._step()
            self._groups = _groups_of(self._optimizer)
            self._known = [self._optimizer.state, *self._optimizer.param_groups]
            return
        gradients = [[parameter.grad for parameter in group.parameters] for group in self._groups]
        # A parameter without a gradient, as of a part that only some batches train, is left out of a step.
        if not self._groups or any(gradient is None for found in gradients for gradient in found):
            self._step()
            return
        with torch.no_grad():
            for (kernel, settings, parameters, states), found in zip(self._groups, gradients, strict=True):
                means, squares, steps = ([state[name] for state in states] for name in _KEPT)
                torch._foreach_add_(steps, _ONE, alpha=1.0)
                kernel(
                    parameters, found, means, squares, [], steps, amsgrad=False, lr=settings["lr"],
                    beta1=settings["betas"][0], beta2=settings["betas"][1], weight_decay=settings["weight_decay"],
                    eps=settings["eps"], maximize=settings["maximize"], grad_scale=None, found_inf=None,
                )  # fmt: skip

    def _is_known(self) -> bool:
        """Return whether no group was added and no state loaded, which makes new groups, or cleared."""
        state, groups = self._optimizer.state, self._optimizer.param_groups
        known = self._known
        return bool(state) and len(known) == 1 + len(groups) and all(map(operator.is_, known, (state, *groups)))


def _groups_of(optimizer: Optimizer) -> list[_Group]:
    """Return the groups of an Adam whose step is one call of the fused kernel for each, otherwise none."""
    groups = []
    for settings in optimizer.param_groups:
        parameters: list[Tensor] = settings["params"]
        states: list[dict[str, Tensor]] = [optimizer.state.get(parameter) or {} for parameter in parameters]
        kernel = getattr(torch, _KERNELS.get(settings.get("decoupled_weight_decay"), ""), None)
        if kernel is None or not settings.get("fused") or any(map(settings.get, _OTHERWISE)) or not all(states):
            return []
        tensors = [*parameters, *(state[name] for state in states for name in _KEPT)]
        alike = {(tensor.device.type, tensor.dtype) for tensor in tensors}
        if isinstance(settings["lr"], Tensor) or alike != {("cpu", torch.float32)}:
            return []
        groups.append(_Group(kernel, settings, parameters, states))
    return groups
