import subprocess
import sys

FORBIDDEN = ("lightning", "hydra", "omegaconf", "pandas", "sagemaker", "timm", "torchmetrics", "matplotlib")


def test_networks_load_with_torch_and_torchvision_alone():
    code = (
        "import sys; from milpath.models import AttentionMIL; "
        f"print([name for name in {FORBIDDEN} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_importing_networks_costs_at_most_a_third_more_than_torch_and_torchvision():
    # Each in a process of its own, in turns, and the best of each: the machine may be busy.
    code = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"

    def seconds(modules: str) -> float:
        return float(subprocess.check_output([sys.executable, "-c", code.format(modules)], text=True))

    pairs = [(seconds("milpath.models"), seconds("torch, torchvision")) for _ in range(3)]
    assert min(ours for ours, _ in pairs) <= 1.3 * min(theirs for _, theirs in pairs)
