import hashlib
import json
import shutil
import tarfile

import pytest

from milpath.models import load_network, save_network
from milpath.models.checkpoint import load_card
from milpath.sagemaker import deploy, register
from milpath.sagemaker.jobs.model_archive import write_model_archive
from tests.sagemaker.conftest import REGION, ROLE

# What Lightning says of itself with this torch, and of small data.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]
GROUP = f"arn:aws:sagemaker:{REGION}:123456789012:model-package/milpath"
DEPLOY = [f"role={ROLE}", "bucket=slides"]


def test_a_run_is_registered_with_card_metrics_approval_and_data(account, command, registered_run):
    status, output, errors = command(register, f"run={registered_run}", "bucket=slides", "approval=Approved")
    assert (status, errors) == (0, "")
    assert f"registered {GROUP}/1: Approved\n" in output
    assert f"deploy:  python -m milpath.sagemaker.deploy model_package={GROUP}/1\n" in output
    (group,) = account.requests("CreateModelPackageGroup")
    assert group["Tags"] == [{"Key": "project", "Value": "milpath"}]
    (sent,) = account.requests("CreateModelPackage")
    assert "Tags" not in sent
    assert sent["ModelApprovalStatus"] == sent["ModelCard"]["ModelCardStatus"] == "Approved"
    identity = json.loads((registered_run / "identity.json").read_text())
    properties = sent["CustomerMetadataProperties"]
    assert len(identity["contents"]) == 4
    assert {name: properties[name] for name in identity["contents"]} == identity["contents"]
    assert properties["run_identity_sha256"] == identity["digest"]
    metrics = json.loads((registered_run / "metrics.json").read_text())
    assert float(properties["test/auroc"]) == pytest.approx(metrics["test"]["auroc"], abs=1e-5)
    statistics = sent["ModelMetrics"]["ModelQuality"]["Statistics"]
    stored = account.s3.get_object(Bucket="slides", Key=statistics["S3Uri"].removeprefix("s3://slides/"))["Body"].read()
    assert stored == (registered_run / "metrics.json").read_bytes()
    assert statistics["ContentDigest"] == f"sha256:{hashlib.sha256(stored).hexdigest()}"
    (container,) = sent["InferenceSpecification"]["Containers"]
    assert container["Image"].endswith("pytorch-inference:2.6.0-cpu-py312")
    key = container["ModelDataUrl"].removeprefix("s3://slides/")
    assert key.startswith("milpath/registry/milpath/")
    archive = account.s3.get_object(Bucket="slides", Key=key)["Body"].read()
    assert hashlib.sha256(archive).hexdigest() == properties["archive_sha256"]
    card = json.loads(sent["ModelCard"]["ModelCardContent"])
    assert card["additional_information"]["caveats_and_recommendations"].startswith(
        "For research use only. Trained on synth"
    )
    # No slide is named, in whatever field.
    names = [line.split(",")[0] for line in (registered_run / "splits.csv").read_text().splitlines()[1:]]
    assert names
    assert not [name for name in names if name in json.dumps(sent)]
    found = account.sagemaker.describe_model_package(ModelPackageName=f"{GROUP}/1")
    assert (found["ModelPackageVersion"], found["ModelApprovalStatus"]) == (1, "Approved")


def test_what_a_job_wrote_is_registered_where_it_lies(account, command, registered_run):
    folder = registered_run.parents[1]
    for name in ("model.tar.gz", "output.tar.gz"):
        account.s3.upload_file(str(folder / name), "slides", f"job/output/{name}")
    with tarfile.open(folder / "model.tar.gz") as file:
        for name in ("card.json", "identity.json"):
            account.s3.upload_fileobj(file.extractfile(name), "slides", f"job/output/model/{name}")
    for name in ("metrics.json", "identity.json", "provenance.json"):
        account.s3.upload_file(str(registered_run / name), "slides", f"job/output/output/{name}")
    place = "s3://slides/job/output"
    words = [f"run={place}/output.tar.gz", f"archive={place}/model.tar.gz", "bucket=slides"]
    assert command(register, *words)[0] == 0
    assert command(register, f"run={place}/output/", f"archive={place}/model/", "bucket=slides")[0] == 0
    packed, folders = account.requests("CreateModelPackage")
    assert packed["ModelApprovalStatus"] == "PendingManualApproval"
    assert packed["ModelCard"]["ModelCardStatus"] == "PendingReview"
    assert packed["InferenceSpecification"]["Containers"][0]["ModelDataUrl"] == f"{place}/model.tar.gz"
    source = folders["InferenceSpecification"]["Containers"][0]["ModelDataSource"]["S3DataSource"]
    assert source == {"S3Uri": f"{place}/model/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    assert len(account.requests("CreateModelPackageGroup")) == 1
    for sent in (packed, folders):
        assert sent["CustomerMetadataProperties"]["tiles_sha256"]
    # Neither archive was copied.
    listed = account.s3.list_objects_v2(Bucket="slides", Prefix="milpath/registry/")["Contents"]
    assert {item["Key"].rpartition("/")[2] for item in listed} == {"metrics.json"}


def test_only_what_is_approved_is_deployed(account, command, registered_run):
    assert command(register, f"run={registered_run}", "bucket=slides")[0] == 0
    words = [f"model_package={GROUP}/1", *DEPLOY]
    status, _, errors = command(deploy, *words)
    assert (status, errors.count("\n")) == (1, 1)
    assert (
        "is PendingManualApproval, and only what is Approved is deployed; run: aws sagemaker update-model-p" in errors
    )
    assert account.requests("CreateModel") == []
    account.sagemaker.update_model_package(ModelPackageArn=f"{GROUP}/1", ModelApprovalStatus="Rejected")
    assert f"model_package={GROUP}/1 is Rejected, and only" in command(deploy, *words)[2]
    assert account.requests("CreateModel") == []
    account.sagemaker.update_model_package(ModelPackageArn=f"{GROUP}/1", ModelApprovalStatus="Approved")
    status, output, errors = command(deploy, *words, "mode=serverless")
    assert (status, errors) == (0, "")
    assert f"{GROUP}/1 is Approved\n" in output
    assert "endpoint milpath is in service" in output
    (sent,) = account.requests("CreateModel")
    assert sent["PrimaryContainer"].keys() == {"ModelPackageName", "Environment"}
    assert sent["PrimaryContainer"]["ModelPackageName"] == f"{GROUP}/1"


def test_what_is_not_approved_is_deployed_if_one_says_so(account, command, registered_run):
    assert command(register, f"run={registered_run}", "bucket=slides")[0] == 0
    status, output, _ = command(deploy, f"model_package={GROUP}/1", *DEPLOY, "allow_unapproved=true")
    assert status == 0
    assert f"{GROUP}/1 is PendingManualApproval\n" in output


def test_an_archive_that_was_overwritten_after_its_approval_is_not_deployed(account, command, registered_run):
    assert command(register, f"run={registered_run}", "bucket=slides", "approval=Approved")[0] == 0
    (sent,) = account.requests("CreateModelPackage")
    key = sent["InferenceSpecification"]["Containers"][0]["ModelDataUrl"].removeprefix("s3://slides/")
    account.s3.put_object(Bucket="slides", Key=key, Body=b"another network")
    status, _, errors = command(deploy, f"model_package={GROUP}/1", *DEPLOY)
    assert (status, errors.count("\n")) == (1, 1)
    assert f"is not the archive that was registered as {GROUP}/1" in errors
    assert account.requests("CreateModel") == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("provenance.json", {"packages": [], "code": "main"}),
        ("metrics.json", {"test": [1]}),
        ("identity.json", {"digest": None, "settings": [], "contents": 3}),
    ],
)
def test_records_that_were_changed_are_refused_and_nothing_is_uploaded(
    account, command, registered_run, tmp_path, name, content
):
    run = shutil.copytree(registered_run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    archive = registered_run.parents[1] / "model.tar.gz"
    if "digest" in content:
        content["digest"] = json.loads((run / name).read_text())["digest"]
    (run / name).write_text(json.dumps(content))
    status, _, errors = command(register, f"run={run}", "bucket=slides", f"archive={archive}")
    assert status == 1
    assert f"ValueError: the records of {run} or {archive} lack something or were changed (" in errors
    assert errors.count("\n") == 1
    assert not account.requests("CreateModelPackage")


def test_a_dry_run_shows_the_request_and_sends_nothing(account, command, registered_run):
    words = [f"run={registered_run}", "bucket=slides", "dry_run=true"]
    status, shown, errors = command(register, *words)
    assert (status, errors, account.sent) == (0, "", [])
    assert json.loads(shown)["ModelPackageGroupName"] == "milpath"
    status, shown, errors = command(deploy, f"model_package={GROUP}/1", *DEPLOY, "dry_run=true")
    assert (status, account.sent) == (0, [])
    assert "whether the package is approved was not looked up" in errors
    assert json.loads(shown)["create_model"]["PrimaryContainer"]["ModelPackageName"] == f"{GROUP}/1"


def test_the_metrics_of_another_training_are_refused(account, command, registered_run, tmp_path):
    for name in ("metrics.json", "provenance.json"):
        (tmp_path / name).write_bytes((registered_run / name).read_bytes())
    other = json.loads((registered_run / "identity.json").read_text()) | {"digest": "0" * 64}
    (tmp_path / "identity.json").write_text(json.dumps(other))
    archive = registered_run.parents[1] / "model.tar.gz"
    status, _, errors = command(register, f"run={tmp_path}", f"archive={archive}", "bucket=slides")
    assert (status, errors.count("\n")) == (1, 1)
    assert "are of different trainings" in errors
    # An exported network is of no training that anybody could compare.
    best = registered_run / "checkpoints" / "best.ckpt"
    save_network(load_network(best), tmp_path / "network.pt", load_card(best))
    write_model_archive(tmp_path / "network.pt", tmp_path / "exported.tar.gz")
    words = [f"run={registered_run}", f"archive={tmp_path / 'exported.tar.gz'}", "bucket=slides"]
    assert "does not say of which training its network is" in command(register, *words)[2]
    assert account.requests("CreateModelPackage") == account.requests("CreateModelPackageGroup") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=nowhere"], "nowhere does not exist; give the folder of a run"),
        (["run=."], "which the archive is made; give archive=model.tar.gz"),
        (["run=s3://slides/none.tar.gz", "archive=s3://slides/none.tar.gz"], "could not read s3://slides/none.tar.gz"),
        (["run=s3://slides/panda/", "archive=s3://slides/panda/"], "does not say of which training"),
        (
            ["run=s3://slides/a.tar.gz", "archive=b.tar.gz", "dry_run=true"],
            "so run=s3://slides/a.tar.gz must be on this",
        ),
        (["run=.", "group=no_underscore"], "group=no_underscore must be 1 to 63 letters"),
        (["run=.", "approval=Yes"], "approval=Yes must be one of PendingManualApproval, Approved, Rejected"),
        (["run=.", "bucket=null"], "bucket must be given"),
    ],
)
def test_a_mistake_of_register_is_one_line(account, command, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    kept = [] if "bucket=null" in words else ["bucket=slides"]
    status, _, errors = command(register, *kept, *words)
    assert (status, errors.count("\n")) == (1, 1)
    assert message in errors
    assert account.requests("CreateModelPackage") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give one of archive=model.tar.gz (or its address in S3) and model_package=ARN"),
        (["archive=a.tar.gz", f"model_package={GROUP}/1"], "give one of archive=model.tar.gz"),
        (["model_package=milpath"], "model_package=milpath is not an ARN of the form arn:aws:sagemaker"),
        ([f"model_package={GROUP}/1", "region=us-east-1"], "is in eu-central-1, not in region=us-east-1"),
        ([f"model_package={GROUP}/1", "image=own:1"], "image is for archive; a model package has the image"),
        ([f"model_package={GROUP}/7"], f"could not describe {GROUP}/7"),
    ],
)
def test_a_mistake_about_a_package_is_one_line(account, command, words, message):
    status, _, errors = command(deploy, *DEPLOY, *words)
    assert (status, errors.count("\n")) == (1, 1)
    assert message in errors
    assert account.requests("CreateModel") == []
