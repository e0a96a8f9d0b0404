"""Choice of the device that a network runs on."""

import torch


def choose_device(name: str = "auto") -> torch.device:
    """Return a device; "auto" is the GPU if there is one, else the CPU.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1", ...

    Raises:
        ValueError: If this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device={name} cannot be used ({reason}); give auto, cpu or cuda") from None
    return device
