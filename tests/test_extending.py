"""docs/extending.md: each part is trained, evaluated, predicted and loaded again, by the code and commands of the page."""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.metrics.weighted_metrics import use_own_metrics
from milpath.models.checkpoint import load_card
from milpath.targets import registry
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs/extending.md").read_text()
BLOCKS = re.findall(r'^```(\w+) title="([^"]+)"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)
# Less data and fewer epochs than a user has: every step of the page is taken all the same.
SMALL = {
    "train": ["trainer.max_epochs=1", "trainer.accelerator=cpu", "logger=csv", "callbacks.progress=null", "report=false"],
    "evaluate": ["trainer.accelerator=cpu", "report=false"],
    "predict": ["device=cpu"],
}  # fmt: skip
SMALL["table"] = [
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "logger=csv",
    "data.val_fraction=0.3",
    "data.num_slides=24",
]
SYNTHETIC = ["data.num_slides=12", "data.num_tiles=3", "data.tile_size=32"]
slow = pytest.mark.slow

pytestmark = pytest.mark.filterwarnings("ignore:Found .* module")


def blocks(language: str, title: str) -> list[str]:
    return [text for found, name, text in BLOCKS if (found, name) == (language, title)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with the files of the page as they are written there, and tiles to predict."""
    folder = tmp_path_factory.mktemp("extending")
    for language, title, text in BLOCKS:
        if title.endswith((".py", ".yaml")):
            path = folder / title
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.read_text() + "\n\n" if path.exists() else ""
            path.write_text(before + text)
            assert language == "python" or not before
    draw = np.random.default_rng(0)
    with BagStoreWriter(folder / "tiles") as writer:
        for number in range(3):
            writer.add(f"slide_{number}", draw.integers(0, 256, (2 + number, 32, 32, 3), dtype=np.uint8), {"label": 0})
    return folder


@pytest.fixture(autouse=True)
def forgotten(workplace, monkeypatch):
    """Forget what a command of the user made known: a process of a user ends with its command."""
    monkeypatch.setattr(registry, "_TARGETS", dict(registry._TARGETS))
    monkeypatch.setattr(sys, "path", [*sys.path, str(workplace)])
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    yield
    use_own_metrics({})
    sys.modules.pop("my_parts", None)


def run_commands(title: str, workplace: Path, run_here) -> None:
    """Run the commands of a block, each with fewer and smaller data."""
    (text,) = blocks("bash", title)
    for line in text.splitlines():
        _, name, *words = shlex.split(line)
        small = SYNTHETIC if name in ("train", "table") and title != "data" else []
        status, error = run_here(f"milpath.{name}", *words, *small, *SMALL[name], cwd=workplace)
        reasons = [path.read_text() for path in workplace.rglob("failure.txt")]
        assert status == 0, f"{line}\n{error}{reasons}"


def train(title: str, workplace: Path, run_here) -> Path:
    """Run the commands of a part once for all tests of this file; returns the checkpoint."""
    checkpoint = workplace / f"runs/{title}/checkpoints/best.ckpt"
    if not checkpoint.exists():
        run_commands(title, workplace, run_here)
    return checkpoint


def run_python(title: str, workplace: Path, monkeypatch) -> torch.nn.Module:
    """Run the Python of a block, and return the network that it loads."""
    monkeypatch.chdir(workplace)
    (text,) = blocks("python", title)
    names: dict = {}
    exec(compile(text, title, "exec"), names)
    return names["network"]


def metrics(workplace: Path, run: str) -> dict:
    return json.loads((workplace / "runs" / run / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("title", "part"),
    [
        ("network", "MyNetwork"),
        pytest.param("encoder", "MyEncoder", marks=slow),
        pytest.param("target", "MyTarget", marks=slow),
        pytest.param("data", "MyBags", marks=slow),
        pytest.param("metric", None, marks=slow),
    ],
)
def test_a_part_is_trained_evaluated_predicted_and_loaded_again(title, part, workplace, run_here, monkeypatch):
    checkpoint = train(title, workplace, run_here)
    trained, tested = metrics(workplace, title), metrics(workplace, f"{title}_test")
    assert tested["test"] == pytest.approx(trained["test"], abs=1e-6)
    network = run_python(title, workplace, monkeypatch)
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert {f"network.{name}" for name in network.state_dict()} == set(weights)
    predicted = pd.read_csv(workplace / f"{title}_slides/predictions.csv")
    assert predicted["bag_id" if "bag_id" in predicted else predicted.columns[0]].tolist() == [
        f"slide_{number}" for number in range(3)
    ]
    card = load_card(checkpoint)
    if title == "encoder":
        assert card.network["arguments"]["encoder"]["name"] == "MyEncoder"
        assert type(network.tile_encoder.network).__name__ == "MyEncoder"
    if title == "network":
        assert card.network == {"name": "MyNetwork", "arguments": {"width": 16, "num_outputs": 1}}
    if title == "target":
        assert card.task == "focal"
        assert network.num_outputs == 2
    if title == "metric":
        assert tested["test"]["cost"] is not None
    else:
        # The path of the file with the class is in the data alone, as the text of a configuration.
        said = json.dumps({"network": card.network, "task": card.task, "tiling": dict(card.tiling)})
        assert "my_parts" not in said
        assert part in json.dumps([card.network, dict(card.data), card.task]) or title == "target"


@pytest.mark.slow
def test_a_checkpoint_with_an_own_part_names_what_to_give(workplace, run_here):
    for title in ("network", "encoder", "target", "data"):
        checkpoint = train(title, workplace, run_here).relative_to(workplace)
        sys.modules.pop("my_parts", None)
        registry._TARGETS.pop("focal", None)
        status, error = run_here(
            "milpath.evaluate", f"checkpoint={checkpoint}", f"run_name={title}_without", cwd=workplace
        )
        assert status == 1
        assert len(error.strip().splitlines()) == 1
        assert ("--config-dir" if title == "data" else "parts=[my_parts.") in error


@pytest.mark.slow
def test_a_table_takes_own_parts_and_their_folder(workplace, run_here):
    run_commands("table", workplace, run_here)
    table = json.loads((workplace / "table/table.json").read_text())
    assert table["complete"]
    card = load_card(next((workplace / "table").rglob("best.ckpt")))
    assert card.network["arguments"]["encoder"]["name"] == "MyEncoder"
    networks = json.loads((workplace / "networks/table.json").read_text())
    assert networks["complete"]
    assert [row["method"] for row in networks["rows"]] == ["attention", "my_network"]


def test_each_part_is_at_most_fifteen_lines_of_python_and_its_yaml_names_it():
    code = blocks("python", "my_parts.py")
    assert len(code) == 6
    for text in code:
        assert len([line for line in text.splitlines() if line.strip()]) <= 15, text
    classes = set(re.findall(r"^(?:class|def) (\w+)", "\n".join(code), re.MULTILINE))
    named = set()
    for language, _, text in BLOCKS:
        if language == "yaml":
            content = yaml.safe_load(text)
            named |= {
                entry["_target_"]
                for entry in (content, *content.values())
                if isinstance(entry, dict) and "_target_" in entry
            }
    assert named == {f"my_parts.{name}" for name in classes}
