"""How memfs cp copies a large file: in pieces, by several threads, and whole or cut."""

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from memfs.cli import pieces
from memfs.cli.pieces import Pieces
from memfs.cli.sparsefile import SparseFile
from memfs.errors import AbsentMemory, MemfsError
from memfs.image import Run, State
from memfs.io.buffers import room
from memfs.tree.node import Reader

MIB = 1 << 20
PAGE = 4096
BASE = 0x7F0000000000
OLD = b"\xaa"


class Source(Reader):
    """Bytes that nothing else has; pages of it are gone, and from one offset on it fails."""

    def __init__(self, size: int, gone: tuple[int, ...] = (), fails: int | None = None) -> None:
        self.size = size
        self.data = random.Random(size).randbytes(size)
        self.gone = gone
        self.fails = size if fails is None else fails
        self.threads: set[int] = set()
        self.several = threading.Event()

    def readinto(self, offset: int, buffer: memoryview) -> int:
        self.threads.add(threading.get_ident())
        if len(self.threads) > 1:
            self.several.set()
        end = offset + len(buffer)
        if end > self.fails:
            raise MemfsError("reading failed")
        if offset // PAGE in self.gone:
            raise AbsentMemory(offset, gap=False)
        end = min([end, *(page * PAGE for page in self.gone if page * PAGE > offset)])
        buffer[: end - offset] = self.data[offset:end]
        return end - offset


@pytest.fixture(params=[0, 40 * MIB], ids=["new", "over an older one"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / "copy"
    file.write_bytes(OLD * request.param)
    return file


def runs(*spans: tuple[int, int, State]) -> Iterator[Run]:
    for start, end, state in spans:
        yield Run(BASE + start, BASE + end, state, None)


def copied(path: Path, source: Source, spans: Iterator[Run]) -> Pieces:
    """As memfs cp has it."""
    out = SparseFile(os.open(path, os.O_WRONLY))
    made = Pieces(source, spans, BASE, out, lambda count: None)
    whole = False
    try:
        out.resize(source.size)
        made.run(source.size)
        whole = True
    finally:
        out.close(None if whole else made.whole)
    return made


def test_every_byte_in_its_place(path: Path) -> None:
    """Data, zeros, what is absent, and two pages that are gone by the time that they are read."""
    source = Source(33 * MIB + 5, gone=(3, 5000))
    spans = (
        (0, 10 * MIB, State.DATA), (10 * MIB, 12 * MIB, State.ZERO), (12 * MIB, 12 * MIB + PAGE, State.ABSENT),
        (12 * MIB + PAGE, source.size, State.DATA),
    )  # fmt: skip
    made = copied(path, source, runs(*spans))
    wanted = bytearray(source.data)
    for start, end in ((10 * MIB, 12 * MIB + PAGE), *((page * PAGE, (page + 1) * PAGE) for page in source.gone)):
        wanted[start:end] = bytes(end - start)
    assert path.read_bytes() == wanted
    assert made.absent == 3 * PAGE
    assert path.stat().st_blocks * 512 <= source.size - 2 * MIB


def test_by_several_threads_if_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    source = Source(16 * MIB)
    first = source.readinto

    def together(offset: int, buffer: memoryview) -> int:
        got = first(offset, buffer)
        assert source.several.wait(60), "one thread reads alone"
        return got

    monkeypatch.setattr(source, "readinto", together)
    path = tmp_path / "copy"
    path.touch()
    copied(path, source, runs((0, source.size, State.DATA)))
    assert path.read_bytes() == source.data
    assert len(source.threads) > 1


def test_where_no_thread_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    source = Source(16 * MIB)
    path = tmp_path / "copy"
    path.touch()
    copied(path, source, runs((0, source.size, State.DATA)))
    assert path.read_bytes() == source.data


def test_what_fails_is_said_and_nothing_of_before_is_left(path: Path) -> None:
    source = Source(30 * MIB, fails=20 * MIB)
    was = path.stat().st_size
    spans = (0, 15 * MIB, State.DATA), (15 * MIB, 16 * MIB, State.ZERO), (16 * MIB, 30 * MIB, State.DATA)
    with pytest.raises(MemfsError, match="reading failed"):
        copied(path, source, runs(*spans))
    wanted = bytearray(source.data[: 20 * MIB])
    wanted[15 * MIB : 16 * MIB] = bytes(MIB)
    got = path.read_bytes()
    if was:  # cut where it is whole
        assert got == wanted[: len(got)]
        assert len(got) <= 20 * MIB
    else:  # what is not written is a hole
        assert all(got[at : at + MIB] in (wanted[at : at + MIB], bytes(MIB)) for at in range(0, 30 * MIB, MIB))
    assert OLD * 16 not in got


def test_looking_for_data_may_fail_too(path: Path) -> None:
    def broken() -> Iterator[Run]:
        yield from runs((0, MIB, State.DATA))
        raise MemfsError("the process is gone")

    source = Source(30 * MIB)
    with pytest.raises(MemfsError, match="gone"):
        copied(path, source, broken())
    got = path.read_bytes()
    assert got[:MIB] in (source.data[:MIB], b"")
    assert not got[MIB:].strip(b"\0")


def test_an_interrupt_ends_all_threads(path: Path) -> None:
    source = Source(64 * MIB)
    main = threading.get_ident()

    class Interrupted(Source):
        def readinto(self, offset: int, buffer: memoryview) -> int:
            if threading.get_ident() == main and offset > 4 * MIB:
                raise KeyboardInterrupt
            return source.readinto(offset, buffer)

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        copied(path, Interrupted(64 * MIB), runs((0, 64 * MIB, State.DATA)))
    assert threading.active_count() == before
    assert OLD * 16 not in path.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 1000, pieces._PIECE, 3 * pieces._PIECE + 1])
def test_a_buffer_is_zeroed_writable_and_aligned_if_it_is_large(size: int) -> None:
    import ctypes

    buffer = room(size)
    assert bytes(buffer) == bytes(size)
    if size >= pieces._PIECE:
        assert ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % PAGE == 0
    buffer[:] = b"x" * size
