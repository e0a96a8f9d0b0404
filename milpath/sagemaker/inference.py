"""`code/inference.py` of `model.tar.gz`: the four functions under the names that SageMaker's toolkit looks for.

The toolkit answers any exception with 500 and a stack trace, but its own kind with the status and the line it carries.
"""

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import ParamSpec, TypeVar

from milpath.sagemaker import serve
from milpath.sagemaker.bad_request import BadRequestError

P = ParamSpec("P")
R = TypeVar("R")


def _in_toolkit_words(function: Callable[P, R]) -> Callable[P, R]:
    """Say no in the toolkit's way."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except BadRequestError as error:
            refuse = import_module("sagemaker_inference.errors").BaseInferenceToolkitError
            raise refuse(error.status, str(error), str(error)) from None

    return wrapped


model_fn = serve.model_fn
input_fn = _in_toolkit_words(serve.input_fn)
predict_fn = _in_toolkit_words(serve.predict_fn)
output_fn = _in_toolkit_words(serve.output_fn)
