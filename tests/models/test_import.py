import json
import subprocess
import sys

import pytest

FORBIDDEN = ["lightning", "hydra", "omegaconf", "pandas", "sagemaker", "timm", "torchmetrics", "matplotlib", "sklearn"]
CODE = f"""
import json, sys, time
start = time.process_time()
import torch, torchvision
middle = time.process_time()
from milpath.models import AttentionMIL
end = time.process_time()
print(json.dumps([middle - start, end - start, [name for name in {FORBIDDEN} if name in sys.modules]]))
"""


@pytest.fixture(scope="module")
def started() -> tuple[float, float, list[str]]:
    """Seconds of CPU until torch and torchvision are there, seconds until the networks are, and what else was loaded."""
    return tuple(json.loads(subprocess.check_output([sys.executable, "-c", CODE], text=True)))


def test_networks_load_with_torch_and_torchvision_alone(started):
    assert started[2] == []


def test_importing_networks_costs_at_most_a_third_more_than_torch_and_torchvision(started):
    # In one process, since two would be compared across the load of the machine.
    libraries, all_together, _ = started
    assert all_together <= 1.3 * libraries
