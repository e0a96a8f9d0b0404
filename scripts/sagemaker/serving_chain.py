"""The handlers of sagemaker-pytorch-inference behind a plain HTTP server. Run by the Python with the toolkit.

usage: serving_chain.py FOLDER PORT    FOLDER is laid out like /opt/ml and is also SAGEMAKER_BASE_DIR
"""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

BASE = Path(sys.argv[1])


class Processor:
    def __init__(self, headers):
        self.headers = headers

    def get_request_properties(self):
        return self.headers


class Context:
    """The context that TorchServe passes to a handler: one object with the request and its status."""

    def __init__(self):
        self.system_properties = {"model_dir": str(BASE / "model")}
        self.model_name = "model"
        self.begin({"Content-Type": "application/json"})

    def begin(self, headers):
        self.request_processor = [Processor(headers)]
        self.status = 200
        self.content_type = "text/plain"

    def set_response_status(self, code=200, phrase=""):
        self.status = code

    def set_response_content_type(self, position, value):
        self.content_type = value


def main():
    sys.path.insert(0, str(BASE / "model" / "code"))
    from sagemaker_pytorch_serving_container.handler_service import HandlerService

    service, context = HandlerService(), Context()
    service.initialize(context)

    class Invocations(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.answer(200, "text/plain", b"")

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            accept = self.headers.get("Accept", "application/json")
            context.begin({"Content-Type": self.headers["Content-Type"], "Accept": accept})
            found = service.handle([{"body": body}], context)[0]
            data = found.encode() if isinstance(found, str) else bytes(found)
            self.answer(context.status, context.content_type, data)

        def answer(self, status, kind, data):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    HTTPServer(("127.0.0.1", int(sys.argv[2])), Invocations).serve_forever()


main()
