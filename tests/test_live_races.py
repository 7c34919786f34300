"""Memory that changes while it is looked at: what is given is what was there, or nothing; nothing hangs."""

import collections
import errno
import itertools
import os
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import live
import pytest
from live import PAGE, Live, running, space_of
from needs import need

from memfs.errors import AbsentMemory, MemfsError
from memfs.image import Space, State
from memfs.io.maps import Areas

pytestmark = pytest.mark.xdist_group("live")

SECONDS = 2.0
RESTING = ("still", "many")


@contextmanager
def moving(programs: Path, *words: object) -> Iterator[tuple[Live, int, int]]:
    """moving.c, and what it says of its place: the process, address, size."""
    with running(programs / "moving", *words, rests=words[0] in RESTING) as process:
        place = next((line.split() for line in process.lines if line.startswith("at ")), ["at", "0", "0"])
        yield process, int(place[1], 16), int(place[2], 16)


def page(word: int) -> bytes:
    return struct.pack("=Q", word) * (PAGE // 8)


def attempt(space: Space, address: int, size: int = PAGE) -> bytes:
    """What one read gives; nothing where it is absent."""
    buffer = bytearray(b"\xee" * size)
    try:
        return bytes(buffer[: space.readinto(address, memoryview(buffer))])
    except AbsentMemory:
        return b""


def repeat(look: Callable[[], bool], least: int = 20) -> None:
    """Look for some seconds; `look` says whether it saw something, and must have at least so many times."""
    seen = 0
    begin = time.monotonic()
    while time.monotonic() < begin + SECONDS or (seen < least and time.monotonic() < begin + 20 * SECONDS):
        seen += look()
    assert seen >= least


@pytest.mark.parametrize("queries", [True, False])
def test_no_byte_of_another_mapping(live_programs: Path, tmp_path: Path, queries: bool) -> None:
    """One address, page after page of a file: under each one's name come its own bytes, or none."""
    file = tmp_path / "numbers"
    file.write_bytes(b"".join(page(number) for number in range(16384)))
    with moving(live_programs, "replaced", file) as (process, address, _), space_of(process.pid) as space:
        space._queries = queries

        def look() -> bool:
            areas = space.areas().within(address, address + PAGE)
            if not areas:
                return False
            pinned = space.pinned(areas)
            for _ in range(3):
                got = attempt(pinned, address)
                assert got in (b"", page(areas[0].offset // PAGE))
            return got != b""

        repeat(look)


@pytest.mark.parametrize("queries", [True, False])
def test_what_is_unmapped_is_not_zero(live_programs: Path, queries: bool) -> None:
    """A page that is here or there and never empty: no zeros are seen in its place."""
    with moving(live_programs, "moved") as (process, address, _), space_of(process.pid) as space:
        space._queries = queries
        pinned = _pinned_when_there(space.areas, address, space.pinned)

        def look() -> bool:
            got = attempt(space, address), attempt(pinned, address)
            assert set(got) <= {b"", page(0x5EC3E7)}
            return any(got)

        repeat(look)


def _pinned_when_there(areas: Callable[[], Areas], address: int, pin: Callable[[Areas], Space]) -> Space:
    for _ in range(10_000):
        found = areas().within(address, address + PAGE)
        if found:
            return pin(found)
    raise AssertionError("it is never there")


def test_10_000_mappings_that_churn(live_programs: Path) -> None:
    """Every word is its page's number, or zero while the page is new; nothing else fails than what is not there."""
    with moving(live_programs, "churn", 10_000) as (process, address, size), space_of(process.pid) as space:

        def look() -> bool:
            now = space.areas()
            assert all(a.end <= b.start for a, b in itertools.pairwise(now))
            tally = space.tally(address, address + size)
            assert tally and tally.data + tally.zero + tally.absent <= size
            good = 0
            for area in now.within(address, address + size)[::50]:
                number = (area.start - address) // PAGE // 2 + 1
                for view in (space, space.pinned(now.within(area.start, area.end))):
                    got = attempt(view, area.start, area.end - area.start)
                    assert set(struct.unpack(f"={len(got) // 8}Q", got)) <= {0, number}
                    good += len(got)
            return good > 0

        repeat(look, least=2)


@pytest.mark.parametrize("queries", [True, False])
def test_a_file_of_a_mapping_that_is_cut(live_programs: Path, queries: bool) -> None:
    """Shared memory that is in no page table of the process, cut in pieces (mprotect, or names for parts of it) while
    it is read: it is all there, always."""
    whole = b"".join(page(number) for number in range(1, 65))
    with moving(live_programs, "split", 64) as (process, address, size), space_of(process.pid) as space:
        space._queries = queries
        pinned = space.pinned(space.areas().within(address, address + size))
        seen = collections.Counter(live.read(pinned, address, size) == whole for _ in range(300))
        assert seen == {True: 300}


def test_unmapped_under_an_open_view(live_programs: Path, tmp_path: Path) -> None:
    """The end of a process in the middle of reads: they end, with ESRCH and nothing else."""
    with moving(live_programs, "churn", 1000) as (process, address, size), space_of(process.pid) as space:
        killer = threading.Timer(0.3, os.kill, (process.pid, signal.SIGKILL))
        killer.start()
        begin = time.monotonic()
        try:
            with pytest.raises(MemfsError) as error:
                while time.monotonic() < begin + 20:
                    for offset in range(0, size, 1 << 16):
                        attempt(space, address + offset, 1 << 16)
            assert error.value.errno == errno.ESRCH
        finally:
            killer.join()


def test_exec(live_programs: Path) -> None:
    """A process that executes something else: the new memory is there, under pinned names nothing is."""
    with moving(live_programs, "still", 1) as (process, address, _), space_of(process.pid) as space:
        for word in (1, 2, 3):
            _until(lambda: attempt(space, address) == page(word))  # noqa: B023 - _until is done with it
            areas = space.areas()
            pinned = space.pinned(areas.within(address, address + PAGE))
            assert attempt(pinned, address) == page(word)
            os.kill(process.pid, signal.SIGUSR1)
            _until(lambda: attempt(pinned, address) == b"")  # noqa: B023 - _until is done with it
            assert {run.state for run in pinned.runs(address, address + PAGE)} == {State.ABSENT}


def test_exec_while_it_is_read(live_programs: Path) -> None:
    """Reads in a row over ten programs of one process: each gives the word of one of them, and never an older one."""
    with moving(live_programs, "still", 1) as (process, address, _), space_of(process.pid) as space:
        last = 1
        for word in range(2, 12):
            os.kill(process.pid, signal.SIGUSR1)
            deadline = time.monotonic() + 20
            while last < word and time.monotonic() < deadline:
                got = attempt(space, address)
                assert got in (b"", bytes(PAGE), page(last), page(word)) or set(got) <= {0, word}
                last = word if got == page(word) else last
            assert last == word


def test_vfork(live_programs: Path) -> None:
    """A child that shares its parent's memory until it executes something: then it has its own."""
    command = [live_programs / "moving", "vfork"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin and parent.stdout
        child = int(parent.stdout.readline().split()[1])
        try:
            assert parent.stdout.readline() == "ready\n"
            address = 0x123400000000
            with space_of(child) as space:
                pinned = space.pinned(space.areas().within(address, address + PAGE))
                assert attempt(space, address) == attempt(pinned, address) == page(1)
                parent.stdin.write("go\n")
                parent.stdin.flush()
                while parent.stdout.readline() != "ready\n":
                    pass
                _until(lambda: attempt(space, address) == page(2), 0.1)
                assert attempt(pinned, address) == b""
        finally:
            parent.kill()
            os.kill(child, signal.SIGKILL)


def test_a_userfaultfd_that_comes_while_memory_is_read(live_programs: Path) -> None:
    """A page that goes between the look and the read is nobody's to wait for: who reads by number would, for ever."""
    need(os.geteuid() == 0, "a userfaultfd(2) that the kernel's own reads wait for takes root")
    with moving(live_programs, "dropped", 16384) as (process, address, size), space_of(process.pid) as space:
        rounds = []

        def look() -> None:
            end = time.monotonic() + 4
            while time.monotonic() < end:
                rounds.append(sum(len(attempt(space, at, 1 << 20)) for at in range(address, address + size, 1 << 20)))
                if len(rounds) == 2:  # by now they are read by number, and what smaps said is kept
                    os.kill(process.pid, signal.SIGUSR1)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(20)
        stuck = thread.is_alive()
        os.kill(process.pid, signal.SIGKILL)  # which frees whoever waits
        thread.join(20)
    assert not stuck
    assert rounds[0] == size
    assert 0 < rounds[-1] < size, "no page went while it was read"


def test_60_000_mappings(live_programs: Path) -> None:
    """One part of it costs what a part costs, and so does looking at all of it."""
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    count = min(60_000, limit - 1000)
    with moving(live_programs, "many", count) as (process, address, size), space_of(process.pid) as space:
        before = live.counters(process.pid)
        areas = space.areas()
        assert len(areas) > count
        begin = time.monotonic()
        for number in range(0, count, 100):
            start = address + number * PAGE
            assert attempt(space.pinned(areas.within(start, start + PAGE)), start) == page(number + 1)
        each = (time.monotonic() - begin) / (count / 100)
        assert each < 0.02, "a page costs as much as all mappings"
        tally = space.tally(address, address + size)
        assert tally == (size, 0, 0)
        assert {run.state for run in space.runs(address, address + size)} == {State.DATA}
        assert live.read(space, address, 64 << 20) == b"".join(page(number + 1) for number in range((64 << 20) // PAGE))
        assert live.counters(process.pid) == before


def _until(condition: Callable[[], bool], pause: float = 0.001) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(pause)
