"""The faults that tests/mutation.py puts into the code can be put there."""

import pytest
from mutation import FAULTS, ROOT

TESTS = ROOT / "tests"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.file}: {fault.old[:30]}")
def test_the_place_of_a_fault_is_there_once(fault):
    """CI tries some of them, chosen by the date: one that has moved would be found on another day."""
    assert (ROOT / fault.file).read_text("utf-8").count(fault.old) == 1
    assert fault.new != fault.old
    files = fault.tests.partition(" -k")[0].split()
    assert files
    assert all((TESTS / f"test_{name}.py").exists() for name in files)
