"""README and documentation: their Python runs as written, their commands compose, their reference is complete."""

import copy
import importlib
import re
import shlex
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from PIL import Image

from milpath import encoders
from milpath.__main__ import COMMANDS, split_command
from milpath.config.command_line import folders_as
from milpath.models import AttentionMIL, save_network
from tests.conftest import REPOSITORY
from tests.pyramids import tissue, write_pyramid

# Composes every command of the pages and trains with their Python.
pytestmark = pytest.mark.command

CONFIGS = REPOSITORY / "configs"
# Every block of this page is run by test_extending.py, in the folder that the page makes.
EXTENDING = REPOSITORY / "docs/extending.md"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
LANGUAGES = {"python", "bash", "text", "yaml"}
FENCE = re.compile(
    r"(?:<!-- (not run|not composed): (.+?) -->\n)?^```(\w*)(?: title=\"[^\"]+\")?\n(.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A fenced block; `mark` is "not run" or "not composed" with its reason where a comment above it says so."""

    page: Path
    mark: str
    reason: str
    language: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}: {self.text.splitlines()[0][:50]}"


BLOCKS = [Block(page, *(part or "" for part in found)) for page in PAGES for found in FENCE.findall(page.read_text())]


def commands_in(text: str) -> list[list[str]]:
    """Return the words of every command of milpath in a shell script."""
    text = re.sub(r"\$[A-Z_]+", "1", text.replace("\\\n", " ").replace("python -m milpath.", "milpath "))
    lines = [part for line in text.splitlines() for part in line.split(" && ") if re.match(r"\s*milpath ", part)]
    return [shlex.split(line, comments=True)[1:] for line in lines]


COMMAND_LINES = [
    pytest.param(words, block, id=f"{block.page.stem}:{' '.join(words)[:60]}")
    for block in BLOCKS
    if block.language == "bash" and block.mark != "not composed" and block.page != EXTENDING
    for words in commands_in(block.text)
]


@cache
def parser() -> OverridesParser:
    return OverridesParser.create()


@cache
def load(name: str) -> None:
    """Import a command, which registers the schema of its root."""
    importlib.import_module(f"milpath.{name.replace('-', '_')}")


@cache
def chosen(name: str, choices: tuple[str, ...]) -> DictConfig:
    """Compose what a command line chooses of groups of options, once for all that choose the same."""
    load(name)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(re.sub(r"[.-]", "_", name), list(choices), return_hydra_config=True)


def composed(name: str, overrides: list[str]) -> list[str]:
    """Compose a command line; returns the mandatory keys that it leaves open."""
    choices, values = [], []
    for override in parser().parse_overrides(overrides):
        line = override.input_line
        if override.is_sweep_override():
            line = f"{override.key_or_group}={next(override.sweep_string_iterator())}"
        key = override.key_or_group
        (choices if "/" in key or (CONFIGS / key).is_dir() else values).append(line)
    config = copy.deepcopy(chosen(name, tuple(choices)))
    # As `compose` does once the groups are in place: nothing else of a command line changes what they are.
    ConfigLoaderImpl._apply_overrides_to_config(parser().parse_overrides(values), config)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    return sorted(OmegaConf.missing_keys(config))


def test_every_block_has_a_language_and_a_reason_if_it_is_left_out():
    assert len(BLOCKS) > 25
    for block in BLOCKS:
        assert block.language in LANGUAGES, block.where
        assert bool(block.mark) == bool(block.reason)
    # A fence that the expression above does not see would be a block that nobody runs.
    for page in PAGES:
        fences = [line for line in page.read_text().splitlines() if line.lstrip().startswith("```")]
        assert len(fences) == 2 * sum(block.page == page for block in BLOCKS), page


@pytest.mark.parametrize(("words", "block"), COMMAND_LINES)
def test_every_command_line_composes(words, block):
    name, rest = split_command(words)
    if name.startswith("-") or name == "examples":
        assert name in ("--help", "--version", "-sc", "examples"), block.where
        return
    assert name in COMMANDS, block.where
    if name == "encoders":  # `check NAME` is `encoder=NAME`
        rest = encoders.overrides(rest)
    if name == "compare":  # folders without a key are `runs`
        rest = folders_as("runs", rest)
    overrides = [word for word in rest if "=" in word and not word.startswith("--")]
    flags = [word for word in rest if word not in overrides]
    assert set(flags) <= {"-m", "--cfg", "--help", "job", "..."}, block.where
    missing = composed(name, overrides)
    assert missing == [] or "..." in rest, f"{block.where}: {missing}"


# Commands that the overrides in tables and sentences of a page are for, and what the sentence adds to some of them.
ABOUT = {
    "own-slides": ("train", "tile"), "own-features": ("train", "predict"), "extract-features": ("extract", "train", "predict"),
    "panda": ("train", "tile"), "cluster": ("train", "tile"),
    "encoders": ("encoders", "train"), "search": ("train",), "predict": ("predict",), "app": ("app",), "cross-validation": ("table",),
    "compare": ("compare",), "faithfulness": ("faithfulness", "evaluate", "train"),
    "check-data": ("check-data", "train"),
    "sagemaker/train": ("sagemaker.launch", "sagemaker.deploy"), "sagemaker/serve": ("sagemaker.deploy", "sagemaker.package", "sagemaker.launch"),
    "sagemaker/score-many": ("sagemaker.transform", "predict"), "sagemaker/tile": ("sagemaker.process", "tile"), "sagemaker/cost": ("sagemaker.deploy", "sagemaker.launch"),
    "sagemaker/rehearse": ("sagemaker.rehearse", "sagemaker.launch"), "sagemaker/security": ("sagemaker.launch", "sagemaker.policy", "sagemaker.deploy"), "sagemaker/registry": ("sagemaker.register", "sagemaker.deploy", "sagemaker.launch", "sagemaker.delete"),
    "sagemaker/mlflow": ("train", "sagemaker.launch", "sagemaker.policy"), "splits": ("train",), "targets": ("train",),
    "calibration": ("train",), "run-folder": ("train", "evaluate"),
}  # fmt: skip
NEEDS = {
    "data.dtype": ["data=features"], "data.on_mismatch": ["data=features"], "data.on_error": ["data=features"],
    "model.encoder.hidden_dims": ["model/encoder=linear"], "data.tiles": ["data=panda_tiles"], "data.labels": ["data=features"],
    "logger.mlflow.tracking_uri": ["logger=mlflow"],
}  # fmt: skip
ALWAYS = {"extract": ["encoder=efficientnet_lite0"], "encoders": ["encoder=uni"]}  # a group without a default
OVERRIDE = re.compile(r"^[a-z_][\w./@]*=\S")


def overrides_in_text(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text())
    return sorted({span for span in re.findall(r"`([^`\n]+)`", text) if OVERRIDE.match(span)})


def about(page: Path) -> tuple[str, ...] | None:
    """Return the commands of a page; a page of a service is named with its folder."""
    return ABOUT.get(page.stem if page.parent.name != "sagemaker" else f"sagemaker/{page.stem}")


@pytest.mark.parametrize("page", [page for page in PAGES if about(page)], ids=lambda page: page.stem)
def test_every_override_in_the_text_is_one_of_a_command(page):
    wrong = []
    for span in overrides_in_text(page):
        overrides = shlex.split(span.replace("...", "x"))
        extra = next((NEEDS[word.split("=")[0]] for word in overrides if word.split("=")[0] in NEEDS), [])
        if not any(accepts(name, [*ALWAYS.get(name, []), *extra, *overrides]) for name in about(page)):
            wrong.append(span)
    assert wrong == []


def accepts(name: str, overrides: list[str]) -> bool:
    try:
        composed(name, overrides)
    except (HydraException, OmegaConfBaseException):
        return False
    return True


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """What the examples read: slides, tiles as arrays, features, a table of labels and a checkpoint."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    names = [f"case_{number:02d}" for number in range(16)]
    labels = [number % 2 for number in range(16)]
    pd.DataFrame({"slide_id": names, "label": labels}).to_csv(folder / "labels.csv", index=False)
    for part in ("tiles", "features", "slides"):
        (folder / part).mkdir()
    for number, (name, label) in enumerate(zip(names, labels, strict=True)):
        tiles = rng.integers(150, 250, (6 + number % 3, 64, 64, 3), dtype=np.uint8)
        tiles[0] = tiles[0] // 3 if label else tiles[0]
        x, y = 64 * (np.arange(len(tiles)) % 3), 64 * (np.arange(len(tiles)) // 3)
        np.savez(folder / f"tiles/{name}.npz", tiles=tiles, x=x, y=y)
        with h5py.File(folder / f"features/{name}.h5", "w") as file:
            file["features"] = rng.normal(label, 1, (len(tiles), 12)).astype(np.float32)
        write_pyramid(folder / f"slides/{name}.svs", tissue(320, 256, seed=number), factors=(2, 1))
    write_pyramid(folder / "slide.svs", tissue(320, 256), factors=(2, 1))
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 64, "embedding_dim": 8}).eval()
    tiling = {"rule": "darkest", "tile_size": 64, "num_tiles": 16}
    save_network(network, folder / "best.ckpt", class_names=("benign", "malignant"), tiling=tiling)
    return folder


PYTHON = [
    page
    for page in PAGES
    if page != EXTENDING and any(b.page == page and b.language == "python" and not b.mark for b in BLOCKS)
]


@pytest.mark.filterwarnings("ignore")  # what Lightning says of small data
@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_as_written(page, inputs, tmp_path, monkeypatch, capsys):
    for path in inputs.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    for block in BLOCKS:
        if block.page == page and block.language == "python" and not block.mark:
            exec(compile(block.text, block.where, "exec"), {})
    printed = capsys.readouterr().out
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    if page.name == "README.md":
        assert re.fullmatch(r"malignant 0\.\d+\n", printed)
        assert drawn == {"montage"}
    if page.name == "python.md":
        probabilities = dict(re.findall(r"^(case_\d\d) (0\.\d+|1\.0)$", printed, re.MULTILINE))
        assert set(probabilities) == {f"case_{number:02d}" for number in range(16)}
        assert drawn == {*probabilities, "montage"}
        assert {path.stem for path in tmp_path.glob("*.jpg")} == set(probabilities)
        assert "malignant" in (tmp_path / "my_report/report.html").read_text(encoding="utf-8")
        assert printed.count("highest weight on tile") == 4
        with Image.open("case_01.png") as picture:
            assert min(picture.size) > 150


def test_python_without_hydra_is_twenty_lines():
    block = next(block for block in BLOCKS if block.page.name == "python.md" and "Trainer" in block.text)
    assert len([line for line in block.text.splitlines() if line.strip()]) <= 20
    assert "draw_bag_overlay" in block.text
    assert "hydra" not in block.text


def first_commands(page: str) -> list[list[str]]:
    """Return the five commands from slides to a report."""
    block = next(block for block in BLOCKS if block.page == REPOSITORY / page and "milpath tile" in block.text)
    return commands_in(block.text)


def test_readme_and_quick_start_show_the_same_five_commands():
    assert first_commands("README.md") == first_commands("docs/quick-start.md")
    assert [name for name, *_ in first_commands("README.md")] == ["tile", "train", "evaluate", "predict", "app"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_commands_from_slides_to_a_report_run_as_written(inputs, tmp_path, run_here):
    for name in ("slides", "labels.csv"):
        (tmp_path / name).symlink_to(inputs / name)
    for name, *words in first_commands("README.md")[:-1]:  # the last one serves until it is stopped
        # Fewer epochs than the default: it takes less time, and every step is taken.
        status, error = run_here(
            f"milpath.{name.replace('-', '_')}", *words, *["trainer.max_epochs=2"] * (name == "train"), cwd=tmp_path
        )
        assert status == 0, error
    assert (tmp_path / "runs/first/report.html").is_file()
    assert (tmp_path / "runs/first_test/metrics.json").is_file()
    assert len(pd.read_csv(tmp_path / "predictions/predictions.csv")) == 16


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (REPOSITORY / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    assert len(links) > 15
    for link in links:
        assert link.startswith("https://") or (REPOSITORY / link).exists(), link


def test_the_seven_files_to_read_first_are_there():
    section = (REPOSITORY / "CONTRIBUTING.md").read_text().split("## Read these seven files first")[1].split("\n## ")[0]
    files = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", section)
    assert len(files) == 7
    for name, link in files:
        assert name == link
        assert (REPOSITORY / link).is_file()
        assert len((REPOSITORY / link).read_text().splitlines()) <= 300


def test_every_path_that_contributing_names_is_there():
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`((?:milpath|configs|tests|docs)/[\w/]+(?:\.\w+)?)`", text)
    assert len(paths) > 15
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


def test_every_figure_has_its_date():
    for name in ("results.md", "speed.md"):
        text = (REPOSITORY / "docs" / name).read_text()
        assert re.search(r"20\d\d-\d\d-\d\d", text), name
        assert "```bash" in text


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    """The generated pages."""
    pytest.importorskip("mkdocs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(REPOSITORY / "scripts"), *sys.path])
        return importlib.import_module("documentation").pages()


def test_the_reference_has_every_key_of_every_configuration(reference):
    for path in sorted(CONFIGS.rglob("*.yaml")):
        group = path.parent.relative_to(CONFIGS).as_posix()
        if group == "hydra":
            continue
        if group == ".":
            page = reference[f"reference/commands/{path.stem.replace('_', '-')}.md"]
        else:
            page = reference[f"reference/configuration/{group.replace('/', '-')}.md"]
            page = page.split(f"\n## {path.stem}\n")[1].split("\n## ")[0]
        for key in leaves(yaml.safe_load(path.read_text()) or {}):
            assert f"| `{key}` |" in page or key == "_target_", f"{path}: {key}"


def leaves(content: dict, prefix: str = "") -> list[str]:
    """Return the keys that hold a value."""
    found = []
    for key, value in content.items():
        if not prefix and key in ("defaults", "hydra"):
            continue
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]
    return found


def test_every_option_of_every_command_is_explained(reference):
    unexplained = []
    for name in COMMANDS:
        page = reference[f"reference/commands/{name.replace('.', '-')}.md"]
        rows = re.findall(r"^\| `([^`]+)` \| [^|]* \| [^|]* \|(.*)\|$", page, re.MULTILINE)
        assert rows, name
        unexplained += [f"{name} {option}" for option, meaning in rows if not meaning.strip()]
    assert unexplained == []


def test_the_navigation_names_every_generated_page(reference):
    text = (REPOSITORY / "mkdocs.yml").read_text()
    named = set(re.findall(r"(reference/(?:(?:commands|configuration)/\S+|encoders)\.md)", text))
    assert named == set(reference)


def test_the_site_loads_nothing_from_another_host():
    settings = (REPOSITORY / "mkdocs.yml").read_text()
    assert re.search(r"^  font: false", settings, re.MULTILINE)
    for path in (REPOSITORY / "docs").rglob("*"):
        if path.suffix in (".md", ".css", ".html", ".svg"):
            text = path.read_text()
            assert not re.search(r"(?:src=|url\(|@import)\s*[\"']?(?:https?:)?//", text), path
            assert not re.search(r"!\[[^\]]*\]\(https?:", text), path
            assert "```mermaid" not in text, path
