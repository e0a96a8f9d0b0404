"""Several slides in one upload: a patient for a network of patients, otherwise one answer each."""

import asyncio
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from milpath.inference.pictures.bag_pictures import QUALITY
from milpath.models.checkpoint import load_card, load_network, save_network
from milpath.slides.cut_slide import cut_slide
from milpath.slides.tiling_options import TileOptions
from milpath.viewer.result_page import render_answer
from milpath.viewer.upload_answer import Analyst
from milpath.viewer.upload_check import Limits
from tests.commands import here
from tests.dicom_files import write_dicom_slide
from tests.pyramids import tissue, write_pyramid
from tests.viewer.conftest import png, write_zip

LIMITS = Limits(max_upload_mb=3, max_tiles=40, max_seconds=60)


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory) -> Path:
    """Two slides of patient P1, one of P2, a network of patients and what `predict` says."""
    folder = tmp_path_factory.mktemp("patients")
    network, card = load_network(checkpoint), load_card(checkpoint)
    save_network(network, folder / "patients.pt", card, data={"bag_column": "patient_id"})
    for number, name in enumerate(("a", "b", "c")):
        write_pyramid(folder / f"slides/{name}.tiff", tissue(80, 60 + 20 * number, seed=number), factors=(2, 1))
    (folder / "slides.csv").write_text("slide_id,patient_id\na,P1\nb,P1\nc,P2\n")
    words = ["checkpoint=patients.pt", "slides=slides", "slides_table=slides.csv", "output=out", "device=cpu"]
    assert here("milpath.predict", *words, "num_workers=1", cwd=folder) == 0
    return folder


@pytest.fixture
def ask(folder, tmp_path):
    """Ask with copies, which an answer moves away."""
    analyst = Analyst(folder / "patients.pt", LIMITS)

    def ask_(*files: Path, one_patient: bool = True):
        work, copies = tmp_path / f"work{len(list(tmp_path.iterdir()))}", []
        work.mkdir()
        for number, path in enumerate(files):
            copies.append(work / f"in{number}" / path.name)
            copies[-1].parent.mkdir()
            copies[-1].write_bytes(path.read_bytes())
        return list(analyst.answers(copies, work, one_patient=one_patient))

    return ask_


def slides(folder: Path, *names: str) -> list[Path]:
    return [folder / f"slides/{name}.tiff" for name in names]


def test_the_slides_of_a_patient_are_answered_as_predict_answers_them(folder, ask):
    (answer,) = ask(*slides(folder, "b", "a"))
    row = pd.read_csv(folder / "out/predictions.csv").set_index("id").loc["P1"]
    np.testing.assert_allclose(
        answer.probabilities, [row["probability_benign"], row["probability_malignant"]], atol=1e-6
    )
    assert (answer.predicted, answer.deferred) == (row["predicted"], bool(row["defer"]))
    shares = pd.read_csv(folder / "out/slide_attention.csv").query("id == 'P1'")
    assert [slide.name for slide in answer.slides] == shares["slide"].tolist() == ["a", "b"]
    np.testing.assert_allclose([slide.attention for slide in answer.slides], shares["attention"], atol=1e-6)
    assert [slide.num_tiles for slide in answer.slides] == shares["num_tiles"].tolist()
    for slide in answer.slides:  # on the colour scale of the patient, as in the pictures of predict
        file = BytesIO()
        slide.overlay.save(file, "JPEG", quality=QUALITY, subsampling=0)
        drawn = Image.open(folder / f"out/pictures/{slide.name}_overlay.jpg")
        assert np.array_equal(np.asarray(Image.open(file)), np.asarray(drawn))
    page = render_answer(answer)
    assert "from 12 tiles of 2 slides of one patient" in page
    assert "Share of the attention by slide of the patient" in page
    assert page.count("on one scale for all slides of the patient") == 2
    assert page.count("<img ") == 4


def test_each_file_may_be_a_patient_of_its_own(folder, ask):
    answers = ask(*slides(folder, "a", "b", "c"), one_patient=False)
    assert [answer.name for answer in answers] == ["a", "b", "c"]
    row = pd.read_csv(folder / "out/predictions.csv").set_index("id").loc["P2"]
    assert answers[2].probabilities[1] == pytest.approx(row["probability_malignant"], abs=1e-6)
    assert all("6 tiles of 1 slide of one patient" in render_answer(answer) for answer in answers)
    (together,) = ask(*slides(folder, "a", "b", "c"))
    assert together.probabilities != answers[0].probabilities
    assert sum(slide.attention for slide in together.slides) == pytest.approx(1, abs=1e-6)


def test_tiles_of_a_patient_are_answered_as_its_slides(folder, ask, tmp_path):
    options = TileOptions.from_tiling(load_card(folder / "patients.pt").tiling)
    loose, zips = [], []
    (tmp_path / "tiles").mkdir()
    for path in slides(folder, "a", "b"):
        named = {}
        for number, tile in enumerate(cut_slide(path, options).pixels):
            loose.append(tmp_path / "tiles" / f"{path.stem}_{number}.png")
            Image.fromarray(tile).save(loose[-1])
            named[loose[-1].name] = loose[-1].read_bytes()
        zips.append(write_zip(tmp_path / "tiles" / f"zip of {path.stem}.zip", named))
    (of_slides,) = ask(*slides(folder, "a", "b"))
    for files in (loose, zips):
        (answer,) = ask(*files)
        np.testing.assert_allclose(answer.probabilities, of_slides.probabilities, atol=1e-6)
        assert [slide.name for slide in answer.slides] == ["a", "b"]
        assert all(slide.overlay is None for slide in answer.slides)
        assert "No overlay of a: the positions" in render_answer(answer)
    with pytest.raises(ValueError, match="a slide and zip of b.zip a zip of tiles; upload only slides"):
        ask(*slides(folder, "a"), zips[1])
    with pytest.raises(ValueError, match=r"two of the files hold tiles of the slide 'a'"):
        ask(zips[0], write_zip(tmp_path / "again.zip", {"a_0.png": png(), "a_1.png": png(seed=1)}))
    many = [write_zip(tmp_path / f"{slide}.zip", {f"{slide}_{i}.png": png() for i in range(25)}) for slide in "xy"]
    with pytest.raises(ValueError, match=r"y.zip contains 25 tiles; the maximum is 15"):
        ask(*many)


def test_a_patient_of_whom_a_slide_cannot_be_used_is_refused(folder, ask, tmp_path):
    damaged = tmp_path / "damaged.tiff"
    damaged.write_bytes(slides(folder, "a")[0].read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"damaged\.tiff"):
        ask(*slides(folder, "b"), damaged)
    parts = sorted(write_dicom_slide(tmp_path / "case", tissue(160, 120), levels=2).parent.glob("case/level_*.dcm"))
    with pytest.raises(ValueError, match="the 2 files are only 1 slide, such as the parts of a DICOM slide"):
        ask(*parts)
    (tmp_path / "other").mkdir()
    twice = write_pyramid(tmp_path / "other/a.tiff", tissue(80, 60, seed=9), factors=(2, 1))
    with pytest.raises(ValueError, match="two of the files have the name 'a'"):
        ask(*slides(folder, "a"), twice)


def test_a_network_of_slides_answers_each_slide(folder, checkpoint, tmp_path):
    copies = []
    for path in slides(folder, "a", "b"):
        copies.append(tmp_path / path.name)
        copies[-1].write_bytes(path.read_bytes())
    (tmp_path / "work").mkdir()
    answers = list(Analyst(checkpoint, LIMITS).answers(copies, tmp_path / "work"))
    assert [answer.name for answer in answers] == ["a", "b"]
    assert "of one patient" not in "".join(map(render_answer, answers))


def test_the_page_says_what_several_files_are(folder, checkpoint, tmp_path):
    pytest.importorskip("gradio")
    from milpath.viewer.gradio_page import build_page
    from milpath.viewer.upload_folder import Uploads

    async def page_of(path: Path) -> str:  # Gradio leaves a loop of events open if none runs
        (tmp_path / path.stem).mkdir()
        return str(build_page(Analyst(path, LIMITS), Uploads(tmp_path / path.stem), 2).get_config_file())

    said = {path.stem: asyncio.run(page_of(path)) for path in (folder / "patients.pt", checkpoint)}
    assert "trained on patients, each a bag of all its slides" in said["patients"]
    assert "'value': 'These files are one patient'" in said["patients"]
    assert "These files are one patient" not in said["network"]
