import json

import pytest

from milpath import tile
from milpath.data.store.bag_store import BagStore
from milpath.sagemaker import process
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_bags import build_slide_store
from tests.pyramids import tissue, write_pyramid
from tests.sagemaker.conftest import ROLE
from tests.sagemaker.played_processing import keys, play

NAMES = [f"slide {letter}" for letter in "dbca"]
OPTIONS = "options={tile_size: 32, num_tiles: 4, num_workers: 1}"
GIVEN = ["sagemaker.bucket=slides", f"sagemaker.role={ROLE}", "slides=s3://slides/in", "output=s3://slides/out"]
STORE_FILES = ("tiles.npy", "bags.csv", "tiles.csv", "quality.csv", "store.json", "failures.csv")


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides") / "in"
    for seed, name in enumerate(NAMES):
        write_pyramid(folder / ("deep" if seed % 2 else ".") / f"{name}.tiff", tissue(60 + seed, 50, seed))
    return folder


@pytest.fixture(scope="module")
def labels(slides):
    path = slides.parent / "train.csv"
    path.write_text("image_id,isup_grade\n" + "".join(f"{name},{number}\n" for number, name in enumerate(NAMES)))
    return path


@pytest.fixture(scope="module")
def reference(slides, labels, tmp_path_factory):
    """The store of one process on one machine."""
    output = tmp_path_factory.mktemp("reference") / "out"
    build_slide_store(slides, output, TileOptions(tile_size=32, num_tiles=4), labels=labels, num_workers=1)
    return output


@pytest.fixture
def uploaded(account, slides):
    for path in slides.rglob("*.tiff"):
        account.s3.upload_file(str(path), "slides", f"in/{path.relative_to(slides).as_posix()}")
    return account


@pytest.fixture
def played(uploaded, monkeypatch, tmp_path):
    """Jobs run when they are waited for."""
    lost = []

    def wait_for_job(_, request):
        play(uploaded.s3, request, tmp_path / "jobs", monkeypatch, lost.pop(0) if lost else None)

    monkeypatch.setattr(process, "wait_for_job", wait_for_job)
    return lost


def download(s3, prefix, folder):
    for key in keys(s3, "slides", f"{prefix}/"):
        path = folder / key.removeprefix(f"{prefix}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file("slides", key, str(path))
    return folder


def test_the_store_of_three_instances_is_that_of_one_process(uploaded, played, command, labels, reference, tmp_path):
    words = [*GIVEN, OPTIONS, f"files={{labels: {labels}}}", "sagemaker.instance_count=3"]
    status, output, errors = command(process, *words, "wait=true")
    assert (status, errors) == (0, "")
    first, second = uploaded.requests("CreateProcessingJob")
    assert first["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == 3
    assert second["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == 1
    assert [item["InputName"] for item in second["ProcessingInputs"]] == ["code", "earlier"]  # copies no slide again
    assert [item["OutputName"] for item in second["ProcessingOutputConfig"]["Outputs"]] == ["store"]
    assert "3 x ml.c6i.4xlarge, 4 of 4 slides to do, 0 finished, 0 failed" in output
    assert "algo-2 of 3: 1 slide of 4" in output
    assert output.endswith("the store is complete: s3://slides/out\n")
    found = download(uploaded.s3, "out", tmp_path / "found")
    for name in STORE_FILES:
        assert (found / name).read_bytes() == (reference / name).read_bytes(), name
    assert {path.relative_to(found) for path in found.rglob("*.jpg")} == {
        path.relative_to(reference) for path in reference.rglob("*.jpg")
    }
    assert not [key for key in keys(uploaded.s3, "slides", "out/") if "parts" in key]
    # A complete store costs nothing more.
    status, output, _ = command(process, *words)
    assert (status, output) == (0, "the store is complete: s3://slides/out\n")
    assert len(uploaded.requests("CreateProcessingJob")) == 2


def test_lost_instances_cost_their_own_slides_only(uploaded, played, command, labels, reference, tmp_path):
    played[:] = [1]
    words = [*GIVEN, OPTIONS, f"files={{labels: {labels}}}", "sagemaker.instance_count=2", "wait=true"]
    status, output, errors = command(process, *words)
    assert (status, errors) == (0, "")
    assert "4 of 4 slides to do" in output
    assert "2 of 4 slides to do, 2 finished, 0 failed" in output
    assert len(uploaded.requests("CreateProcessingJob")) == 3
    found = download(uploaded.s3, "out", tmp_path / "found")
    for name in STORE_FILES:
        assert (found / name).read_bytes() == (reference / name).read_bytes(), name


def test_one_instance_cuts_and_merges_in_one_job(uploaded, played, command, labels, reference, tmp_path):
    status, _, errors = command(process, *GIVEN, OPTIONS, f"files={{labels: {labels}}}", "wait=true")
    assert (status, errors) == (0, "")
    assert len(uploaded.requests("CreateProcessingJob")) == 1
    found = download(uploaded.s3, "out", tmp_path / "found")
    assert (found / "tiles.npy").read_bytes() == (reference / "tiles.npy").read_bytes()
    assert (found / "store.json").read_bytes() == (reference / "store.json").read_bytes()


def test_a_slide_that_fails_stops_no_other_and_is_named(uploaded, played, command, tmp_path):
    uploaded.s3.put_object(Bucket="slides", Key="in/broken.tiff", Body=b"no slide")
    words = [*GIVEN, OPTIONS, "sagemaker.instance_count=2", "wait=true"]
    status, _, errors = command(process, *words)
    assert status == 1
    assert "1 slide of 5 failed (first: 'broken': " in errors
    assert "upload them again and run the same command, or add on_error: skip" in errors
    (request,) = uploaded.requests("CreateProcessingJob")  # no job is started to find out again
    assert request["Environment"]["MILPATH_PHASE"] == "cut"
    words[words.index(OPTIONS)] = OPTIONS.replace("}", ", on_error: skip}")
    status, _, errors = command(process, *words)
    assert (status, errors) == (0, "")
    found = download(uploaded.s3, "out", tmp_path / "found")
    assert BagStore.open(found).bags["bag_id"].tolist() == sorted(NAMES)
    assert (found / "failures.csv").read_text().startswith("slide,reason\nbroken,")


@pytest.mark.slow
def test_features_and_their_h5_files_are_those_of_extract(uploaded, played, command, slides, tmp_path, run_extract):
    options = {
        "encoder": "efficientnet_lite0",
        "device": "cpu",
        "tile_size": 64,
        "microns_per_pixel": 1,
        "batch_size": 8,
    }
    typed = ", ".join(f"{key}: {value}" for key, value in options.items())
    words = [
        *GIVEN,
        f"options={{{typed}, format: [store,h5]}}",
        "command=extract",
        "sagemaker.instance_count=2",
        "wait=true",
    ]
    status, _, errors = command(process, *words)
    assert (status, errors) == (0, "")
    found, expected = download(uploaded.s3, "out", tmp_path / "found"), run_extract(slides, options)
    assert (found / "bags.csv").read_bytes() == (expected / "bags.csv").read_bytes()
    ours, theirs = BagStore.open(found), BagStore.open(expected)
    assert ours.description == theirs.description
    assert abs(ours.tiles[:].astype("f4") - theirs.tiles[:].astype("f4")).max() <= 1e-5
    assert {path.name for path in (found / "h5").iterdir()} == {f"{name}.h5" for name in NAMES}


@pytest.fixture
def run_extract(command, tmp_path):
    from milpath import extract

    def run(folder, options):
        words = ["format=[store,h5]", *(f"{key}={value}" for key, value in options.items())]
        status, _, errors = command(extract, f"slides={folder}", f"output={tmp_path / 'expected'}", *words)
        assert status == 0, errors
        return tmp_path / "expected"

    return run


def test_the_request_that_is_sent_is_the_one_that_was_shown(uploaded, command):
    words = [*GIVEN, OPTIONS, "sagemaker.kms_key=key-1", "slides_per_second=2", "price_per_hour=0.8"]
    status, shown, errors = command(process, *words, "dry_run=true")
    assert (status, uploaded.sent) == (0, [])
    assert errors == (
        "1,000 slides: about 0.11 (0.14 instance hours at 2 slides/s, and start and copying of slides on top, "
        "at 0.8 per hour)\n"
    )
    status, output, errors = command(process, *words)
    assert (status, errors) == (0, "")
    (sent,) = uploaded.requests("CreateProcessingJob")
    expected = json.loads(shown)
    assert sent.pop("ProcessingJobName").startswith("milpath-20")
    expected.pop("ProcessingJobName")
    assert sent == expected
    manifest = json.loads(uploaded.s3.get_object(Bucket="slides", Key=manifest_key(sent))["Body"].read())
    assert manifest[0] == {"prefix": "s3://slides/in/"}
    assert sorted(manifest[1:]) == sorted(f"{'deep/' if n % 2 else ''}{name}.tiff" for n, name in enumerate(NAMES))
    assert "about 0.11" in output


def manifest_key(request):
    (address,) = [item["S3Input"]["S3Uri"] for item in request["ProcessingInputs"] if item["InputName"] == "slides"]
    return address.removeprefix("s3://slides/")


def test_results_of_other_options_are_never_mixed(uploaded, command):
    assert command(process, *GIVEN, OPTIONS)[0] == 0
    status, _, errors = command(process, *GIVEN, OPTIONS.replace("32", "64"))
    assert status == 1
    assert "holds work of other options (options: " in errors
    assert "give the same options, or another name=" in errors
    assert len(uploaded.requests("CreateProcessingJob")) == 1


MISTAKES = [
    (
        ["sagemaker.mode=local"],
        "sagemaker.mode=local is for launch; process submits its jobs to the service: remove it",
    ),
    (["options={method: grid, min_tissue: 0.5}"], "min_tissue=0.5 changes nothing with method=grid"),
    (["options={tile_sise: 32}"], "options: Could not override 'tile_sise'"),
    (["options={method: best}"], "method=best"),
    (["options=[tile_size]"], "must be a mapping, 'options={NAME: VALUE}'"),
    (["options={shard: 1/2}"], "options: shard is refused: it is set by the job itself"),
    (["command=train"], "command=train must be one of tile, extract"),
    (["slides=slides"], "slides=slides is not an address of the form s3://bucket/folder"),
    (["slides=s3://slides/empty"], "there is no slide below s3://slides/empty"),
    (["files={labels: nowhere.csv}"], "files.labels=nowhere.csv does not exist"),
    (
        ["files={tissue_model: s3://slides/none.onnx}", "options={method: tissue}"],
        "no object under s3://slides/none.onnx",
    ),
    (["sagemaker.spot=true"], "sagemaker.spot=True is only for training jobs"),
    (["sagemaker.volume_size_gb=10"], "do not fit on sagemaker.volume_size_gb=10; set it to 21, or take"),
    (["slides_per_second=0"], "slides_per_second=0.0 must be above 0"),
]


def test_a_mistake_costs_nothing_and_is_one_line(uploaded, command):
    for words, message in MISTAKES:
        kept = [word for word in GIVEN if word.split("=")[0] != words[0].split("=")[0]]
        status, _, errors = command(process, *kept, *words)
        assert (status, errors.count("\n")) == (1, 1), errors
        assert message in errors
    assert uploaded.requests("CreateProcessingJob") == []


def test_a_table_that_does_not_fit_is_refused_before_the_first_job(uploaded, command, tmp_path):
    (tmp_path / "train.csv").write_text("image_id,isup_grade\n" + "".join(f"{name},0\n" for name in [*NAMES, "other"]))
    status, _, errors = command(process, *GIVEN, OPTIONS, f"files={{labels: {tmp_path / 'train.csv'}}}")
    assert status == 1
    assert "1 slide cannot be cut: 'other': in " in errors
    assert uploaded.requests("CreateProcessingJob") == []


def test_a_file_of_names_is_a_shard(slides, reference, labels, tmp_path):
    for part in (NAMES[:2], NAMES[2:]):
        (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in part))
        summary = build_slide_store(
            slides, tmp_path / "out", TileOptions(tile_size=32, num_tiles=4), labels=labels, num_workers=1,
            shard=str(tmp_path / "names.txt"),
        )  # fmt: skip
        assert summary.num_cut == len(part)
    assert (tmp_path / "out/tiles.npy").read_bytes() == (reference / "tiles.npy").read_bytes()
    assert "2 slides cut" in tile.describe(summary, "out")
    (tmp_path / "names.txt").write_text("nobody\n")
    with pytest.raises(ValueError, match="names 'nobody', which is not one of the 4 slides"):
        build_slide_store(slides, tmp_path / "other", TileOptions(), num_workers=1, shard=str(tmp_path / "names.txt"))
