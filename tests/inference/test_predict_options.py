"""Options of `predict` that cannot be used are refused before an earlier prediction is deleted and a slide is cut."""

import hashlib
import shutil

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from milpath import predict
from milpath.config.roots import PredictConfig
from milpath.data.store.bag_store import BagStore
from milpath.inference.predict_options import drawn_options
from milpath.models import AttentionMIL, save_network
from milpath.slides.tiling_options import TileOptions
from milpath.tiling import slide_bags
from milpath.tiling.slide_bags import build_slide_store
from tests.feature_files import write_trident
from tests.pyramids import tissue, write_pyramid

CUT = {"method": "darkest", "tile_size": 16, "num_tiles": 4, "level": -1}
NAMES = ("a", "b")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Slides, their masks, tiles, a store and features, a network of each, and a prediction of each."""
    folder = tmp_path_factory.mktemp("options")
    for number, name in enumerate(NAMES):
        write_pyramid(folder / f"slides/{name}.tiff", tissue(80, 60, number), factors=(2, 1))
        write_pyramid(folder / f"masks/{name}_mask.tiff", tissue(80, 60, number), factors=(2, 1))
        features = torch.rand(3, 6, generator=torch.Generator().manual_seed(number)).numpy()
        (folder / "features").mkdir(exist_ok=True)
        write_trident(folder / f"features/{name}.h5", features, torch.arange(6).reshape(3, 2).numpy() * 16)
    build_slide_store(folder / "slides", folder / "store", TileOptions(**CUT), num_workers=1, write_png=True)
    shutil.copytree(folder / "store/png", folder / "tiles")
    torch.manual_seed(0)
    network = AttentionMIL(encoder={"name": "tile_cnn", "tile_size": 16, "embedding_dim": 8})
    save_network(network, folder / "of_tiles.pt", class_names=("x", "y"), tiling=CUT)
    network = AttentionMIL(encoder={"name": "linear", "num_features": 6, "hidden_dims": [4]})
    save_network(network, folder / "of_features.pt", class_names=("x", "y"))
    (folder / "labels.csv").write_text("slide_id,grade\na,1\nb,2\n")
    (folder / "providers.csv").write_text("slide_id,data_provider\na,radboud\nb,nobody\n")
    (folder / "patients.csv").write_text("slide_id,patient_id\na,p\nb,q\n")
    for kind in ("slides", "tiles", "store", "features"):
        run(folder, slides=kind, output=f"out_{kind}")
    return folder


def run(folder, **words):
    of = "of_features.pt" if words["slides"] == "features" else "of_tiles.pt"
    paths = ("slides", "output", "masks", "labels", "slides_table", "slides_dir", "resolutions")
    words |= {name: str(folder / words[name]) for name in paths if name in words}
    words = {"checkpoint": str(folder / of), "device": "cpu", "num_workers": 1} | words
    return predict.run(OmegaConf.merge(OmegaConf.structured(PredictConfig), words))


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".verified.json")
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


ALL = ("slides", "tiles", "store", "features")
WRONG = [
    ({"alpha": 2}, r"alpha=2\.0 must be in \[0, 1\]", ALL),
    ({"colour_map": "jet"}, "colour map 'jet' must be one of viridis", ALL),
    ({"formats": ["pdf"]}, "'pdf' must be one of", ALL),
    ({"viewer_pixels": 0}, "viewer_pixels=0 must be at least 65,536", ALL),
    ({"batch_size": 0}, "batch_size=0 must be at least 1, or null", ALL),
    ({"batch_size": -3}, "batch_size=-3 must be at least 1", ALL),
    ({"num_workers": 0}, "num_workers=0 must be at least 1", ALL),
    ({"on_error": "skpi"}, "on_error=skpi is unknown; it must be one of fail, skip", ALL),
    ({"mixed_resolution": "skip"}, "mixed_resolution=skip is unknown", ALL),
    ({"masks": "nope"}, "masks=.*nope does not exist; give the folder of the masks", ALL),
    ({"slides_dir": "nope"}, "slides_dir=.*nope does not exist; give the folder of the whole slides", ALL),
    ({"id_column": "grade"}, "id_column=grade is a column of labels or resolutions; give one of them", ALL),
    ({"slide_column": "grade"}, "slide_column=grade is a column of slides_table", ALL),
    ({"patient_column": "grade"}, "patient_column=grade names the patients of slides, but the checkpoint was", ALL),
    ({"slides_table": "patients.csv"}, "add aggregate=mean or aggregate=max, or leave the table out", ALL),
    ({"slides_table": "nope.csv", "aggregate": "mean"}, "no table of slides at .*nope.csv", ALL),
    (
        {"slides_table": "patients.csv", "aggregate": "mean", "slide_column": "grade"},
        r"patients.csv has no column 'grade' \(slide_column\)",
        ALL,
    ),
    ({"aggregate": "mean"}, "aggregate=mean needs the patient of each slide; give slides_table=CSV", ALL),
    (
        {"encoder_weights_path": "w.pt"},
        "encoder_weights_path=w.pt is for a network of features; this one takes",
        ALL[:3],
    ),
    ({"slides": "nope"}, "slides=.*nope does not exist", ["nope"]),
    ({"dense": 1.5}, "dense=1.5 must be at least 0 and below 1", ["slides", "store"]),
    ({"dense": 0.5}, "dense=0.5 needs a network of tiles", ["features"]),
    ({"dense": 0.5}, "dense=0.5 needs whole slides, but .* contains tiles", ["tiles"]),
    ({"masks": "masks"}, "masks=.* needs whole slides, but .* contains tiles", ["tiles"]),
    ({"masks": "masks"}, "masks need labels=CSV with the column data_provider", ["slides"]),
    (
        {"masks": "masks", "slides_dir": "slides"},
        "masks need labels=CSV with the column data_prov",
        ["features", "store"],
    ),
    ({"masks": "masks", "labels": "labels.csv"}, "masks need labels=CSV with the column data_provider", ["slides"]),
    ({"masks": "masks"}, "masks=.* needs whole slides, but .*features holds none; set slides_dir", ["features"]),
    ({"formats": ["viewer"]}, r"formats=\[viewer\] needs whole slides, but .*features holds none", ["features"]),
    (
        {"masks": "masks", "labels": "providers.csv", "slides_dir": "slides"},
        "data_provider of 'b' is 'nobody'; its mask needs",
        ["features"],
    ),
    ({"labels": "nope.csv"}, "no label table at", ["slides", "features"]),
    ({"labels": "labels.csv", "id_column": "case"}, r"no column 'case' \(id_column\)", ["slides", "features"]),
    ({"labels": "labels.csv"}, "labels=.* is only for whole slides and feature files; .*tiles holds tiles", ["tiles"]),
    ({"labels": "labels.csv"}, "labels=.* is only for .*; .*store is a bag store; leave it out", ["store"]),
    ({"resolutions": "labels.csv"}, "no column 'microns_per_pixel'", ["slides"]),
    ({"resolutions": "labels.csv"}, "is only for whole slides; .*; leave it out", ["tiles", "store", "features"]),
]


@pytest.mark.parametrize(
    ("words", "message", "kind"), [(words, message, kind) for words, message, kinds in WRONG for kind in kinds]
)
def test_a_wrong_option_deletes_and_cuts_nothing(words, message, kind, workplace, monkeypatch):
    known = "slides" if kind == "nope" else kind
    before = content(workplace)
    monkeypatch.setattr(slide_bags, "cut_slides", lambda *words, **more: pytest.fail("a slide was cut"))
    with pytest.raises((ValueError, OSError), match=message):
        run(workplace, **{"slides": kind, "output": f"out_{known}", "overwrite": True} | words)
    with pytest.raises((ValueError, OSError), match=message):
        run(workplace, **{"slides": kind, "output": "new"} | words)
    assert content(workplace) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"slides": "out_slides"}, "is the folder of slides="),
        ({"slides": "out_slides/pictures"}, "slides=.*pictures is .*out_slides/pictures, which this command replaces"),
        ({"slides": "out_slides/bags/png"}, "slides=.* is in .*out_slides/bags, which this command replaces itself"),
        ({"slides": "slides", "labels": "out_slides/predictions.csv"}, "labels=.* is .*out_slides/predictions.csv"),
        ({"slides": "features", "slides_dir": "out_slides/pictures"}, "slides_dir=.* is .*out_slides/pictures"),
        ({"slides": "slides", "masks": "out_slides"}, "is the folder of masks="),
    ],
)
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_prediction_never_deletes_what_it_reads(words, message, overwrite, workplace, tmp_path):
    output = workplace / "out_slides"
    (output / "bags/png").mkdir(exist_ok=True)
    Image.new("RGB", (80, 60)).save(output / "bags/png/scan.png")
    before = content(workplace)
    with pytest.raises((ValueError, OSError), match=message):
        run(workplace, output="out_slides", overwrite=overwrite, **words)
    assert content(workplace) == before


def test_slides_of_several_resolutions_are_refused_with_options_that_there_are(workplace, tmp_path):
    write_pyramid(tmp_path / "mixed/fine.tif", tissue(80, 60), factors=(4, 1))
    write_pyramid(tmp_path / "mixed/coarse.tif", tissue(80, 60), factors=(4,))
    with pytest.raises(
        ValueError, match=r"tiles have 0\.5 to 2 microns per pixel \(coarse, fine\); give slides of "
    ) as error:
        run(workplace, slides=tmp_path / "mixed", output=tmp_path / "out")
    assert str(error.value).endswith("state one in a table (resolutions=CSV), or set mixed_resolution=allow")
    assert run(workplace, slides=tmp_path / "mixed", output=tmp_path / "out", mixed_resolution="allow") == 0


def test_masks_of_slides_that_were_encoded_stand_beside_the_attention(workplace, tmp_path):
    """The column may be written in other capitals, and a slide in the table with its suffix."""
    (workplace / "capitals.csv").write_text("slide_id,Data_Provider\na,Radboud\nb,karolinska\n")
    words = {"masks": "masks", "labels": "capitals.csv", "slides_dir": "slides"}
    assert run(workplace, slides="features", output=tmp_path / "out", **words) == 0
    assert "Data_Provider" in BagStore.open(tmp_path / "out/bags").bags


def test_formats_in_another_order_are_the_same_formats():
    first, second = (
        drawn_options(OmegaConf.create({"formats": formats, "pictures": False, "dense": None}))
        for formats in (["geojson", "asap"], ["asap", "geojson"])
    )
    assert first == second
