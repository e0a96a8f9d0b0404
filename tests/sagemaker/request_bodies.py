"""How the tests write the bodies that clients send."""

import base64
import io
import warnings
import zipfile

import numpy as np
from PIL import Image

TILE_SIZE = 32


def npy(array):
    body = io.BytesIO()
    np.save(body, array, allow_pickle=False)
    return body.getvalue()


def png(pixels, file_format="PNG"):
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, file_format)
    return body.getvalue()


def zipped(files, method=zipfile.ZIP_DEFLATED):
    """Return a zip of a mapping of names to bytes, or of pairs of them with names that come twice."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, data in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, data)
    return body.getvalue()


def text(data):
    return base64.b64encode(data).decode()
