"""What configs/data says must be what the classes take."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

import milpath.data
from milpath.config.roots import CONFIG_DIR
from milpath.data import SOURCES, BagDataModule
from milpath.runs.build import build_datamodule
from tests.drawn_data import draw_breast_images, draw_classic, draw_colon_images, draw_digits

# Builds whole data sets.
pytestmark = pytest.mark.command

OPTIONS = {name: value for name, value in inspect.signature(BagDataModule).parameters.items() if name != "source"}
NAMES = sorted(
    path.stem for path in (CONFIG_DIR / "data").glob("*.yaml") if path.stem not in ("options", "from_checkpoint")
)


def compose_data(name, *overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", overrides=[f"data={name}", *overrides]).data


def test_options_list_every_option_with_its_default():
    options = OmegaConf.load(CONFIG_DIR / "data" / "options.yaml")
    assert set(options) == set(OPTIONS)
    for name, parameter in OPTIONS.items():
        value = OmegaConf.to_container(options, resolve=False)[name]
        if not (isinstance(value, str) and value.startswith("${")):
            default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            assert value == default, name


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_names_a_source_and_every_argument_of_it(name):
    config = compose_data(name)
    source = config["_target_"].removeprefix("milpath.data.")
    assert source in SOURCES
    arguments = set(inspect.signature(getattr(milpath.data, source)).parameters)
    assert not arguments & set(OPTIONS)
    assert set(config) == {"_target_"} | arguments | set(OPTIONS)


SHAPES = {
    "musk1": (166,), "fox": (230,), "tiger": (230,), "ucsb_breast": (3, 128, 128), "ucsb_breast_patches": (3, 32, 32),
    "glas": (3, 131, 131), "mnist_bags": (1, 28, 28),
}  # fmt: skip
FEW_DIGITS = ["data.num_train_bags=80", "data.num_test_bags=40"]


def build(name, folder, bags, overrides, stores):
    config = compose_data(name, f"data.path={folder}", f"paths.stores_dir={stores}", *overrides)
    datamodule = build_datamodule(config)
    datamodule.setup()
    counts = [sum(datamodule.class_counts(split)[number] for split in datamodule.splits) for number in (1, 0)]
    assert counts == bags
    assert len(datamodule.class_names) == 2
    batch = next(iter(datamodule.train_dataloader())).to("cpu")
    assert batch.tiles.shape[2:] == SHAPES[name]


@pytest.mark.parametrize(
    ("name", "draw", "bags", "overrides"),
    [
        ("musk1", draw_classic, [20, 20], []),
        ("fox", draw_classic, [20, 20], []),
        ("tiger", draw_classic, [20, 20], []),
        ("ucsb_breast", draw_breast_images, [8, 8], []),
        ("ucsb_breast_patches", draw_breast_images, [8, 8], []),
        ("glas", draw_colon_images, [8, 8], []),
        ("mnist_bags", draw_digits, [60, 60], FEW_DIGITS),
    ],
)
def test_drawn_data_build_from_their_configuration(tmp_path, name, draw, bags, overrides):
    build(name, draw(tmp_path / "data"), bags, overrides, tmp_path / "stores")


@pytest.mark.parametrize(
    ("name", "folder", "bags", "overrides"),
    [
        ("musk1", "mil_classic", [47, 45], []),
        ("fox", "mil_classic", [100, 100], []),
        ("tiger", "mil_classic", [100, 100], []),
        ("ucsb_breast", "ucsb_breast", [26, 32], []),
        ("ucsb_breast_patches", "ucsb_breast", [26, 32], []),
        ("glas", "glas", [91, 74], []),
        ("mnist_bags", "mnist", [60, 60], FEW_DIGITS),
    ],
)
def test_real_data_build_from_their_configuration(shared_data, tmp_path, name, folder, bags, overrides):
    build(name, shared_data / folder, bags, overrides, tmp_path)


def test_breast_images_of_one_tissue_array_stay_together(breast_folder, tmp_path):
    config = compose_data("ucsb_breast", f"data.path={breast_folder}", f"paths.stores_dir={tmp_path}")
    for fold in range(config.num_folds):
        datamodule = build_datamodule(OmegaConf.merge(config, {"fold": fold}))
        datamodule.setup()
        assert datamodule.label_frame.groupby("tma_group")["split"].nunique().max() == 1
        assert all(min(datamodule.class_counts(split)) > 0 for split in datamodule.splits)


def test_every_file_begins_with_what_it_is():
    for path in Path(CONFIG_DIR, "data").glob("*.yaml"):
        assert path.read_text().startswith("# "), path


@pytest.mark.parametrize("name", ["panda_tiles", "features", "ucsb_breast"])
def test_tables_of_slides_and_patients_are_enough_for_files_of_any_kind(name, tmp_path):
    slides = [f"s{number}" for number in range(6)]
    draw = np.random.default_rng(0)
    (tmp_path / "files" / "images").mkdir(parents=True)
    for slide in slides:
        if name == "features":
            torch.save(
                torch.from_numpy(draw.normal(size=(4, 8)).astype(np.float32)), tmp_path / "files" / f"{slide}.pt"
            )
            continue
        where = tmp_path / "files" / (f"{slide}_0.png" if name == "panda_tiles" else f"images/{slide}.png")
        Image.fromarray(draw.integers(0, 255, (16, 16, 3), np.uint8)).save(where)
    (tmp_path / "slides.csv").write_text(
        "slide,patient_id\n" + "".join(f"{s},0{n // 2}\n" for n, s in enumerate(slides))
    )
    (tmp_path / "clinical.csv").write_text("patient_id,label\n00,0\n01,1\n02,1\n")
    words = [
        f"data.{'tiles' if name == 'panda_tiles' else 'path'}={tmp_path}/files",
        f"data.slides={tmp_path}/slides.csv",
    ]
    words += [f"data.patients={tmp_path}/clinical.csv", "data.slide_column=slide", "data.bag_column=patient_id"]
    words += [f"paths.stores_dir={tmp_path}/stores", "data.num_folds=1", "data.stratify_by=[]", "data.target=label"]
    words += {"panda_tiles": ["data.num_tiles=1"], "ucsb_breast": ["data.group_column=null"], "features": []}[name]
    words += [] if name == "features" else ["data.tile_size=16"]
    if name != "features":  # a data set that has labels of its own
        with pytest.raises(FileNotFoundError, match="give data.labels=null to take the slides from that table"):
            build_datamodule(compose_data(name, *words))
    datamodule = build_datamodule(compose_data(name, *words, *([] if name == "features" else ["data.labels=null"])))
    datamodule.setup()
    assert datamodule.bag_ids("test") == ["00", "01", "02"]
    assert datamodule.labels("test").tolist() == [0, 1, 1]
