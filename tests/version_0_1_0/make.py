"""Write what version 0.1.0 leaves on disk, for tests/test_version_0_1_0.py. It was run once, with milpath 0.1.0.

Not to be run again: a later version would write its own files, and the test would compare that version with itself.
Everything is generated: drawn tissue and random numbers, no real data. To see how it was done:

    git archive 3477132 | tar -x -C /tmp/code && cd /tmp/code && PYTHONPATH=/tmp/code python make.py OUT

The work is done in `/tmp/milpath-0.1.0`, which is the folder that the files name where they hold an absolute path.
"""

import hashlib
import json
import os
import runpy
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image

ROOT = Path("/tmp/milpath-0.1.0")
# Times of change are part of what a store or a cut slide is recognised by; a checkout does not keep them.
FILE_TIME = 1_700_000_000 * 10**9
CPU = ["trainer.accelerator=cpu", "logger=csv", "callbacks.progress=null", "report=false"]
TILES = [
    "data=synthetic", "data.num_slides=12", "data.num_tiles=3", "data.tile_size=16", "data.num_folds=3",
    "data.batch_size=4", "model.encoder.embedding_dim=4", "optimizer=sgd", "optimizer.momentum=0", "optimizer.lr=0.05",
    "trainer.max_epochs=2", "decision.sensitivity=0.8", "decision.calibrate=true", "decision.defer_fraction=0.25", *CPU,
]  # fmt: skip
FEATURES = [
    "data=features", "data.path=features", "data.labels=labels.csv", "data.class_names=[low,high]", "data.num_folds=3",
    "data.standardize=true", "data.batch_size=4", "model/encoder=linear", "model.encoder.hidden_dims=[6]",
    "optimizer.lr=0.05", "trainer.max_epochs=4", "decision.sensitivity=0.8", "decision.calibrate=true", *CPU,
]  # fmt: skip
GRADES = [
    *FEATURES, "data.target=isup", "data.task=ordinal", "data.class_names=null", "decision.sensitivity=null",
    "model=gated_attention_mil", "monitor=val/quadratic_kappa",
]  # fmt: skip
FROZEN = [
    "data=bag_store", "data.path=digits", "data.class_names=[other,nine]", "data.num_folds=3", "data.batch_size=4",
    "model/encoder=lenet5", "model.encoder.frozen=true", "model.encoder.embedding_dim=4", "optimizer.lr=0.05",
    "trainer.max_epochs=2", *CPU,
]  # fmt: skip
SEARCH = [*FEATURES, "hparams_search=attention_grid", "run_name=search", "optimizer.lr=0.01", "trainer.max_epochs=3"]
TABLE = [
    *[word for word in FEATURES if not word.startswith(("data.num_folds", "decision", "callbacks", "report"))],
    "methods=[attention,embedding_mean]", "folds=2", "repeats=1", "output=table", "trainer.max_epochs=3",
    "data.val_fraction=0.3",
]  # fmt: skip
CUT = ["method=darkest", "tile_size=16", "num_tiles=4", "num_workers=1", "level=0"]
NETWORKS = {
    "attention": ("AttentionMIL", "binary", {"attention_dim": 3}),
    "gated_attention": ("AttentionMIL", "nominal", {"attention_dim": 3, "gated": True}),
    "clam_sb": ("CLAMSB", "binary", {"hidden_dim": 4, "attention_dim": 3}),
    "clam_sb_ordinal": ("CLAMSB", "ordinal", {"hidden_dim": 4, "attention_dim": 3, "num_instance_classes": 3}),
    "dsmil": ("DSMIL", "binary", {"query_dim": 3}),
    "dsmil_nominal": ("DSMIL", "nominal", {"query_dim": 3}),
    "embedding_mean": ("EmbeddingPoolMIL", "binary", {"pooling": "mean"}),
    "embedding_max": ("EmbeddingPoolMIL", "ordinal", {"pooling": "max"}),
    "embedding_lse": ("EmbeddingPoolMIL", "nominal", {"pooling": "log_sum_exp", "sharpness": 2.0}),
    "instance_mean": ("InstancePoolMIL", "nominal", {"pooling": "mean"}),
    "instance_max": ("InstancePoolMIL", "binary", {"pooling": "max"}),
    "instance_lse": ("InstancePoolMIL", "ordinal", {"pooling": "log_sum_exp", "sharpness": 2.0}),
    "trans_mil": ("TransMIL", "binary", {"hidden_dim": 8, "num_landmarks": 4}),
}
# Where each of the longer trainings begins; the others of these files are not kept.
RESUMED = {
    "tiles": (TILES, "best.ckpt", "trainer.max_epochs=4"),
    "features": (FEATURES, "last.ckpt", "trainer.max_epochs=5"),
    "frozen": (FROZEN, "last.ckpt", "trainer.max_epochs=3"),
}
LARGE_ENCODERS = ("resnet18", "resnet34", "resnet50", "convnext_tiny", "efficientnet_v2_s", "efficientnet_lite0")


def numbers(*shape: int) -> torch.Tensor:
    """Return numbers in [0, 1) that look random and are the same everywhere."""
    return torch.from_numpy(
        np.modf(np.arange(1, np.prod(shape) + 1) * 0.6180339887498949)[0].astype(np.float32)
    ).reshape(shape)


def main(out: Path) -> None:
    """Make everything, and copy what the test needs."""
    assert version("milpath") == "0.1.0", "these are the files of version 0.1.0"
    assert not (out / "expected.json").exists(), f"{out} holds the files of version 0.1.0 already"
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    os.chdir(ROOT)
    draw_features()
    draw_slides()
    draw_digits()
    milpath("tile", "slides=slides", "labels=slides.csv", "output=bags", *CUT)
    stop_tiling()
    milpath("train", *TILES, "run_name=tiles")
    milpath("train", *FEATURES, "run_name=features")
    milpath("train", *GRADES, "run_name=grades")
    milpath("train", *FROZEN, "run_name=frozen")
    for name, (words, file, epochs) in RESUMED.items():
        checkpoint = f"runs/{name}/checkpoints/{file}"
        milpath("train", *words, epochs, f"run_name={name}_longer", f"resume_from={checkpoint}")
    milpath("train", "-m", *SEARCH)
    milpath("table", *TABLE)
    milpath("sagemaker.package", "checkpoint=runs/features/checkpoints/best.ckpt", "output=model.tar.gz")
    predict = ["checkpoint=runs/tiles/checkpoints/best.ckpt", "device=cpu", "pictures=false", "num_workers=1"]
    milpath("predict", *predict, "slides=slides", "output=predicted_slides")
    milpath("predict", *predict, "slides=bags", "output=predicted")
    stop_prediction([*predict, "slides=bags", "output=predicted_half"])
    expected = {"root": str(ROOT), "file_time": FILE_TIME, "networks": save_networks(), "answer": answer()}
    expected |= {"large_encoders": describe_large(), "resumed": RESUMED, "cards": cards()}
    expected |= {"public": public_names(), "cut": CUT, "search": SEARCH, "table": TABLE}
    (ROOT / "expected.json").write_text(json.dumps(expected) + "\n")
    keep(out)


def milpath(command: str, *words: str, status: int = 0) -> None:
    """Run `python -m milpath.<command>`, in this process, which has its imports already."""
    print(command, *words, flush=True)
    sys.argv = [command, *words]
    ended = 0
    try:
        runpy.run_module(f"milpath.{command}", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        ended = int(stop.code or 0)
    assert ended == status, f"{command} ended with {ended}"


def draw_features() -> None:
    """Write features of 18 slides with a signal in the slides of high grade, and two label tables' columns in one."""
    rng = np.random.default_rng(1)
    Path("features").mkdir()
    rows = ["slide_id,label,isup_grade"]
    for number in range(18):
        features = rng.normal(size=(3 + number % 4, 8)).astype(np.float32)
        features[:2, :3] += 0.4 * (number % 6)
        path = Path("features") / f"slide_{number:02d}.h5"
        with h5py.File(path, "w", libver="latest") as file:
            file["features"] = features
            file["coords"] = 64 * np.stack(np.divmod(np.arange(len(features)), 2), 1)
        os.utime(path, ns=(FILE_TIME, FILE_TIME))
        rows.append(f"slide_{number:02d},{int(number % 6 >= 3)},{number % 6}")
    Path("labels.csv").write_text("\n".join(rows) + "\n")


def draw_slides() -> None:
    """Write small pictures of tissue as slides, and as many that are broken as a stopped tiling needs."""
    rng = np.random.default_rng(2)
    for folder in ("slides", "slides_with_a_broken_one"):
        Path(folder).mkdir()
    rows = ["image_id,label"]
    for number in range(9):
        picture = np.full((48, 64, 3), 245, np.uint8)
        y, x = np.mgrid[:48, :64]
        for _ in range(2 + number % 3):
            centre, radius = rng.uniform(8, 40, 2), rng.uniform(5, 12)
            spot = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
            picture[spot] = rng.integers((120, 40, 90), (220, 120, 180))
        Image.fromarray(picture).save(f"slides/slide {number}.png", optimize=True)
        rows.append(f"slide {number},{number % 2}")
    Path("slides.csv").write_text("\n".join(rows) + "\n")


def draw_digits() -> None:
    """Write a bag store of bright strokes on black, 28 px, a line across in every second bag."""
    from milpath.data.bag_store_writer import BagStoreWriter

    rng = np.random.default_rng(3)
    with BagStoreWriter("digits", {"name": "drawn"}) as writer:
        for number in range(9):
            tiles = np.zeros((1 + number % 3, 28, 28, 1), np.uint8)
            for tile in tiles:
                column = rng.integers(4, 22)
                tile[4:24, column : column + 3] = rng.integers(128, 255)
            if number % 2:
                tiles[0, 12:15, 2:26] = 200
            writer.add(f"bag_{number}", tiles, {"label": number % 2}, {"tile_label": [number % 2] + [0] * (number % 3)})


def stop_tiling() -> None:
    """Cut three slides of which one is broken: the work on the others lies in `parts`, for the next time."""
    for number in range(3):
        shutil.copy(f"slides/slide {number}.png", "slides_with_a_broken_one")
    Path("slides_with_a_broken_one/slide 1.png").write_bytes(b"not a picture")
    for path in Path("slides_with_a_broken_one").iterdir():
        os.utime(path, ns=(FILE_TIME, FILE_TIME))
    milpath("tile", "slides=slides_with_a_broken_one", "output=bags_half", *CUT, status=1)


def stop_prediction(words: list[str]) -> None:
    """Predict, and stop after three bags as a machine that is switched off does."""
    from milpath.configuration import PredictConfig
    from omegaconf import OmegaConf

    from milpath import predict

    def three(*arguments, **named):
        for number, bag in enumerate(original(*arguments, **named)):
            if number == 3:
                raise KeyboardInterrupt
            yield bag

    original, predict.predict_bags = predict.predict_bags, three
    try:
        predict.run(OmegaConf.merge(OmegaConf.structured(PredictConfig), OmegaConf.from_dotlist(words)))
    except KeyboardInterrupt:
        predict.predict_bags = original


def save_networks() -> dict:
    """Save every network, and what it and those of two runs say of one batch."""
    from milpath import models

    Path("networks").mkdir()
    expected = {}
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[1, 3:] = False
    classes = {"binary": ("a", "b"), "nominal": ("a", "b", "c"), "ordinal": ("low", "middle", "high")}
    for seed, (name, (kind, task, arguments)) in enumerate(NETWORKS.items()):
        torch.manual_seed(seed)
        outputs = {"binary": 1, "nominal": 3, "ordinal": 2}[task]
        encoder = {"name": "linear", "num_features": 6, "hidden_dims": [5, 4]}
        network = getattr(models, kind)(encoder=encoder, num_outputs=outputs, **arguments).eval()
        with torch.no_grad():
            for weights in network.parameters():
                weights.mul_(2)  # what is drawn by default hardly tells tiles apart
        network.tile_encoder.network.set_statistics(numbers(6), numbers(6) + 0.5)
        card = {"task": task, "class_names": classes[task], "temperature": 1.7, "defer_below": 0.61}
        card |= {"threshold": 0.37} if task == "binary" else {}
        models.save_network(network, Path("networks") / f"{name}.pt", data={"standardize": False}, **card)
        expected[name] = {"class": kind, "input": [2, 5, 6], **card} | ask(network, 6 * numbers(2, 5, 6) - 3, mask)
    for name, shape in {
        "tiles/checkpoints/best": [2, 5, 3, 16, 16],
        "frozen/checkpoints/last": [2, 5, 1, 28, 28],
    }.items():
        network = models.load_network(f"runs/{name}.ckpt")
        expected[f"../runs/{name}"] = {"input": shape} | ask(network, numbers(*shape), mask)
    return expected


def ask(network: torch.nn.Module, tiles: torch.Tensor, mask: torch.Tensor) -> dict:
    """Return logits and attention as plain numbers."""
    with torch.inference_mode():
        output = network(tiles, mask)
    return {"logits": output.logits.tolist(), "attention": output.attention.tolist()}


def describe_large() -> dict:
    """Return name, arguments and names and shapes of the weights of networks that are too large to keep."""
    from milpath.models import AttentionMIL
    from milpath.models.checkpoint import describe_network

    found = {}
    for name in LARGE_ENCODERS:
        network = AttentionMIL(encoder={"name": name, "frozen": True, "tile_micro_batch": 8})
        weights = sorted((key, list(value.shape)) for key, value in network.state_dict().items())
        digest = hashlib.sha256(json.dumps(weights).encode()).hexdigest()
        found[name] = {"network": describe_network(network), "num_weights": len(weights), "weights_sha256": digest}
    return found


def answer() -> str:
    """Return what the endpoint of `model.tar.gz` answers to one bag."""
    from io import BytesIO

    from milpath.sagemaker.inference import input_fn, model_fn, output_fn, predict_fn

    shutil.unpack_archive("model.tar.gz", "model")
    body = BytesIO()
    np.save(body, 4 * numbers(5, 8).numpy())
    endpoint = model_fn("model")
    text, _ = output_fn(predict_fn(input_fn(body.getvalue(), "application/x-npy"), endpoint), "application/json")
    return json.loads(text)


def cards() -> dict:
    """Return what the checkpoints of the runs say of themselves."""
    from milpath.models.checkpoint import card_to_dict, load_card

    checkpoints = {"tiles": "best", "features": "best", "grades": "best", "frozen": "last"}
    return {name: card_to_dict(load_card(f"runs/{name}/checkpoints/{file}.ckpt")) for name, file in checkpoints.items()}


def public_names() -> dict:
    """Return the names that programs of users import."""
    import milpath.data
    import milpath.models

    return {"milpath.data": milpath.data.__all__, "milpath.models": milpath.models.__all__}


def keep(out: Path) -> None:
    """Copy what the test reads."""
    for name in ("tiles", "features", "frozen"):
        longer = ROOT / "runs" / f"{name}_longer"
        kept = {file: (longer / file).read_bytes() for file in ("metrics.json", "predictions.csv")}
        shutil.rmtree(longer)
        longer.mkdir()
        for file, data in kept.items():
            (longer / file).write_bytes(data)
    runs = ROOT / "runs"
    dropped = [
        runs / "tiles/checkpoints/last.ckpt",
        runs / "frozen/checkpoints/best.ckpt",
        runs / "search/multirun.yaml",
    ]
    dropped += [*runs.glob("grades/checkpoints/last.ckpt"), *runs.glob("search/trial_*/checkpoints/last.ckpt")]
    dropped.append(runs / "search/trial_f59885cf4d/checkpoints/best.ckpt")  # of the trial that is not the best
    dropped += [
        *ROOT.glob("table/runs/**/*.ckpt"),
        *ROOT.rglob("*.lock"),
        *ROOT.rglob("*.log"),
        ROOT / "table/report.html",
    ]
    for path in dropped:
        path.unlink()
    for folder in ("model", "predicted_slides/bags", "bags/overview"):
        shutil.rmtree(ROOT / folder)
    for path in ROOT.rglob("provenance.json"):
        # The one word about the machine: the version of its kernel.
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"platform": "Linux-x86_64"}, indent=2) + "\n")
    shutil.copytree(ROOT, out, dirs_exist_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
