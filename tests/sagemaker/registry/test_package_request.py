import json

import botocore.session
import pytest
from botocore.validate import validate_parameters

from milpath.sagemaker.registry.package_card import card_content
from milpath.sagemaker.registry.package_request import RegisterConfig, Registered, group_request, package_request

IDENTITY = {
    "settings": {"model": "milpath.models.AttentionMIL", "optimizer.lr": 0.0001, "data.exclude": ["x" * 300]},
    "contents": {f"{name}_sha256": character * 64 for name, character in zip(("tiles", "labels"), "ab", strict=True)},
    "digest": "c" * 64,
}
METRICS = {"val": {"auroc": 0.875}, "test": {"auroc": 0.75, "auroc_low": None, "share of µm, [b]": 0.5}}
CARD = {
    "network": {"name": "AttentionMIL"}, "task": "binary", "class_names": ["benign", "malignant"], "threshold": 0.4,
    "temperature": 2.0, "defer_below": 0.6, "tiling": {"num_tiles": 4}, "encoder": {}, "conformal": {},
    "warning": "synthetic slides: says nothing about real tissue", "data": {"path": "patients"},
}  # fmt: skip


def registered(**changes):
    given = {
        "archive": "s3://slides/model.tar.gz", "archive_sha256": "d" * 64, "archive_etag": "0123-2", "metrics": METRICS,
        "metrics_address": "s3://slides/metrics.json", "metrics_sha256": "e" * 64, "identity": IDENTITY,
        "commit": "0123456", "creator": "milpath 0.1.0", "task": "binary", "card": card(),
    }  # fmt: skip
    return Registered(**given | changes)


def card(**changes):
    place = {"creator": "milpath 0.1.0", "archive": "s3://slides/model.tar.gz", "run": "runs/a"}
    return card_content(CARD | changes, METRICS, IDENTITY, **place)


def request(changes=None, **settings):
    return package_request(RegisterConfig(run="runs/a", **settings), registered(**changes or {}), "registry/image:1")


def require_valid(operation, body):
    service = botocore.session.get_session().get_service_model("sagemaker")
    validate_parameters(body, service.operation_model(operation).input_shape)


def test_every_field_of_a_version():
    body = request(kms_key="key-1")
    require_valid("CreateModelPackage", body)
    assert body == {
        "ModelPackageGroupName": "milpath",
        "ModelPackageDescription": "binary, auroc 0.7500 on the test split, milpath 0.1.0",
        "InferenceSpecification": {
            "Containers": [
                {
                    "Image": "registry/image:1",
                    "ModelDataUrl": "s3://slides/model.tar.gz",
                    "Environment": {
                        "SAGEMAKER_PROGRAM": "inference.py",
                        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
                        "TS_MAX_REQUEST_SIZE": "7340032",
                        "TS_MAX_RESPONSE_SIZE": "7340032",
                        "MILPATH_MAX_BODY_BYTES": "6291456",
                    },
                    "Framework": "PYTORCH",
                    "FrameworkVersion": "2.6.0",
                }
            ],
            "SupportedContentTypes": [
                "application/x-npy", "application/zip", "application/json", "image/png", "image/jpeg", "image/tiff",
            ],
            "SupportedResponseMIMETypes": ["application/json", "application/x-npz"],
        },
        "ModelApprovalStatus": "PendingManualApproval",
        "ModelMetrics": {
            "ModelQuality": {
                "Statistics": {
                    "ContentType": "application/json",
                    "ContentDigest": f"sha256:{'e' * 64}",
                    "S3Uri": "s3://slides/metrics.json",
                }
            }
        },
        "MetadataProperties": {"GeneratedBy": "milpath 0.1.0", "CommitId": "0123456"},
        "CustomerMetadataProperties": {
            "milpath": "milpath 0.1.0",
            "task": "binary",
            "run_identity_sha256": "c" * 64,
            "tiles_sha256": "a" * 64,
            "labels_sha256": "b" * 64,
            "archive_sha256": "d" * 64,
            "archive_etag": "0123-2",
            "test/auroc": "0.75",
            # The service takes neither commas nor brackets.
            "test/share of µm- -b-": "0.5",
            "val/auroc": "0.875",
        },
        "ModelCard": {"ModelCardContent": card(), "ModelCardStatus": "PendingReview"},
        "SecurityConfig": {"KmsKeyId": "key-1"},
    }  # fmt: skip


def test_a_folder_an_own_image_and_words_of_ones_own():
    changes = {"archive": "s3://slides/model/", "archive_sha256": None, "archive_etag": None, "commit": None}
    body = request(changes, image="registry/image:1", description="for the ward", approval="Rejected")
    require_valid("CreateModelPackage", body)
    (container,) = body["InferenceSpecification"]["Containers"]
    assert container["ModelDataSource"]["S3DataSource"]["S3Uri"] == "s3://slides/model/"
    assert not {"ModelDataUrl", "Framework"} & container.keys()
    assert body["ModelPackageDescription"] == "for the ward"
    assert (body["ModelApprovalStatus"], body["ModelCard"]["ModelCardStatus"]) == ("Rejected", "Draft")
    assert "archive_etag" not in body["CustomerMetadataProperties"]
    assert "CommitId" not in body["MetadataProperties"]


def test_a_group_has_the_tags_of_its_versions():
    body = group_request(RegisterConfig(run="runs/a", group="grading", tags={"project": "milpath"}))
    require_valid("CreateModelPackageGroup", body)
    assert body == {
        "ModelPackageGroupName": "grading",
        "ModelPackageGroupDescription": "Networks of milpath; one version for each registered run",
        "Tags": [{"Key": "project", "Value": "milpath"}],
    }


def test_more_metrics_than_the_service_takes_are_in_the_card_only():
    many = {"test": {f"auroc of class {number}": 0.5 for number in range(60)}}
    body = request({"metrics": many})
    require_valid("CreateModelPackage", body)
    assert len(body["CustomerMetadataProperties"]) == 50
    assert body["CustomerMetadataProperties"]["archive_etag"] == "0123-2"


def test_the_card_has_the_form_of_the_service():
    schema = pytest.importorskip("sagemaker.core.shapes.model_card_shapes")
    content = json.loads(card())
    schema.ModelCardContent(**content)
    assert "\n" not in card()
    assert content["model_overview"] == {
        "model_creator": "milpath 0.1.0",
        "model_artifact": ["s3://slides/model.tar.gz"],
    }
    assert content["intended_uses"]["purpose_of_model"].startswith("AttentionMIL answers binary (benign, malignant)")
    values = content["training_details"]["training_job_details"]["user_provided_hyper_parameters"]
    assert {"name": "optimizer.lr", "value": "0.0001"} in values
    assert max(len(item["value"]) for item in values) == 255
    val, test = content["evaluation_details"]
    assert (val["name"], test["name"]) == ("val", "test")
    (group,) = test["metric_groups"]
    assert group["metric_data"][:2] == [
        {"name": "auroc", "type": "number", "value": 0.75},
        {"name": "auroc_low", "type": "string", "value": "not defined"},
    ]
    more = content["additional_information"]
    assert more["caveats_and_recommendations"] == (
        "For research use only. Trained on synthetic slides: says nothing about real tissue."
    )
    assert more["custom_details"]["tiles_sha256"] == "a" * 64
    assert more["custom_details"]["threshold"] == "0.4"
    # Paths of the data stay here.
    assert "patients" not in card()
    assert json.loads(card(warning=""))["additional_information"]["caveats_and_recommendations"] == (
        "For research use only."
    )


def test_a_card_that_the_service_would_refuse_is_refused_here():
    many = {"test": {f"metric {number}": 0.5 for number in range(2000)}}
    with pytest.raises(ValueError, match=r"the model card has 1\d\d,\d{3} characters; SageMaker takes at most 100,000"):
        card_content(CARD, many, IDENTITY, creator="a", archive="b", run="c")
