"""Peak memory of a training step, each measured in a separate process."""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.timing import record
from milpath.models import AttentionMIL

# Budget of a step of resnet50 on 128 tiles of 256 px, excluding the libraries.
BUDGET = 2e9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone-tiles", type=int, default=128, help="tiles of 256 px in resnet50's bag")


def memory(backbone_tiles: int) -> list[dict]:
    """Return the rows of the paper's network and of resnet50 with and without memory limits."""
    small, large = (peak("tile_cnn", 16, 128, num_bags=number) for number in (4, 8))
    bounded = {"activation_checkpointing": True, "tile_micro_batch": 4}
    few, more = (peak("resnet50", number, 256) for number in (2, 4))
    everything = few + (more - few) / 2 * (backbone_tiles - 2)
    measured = peak("resnet50", backbone_tiles, 256, **bounded)
    kind = f"resnet50, a bag of {backbone_tiles} tiles of 256 px"
    return [
        record("article's network, a step of 8 bags", large / 1e9, "GB"),
        record("article's network, each bag more", (large - small) / 4 / 1e6, "MB"),
        record(f"{kind}, all kept (from 2 and 4 tiles)", everything / 1e9, "GB"),
        record(f"{kind}, checkpointing, 4 tiles at a time", measured / 1e9, "GB", everything / measured, "all kept"),
        record("the same", measured / 1e9, "GB", measured / BUDGET, f"budget of {BUDGET / 1e9:.0f} GB"),
    ]


def peak(name: str, num_tiles: int, size: int, num_bags: int = 1, **bounds: object) -> int:
    """Return the bytes by which a process grows in a training step; on a GPU, what the step allocates there."""
    case = {"name": name, "num_tiles": num_tiles, "size": size, "num_bags": num_bags, "bounds": bounds}
    call = [sys.executable, "-m", "benchmarks.memory", json.dumps(case)]
    result = subprocess.run(
        call, check=True, capture_output=True, text=True, cwd=Path(__file__).resolve().parent.parent
    )
    return int(result.stdout)


def grow(case: dict) -> int:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    before = used(device)
    network = AttentionMIL(encoder={"name": case["name"], **case["bounds"]})
    network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    for _ in range(2):  # the optimizer allocates its state in the first step
        tiles = torch.rand(case["num_bags"], case["num_tiles"], 3, case["size"], case["size"], device=device)
        optimizer.zero_grad(set_to_none=True)
        network(tiles).logits.sum().backward()
        optimizer.step()
    return used(device) - before


def used(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.stdout.write(str(grow(json.loads(sys.argv[1]))))
