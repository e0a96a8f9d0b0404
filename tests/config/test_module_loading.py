"""The garbage collector rests while modules are loaded, and is as before afterwards."""

import gc
import sys
from types import ModuleType

import pytest

from milpath.config.module_loading import collecting_later


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_rests_and_is_as_before(was_on):
    try:
        if not was_on:
            gc.disable()
        with pytest.raises(ImportError), collecting_later():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == was_on
    finally:
        gc.enable()


@pytest.mark.parametrize(("count", "leaves_out"), [(1000, True), (10, False)])
def test_only_what_many_new_modules_made_is_left_out_of_collections(count, leaves_out, monkeypatch):
    frozen = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    with collecting_later():
        for number in range(count):
            monkeypatch.setitem(sys.modules, f"module_of_a_test_{number}", ModuleType("a"))
    assert bool(frozen) == leaves_out
