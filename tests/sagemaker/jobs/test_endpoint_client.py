import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import numpy as np
import pytest
from moto import mock_aws

from milpath.sagemaker.jobs.endpoint_client import MAX_BODY_BYTES, EndpointClient
from tests.sagemaker.request_bodies import npy

ANSWER = {"class_names": ["a", "b"], "predictions": []}


class Runtime(BaseHTTPRequestHandler):
    """Plays SageMaker's runtime: answers from a list, one entry a request, the last for ever."""

    answers = ()
    seen = ()

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, self.headers["Content-Type"], body))
        status, code, content = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        data = json.dumps(content).encode()
        self.send_response(status)
        if code:
            self.send_header("x-amzn-errortype", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def runtime(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Runtime)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", f"http://127.0.0.1:{server.server_port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    # The pauses between attempts are the service's business; the attempts are ours.
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    Runtime.seen = []
    yield Runtime
    server.shutdown()
    server.server_close()


def asker(**options):
    return EndpointClient(boto3.Session(region_name="eu-central-1"), "slides", **options)


def test_a_bag_is_sent_to_the_endpoint_by_name(runtime):
    runtime.answers = [(200, None, ANSWER)]
    assert asker().ask(b"bag", "slide_1") == ANSWER
    assert runtime.seen == [("/endpoints/slides/invocations", "application/x-npy", b"bag")]


def test_a_busy_endpoint_is_asked_again(runtime):
    busy = (429, "ThrottlingException", {"message": "slow down"})
    down = (503, "ServiceUnavailable", {"message": "later"})
    runtime.answers = [busy, busy, down, (200, None, ANSWER)]
    assert asker().ask(b"bag", "slide_1") == ANSWER
    assert len(runtime.seen) == 4


def test_a_model_that_is_not_ready_is_asked_until_the_time_is_up(runtime, monkeypatch):
    monkeypatch.setattr("milpath.sagemaker.jobs.endpoint_client.time.sleep", lambda _: None)
    waking = (429, "ModelNotReadyException", {"message": "waking"})
    runtime.answers = [waking, waking, (200, None, ANSWER)]
    assert asker().ask(b"bag", "slide_1") == ANSWER
    runtime.answers = [waking]
    with pytest.raises(ValueError, match="bag 'slide_1': ModelNotReadyException: waking"):
        asker(timeout_seconds=0).ask(b"bag", "slide_1")


def test_a_bag_that_is_refused_is_named(runtime):
    message = 'Received client error (400) from primary with message "{\\"error\\": \\"shape\\"}"'
    runtime.answers = [(424, "ModelError", {"message": message})]
    with pytest.raises(ValueError, match=r"bag 'slide_7': ModelError: Received client error \(400\)"):
        asker().ask(b"bag", "slide_7")
    assert len(runtime.seen) == 1


LARGE = npy(np.zeros(MAX_BODY_BYTES + 1, np.uint8))


def test_a_large_bag_goes_by_way_of_s3(runtime):
    runtime.answers = [(200, None, ANSWER)]
    with pytest.raises(ValueError, match="exceeds the 6 MiB that an endpoint accepts: add s3_prefix"):
        asker().ask(LARGE, "slide_1")
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="slides")
        found = EndpointClient(boto3.Session(region_name="us-east-1"), "slides", "s3://slides/in/")
        assert found.ask(LARGE, "slide_1") == ANSWER
        ((_, kind, body),) = runtime.seen
        content = json.loads(body)
        key = content["s3_uri"].removeprefix("s3://slides/")
        assert s3.get_object(Bucket="slides", Key=key)["Body"].read() == LARGE
    assert (kind, content["content_type"]) == ("application/json", "application/x-npy")
    assert key.startswith("in/")


def test_an_asynchronous_endpoint_answers_into_s3(monkeypatch):
    monkeypatch.setattr("milpath.sagemaker.jobs.endpoint_client.time.sleep", lambda _: None)
    with mock_aws():
        account = boto3.Session(region_name="us-east-1")
        s3 = account.client("s3")
        s3.create_bucket(Bucket="slides")
        found = EndpointClient(account, "slides", "s3://slides/in/", asynchronous=True, timeout_seconds=5)
        receipts = []

        def invoke(**words):
            receipts.append(words["InputLocation"])
            return {"OutputLocation": "s3://slides/out/1", "FailureLocation": "s3://slides/failures/1"}

        monkeypatch.setattr(found.client, "invoke_endpoint_async", invoke)
        s3.put_object(Bucket="slides", Key="out/1", Body=json.dumps(ANSWER).encode())
        assert found.ask(b"bag", "slide_1") == ANSWER
        assert s3.get_object(Bucket="slides", Key=receipts[0].removeprefix("s3://slides/"))["Body"].read() == b"bag"
        s3.delete_object(Bucket="slides", Key="out/1")
        s3.put_object(Bucket="slides", Key="failures/1", Body=b"out of memory")
        with pytest.raises(ValueError, match="the endpoint failed: out of memory"):
            found.ask(b"bag", "slide_1")
        s3.delete_object(Bucket="slides", Key="failures/1")
        found.timeout_seconds = 0.01
        with pytest.raises(TimeoutError, match="no response at s3://slides/out/1"):
            found.ask(b"bag", "slide_1")


def test_an_asynchronous_endpoint_needs_a_place_for_bags():
    with pytest.raises(ValueError, match="add s3_prefix=s3://bucket/folder/"):
        asker(asynchronous=True)
