import io
import json
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from milpath import predict
from milpath.sagemaker import transform
from milpath.sagemaker.scoring import scored_objects
from tests.pyramids import tissue, write_pyramid
from tests.sagemaker import played_processing, played_transform
from tests.sagemaker.conftest import REGION, ROLE
from tests.sagemaker.played_processing import keys

NAMES = ["dd", "b", "c", "a"]
GIVEN = ["sagemaker.bucket=slides", f"sagemaker.role={ROLE}", "slides=s3://slides/in", "output=s3://slides/out"]


@pytest.fixture
def played(account, monkeypatch, tmp_path):
    """Jobs run when they are waited for; `lost` names answers that do not arrive, job by job."""
    lost = []

    def wait_for_job(_, request):
        folder = tmp_path / f"job-{len(account.sent)}"
        if "TransformJobName" in request:
            played_transform.play(account, request, folder, monkeypatch, lost.pop(0) if lost else ())
        else:
            played_processing.play(account.s3, request, folder, monkeypatch)

    monkeypatch.setattr(scored_objects, "wait_for_job", wait_for_job)
    monkeypatch.setattr("milpath.sagemaker.scoring.predict_chunks.CHUNK_SIZE", 2)
    return lost


def table(account, name):
    body = account.s3.get_object(Bucket="slides", Key=f"out/{name}")["Body"].read()
    return pd.read_csv(io.BytesIO(body), dtype={"id": str}, keep_default_na=False)


def require_equal(found, expected):
    assert found.columns.tolist() == expected.columns.tolist()
    for name in found:
        if pd.api.types.is_float_dtype(expected[name]):
            np.testing.assert_allclose(found[name].astype(float), expected[name], atol=1e-5, rtol=0)
        else:
            assert found[name].tolist() == expected[name].tolist(), name


def test_slides_are_predicted_on_two_instances_as_on_one_machine(account, played, command, network_path, tmp_path):
    folder = tmp_path / "in"
    for seed, name in enumerate(NAMES):
        write_pyramid(folder / ("deep" if seed % 2 else ".") / f"{name}.tiff", tissue(60 + seed, 50, seed))
    (folder / "broken.tiff").write_bytes(b"no slide")
    for path in folder.rglob("*.tiff"):
        account.s3.upload_file(str(path), "slides", f"in/{path.relative_to(folder).as_posix()}")
    words = [f"checkpoint={network_path}", *GIVEN, "sagemaker.instance_count=2", "options={num_workers: 1}"]
    status, output, errors = command(transform, *words, "wait=true")
    assert status == 1
    assert "1 slide failed, see s3://slides/out/failures.csv (first: 'broken': " in errors
    assert "inputs are slides: Processing jobs that run milpath predict" in output
    assert "4 slides of 5 predicted: s3://slides/out" in output
    (request,) = account.requests("CreateProcessingJob")
    assert request["Environment"] == {"MILPATH_COMMAND": "predict", "MILPATH_PHASE": "predict"}
    assert request["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == 2
    (folder / "broken.tiff").unlink()
    expected = tmp_path / "expected"
    assert (
        command(predict, f"checkpoint={network_path}", f"slides={folder}", f"output={expected}", "num_workers=1")[0]
        == 0
    )
    for name in ("predictions.csv", "attention.csv"):
        require_equal(table(account, name), pd.read_csv(expected / name, dtype={"id": str}, keep_default_na=False))
    assert table(account, "failures.csv")["slide"].tolist() == ["broken"]
    for name in NAMES:
        body = account.s3.get_object(Bucket="slides", Key=f"out/geojson/{name}.geojson")["Body"].read()
        theirs = json.loads((expected / f"geojson/{name}.geojson").read_text())
        assert [f["geometry"] for f in json.loads(body)["features"]] == [f["geometry"] for f in theirs["features"]]
    pictures = {path.name for path in (expected / "pictures").iterdir() if not path.name.startswith("extremes")}
    assert {key.rpartition("/")[2] for key in keys(account.s3, "slides", "out/pictures/")} == pictures
    # Asked again, it costs nothing.
    status, output, _ = command(transform, *words)
    assert (status, output.splitlines()[-1]) == (0, "the prediction is complete: s3://slides/out")
    assert len(account.requests("CreateProcessingJob")) == 1


def put_bags(account, folder):
    """Upload bags of features as arrays, and write the same as files of `milpath predict`."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number, name in enumerate(NAMES):
        features = rng.normal(size=(3 + number, 5)).astype(np.float32)
        body = io.BytesIO()
        np.save(body, features)
        account.s3.put_object(Bucket="slides", Key=f"in/{name}.npy", Body=body.getvalue())
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["features"] = features


def test_bags_of_features_go_through_the_serving_container(account, played, command, feature_path, tmp_path):
    put_bags(account, tmp_path / "in")
    body = io.BytesIO()
    np.save(body, np.zeros((3, 4), np.float32))
    account.s3.put_object(Bucket="slides", Key="in/wide.npy", Body=body.getvalue())
    played[:] = [["b.npy"], ["b.npy"]]
    words = [f"checkpoint={feature_path}", *GIVEN, "on_error=skip"]
    status, output, errors = command(transform, *words, "wait=true")
    assert status == 0
    assert errors.startswith("2 slides failed, see s3://slides/out/failures.csv")
    assert "inputs are npy: Batch Transform with the serving container" in output
    assert "1 of 5 objects to do, 3 scored, 1 failed" in output
    first, second = account.requests("CreateTransformJob")
    assert first["TransformInput"] == second["TransformInput"]
    assert len(account.requests("CreateModel")) == 1
    assert account.sagemaker.list_models()["Models"] == []
    failures = table(account, "failures.csv").set_index("slide")["reason"]
    assert failures["b"] == "the container gave no answer; see the log of the job"
    assert "5" in failures["wide"]
    expected = tmp_path / "expected"
    (tmp_path / "in/b.h5").unlink()
    assert command(predict, f"checkpoint={feature_path}", f"slides={tmp_path / 'in'}", f"output={expected}")[0] == 0
    for name in ("predictions.csv", "attention.csv"):
        require_equal(table(account, name), pd.read_csv(expected / name, dtype={"id": str}, keep_default_na=False))


def test_zips_of_tiles_are_scored_as_predict_scores_a_folder_of_tiles(account, played, command, network_path, tmp_path):
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(1)
    for name in NAMES:
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w") as archive:
            for number in range(4):
                path = tmp_path / f"in/{name}_{number}.png"
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
                archive.write(path, path.name)
        account.s3.put_object(Bucket="slides", Key=f"in/{name}.zip", Body=body.getvalue())
    status, _, errors = command(transform, f"checkpoint={network_path}", *GIVEN, "wait=true")
    assert (status, errors) == (0, "")
    expected = tmp_path / "expected"
    assert command(predict, f"checkpoint={network_path}", f"slides={tmp_path / 'in'}", f"output={expected}")[0] == 0
    found = table(account, "predictions.csv")
    require_equal(found, pd.read_csv(expected / "predictions.csv", dtype={"id": str}, keep_default_na=False))
    weights = pd.read_csv(expected / "attention.csv")
    np.testing.assert_allclose(table(account, "attention.csv")["weight"], weights["weight"], atol=1e-5)


MISTAKES = [
    (["inputs=csv"], "inputs=csv must be one of slides, features, npy, zip, or null"),
    (["dry_run=true"], "dry_run does not contact AWS, so it needs inputs="),
    (
        ["slides=s3://slides/empty"],
        "s3://slides/empty has nothing that can be scored; give a folder with one of slides",
    ),
    (["checkpoint=nowhere.ckpt"], "nowhere.ckpt"),
    (["options={aggregate: mean}"], "aggregate is refused: patients have slides on several instances"),
    (
        ["sagemaker.mode=local"],
        "sagemaker.mode=local is for launch; transform submits its jobs to the service: remove it",
    ),
    (["serving_image=mine"], "serving_image=mine is for npy and zip; inputs are slides, which run in sagemaker.image"),
    (["options={alfa: 1}"], "options: Could not override 'alfa'"),
]


def test_a_mistake_costs_nothing_and_is_one_line(account, command, network_path):
    account.s3.put_object(Bucket="slides", Key="in/a.svs", Body=b"x")
    given = [f"checkpoint={network_path}", *GIVEN]
    for words, message in MISTAKES:
        kept = [word for word in given if word.split("=")[0] != words[0].split("=")[0]]
        status, _, errors = command(transform, *kept, *words)
        assert (status, errors.count("\n")) == (1, 1), errors
        assert message in errors
    account.s3.put_object(Bucket="slides", Key="in/a.npy", Body=b"x")
    assert "has slides and npy; give a folder with one of" in command(transform, *given)[2]
    assert {name for name, _ in account.sent} == set()


def test_dry_run_shows_both_ways(command, account, network_path):
    given = [
        f"checkpoint={network_path}",
        *GIVEN,
        f"sagemaker.region={REGION}",
        "dry_run=true",
        "slides_per_second=0.2",
    ]
    status, shown, errors = command(transform, *given, "inputs=slides", "price_per_hour=1")
    assert (status, list(json.loads(shown))) == (0, ["create_processing_job"])
    assert "1,000 slides: about 1.39" in errors
    status, shown, _ = command(transform, *given, "inputs=zip")
    assert (status, list(json.loads(shown))) == (0, ["create_model", "create_transform_job"])
    assert json.loads(shown)["create_model"]["PrimaryContainer"]["Image"].endswith("pytorch-inference:2.6.0-cpu-py312")
    assert account.sent == []
