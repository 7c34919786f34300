"""Bytes of a file by a pipe: what changes on the way, and what is left where there can be no pipe."""

import fcntl
import mmap
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from makecore import Header, core
from mounting import daemons, mounted

from memfs.errors import SourceChanged
from memfs.fuse.kernel import _copied
from memfs.fuse.pipe import F_SETPIPE_SZ, Pipe, largest
from memfs.image import Piece
from memfs.io.file import FileSource, open_file

HEADER = b"sixteen bytes..."
SIZE = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Iterator[FileSource]:
    path = tmp_path / "file"
    path.write_bytes(b"a" * SIZE)
    source = open_file(str(path))
    yield source
    source.close()


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """A pipe in place of /dev/fuse."""
    read, write = os.pipe()
    fcntl.fcntl(write, F_SETPIPE_SZ, SIZE)
    yield read, write
    os.close(read)
    os.close(write)


def piece_of(source: FileSource, offset: int, size: int) -> Piece:
    piece = source.view(offset, size)
    assert piece is not None
    return piece


@pytest.mark.parametrize("how", ["cut", "emptied", "regrown", "written"])
def test_a_file_that_changes_after_it_was_looked_at(source: FileSource, ends: tuple[int, int], how: str) -> None:
    """Neither zeros nor new bytes; and the pipe is good for the next one."""
    piece = piece_of(source, 70_000, 100_000)
    if how == "written":
        with open(source.path, "r+b") as file:
            file.write(b"b" * SIZE)
        os.utime(source.path)
    else:
        os.truncate(source.path, 0 if how == "emptied" else 100_001)
        if how == "regrown":
            os.truncate(source.path, SIZE)
            os.utime(source.path)
    with pytest.raises(SourceChanged):
        _copied(piece)
    pipe = Pipe()
    try:
        if how in ("cut", "emptied"):
            assert not pipe.fill(HEADER, piece)
        else:
            with pytest.raises(SourceChanged):
                pipe.fill(HEADER, piece)
        again = open_file(__file__)
        size = again.size
        assert pipe.fill(HEADER, piece_of(again, 0, size))
        pipe.empty(ends[1], len(HEADER) + size)
        assert os.read(ends[0], SIZE) == HEADER + Path(__file__).read_bytes()
        again.close()
    finally:
        pipe.close()


def test_a_pipe_that_cannot_be_renewed(source: FileSource) -> None:
    """Its numbers may be other files by then: they are not used any more, and not closed."""
    pipe = Pipe()
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    closed = Piece(-1, 0, 70_000)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, old[1]))
        with pytest.raises(OSError, match="Bad file descriptor"):
            pipe.fill(HEADER, closed)
        assert largest() < SIZE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    assert not pipe.takes(piece_of(source, 0, 1))
    others = [os.dup(source.fd) for _ in range(2)]
    pipe.close()
    for fd in others:
        assert os.fstat(fd).st_size == SIZE
        os.close(fd)


@pytest.mark.kernel_only("only this transport lets the kernel copy out of the source")
def test_no_descriptor_is_left(point: Path, tmp_path: Path) -> None:
    """What no pipe can be made for is copied."""
    data = os.urandom(1 << 16) * 64
    path = tmp_path / "large.core"
    path.write_bytes(core([Header(address=0x10000, data=data, memory_size=len(data) + 4096)]))

    with mounted(path, point):
        (daemon,) = daemons(point)
        (name,) = os.listdir(point / "segments")
        assert (point / "segments" / name).stat().st_size
        resource.prlimit(daemon, resource.RLIMIT_NOFILE, (3, 3))
        fd = os.open(point / "segments" / name, os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, len(data))
        assert os.preadv(fd, [buffer], 0) == len(data)
        os.close(fd)
    assert buffer[:] == data
