import fnmatch
import json
import tarfile

import pytest
from hydra import compose, initialize_config_dir

from milpath.config.roots import CONFIG_DIR
from milpath.sagemaker import delete, deploy, launch, policy, process, register, score, transform, tune
from milpath.sagemaker.account.least_privilege import COMMANDS, MLFLOW_ACTIONS, Place, person_policy, role_policy
from milpath.sagemaker.jobs.aws_account import open_account
from milpath.sagemaker.jobs.endpoint_client import EndpointClient
from milpath.sagemaker.scoring import scored_objects
from tests.commands import SMALL_RUN
from tests.sagemaker.conftest import REGION, ROLE
from tests.sagemaker.loopback_endpoint import served_as

SAGEMAKER = f"arn:aws:sagemaker:{REGION}:123456789012"
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
    "EndpointConfigName": "endpoint-config", "ModelName": "model", "ModelPackageGroupName": "model-package-group",
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
    if operation == "DescribeModelPackage":
        yield f"sagemaker:{operation}", params["ModelPackageName"]
        return
    if operation == "CreateModelPackage":  # of a version, and of the group that it is made in
        yield f"sagemaker:{operation}", f"{SAGEMAKER}:model-package/{params['ModelPackageGroupName']}/1"
        yield f"sagemaker:{operation}", f"{SAGEMAKER}:model-package-group/{params['ModelPackageGroupName']}"
        return
    kind, name = next(
        (
            (KINDS[key], params[key])
            for key in KINDS
            if key in params and key.replace("Name", "") in operation + "Endpoint"
        ),
        (None, None),
    )
    resource = "*" if kind is None else f"{SAGEMAKER}:{kind}/{name}"
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
    account, calls, command, monkeypatch, tmp_path, network_path, feature_path, registered_run
):
    for module in (process, scored_objects):
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
    assert command(tune, *small, *GIVEN, "tune.ranges={seed: {low: 0, high: 9}}", "wait=true")[0] == 0
    account.s3.upload_file(str(registered_run.parents[1] / "model.tar.gz"), "slides", "milpath/job/model.tar.gz")
    own = [f"role={ROLE}", "bucket=slides"]
    packed = [f"run={registered_run}", "archive=s3://slides/milpath/job/model.tar.gz"]
    assert command(register, *packed, "bucket=slides", "approval=Approved")[0] == 0
    assert (
        command(deploy, f"model_package={SAGEMAKER}:model-package/milpath/1", *own, "endpoint=milpath-approved")[0] == 0
    )
    assert command(deploy, f"archive={tmp_path / 'model.tar.gz'}", *own, "mode=async")[0] == 0
    score_both(account, registered_run, tmp_path, monkeypatch)
    assert command(delete, "endpoint=milpath")[0] == 0
    made = [call for call in calls if call[1] not in ("DeleteObject",) and call[2].get("Body") not in (b"bag",)]
    statements = person_policy(PLACE, COMMANDS)["Statement"]
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


def score_both(account, registered_run, runs_dir, monkeypatch):
    """Score an endpoint at once and by way of S3, as an asynchronous one."""
    folder = registered_run.parents[1]
    with tarfile.open(folder / "model.tar.gz") as file:
        file.extractall(runs_dir / "served", filter="data")
    words = [word for word in SMALL_RUN if word.startswith("data")]
    words += ["endpoint=milpath", "run_name=scored", f"paths.stores_dir={folder}/stores", f"paths.runs_dir={runs_dir}"]
    with (
        served_as("milpath", runs_dir / "served", monkeypatch),
        initialize_config_dir(str(CONFIG_DIR), version_base="1.3"),
    ):
        score.run(compose("sagemaker_score", words))
    monkeypatch.delenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME")
    answer = {"Bucket": "slides", "Key": "milpath/answers/milpath/a.out"}  # where deploy lets the endpoint write
    account.s3.put_object(**answer, Body=b'{"label": "benign"}')

    def move(parsed, **_):
        parsed["OutputLocation"] = f"s3://{answer['Bucket']}/{answer['Key']}"

    account.events.register("after-call.sagemaker-runtime.InvokeEndpointAsync", move)
    client = EndpointClient(open_account(REGION), "milpath", "s3://slides/milpath/bodies", asynchronous=True)
    assert client.ask(b"bag", "a") == {"label": "benign"}


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
    assert (status, output) == (0, f"{path}: 3 statements\n")
    found = {item["Sid"]: (item["Action"], item["Resource"]) for item in json.loads(path.read_text())["Statement"]}
    work = ["arn:aws:s3:::slides/milpath/*"]
    assert found == {
        "Endpoint": (["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointAsync"], [f"{SAGEMAKER}:endpoint/milpath*"]),
        "Write": (["s3:PutObject"], work),
        "Read": (["s3:GetObject"], work),
    }
    status, shown, _ = command(policy, *words, "who=trust")
    assert json.loads(shown)["Statement"][0]["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    for wrong, message in [
        (["commands=[train]"], "commands: train is not one of launch, tune"),
        (["commands=[launch]", "who=role"], "commands=['launch'] are those of who=person; the policy of who=role does"),
        (["who=me"], "who=me must be one of person, role, trust"),
        (["role=Trainer"], "role=Trainer is not an ARN"),
        (["bucket=null"], "bucket must be given, such as bucket=my-slides"),
        (["read=[panda]"], "read=panda is not an address"),
        ([f"mlflow={ROLE}"], f"mlflow={ROLE} is not the ARN of an MLflow app or tracking server"),
    ]:
        status, _, errors = command(policy, *words, *wrong)
        assert (status, errors.count("\n")) == (1, 1)
        assert message in errors


@pytest.mark.parametrize("who", ["role", "person"])
def test_logging_to_mlflow_is_allowed_on_that_server_only(command, who):
    words = [f"who={who}", f"role={ROLE}", "bucket=slides", f"region={REGION}"]
    found = {}
    for kind in ("mlflow-tracking-server/slides", "mlflow-app/app-ABC"):
        status, shown, _ = command(policy, *words, f"mlflow={SAGEMAKER}:{kind}")
        assert status == 0
        (found[kind],) = [item for item in json.loads(shown)["Statement"] if item["Sid"] == "Mlflow"]
        assert found[kind]["Resource"] == [f"{SAGEMAKER}:{kind}"]
    server, app = (set(item["Action"]) for item in found.values())
    assert server == {f"sagemaker-mlflow:{action}" for action in MLFLOW_ACTIONS.values()}
    assert app - server == {"sagemaker:CallMlflowAppApi"}
    assert not {action for action in app if "Delete" in action or "*" in action}
    assert "Mlflow" not in command(policy, *words)[1]


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
