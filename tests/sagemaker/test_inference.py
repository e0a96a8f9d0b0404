import json

import pytest

from milpath.sagemaker import inference
from tests.sagemaker.endpoint.test_request_body import BAD
from tests.sagemaker.request_bodies import npy


class Context:
    """What the toolkit hands over: the status of the answer is said to it."""

    status = 200
    phrase = ""

    def set_response_status(self, code, phrase):
        self.status, self.phrase = code, phrase


def ask(endpoint, body, content_type, accept="application/json"):
    context = Context()
    data = inference.input_fn(body, content_type, context)
    answer, kind = inference.output_fn(inference.predict_fn(data, endpoint, context), accept, context)
    return context, answer, kind


def test_an_answer_has_status_200(endpoint, tiles):
    context, answer, kind = ask(endpoint, npy(tiles), "application/x-npy")
    assert (context.status, kind) == (200, "application/json")
    assert answer == endpoint.answer(npy(tiles), "application/x-npy")[0]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_body_has_its_status_and_one_line(endpoint, kind):
    body, content_type, status, message = BAD[kind]
    context, answer, _ = ask(endpoint, body, content_type)
    assert context.status == status
    assert message in json.loads(answer)["error"]
    assert context.phrase == json.loads(answer)["error"]


def test_a_wish_that_cannot_be_met_has_status_406(endpoint, tiles):
    assert ask(endpoint, npy(tiles), "application/x-npy", "text/html")[0].status == 406
