"""The same bags, asked in every way there is, are called the same: one decision for evaluate, predict, app and endpoint."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.models import AttentionMIL, load_network, save_network
from milpath.sagemaker import inference
from milpath.sagemaker.endpoint.input_spec import TileBag
from milpath.sagemaker.endpoint.response import Answer, write_answers
from milpath.sagemaker.jobs.model_archive import write_model_dir
from milpath.sagemaker.serve import create_app
from milpath.targets.decision import Decision, decide
from milpath.viewer.upload_answer import Analyst
from milpath.viewer.upload_check import Limits
from tests.commands import here
from tests.models.stains.drawn_stains import stained
from tests.sagemaker.loopback_endpoint import served_as
from tests.sagemaker.request_bodies import npy

NUM_BAGS, NUM_TILES, TILE, WIDTH = 24, 3, 16, 5
NPY = "application/x-npy"
CLASSES = {
    "binary": ("benign", "malignant"),
    "nominal": ("a", "b", "c"),
    "ordinal": tuple(f"grade_{k}" for k in range(6)),
}
OUTPUTS = {"binary": 1, "nominal": 3, "ordinal": 5}
STAINS = {
    "stain_normalisation": "macenko",
    "stain_target": {"haematoxylin": [0.65, 0.7, 0.2958], "eosin": [0.0995, 0.9897, 0.1027], "amounts": [1.5, 1.0]},
}
THRESHOLD, TEMPERATURE, DEFER_BELOW = 0.37, 1.7, 0.55


@dataclass(frozen=True)
class Verdict:
    """What a bag is called, and on what grounds; None where a way in does not say."""

    predicted: str
    probabilities: tuple[float, ...]
    threshold: float | None
    deferred: bool | None


def median_class(probabilities: np.ndarray) -> int:
    """The first class up to which half of the probability or more lies."""
    return int(np.flatnonzero(np.cumsum(probabilities) >= 0.5)[0])


def verdict_of(logits: torch.Tensor, task: str) -> Verdict:
    """Compute by hand what the card says of one bag's logits."""
    logits = logits.double() / TEMPERATURE
    if task == "nominal":
        probabilities = logits.softmax(0).numpy()
        chosen = int(np.argmax(probabilities))
    else:
        reached = np.minimum.accumulate(1 / (1 + np.exp(-logits.numpy())))
        probabilities = -np.diff([1.0, *reached, 0.0])
        chosen = int(probabilities[1] >= THRESHOLD) if task == "binary" else median_class(probabilities)
    return Verdict(
        CLASSES[task][chosen], tuple(probabilities), THRESHOLD if task == "binary" else None,
        bool(probabilities.max() < DEFER_BELOW),
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A network, some bags, and what it says of them computed by hand."""

    folder: Path
    task: str
    bags: dict[str, np.ndarray]
    expected: dict[str, Verdict]

    @property
    def checkpoint(self) -> Path:
        return self.folder / "network.pt"


def make_case(folder: Path, task: str, kind: str) -> Case:
    """Write a store of bags and a network that is unsure of them: all classes occur, and the median is not the mode."""
    rng = np.random.default_rng(3)
    if kind == "stained":
        amounts = [(0.8 + 0.04 * number, 1.4 - 0.03 * number) for number in range(NUM_BAGS)]
        drawn = [stained(1, NUM_TILES, TILE, amounts=pair, seed=number) for number, pair in enumerate(amounts)]
        bags = (torch.cat(drawn) * 255).round().byte().permute(0, 1, 3, 4, 2).numpy()
        encoder = {"name": "tile_cnn", "tile_size": TILE, "embedding_dim": 8} | STAINS
    elif kind == "tiles":
        colours = rng.integers(0, 256, (NUM_BAGS, 1, 1, 1, 3))
        bags = np.clip(colours + rng.integers(-40, 40, (NUM_BAGS, NUM_TILES, TILE, TILE, 3)), 0, 255).astype(np.uint8)
        encoder = {"name": "tile_cnn", "tile_size": TILE, "embedding_dim": 8}
    else:
        bags = rng.normal(size=(NUM_BAGS, NUM_TILES, WIDTH)).astype(np.float32)
        encoder = {"name": "linear", "num_features": WIDTH}
    torch.manual_seed(1)
    network = AttentionMIL(encoder=encoder, num_outputs=OUTPUTS[task], attention_dim=4).eval()
    inputs = torch.from_numpy(bags)
    inputs = inputs.permute(0, 1, 4, 2, 3) / 255 if kind != "features" else inputs
    with torch.no_grad():
        # Spread over the bags, whatever the untrained encoder makes of them.
        logits = network(inputs).logits
        spread = 2.0 / logits.std(0).clamp(min=1e-6)
        offset = torch.linspace(1.2, -1.2, OUTPUTS[task]) if task == "ordinal" else torch.zeros(OUTPUTS[task])
        network.classification_layer.weight.mul_(spread[:, None])
        network.classification_layer.bias.copy_((network.classification_layer.bias - logits.mean(0)) * spread + offset)
        logits = network(inputs).logits
    names = [f"slide_{number:02d}" for number in range(NUM_BAGS)]
    with BagStoreWriter(folder / "store") as writer:
        for number, name in enumerate(names):
            writer.add(name, bags[number], {"label": number % len(CLASSES[task])})
    save_network(
        network, folder / "network.pt", class_names=CLASSES[task], task=task, threshold=THRESHOLD,
        temperature=TEMPERATURE, defer_below=DEFER_BELOW, tiling={"tile_size": TILE} if kind != "features" else {},
    )  # fmt: skip
    expected = {name: verdict_of(row, task) for name, row in zip(names, logits, strict=True)}
    return Case(folder, task, dict(zip(names, bags, strict=True)), expected)


def by_evaluate(case: Case, run_here: Callable[..., tuple[int, str]]) -> dict[str, Verdict]:
    names = CLASSES[case.task]
    status, message = run_here(
        "milpath.evaluate", f"checkpoint={case.checkpoint}", "data=bag_store", f"data.path={case.folder / 'store'}",
        f"data.task={case.task}", f"data.class_names=[{','.join(names)}]", "data.num_folds=1", "splits=[test]",
        "run_name=e", "trainer.accelerator=cpu", "report=false", "overwrite=true", cwd=case.folder,
    )  # fmt: skip
    assert status == 0, message
    table = pd.read_csv(case.folder / "runs/e/predictions.csv")
    threshold = THRESHOLD if case.task == "binary" else None
    return {
        row["id"]: Verdict(
            names[row["predicted"]], tuple(row[f"probability_{name}"] for name in names), threshold, None
        )
        for row in table.to_dict("records")
    }


def by_predict(case: Case, run_here: Callable[..., tuple[int, str]]) -> dict[str, Verdict]:
    names = CLASSES[case.task]
    words = [f"checkpoint={case.checkpoint}", f"slides={case.folder / 'store'}", "output=out", "pictures=false"]
    status, message = run_here("milpath.predict", *words, "device=cpu", "overwrite=true", cwd=case.folder)
    assert status == 0, message
    return {
        row["id"]: Verdict(
            row["predicted"], tuple(row[f"probability_{name}"] for name in names),
            None if np.isnan(row["threshold"]) else row["threshold"], bool(row["defer"]),
        )
        for row in pd.read_csv(case.folder / "out/predictions.csv").to_dict("records")
    }  # fmt: skip


def by_app(case: Case) -> dict[str, Verdict]:
    analyst = Analyst(case.checkpoint, Limits())
    found = {}
    for name, tiles in case.bags.items():
        folder = case.folder / "app" / name
        (folder / "work").mkdir(parents=True)
        paths = [folder / f"{name}_{number}.png" for number in range(len(tiles))]
        for path, tile in zip(paths, tiles, strict=True):
            Image.fromarray(tile).save(path)
        answer = analyst.answer(paths, folder / "work")
        found[name] = Verdict(answer.predicted, answer.probabilities, answer.threshold, answer.deferred)
    return found


def said(prediction: dict) -> Verdict:
    return Verdict(
        prediction["label"],
        tuple(prediction["probabilities"].values()),
        prediction["threshold"],
        prediction["deferred"],
    )


def by_server(case: Case) -> dict[str, Verdict]:
    write_model_dir(case.checkpoint, case.folder / "model")
    found = {}
    with TestClient(create_app(case.folder / "model")) as client:
        for name, bag in case.bags.items():
            answer = client.post("/invocations", content=npy(bag), headers={"content-type": NPY})
            assert answer.status_code == 200, answer.text
            found[name] = said(answer.json()["predictions"][0])
        everything = npy(np.stack(list(case.bags.values())))
        headers = {"content-type": NPY, "accept": "application/x-npz"}
        arrays = np.load(io.BytesIO(client.post("/invocations", content=everything, headers=headers).content))
    called = [arrays["class_names"][number] for number in arrays["label"]]
    assert called == [verdict.predicted for verdict in found.values()]
    assert arrays["deferred"].tolist() == [verdict.deferred for verdict in found.values()]
    return found


def by_toolkit(case: Case) -> dict[str, Verdict]:
    endpoint = inference.model_fn(str(case.folder))
    found = {}
    for name, bag in case.bags.items():
        data = inference.input_fn(npy(bag), NPY)
        body, _ = inference.output_fn(inference.predict_fn(data, endpoint), "application/json")
        found[name] = said(json.loads(body)["predictions"][0])
    return found


def by_score(case: Case, monkeypatch: pytest.MonkeyPatch) -> dict[str, Verdict]:
    words = ["endpoint=slides", "data=bag_store", f"data.path={case.folder / 'store'}", "data.num_folds=1"]
    words += [f"data.task={case.task}", f"data.class_names=[{','.join(CLASSES[case.task])}]"]
    with served_as("slides", case.folder / "model", monkeypatch):
        assert here("milpath.sagemaker.score", *words, "run_name=s", "region=eu-central-1", cwd=case.folder) == 0
    names, threshold = CLASSES[case.task], THRESHOLD if case.task == "binary" else None
    metrics = [json.loads((case.folder / f"runs/{run}/metrics.json").read_text())["test"] for run in ("s", "e")]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-5)
    return {
        row["id"]: Verdict(
            names[row["predicted"]], tuple(row[f"probability_{name}"] for name in names), threshold, None
        )
        for row in pd.read_csv(case.folder / "runs/s/predictions.csv").to_dict("records")
    }


@pytest.mark.parametrize(
    ("task", "kind"), [*((task, kind) for task in CLASSES for kind in ("tiles", "features")), ("binary", "stained")]
)
def test_every_way_in_gives_the_same_class_probability_threshold_and_deferral(
    task, kind, tmp_path, run_here, monkeypatch
):
    case = make_case(tmp_path, task, kind)
    calls = [verdict.predicted for verdict in case.expected.values()]
    modes = [CLASSES[task][int(np.argmax(verdict.probabilities))] for verdict in case.expected.values()]
    assert len(set(calls)) > 1
    assert {verdict.deferred for verdict in case.expected.values()} == {True, False}
    assert (calls != modes) == (task != "nominal"), "these bags cannot tell one rule from another"
    ways = {
        "evaluate": by_evaluate(case, run_here),
        "predict": by_predict(case, run_here),
        "server": by_server(case),
        "toolkit": by_toolkit(case),
    }
    if kind != "features":  # the app shows images only
        ways["app"] = by_app(case)
        ways["score"] = by_score(case, monkeypatch)
    for way, found in ways.items():
        assert found.keys() == case.expected.keys(), way
        for name, expected in case.expected.items():
            assert found[name].predicted == expected.predicted, (way, name, expected)
            np.testing.assert_allclose(found[name].probabilities, expected.probabilities, atol=2e-6, err_msg=way)
            assert found[name].threshold == expected.threshold, way
            if found[name].deferred is not None:
                assert found[name].deferred == expected.deferred, (way, name)


@pytest.mark.parametrize("task", list(CLASSES))
def test_the_endpoint_writes_what_decide_says_of_random_probabilities(task, tmp_path):
    case = make_case(tmp_path, task, "features")
    card = inference.model_fn(str(case.folder)).card
    probabilities = np.random.default_rng(0).dirichlet(np.full(len(CLASSES[task]), 0.8), 300).astype(np.float32)
    bag = TileBag(np.zeros((1, WIDTH), np.float32))
    answers = [Answer(row, np.ones(1, np.float32), bag) for row in probabilities]
    calls = decide(probabilities.astype(np.float64), task, Decision(THRESHOLD, 1.0, DEFER_BELOW))
    predictions = json.loads(write_answers(answers, card, "application/json"))["predictions"]
    assert [entry["label"] for entry in predictions] == [CLASSES[task][number] for number in calls.predicted]
    assert [entry["deferred"] for entry in predictions] == calls.deferred.tolist()
    arrays = np.load(io.BytesIO(write_answers(answers, card, "application/x-npz")))
    assert arrays["label"].tolist() == calls.predicted.tolist()
    assert arrays["deferred"].tolist() == calls.deferred.tolist()
    if task == "ordinal":
        assert calls.predicted.tolist() == [median_class(row) for row in probabilities.astype(np.float64)]
        assert (calls.predicted != probabilities.argmax(1)).mean() > 0.2


@pytest.mark.parametrize("task", list(CLASSES))
def test_a_certain_network_has_the_same_probabilities_in_evaluate_and_predict(task, tmp_path, run_here):
    case = make_case(tmp_path, task, "features")
    network = load_network(case.checkpoint)
    with torch.no_grad():
        network.classification_layer.weight.mul_(20)
    save_network(
        network, case.checkpoint, class_names=CLASSES[task], task=task, threshold=THRESHOLD, temperature=9.0,
        defer_below=DEFER_BELOW,
    )  # fmt: skip
    evaluated, predicted = by_evaluate(case, run_here), by_predict(case, run_here)
    for name, verdict in predicted.items():
        np.testing.assert_allclose(evaluated[name].probabilities, verdict.probabilities, atol=1e-6)
        assert evaluated[name].predicted == verdict.predicted
