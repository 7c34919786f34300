"""The threads that serve a mount, without one: what happens when there is no memory for another, or no thread."""

import os
import threading
from collections.abc import Iterator

import pytest

from memfs.fuse import kernel
from memfs.fuse.filesystem import Filesystem, default_owner
from memfs.fuse.operations import Operations
from memfs.tree.node import Dir

FAILURES = ["thread", "waiting"]


def _nothing() -> Dir:
    raise AssertionError("nobody looks")


class Served:
    """A server whose filesystem never asks for anything, and what it logged."""

    def __init__(self, fd: int) -> None:
        self.said: list[str] = []
        operations = Operations(Filesystem(_nothing, default_owner(None, None, 0, 0), live=True))
        self.server = kernel.Server(fd, operations, lambda: None, self.said.append)


@pytest.fixture
def served() -> Iterator[Served]:
    reading, writing = os.pipe()
    yield Served(reading)
    os.close(reading)
    os.close(writing)


@pytest.fixture(params=FAILURES)
def without(served: Served, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread needs cannot be had, once there is a server."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread") if request.param == "thread" else MemoryError("none")

    if request.param == "thread":
        monkeypatch.setattr(threading.Thread, "start", refuse)
    else:
        monkeypatch.setattr(kernel, "Waiting", refuse)


@pytest.mark.usefixtures("without")
def test_those_that_there_are_go_on(served: Served) -> None:
    server, one = served.server, kernel._Worker()
    server._workers.append(one)
    for _ in range(3):
        server._start_worker()
    assert server._workers == [one]
    assert not server._ended
    (said,) = served.said  # and not each time
    assert said.startswith("no thread, or no memory, for one more worker: ")


@pytest.mark.usefixtures("without")
def test_without_a_first_one_the_mount_ends(served: Served) -> None:
    with pytest.raises((RuntimeError, MemoryError)):
        served.server.serve()
    assert not served.server._workers
