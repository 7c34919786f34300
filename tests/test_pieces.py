"""How memfs cp copies a large file: in pieces, by several threads, and whole or cut."""

import os
import random
import threading
from collections.abc import Callable, Iterator
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
        out.close(None if whole else made.whole, made.at_work)
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


def test_interrupted_twice_while_a_thread_is_stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the thread writes when it goes on is not written into a file that was opened meanwhile."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    main = threading.get_ident()
    stuck, go_on = threading.Event(), threading.Event()

    class Stuck(Source):
        def readinto(self, offset: int, buffer: memoryview) -> int:
            if threading.get_ident() == main:
                assert stuck.wait(60)
                raise KeyboardInterrupt
            stuck.set()
            assert go_on.wait(60)
            return super().readinto(offset, buffer)

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "copy"
    path.write_bytes(OLD * 20 * MIB)
    before = set(threading.enumerate())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(threading.Thread, "join", interrupted)
        copied(path, Stuck(20 * MIB), runs((0, 20 * MIB, State.DATA)))
    other = tmp_path / "other"
    with other.open("wb"):
        (helper,) = set(threading.enumerate()) - before
        go_on.set()
        helper.join()
    assert other.read_bytes() == b""
    assert OLD * 16 not in path.read_bytes()


def without_memory(monkeypatch: pytest.MonkeyPatch, which: Callable[[int, int], bool]) -> None:
    """No buffer for a thread of which `which`(it, this one) says so, on three processors."""
    main = threading.get_ident()

    def scarce(size: int) -> memoryview:
        if which(threading.get_ident(), main):
            raise MemoryError
        return room(size)

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    monkeypatch.setattr(pieces, "room", scarce)


def test_without_memory_for_a_second_buffer_one_thread_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_memory(monkeypatch, lambda thread, main: thread != main)
    source = Source(16 * MIB)
    path = tmp_path / "copy"
    path.touch()
    copied(path, source, runs((0, source.size, State.DATA)))
    assert path.read_bytes() == source.data


def test_without_memory_for_a_buffer_nobody_is_left_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_memory(monkeypatch, lambda thread, main: thread == main)
    source = Source(64 * MIB)
    path = tmp_path / "copy"
    path.touch()
    before = threading.active_count()
    with pytest.raises(MemoryError):
        copied(path, source, runs((0, source.size, State.DATA)))
    assert threading.active_count() == before


def test_pages_are_gone_by_their_address(tmp_path: Path) -> None:
    """A file that begins in the middle of a page: what is gone ends where a page of memory does."""
    base, gone = BASE + 0x800, range(BASE + PAGE, BASE + 2 * PAGE)

    class Odd(Source):
        def readinto(self, offset: int, buffer: memoryview) -> int:
            if base + offset in gone:
                raise AbsentMemory(base + offset, gap=False)
            end = min([offset + len(buffer), *(at - base for at in (gone.start,) if at > base + offset)])
            buffer[: end - offset] = self.data[offset:end]
            return end - offset

    source = Odd(4 * PAGE)
    path = tmp_path / "copy"
    path.touch()
    out = SparseFile(os.open(path, os.O_WRONLY))
    out.resize(source.size)
    made = Pieces(source, [Run(base, base + source.size, State.DATA, None)], base, out, lambda count: None)
    made.run(source.size)
    out.close()
    wanted = bytearray(source.data)
    wanted[gone.start - base : gone.stop - base] = bytes(PAGE)
    assert path.read_bytes() == wanted
    assert made.absent == PAGE


def test_no_room_is_no_memory() -> None:
    with pytest.raises(MemoryError):
        room(1 << 62)


@pytest.mark.parametrize("size", [0, 1, 1000, pieces._PIECE, 3 * pieces._PIECE + 1])
def test_a_buffer_is_zeroed_writable_and_aligned_if_it_is_large(size: int) -> None:
    import ctypes

    buffer = room(size)
    assert bytes(buffer) == bytes(size)
    if size >= pieces._PIECE:
        assert ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % PAGE == 0
    buffer[:] = b"x" * size
