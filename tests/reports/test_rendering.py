import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milpath.metrics.intervals import Interval
from milpath.reports.rendering import embed, interval, number, percent


@given(st.lists(st.text(), max_size=5))
def test_embedded_text_comes_back_as_it_was_and_holds_no_tag(texts):
    embedded = str(embed(texts))
    assert json.loads(embedded) == texts
    assert not set("<>&") & set(embedded)


def test_a_number_that_is_none_is_not_embedded():
    with pytest.raises(ValueError, match="JSON compliant"):
        embed([float("nan")])


def test_what_is_undefined_says_so():
    assert (number(None), percent(None), interval(None), interval(Interval(1.0, None, None))) == ("undefined",) * 2 + (
        "",
    ) * 2
    assert (number(-0.0004), interval(Interval(0.0, -0.0001, 0.1))) == ("0.000", "0.000 to 0.100")
    assert (number(0.5), percent(0.125), interval(Interval(0.5, 0.4, 0.6))) == ("0.500", "12.5%", "0.400 to 0.600")
