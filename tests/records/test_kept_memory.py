import platform
import subprocess
import sys

import pytest

PAGES = """
import resource
from pathlib import Path
import torch
from milpath.records.kept_memory import kept_memory
from milpath.models import AttentionMIL

network = AttentionMIL()

def faults(rounds=3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        network(torch.rand(2, 16, 3, 128, 128)).logits.sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

faults(1)
outside, before = faults(), resident()
with kept_memory():
    faults(6)  # the allocator finds places for all sizes
    with kept_memory():
        pass
    inside, held = faults(), resident() - before
print(outside, inside, held, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told anything")
def test_memory_that_was_freed_is_used_again_and_given_back_at_the_end():
    # In a process of its own: what other tests left free would be handed out first.
    said = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    outside, inside, held, afterwards = map(int, said.stdout.split())
    assert inside < outside / 4
    assert held > 32 << 20 > afterwards
