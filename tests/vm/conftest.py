"""Guests for the tests: each machine is booted when the first test wants it, and runs until the last has ended."""

from collections.abc import Iterator

import pytest

from vm.boot import Guest, booted
from vm.kcore import POINT, Kernel
from vm.machines import MACHINES


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "guests(names): the machines of MACHINES that a test runs in, 4-level if unsaid")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes a guest runs in each that it names; all tests of a guest run one after the other."""
    if "guest" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("guests")
        names = marker.args if marker else ("4-level",)
        params = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]
        metafunc.parametrize("guest", params, indirect=True, scope="session")


@pytest.fixture(scope="session")
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """The guest of this test: pytest puts tests of one parameter together, so that each boots once."""
    with booted(MACHINES[request.param]) as up:
        yield up


@pytest.fixture(scope="session")
def kernel(guest: Guest) -> Iterator[Kernel]:
    """The guest, with its own memory mounted."""
    yield Kernel(guest)
    assert guest.memfs("umount", POINT).returncode == 0
    assert guest.run("pgrep", "-f", "memfs mount").returncode == 1, "the daemon has ended"
