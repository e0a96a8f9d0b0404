"""The step of an optimizer of torch, without what it does again in every step although nothing has changed."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

# A float, as torch's own step adds it to the number of steps, would become a tensor for each parameter.
_ONE = torch.tensor(1.0, dtype=torch.float32)
# By whether the decay of weights is decoupled from the gradient, as in AdamW.
_KERNELS: dict[Any, str] = {False: "_fused_adam_", True: "_fused_adamw_"}
# Variants of Adam that keep more or are called otherwise.
_OTHERWISE = ("amsgrad", "capturable", "differentiable")


def quick_step(optimizer: Optimizer) -> Callable[[], Any]:
    """Return the step of an optimizer of torch, which moves the weights as its own does, to the last bit.

    Torch makes a record of each step for a profiler, in the place where it calls the hooks of steps. An optimizer with such
    hooks keeps its own step; so does one whose step somebody replaced. A scheduler does that to see that there was a first
    step, and is passed by after that. The fused Adam also collects and checks its tensors in each step, which on a CPU takes
    longer than the arithmetic of a small network. Settings can change between steps, tensors and hooks between epochs.

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
    means: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]


class _FusedAdam:
    """The step of a fused Adam, which collects the tensors once: after a step of its own, since the first one makes them."""

    def __init__(self, optimizer: Optimizer, step: Callable[[], Any]) -> None:
        self._optimizer = optimizer
        self._step = step
        self._groups: list[_Group] | None = None

    def __call__(self) -> None:
        if self._groups is None:
            self._step()
            self._groups = _groups_of(self._optimizer)
            return
        gradients = [[parameter.grad for parameter in group.parameters] for group in self._groups]
        # A parameter without a gradient, as of a part that only some batches train, is left out of a step.
        if not self._groups or any(gradient is None for found in gradients for gradient in found):
            self._step()
            return
        with torch.no_grad():
            for (kernel, settings, *tensors, steps), found in zip(self._groups, gradients, strict=True):
                parameters, means, squares = tensors
                torch._foreach_add_(steps, _ONE)
                kernel(
                    parameters, found, means, squares, [], steps, amsgrad=False, lr=settings["lr"],
                    beta1=settings["betas"][0], beta2=settings["betas"][1], weight_decay=settings["weight_decay"],
                    eps=settings["eps"], maximize=settings["maximize"], grad_scale=None, found_inf=None,
                )  # fmt: skip


def _groups_of(optimizer: Optimizer) -> list[_Group]:
    """Return the groups of an Adam whose step is one call of the fused kernel for each, otherwise none."""
    groups = []
    for settings in optimizer.param_groups:
        parameters: list[Tensor] = settings["params"]
        state = [optimizer.state.get(parameter) or {} for parameter in parameters]
        kernel = getattr(torch, _KERNELS.get(settings.get("decoupled_weight_decay"), ""), None)
        if kernel is None or not settings.get("fused") or any(map(settings.get, _OTHERWISE)) or not all(state):
            return []
        kept = [[tensors[name] for tensors in state] for name in ("exp_avg", "exp_avg_sq", "step")]
        alike = {(tensor.device.type, tensor.dtype) for tensors in (parameters, *kept) for tensor in tensors}
        if isinstance(settings["lr"], Tensor) or alike != {("cpu", torch.float32)}:
            return []
        groups.append(_Group(kernel, settings, parameters, *kept))
    return groups
