"""The whole way: slides to a bag store, to a trained network, to predictions of slides."""

import logging

import pandas as pd

from milpath.models.checkpoint import load_card
from tests.pyramids import tissue, write_pyramid


def test_slides_become_a_store_a_network_and_predictions(run_here, tmp_path, monkeypatch):
    names = [f"slide {number}" for number in range(12)]
    for number, name in enumerate(names):
        write_pyramid(tmp_path / "slides" / f"{name}.tiff", tissue(80, 60, seed=number), factors=(2, 1))
    table = pd.DataFrame({"image_id": names, "isup_grade": [0, 3] * 6, "data_provider": ["radboud", "karolinska"] * 6})
    table.to_csv(tmp_path / "train.csv", index=False)

    cut = ["slides=slides", "labels=train.csv", "output=bags", "tile_size=16", "num_tiles=4", "num_workers=1"]
    assert run_here("milpath.tile", *cut, cwd=tmp_path) == (0, "")
    train = [
        "data=panda", f"data.path={tmp_path / 'bags'}", "data.stratify_by=[]", "data.batch_size=4", "data.num_workers=0",
        "model.encoder.embedding_dim=8", "trainer.accelerator=cpu", "trainer.max_epochs=1", "logger=csv",
        "callbacks.progress=null", "report=false", f"paths.runs_dir={tmp_path / 'runs'}", "run_name=whole",
    ]  # fmt: skip
    status, message = run_here("milpath.train", *train, cwd=tmp_path)
    assert status == 0, message
    checkpoint = tmp_path / "runs/whole/checkpoints/best.ckpt"
    tiling = load_card(checkpoint).tiling
    assert (tiling["method"], tiling["tile_size"], tiling["num_tiles"], tiling["level"]) == ("darkest", 16, 4, -1)
    assert tiling["trained_microns_per_pixel"] == [1.0, 1.0]

    predict = [f"checkpoint={checkpoint}", "slides=slides", "output=predictions", "device=cpu", "num_workers=1"]
    status, message = run_here("milpath.predict", *predict, cwd=tmp_path)
    assert status == 0, message
    predictions = pd.read_csv(tmp_path / "predictions/predictions.csv")
    assert sorted(predictions["id"]) == sorted(names)
    assert predictions["probability_malignant"].between(0, 1).all()
    # Slides of another resolution are refused, or only if that is wanted.
    write_pyramid(tmp_path / "coarse/a.tiff", tissue(80, 60), factors=(8, 1))
    status, message = run_here(
        "milpath.predict", predict[0], "slides=coarse", "output=refused", "device=cpu", "num_workers=1", cwd=tmp_path
    )
    assert status != 0
    assert "another resolution than the network was trained at (1 microns per pixel; first: 'a' with 4)" in message
    assert not (tmp_path / "refused/predictions.csv").exists()
    (tmp_path / "stated.csv").write_text("slide_id,microns_per_pixel\na,0.125\n")
    for number, word in enumerate(("mixed_resolution=allow", f"resolutions={tmp_path / 'stated.csv'}")):
        words = [predict[0], "slides=coarse", f"output=taken_{number}", "device=cpu", "num_workers=1", word]
        status, message = run_here("milpath.predict", *words, cwd=tmp_path)
        assert status == 0, message
    # A test on tiles of another resolution says so.
    coarse = ["microns_per_pixel=2" if word == "output=bags" else word for word in cut]
    assert run_here("milpath.tile", *coarse, "output=coarse_bags", cwd=tmp_path) == (0, "")
    words = [f"checkpoint={checkpoint}", "data=panda", f"data.path={tmp_path / 'coarse_bags'}", "data.stratify_by=[]"]
    words += ["data.num_workers=0", "trainer.accelerator=cpu", "report=false", f"paths.runs_dir={tmp_path / 'runs'}"]
    said = []
    monkeypatch.setattr(
        logging.getLogger("milpath.runs.evaluation.evaluation_run"),
        "warning",
        lambda form, *values: said.append(form % values),
    )
    status, message = run_here("milpath.evaluate", *words, "run_name=coarse", cwd=tmp_path)
    assert status == 0, message
    assert any(
        "12 of 12 slides have tiles of another resolution than the network was trained at (1 " in line for line in said
    )
    # What was cut again for the prediction is what the network was trained on.
    stored = pd.read_csv(tmp_path / "runs/whole/predictions.csv").set_index("id")["probability_malignant"]
    again = predictions.set_index("id")["probability_malignant"]
    assert (stored - again).abs().max() < 1e-5
