"""How the tests write the bodies that clients send."""

import base64
import io
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
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return body.getvalue()


def text(data):
    return base64.b64encode(data).decode()
