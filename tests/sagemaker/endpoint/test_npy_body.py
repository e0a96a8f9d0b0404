import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from milpath.sagemaker.endpoint.npy_body import read_npy
from milpath.sagemaker.endpoint.request_limits import BadRequestError
from tests.sagemaker.request_bodies import npy

DTYPES = ["<f2", ">f4", "<f8", "|u1"]


@given(
    hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(max_dims=5, max_side=3), elements={"allow_nan": False}),
    st.booleans(),
)
@settings(max_examples=60)
def test_what_numpy_writes_is_read_as_numpy_reads_it(array, fortran):
    body = npy(np.asfortranarray(array) if fortran else array)
    found = read_npy(body)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, np.load(io.BytesIO(body)))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(version):
    body = io.BytesIO()
    np.lib.format.write_array(body, np.arange(6, dtype=np.float32).reshape(2, 3), version=version)
    assert read_npy(body.getvalue()).tolist() == [[0, 1, 2], [3, 4, 5]]


def objects():
    body = io.BytesIO()
    np.save(body, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return body.getvalue()


WHOLE = npy(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not an npy file"),
        (pickle.dumps([1, 2, 3]), "not an npy file"),
        (WHOLE[:9], "truncated"),
        (WHOLE[:40], "truncated"),
        (WHOLE[:-1], "should have 24 bytes, but has 23"),
        (WHOLE + b"x", "should have 24 bytes, but has 25"),
        (WHOLE[:6] + b"\x09" + WHOLE[7:], "version 9"),
        (objects(), "must hold uint8, float16, float32 or float64"),
        (npy(np.zeros(3, np.int64)), "not '<i8'"),
        (npy(np.zeros(3, np.complex64)), "not '<c8'"),
        (npy(np.zeros((2, 0), np.float32)), "invalid shape"),
        (WHOLE.replace(b"(2, 3)", b"(9, 9)"), "should have 324 bytes"),
        (WHOLE.replace(b"'shape': (2, 3), }", b"'shape': (-2, 3),}"), "without shape"),
        (WHOLE.replace(b"fortran_order", b"fortran_xxxxx"), "without shape and order"),
        (npy(np.zeros(1, [("a", "<f4")])), "must hold"),
    ],
)
def test_anything_else_is_refused_with_one_line(body, message):
    with pytest.raises(BadRequestError) as caught:
        read_npy(body)
    assert message in str(caught.value)
    assert caught.value.status == 400


def test_a_header_that_promises_terabytes_costs_nothing():
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999, 999999999), }"
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(BadRequestError, match="but has 0"):
        read_npy(body)
