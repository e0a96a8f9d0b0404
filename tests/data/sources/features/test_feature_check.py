import numpy as np
import pytest

from milpath.data.sources.features.feature_check import all_finite, require_finite


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numbers_pass_also_where_their_sum_is_too_large(dtype):
    require_finite(np.full((100, 100), np.finfo(dtype).max, dtype), "a", "file")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_value_that_is_none_is_named(value):
    features = np.zeros((4, 5), np.float32)
    features[2, 3] = value
    features[3, 1] = value
    with pytest.raises(
        ValueError, match=rf"^bag 'a' in f.h5 has {value} in column 3 \(row 2\); features must be finite"
    ):
        require_finite(features, "a", "f.h5")


def test_infinities_that_cancel_are_found():
    features = np.array([[np.inf, -np.inf]])
    with pytest.raises(ValueError, match="has inf in column 0"):
        require_finite(features, "a", "f")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 700, -1])
def test_a_value_of_float16_that_is_not_finite_is_found_anywhere_in_a_long_bag(value, row):
    features = np.full((1200, 512), np.finfo(np.float16).min, np.float16)
    assert all_finite(features)
    features[row, -1] = value
    assert not all_finite(features)


def test_no_tile_is_finite():
    assert all_finite(np.empty((0, 512), np.float16))
