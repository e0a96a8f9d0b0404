"""Two processes that train together on one device: NCCL on a GPU, gloo on a CPU.

NCCL refuses two processes on one card in many versions; then gloo carries the gradients of tensors on the card, and the row
says so. Batch normalisation is synchronised, so the two must end with the weights of one process that sees both batches.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

STEPS = 20


def run_pair(device: str, folder: Path, limit: float) -> dict:
    """Return the backend, milliseconds per step, how far weights lie apart, and why other backends did not do.

    Raises:
        RuntimeError: If no backend lets two processes share the device.
    """
    refused: list[str] = []
    for backend in ("nccl", "gloo") if device == "cuda" else ("gloo",):
        found = [folder / f"{backend}-{rank}.json" for rank in (0, 1)]
        address = f"127.0.0.1:{free_port()}"
        call = [sys.executable, "-m", "benchmarks.one_card", device, backend, address]
        scripts = Path(__file__).resolve().parent.parent
        pair = [
            subprocess.Popen([*call, str(rank), str(path)], cwd=scripts, stderr=subprocess.PIPE, text=True)
            for rank, path in enumerate(found)
        ]
        end = time.monotonic() + limit / 2
        errors = []
        for process in pair:
            try:
                errors.append(process.communicate(timeout=max(1.0, end - time.monotonic()))[1])
            except subprocess.TimeoutExpired:
                process.kill()
                errors.append(process.communicate()[1] + "\ndid not end in time")
        if all(process.returncode == 0 for process in pair):
            first, second = (json.loads(path.read_text()) for path in found)
            weights, others = torch.tensor(first["weights"]), torch.tensor(second["weights"])
            alone = train_alone(device)
            return {
                "backend": backend,
                "ms": first["ms"],
                "difference": float((weights - others).abs().max()),
                "distance": float((weights - alone).abs().max()),
                "refused": refused,
            }
        refused.append(f"{backend}: {reason_in(errors)}")
    raise RuntimeError("; ".join(refused))


def reason_in(errors: list[str]) -> str:
    """Return the line that says most of what processes wrote: what NCCL refuses, then any error, then the last line."""
    lines = [line.strip() for text in errors for line in text.splitlines() if line.strip()]
    for pattern in (r"Duplicate GPU", r"Error\b.*:", r""):
        if found := [line for line in lines if re.search(pattern, line)]:
            return found[-1][:200]
    return "failed"


def network(device: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 1)).to(
        device
    )


def batch(step: int, device: str) -> tuple[Tensor, Tensor]:
    """Return the eight samples of a step, of which each process takes four."""
    generator = torch.Generator().manual_seed(step)
    return torch.rand(8, 3, 8, 8, generator=generator).to(device), (torch.arange(8.0, device=device) % 2)


def steps(model: nn.Module, device: str, part: slice) -> float:
    """Train, and return the milliseconds per step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    start = time.perf_counter()
    # In TF32 four samples and eight would round differently.
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        for step in range(STEPS):
            if step == 1:
                wait(device)
                start = time.perf_counter()
            samples, labels = batch(step, device)
            optimizer.zero_grad(set_to_none=True)
            nn.functional.binary_cross_entropy_with_logits(model(samples[part])[:, 0], labels[part]).backward()
            optimizer.step()
        wait(device)
    return 1000 * (time.perf_counter() - start) / (STEPS - 1)


def train_alone(device: str) -> Tensor:
    model = network(device)
    steps(model, device, slice(0, 8))
    return weights_of(model)


def train_together(device: str, backend: str, address: str, rank: int, path: Path) -> None:
    host, _, port = address.partition(":")
    os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": port}
    dist.init_process_group(backend, rank=rank, world_size=2)
    model = network(device)
    # PyTorch synchronises batch normalisation on GPUs only: on a CPU both processes see all eight samples.
    part = slice(4 * rank, 4 * rank + 4) if device == "cuda" else slice(0, 8)
    if device == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    parallel = nn.parallel.DistributedDataParallel(model, device_ids=[0] if device == "cuda" else None)
    milliseconds = steps(parallel, device, part)
    path.write_text(json.dumps({"ms": milliseconds, "weights": weights_of(model).tolist()}))
    dist.destroy_process_group()


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().cpu() for parameter in model.parameters()])


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


if __name__ == "__main__":
    train_together(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))
