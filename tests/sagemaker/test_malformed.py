from starlette.testclient import TestClient

from milpath.sagemaker.jobs.model_archive import write_model_dir
from milpath.sagemaker.serve import create_app
from tests.sagemaker.malformed import malformed


def test_three_hundred_malformed_bodies_get_an_answer_or_a_line(network_path, tmp_path):
    write_model_dir(network_path, tmp_path)
    seen = set()
    with TestClient(create_app(tmp_path), raise_server_exceptions=True) as client:
        for number, (body, kind) in enumerate(malformed(300, seed=20)):
            answer = client.post("/invocations", content=body, headers={"content-type": kind})
            seen.add(answer.status_code)
            assert answer.status_code == 200 or 400 <= answer.status_code < 500, (number, kind, answer.text)
            if answer.status_code != 200:
                error = answer.json()["error"]
                assert error
                assert "\n" not in error
    # The bodies are worth something while some are nearly right and some are wrong in different ways.
    assert {200, 400, 415} <= seen
