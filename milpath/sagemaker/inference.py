"""The four functions that SageMaker's inference toolkit calls, for `code/inference.py` of `model.tar.gz`.

The toolkit responds to any exception with its traceback, so a refused request is passed on as a value and turned into a
status and a one-line error at the end.
"""

import json
from typing import Any

from milpath.sagemaker.endpoint.handlers import Endpoint, input_fn, model_fn
from milpath.sagemaker.endpoint.handlers import output_fn as write
from milpath.sagemaker.endpoint.handlers import predict_fn as predict
from milpath.sagemaker.endpoint.request_limits import BadRequestError, status_of
from milpath.sagemaker.endpoint.response import JSON, Answer

__all__ = ["input_fn", "model_fn", "output_fn", "predict_fn"]

Prediction = tuple[Endpoint, list[Answer]]


def predict_fn(data: tuple[bytes, str], endpoint: Endpoint, context: Any = None) -> Prediction | BadRequestError:
    """Read the body and run the network, or return why the request is refused."""
    try:
        return predict(data, endpoint)
    except BadRequestError as error:
        return error


def output_fn(prediction: Prediction | BadRequestError, accept: str, context: Any = None) -> tuple[bytes, str]:
    """Write the predictions in the requested format, or the error with its status."""
    try:
        if isinstance(prediction, BadRequestError):
            raise prediction
        return write(prediction, accept)
    except BadRequestError as error:
        if context is None:
            raise
        context.set_response_status(code=status_of(error), phrase=str(error))
        return json.dumps({"error": str(error)}).encode(), JSON
