"""A real MLflow server on loopback, whose address the plugin of SageMaker takes instead of AWS's.

`python -m tests.mlflow_server FOLDER` writes its port to `port` and every request to `calls.jsonl`. It is a process of its
own: MLflow's client and server share global variables.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
ARTIFACTS = "s3://tracked/mlflow"


@contextmanager
def mlflow_server(folder: Path) -> Iterator[int]:
    """Run the server and yield its port."""
    folder.mkdir()
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.mlflow_server", str(folder)], cwd=REPOSITORY, stdout=log, stderr=log
    )
    try:
        deadline = time.monotonic() + 300
        while not (folder / "port").exists():
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield int((folder / "port").read_text())
    finally:
        process.terminate()
        process.wait(120)
        log.close()


def requests_of(folder: Path) -> list[dict[str, str]]:
    """Return the requests that the server got."""
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


def _serve(folder: Path) -> None:
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/mlflow.db",
        # As on AWS, files go to S3 without passing the server.
        "_MLFLOW_SERVER_ARTIFACT_ROOT": ARTIFACTS,
    }
    from mlflow.server import app
    from werkzeug.serving import make_server

    calls = (folder / "calls.jsonl").open("a")

    def recorded(environ, start_response):
        signed = environ.get("HTTP_AUTHORIZATION", "")
        calls.write(
            json.dumps({"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"], "signed": signed}) + "\n"
        )
        calls.flush()
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, recorded, threaded=True)
    (folder / "port.part").write_text(str(server.server_port))
    (folder / "port.part").replace(folder / "port")
    server.serve_forever()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
