import fnmatch
import json

import pytest

from milpath.sagemaker import delete, deploy, launch, policy, process, transform
from milpath.sagemaker.account.least_privilege import COMMANDS, Place, person_policy, role_policy
from tests.sagemaker.conftest import REGION, ROLE

PLACE = Place(REGION, ROLE, "slides", read=["s3://slides/panda", "s3://slides/in"], write=["s3://slides/out"])
GIVEN = ["sagemaker.bucket=slides", f"sagemaker.role={ROLE}"]
# Operations whose permission has another name, or several.
ACTIONS = {
    "HeadBucket": ["ListBucket"], "ListObjectsV2": ["ListBucket"], "HeadObject": ["GetObject"],
    "CreateMultipartUpload": ["PutObject"], "UploadPart": ["PutObject"], "CompleteMultipartUpload": ["PutObject"],
}  # fmt: skip
KINDS = {
    "TrainingJobName": "training-job", "ProcessingJobName": "processing-job", "TransformJobName": "transform-job",
    "HyperParameterTuningJobName": "hyper-parameter-tuning-job", "EndpointName": "endpoint",
    "EndpointConfigName": "endpoint-config", "ModelName": "model",
}  # fmt: skip


def needs(service, operation, params):
    """Return the action and the resource of each permission that a call needs, by the service authorization reference."""
    if service == "s3":
        bucket = f"arn:aws:s3:::{params['Bucket']}"
        for action in ACTIONS.get(operation, [operation]):
            yield f"s3:{action}", bucket if action == "ListBucket" else f"{bucket}/{params['Key']}"
        return
    if service == "application-autoscaling":
        yield f"{service}:{operation}", "*"
        return
    if service == "monitoring":
        (alarm,) = [params["AlarmName"]] if "AlarmName" in params else params["AlarmNames"]
        yield f"cloudwatch:{operation}", f"arn:aws:cloudwatch:{REGION}:123456789012:alarm:{alarm}"
        return
    kind, name = next(
        (
            (KINDS[key], params[key])
            for key in KINDS
            if key in params and key.replace("Name", "") in operation + "Endpoint"
        ),
        (None, None),
    )
    resource = "*" if kind is None else f"arn:aws:sagemaker:{REGION}:123456789012:{kind}/{name}"
    yield f"sagemaker:{operation}", resource
    if params.get("Tags"):
        yield "sagemaker:AddTags", resource
    if operation.startswith("Create") and (role := params.get("RoleArn") or params.get("ExecutionRoleArn")):
        yield "iam:PassRole", role


def statement_for(statements, action, resource):
    """Return the position of the statement that allows an action, or None."""
    for position, statement in enumerate(statements):
        if action in statement["Action"] and any(fnmatch.fnmatchcase(resource, item) for item in statement["Resource"]):
            return position
    return None


@pytest.fixture
def calls(account):
    """Every call to every service, as it is sent."""
    found = []

    def keep(params, model, **_):
        found.append((model.service_model.signing_name, model.name, dict(params)))

    account.events.register("provide-client-params.*", keep)
    return found


def test_every_call_of_a_whole_day_is_allowed_and_nothing_else_is(
    account, calls, command, monkeypatch, tmp_path, network_path, feature_path
):
    for module in (process, transform):
        monkeypatch.setattr(module, "wait_for_job", lambda played, request: describe(played, request))
    account.s3.put_object(Bucket="slides", Key="in/a.svs", Body=b"slide")
    (tmp_path / "model.tar.gz").write_bytes(b"model")
    calls.clear()
    small = ["data=synthetic", "data.num_slides=8", "sagemaker.training=s3://slides/panda"]
    assert command(launch, *small, *GIVEN)[0] == 0
    assert command(process, "slides=s3://slides/in", "output=s3://slides/out/tiles", *GIVEN, "wait=true")[0] == 1
    place = ["slides=s3://slides/in", "output=s3://slides/out/predicted", *GIVEN, "wait=true"]
    assert command(transform, f"checkpoint={network_path}", *place)[0] == 1  # played jobs score nothing
    account.s3.delete_object(Bucket="slides", Key="in/a.svs")
    account.s3.put_object(Bucket="slides", Key="in/a.npy", Body=b"bag")
    assert command(transform, f"checkpoint={feature_path}", *place, "name=bags")[0] == 1
    assert (
        command(deploy, f"archive={tmp_path / 'model.tar.gz'}", "bucket=slides", f"role={ROLE}", "mode=async")[0] == 0
    )
    assert command(delete, "endpoint=milpath")[0] == 0
    made = [call for call in calls if call[1] not in ("DeleteObject",) and call[2].get("Body") not in (b"bag",)]
    used = [name for name in COMMANDS if name not in ("tune", "score")]
    statements = person_policy(PLACE, used)["Statement"]
    exercised = set()
    for service, operation, params in made:
        for action, resource in needs(service, operation, params):
            assert statement_for(statements, action, resource) is not None, (action, resource)
            exercised.add(action)
    granted = {action for statement in statements for action in statement["Action"]}
    assert granted == exercised
    assert "*" not in "".join(granted)
    for action, resource in [
        ("sagemaker:CreateTrainingJob", f"arn:aws:sagemaker:{REGION}:123456789012:training-job/other"),
        ("sagemaker:DeleteEndpoint", f"arn:aws:sagemaker:{REGION}:123456789012:endpoint/other"),
        ("s3:PutObject", "arn:aws:s3:::slides/panda/train.csv"),
        ("s3:PutObject", "arn:aws:s3:::slides/milpath-other/x"),
        ("s3:GetObject", "arn:aws:s3:::other/x"),
        ("s3:DeleteObject", "arn:aws:s3:::slides/milpath/x"),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/Admin"),
    ]:
        assert statement_for(statements, action, resource) is None, (action, resource)


def describe(played, request):
    client = played.client("sagemaker")
    kind = "processing" if "ProcessingJobName" in request else "transform"
    key = f"{kind.title()}JobName"
    getattr(client, f"describe_{kind}_job")(**{key: request[key]})


def test_the_role_has_data_logs_images_and_no_more(command):
    words = ["who=role", f"role={ROLE}", "bucket=slides", "region=eu-central-1", "read=[s3://slides/panda]"]
    status, shown, _ = command(policy, *words)
    assert status == 0
    plain = {item["Sid"]: item for item in json.loads(shown)["Statement"]}
    assert list(plain) == ["Buckets", "Read", "Write", "Logs", "Metrics", "Registry", "Images"]
    assert plain["Write"]["Resource"] == ["arn:aws:s3:::slides/milpath/*"]
    assert plain["Read"]["Resource"] == ["arn:aws:s3:::slides/milpath/*", "arn:aws:s3:::slides/panda/*"]
    assert plain["Images"]["Resource"] == ["arn:aws:ecr:eu-central-1:*:repository/pytorch-*"]
    key, own = f"arn:aws:kms:{REGION}:123456789012:key/1", f"arn:aws:ecr:{REGION}:123456789012:repository/milpath-train"
    hospital = role_policy(Place(REGION, ROLE, "slides", kms_key=key, repositories=[own], private_network=True))
    more = {item["Sid"]: item for item in hospital["Statement"]}
    assert set(more) - set(plain) == {"Key", "Network"}
    assert (more["Key"]["Resource"], more["Images"]["Resource"]) == ([key], [own])
    everything = {action for item in more.values() for action in item["Action"]}
    assert not {action for action in everything if action.startswith("sagemaker:") or "*" in action}


def test_only_the_commands_that_are_used_are_allowed(command, tmp_path):
    words = [f"role={ROLE}", "bucket=slides", "region=eu-central-1"]
    path = tmp_path / "person.json"
    status, output, _ = command(policy, *words, "commands=[score]", f"file={path}")
    assert (status, output) == (0, f"{path}: 1 statements\n")
    (statement,) = json.loads(path.read_text())["Statement"]
    assert statement["Action"] == ["sagemaker:InvokeEndpoint"]
    status, shown, _ = command(policy, *words, "who=trust")
    assert json.loads(shown)["Statement"][0]["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    for wrong, message in [
        (["commands=[train]"], "commands: train is not one of launch, tune"),
        (["who=me"], "who=me must be one of person, role, trust"),
        (["role=Trainer"], "role=Trainer is not an ARN"),
        (["bucket=null"], "bucket must be given, such as bucket=my-slides"),
        (["read=[panda]"], "read=panda is not an address"),
    ]:
        status, _, errors = command(policy, *words, *wrong)
        assert (status, errors.count("\n")) == (1, 1)
        assert message in errors


def test_a_hospital_has_everything_on(command, account):
    words = ["data=synthetic", "sagemaker=hospital", *GIVEN, "sagemaker.training=s3://slides/panda", "dry_run=true"]
    status, _, errors = command(launch, *words)
    assert status == 1
    assert "sagemaker.private=true (sagemaker=hospital) needs sagemaker.subnets; give it" in errors
    key = f"arn:aws:kms:{REGION}:123456789012:key/1"
    own = ["sagemaker.subnets=[subnet-1]", "sagemaker.security_group_ids=[sg-1]", f"sagemaker.kms_key={key}"]
    status, shown, errors = command(launch, *words, *own, "sagemaker.image=own:1")
    assert (status, errors) == (0, "")
    body = json.loads(shown)
    assert body["EnableNetworkIsolation"] is True
    assert body["EnableInterContainerTrafficEncryption"] is True
    assert body["VpcConfig"] == {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    assert body["OutputDataConfig"]["KmsKeyId"] == body["ResourceConfig"]["VolumeKmsKeyId"] == key
    assert account.sent == []
