"""The parts that live memory is read with, each by itself: parsing, comparing, joining, keeping descriptors."""

import gc
import itertools
import os
import random
import threading
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memfs.fuse.filesystem import Filesystem, default_owner
from memfs.fuse.operations import Operations
from memfs.fuse.protocol import ATTR_OUT, ENTRY_OUT
from memfs.image import Run, State, Tally
from memfs.io import maps, pagemap, pagestate, target
from memfs.io.maps import Area, Areas, agree, batches, confine, parse, same_mapping
from memfs.io.pagemap import GUARD, PAGE, PFNZERO, PRESENT, SWAPPED, Pages
from memfs.io.pagestate import How
from memfs.io.recent import Recent
from memfs.io.runs import LONG, Stretch, count, joined
from memfs.io.smaps import Flags
from memfs.tree.node import AddressSpace, Dir, Memory, Node, Policy

MAPS = b"""\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon
35b1800000-35b1820000 rw-s 0001f000 fd:1a 135522  /a file (deleted)
7f00-7f01 ---p 00000000 00:00 0 
7f10-7f11 rw-p 00000000 00:00 0                   [anon:a name]
7f20-7f21 rw-s 00000000 00:01 4026                [anon_shmem:other]
7f30-7f31 rw-p 00000000 00:01 1024                /memfd:x\\012y (deleted)
7f40-7f41 rw-p 00000000 08:02 7                   /\xff\xfe
garbage
7f50-7f51 rw-p
7f60-zzzz rw-p 00000000 00:00 0
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""  # noqa: W291 - as the kernel prints it


def test_parse() -> None:
    areas = parse(MAPS)
    assert areas == [
        Area(0x400000, 0x452000, "r-xp", 0, (8, 2), 173521, "/usr/bin/dbus-daemon"),
        Area(0x35B1800000, 0x35B1820000, "rw-s", 0x1F000, (0xFD, 0x1A), 135522, "/a file (deleted)"),
        Area(0x7F00, 0x7F01, "---p", 0, (0, 0), 0, ""),
        Area(0x7F10, 0x7F11, "rw-p", 0, (0, 0), 0, "[anon:a name]"),
        Area(0x7F20, 0x7F21, "rw-s", 0, (0, 1), 4026, "[anon_shmem:other]"),
        Area(0x7F30, 0x7F31, "rw-p", 0, (0, 1), 1024, "/memfd:x\\012y (deleted)"),
        Area(0x7F40, 0x7F41, "rw-p", 0, (8, 2), 7, "/\udcff\udcfe"),
        Area(0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000, "--xp", 0, (0, 0), 0, "[vsyscall]"),
    ]
    assert [area.is_anonymous for area in areas] == [False, False, True, True, False, False, False, True]


@given(st.binary(max_size=300))
def test_garbage_is_no_area(raw: bytes) -> None:
    assert all(isinstance(area, Area) for area in parse(raw))
    assert parse(MAPS + raw)[:7] == parse(MAPS)[:7]


# -- comparing -------------------------------------------------------------------------------------------------------

FILE = Area(0x1000, 0x5000, "r--p", 0x10000, (8, 1), 5, "/lib/a.so")
HEAP = Area(0x8000, 0xC000, "rw-p", 0, (0, 0), 0, "[heap]")
ANON = Area(0x10000, 0x14000, "rw-p", 0, (0, 0), 0, "")
SHARED = Area(0x18000, 0x1C000, "rw-s", 0x1000, (0, 1), 77, "/dev/zero (deleted)")
NAMED = SHARED._replace(path="[anon_shmem:name]")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (FILE, FILE, True),
        (FILE, FILE._replace(start=0x2000, offset=0x11000), True),  # its beginning was unmapped
        (FILE, FILE._replace(permissions="rw-p"), True),  # mprotect(2)
        (FILE, FILE._replace(offset=0x11000), False),
        (FILE, FILE._replace(inode=6), False),
        (FILE, FILE._replace(device=(8, 2)), False),
        (FILE, FILE._replace(path="/lib/a.so (deleted)"), False),
        (FILE, HEAP, False),
        (HEAP, HEAP._replace(end=0xF000), True),  # brk(2)
        (HEAP, ANON, False),
        (ANON, ANON._replace(path="[anon:name]"), True),  # prctl(2)
        (ANON, ANON._replace(permissions="r--p"), True),
        (ANON, ANON._replace(permissions="rwxp"), False),
        (ANON, ANON._replace(permissions="rw-s"), False),
        (SHARED, NAMED, True),  # prctl(2)
        (NAMED, SHARED, True),
        (NAMED, NAMED._replace(path="[anon_shmem:other]"), True),
        (NAMED, NAMED._replace(start=0x19000, path="[anon_shmem:part]", offset=0x2000), True),
        (SHARED._replace(path="/memfd:x (deleted)"), NAMED, True),
        (SHARED._replace(path="/memfd:x (deleted)"), SHARED, False),
        (NAMED, NAMED._replace(inode=78), False),
        (NAMED, NAMED._replace(device=(0, 25)), False),
        (NAMED, NAMED._replace(offset=0), False),
        (NAMED, ANON._replace(path="[anon:name]"), False),
    ],
)
def test_same_mapping(one: Area, other: Area, same: bool) -> None:
    assert same_mapping(one, other) is same


def test_agree() -> None:
    before = [FILE, HEAP, ANON]
    assert agree(before, before, 0, 0x20000) == 0x20000
    assert agree(before, [FILE, HEAP._replace(end=0xE000), ANON], 0x1000, 0xC000) == 0xC000
    assert agree(before, [FILE, HEAP._replace(end=0xE000), ANON], 0x1000, 0x20000) == 0xC000
    assert agree(before, [FILE, ANON], 0x2000, 0x20000) == 0x8000
    assert agree(before, [FILE._replace(inode=9), HEAP, ANON], 0x2000, 0x20000) == 0x2000
    halves = [HEAP._replace(end=0x9000), HEAP._replace(start=0x9000, permissions="r--p")]
    assert agree(before, [FILE, *halves, ANON], 0x1000, 0x20000) == 0x20000
    assert agree([], [], 5, 10) == 10
    assert agree([], [FILE], 0, 0x5000) == 0x1000


def test_confine() -> None:
    areas = [FILE, HEAP, ANON]
    assert list(confine(areas, None, 0x4000, 0x9000)) == [
        (0x4000, 0x5000, FILE), (0x5000, 0x8000, None), (0x8000, 0x9000, HEAP),
    ]  # fmt: skip
    assert list(confine([], None, 1, 2)) == [(1, 2, None)]
    pins = [HEAP, ANON._replace(inode=7)]
    assert list(confine(areas, pins, 0x0, 0x20000)) == [
        (0x0, 0x8000, None), (0x8000, 0xC000, HEAP), (0xC000, 0x10000, None), (0x10000, 0x14000, None),
        (0x14000, 0x20000, None),
    ]  # fmt: skip


@st.composite
def layouts(draw: st.DrawFn) -> list[Area]:
    """Sorted, disjoint areas of a few kinds within [0, 64)."""
    edges = sorted(draw(st.sets(st.integers(0, 64), max_size=16)))
    kinds = st.sampled_from([("rw-p", 0, ""), ("r-xp", 0, ""), ("r--p", 1, "/a"), ("r--p", 2, "/b")])
    out = []
    for start, end in itertools.pairwise(edges):
        if draw(st.booleans()):
            permissions, inode, path = draw(kinds)
            out.append(Area(start, end, permissions, start if inode else 0, (0, 0), inode, path))
    return out


def at(areas: list[Area], address: int) -> Area | None:
    return next((area for area in areas if area.start <= address < area.end), None)


def alike(one: Area | None, other: Area | None) -> bool:
    return one is other if one is None or other is None else same_mapping(one, other)


@given(layouts(), layouts(), st.integers(0, 64), st.integers(0, 64))
def test_agree_and_confine_address_by_address(one: list[Area], other: list[Area], low: int, high: int) -> None:
    """Against the plainest way to say it: for each address."""
    low, high = min(low, high), max(low, high)
    differ = next((a for a in range(low, high) if not alike(at(one, a), at(other, a))), high)
    assert agree(one, other, low, high) == differ
    for pins in (None, other):
        parts = list(confine(one, pins, low, high))
        assert [a for start, end, _ in parts for a in range(start, end)] == list(range(low, high))
        for start, end, area in parts:
            for a in range(start, end):
                wanted = at(one, a)
                if pins is not None and not (wanted and at(pins, a) and alike(wanted, at(pins, a))):
                    wanted = None
                assert area is wanted
        groups = list(batches(iter(parts), 8))
        assert [part for group in groups for part in group] == parts
        assert all(len(group) == 1 or group[-1][1] - group[0][0] <= 8 for group in groups)


def test_areas_within_keep_their_incarnation() -> None:
    areas = Areas([FILE, HEAP, ANON])
    areas.incarnation = b"one"
    part = areas.within(0x4FFF, 0x8001)
    assert list(part) == [FILE, HEAP]
    assert part.incarnation == b"one"


# -- runs ------------------------------------------------------------------------------------------------------------

MIB = 1 << 20


def test_short_zeros_between_data_are_data() -> None:
    d, z, a, g = State.DATA, State.ZERO, State.ABSENT, State.GAP
    stretches: list[Stretch] = [
        (0, 10, z),
        (10, 20, d),
        (20, 30, z),
        (30, 40, d),
        (40, 50, z),
        (50, 60, a),
        (60, 70, g),
    ]
    assert list(joined(stretches)) == [
        Run(0, 10, z, None), Run(10, 40, d, 10), Run(40, 50, z, None), Run(50, 60, a, None), Run(60, 70, g, None),
    ]  # fmt: skip
    assert count(stretches) == (20, 30, 10)
    long: list[Stretch] = [(0, 10, d), (10, 10 + MIB, z), (10 + MIB, 20 + MIB, d), (20 + MIB, 30 + MIB, z)]
    assert [run.state for run in joined(long)] == [d, z, d, z]
    assert list(joined([])) == []
    slow: list[Stretch] = [(0, LONG - 1, d), (LONG - 1, LONG, d), (LONG, LONG + 5, z), (LONG + 5, LONG + 9, d)]
    assert list(joined(slow)) == [Run(0, LONG, d, 0), Run(LONG, LONG + 9, d, LONG)]  # whoever copies can begin
    assert list(joined(slow[:2])) == [Run(0, LONG, d, 0)]
    assert list(joined([*slow[:3], (LONG + 5, LONG + 9, a)])) == [
        Run(0, LONG, d, 0), Run(LONG, LONG + 5, z, None), Run(LONG + 5, LONG + 9, a, None),
    ]  # fmt: skip


def whole(runs: Iterable[Run]) -> list[Run]:
    """What was given in parts, as one."""
    out: list[Run] = []
    for run in runs:
        if out and out[-1].state is run.state and out[-1].end == run.start:
            out[-1] = out[-1]._replace(end=run.end)
        else:
            out.append(run)
    return out


@given(st.lists(st.tuples(st.integers(1, 2 * MIB), st.sampled_from(State)), max_size=20))
def test_joined_covers_the_same(pieces: list[tuple[int, State]]) -> None:
    """Every byte keeps its state, but zeros that became data; no run could be longer, but for what is given in parts;
    origins are addresses."""
    ends = list(itertools.accumulate((size for size, _ in pieces), initial=0))
    stretches = [(start, end, state) for (start, end), (_, state) in zip(itertools.pairwise(ends), pieces, strict=True)]
    parts = list(joined(stretches))
    assert all(a.end == b.start for a, b in itertools.pairwise(parts))
    assert all(a.end - a.start >= LONG for a, b in itertools.pairwise(parts) if a.state is b.state)
    assert all(run.origin == (run.start if run.state == State.DATA else None) for run in parts)
    runs = whole(parts)
    assert all(run.state is not State.DATA or run.end - run.start < LONG + 2 * MIB for run in parts)
    for start, end, state in stretches:
        covering = [run for run in runs if run.start < end and run.end > start]
        assert len(covering) == 1
        assert covering[0].state == state or (state == State.ZERO and covering[0].state == State.DATA)
        assert covering[0].start <= start
        assert end <= covering[0].end


# -- what a mount asks for ------------------------------------------------------------------------------------------


class Counted:
    """A Space of one page, and how often its bytes were counted."""

    counts = 0

    def tally(self, low: int, high: int) -> Tally:
        self.counts += 1
        return Tally(high - low, 0, 0)

    def readinto(self, address: int, buffer: memoryview) -> int:
        raise AssertionError("nobody reads")

    def runs(self, low: int, high: int) -> Iterator[Run]:
        raise AssertionError("nobody seeks")

    def view(self, address: int, size: int) -> None:
        return None


class Alone(Dir):
    """A live directory with one file."""

    policy = Policy.LIVE

    def __init__(self, node: Node) -> None:
        self._node = node

    def lookup(self, name: str) -> Node:
        return self._node


@pytest.mark.parametrize("kind", [Memory, AddressSpace])
def test_what_lives_is_counted_when_somebody_asks(kind: type[Memory]) -> None:
    """stat(2) is a LOOKUP and a GETATTR: the kernel keeps no more of the first than kind and size."""
    space = Counted()
    node = kind(space, 0, PAGE, dict)
    node.policy = Policy.LIVE
    operations = Operations(Filesystem(lambda: Alone(node), default_owner(None, None, 0, 0), live=True))
    number, *_, size, blocks = ENTRY_OUT.unpack(operations.lookup(1, memoryview(b"x\0")))[:9]
    assert (size, blocks, space.counts) == (node.stat(exact=False).size, 0, 0)
    size, blocks = ATTR_OUT.unpack(operations.getattr(number, memoryview(b"")))[4:6]
    assert (size, blocks, space.counts) == (PAGE if kind is Memory else 0, PAGE // 512, 1)


# -- descriptors -----------------------------------------------------------------------------------------------------


_CATEGORIES = (0, PRESENT, SWAPPED, PRESENT | pagemap.FILE, PRESENT | PFNZERO, SWAPPED | GUARD)


@given(st.lists(st.tuples(st.sampled_from((0, 1, 255, 256, 257, 600)), st.sampled_from(_CATEGORIES))), st.booleans())
@example([(1, PRESENT), (255, 0), (255, 0), (1, PRESENT)], True)
@example([(255, 0), (1, PRESENT), (1, 0), (1, PRESENT), (255, 0)], True)
def test_what_is_condensed_joins_to_the_same(pieces: list[tuple[int, int]], swapin: bool) -> None:
    """Also where the kernel tells of one stretch in two parts, and where something between two is mapped no more."""
    table = pagestate.table(swapin, private=True)

    def states(pages: Iterable[Pages]) -> Iterator[Stretch]:
        return ((start, end, pagestate.STATES[table[kind] or How.ZERO]) for start, end, kind in pages)

    pages = []
    at = 0
    for length, kind in pieces:
        if length:
            pages.append((at, at + length * PAGE, kind))
        at += max(1, length) * PAGE
    found = pagestate.condensed(pages, table)
    assert whole(joined(states(found))) == whole(joined(states(pages)))
    assert len(found) <= len(pages)


def test_100_000_pieces_are_condensed_to_one() -> None:
    pages = [(at * PAGE, (at + 1) * PAGE, PRESENT if at % 2 else 0) for at in range(1, 100_000)]
    table = pagestate.table(swapin=True, private=True)
    assert pagestate.condensed(pages, table) == [(PAGE, 100_000 * PAGE, PRESENT)]


class Opened:
    """Something open, which knows whether it is."""

    weight = 3
    now = 0
    most = 0
    lock = threading.RLock()  # garbage may be looked for, and so something be closed, while it is held

    def __init__(self) -> None:
        self.open = True
        with Opened.lock:
            Opened.now += 1
            Opened.most = max(Opened.most, Opened.now)

    def close(self) -> None:
        assert self.open, "closed twice"
        self.open = False
        with Opened.lock:
            Opened.now -= 1


@pytest.fixture
def recent() -> Iterator[Recent[Opened]]:
    Opened.now = Opened.most = 0
    yield Recent(30)


def test_the_least_recently_used_goes_first(recent: Recent[Opened]) -> None:
    for key in range(20):
        with recent.use(key, Opened) as opened:
            assert opened.open
    assert Opened.now == 10
    with recent.use(19, lambda: pytest.fail("was kept")):
        pass
    with recent.use(0, Opened) as outer:
        for key in range(100, 140):
            with recent.use(key, Opened):
                assert outer.open
    recent.forget_all(lambda key: True)
    assert Opened.now == 0


def test_what_is_in_use_is_closed_after_it(recent: Recent[Opened]) -> None:
    with recent.use(1, Opened) as opened:
        recent.forget(1)
        assert opened.open
        with recent.use(1, Opened) as other:
            assert other is not opened
    assert not opened.open
    assert other.open
    with pytest.raises(OSError, match="no such"), recent.use(2, lambda: (_ for _ in ()).throw(OSError("no such"))):
        pass


def test_from_many_threads(recent: Recent[Opened]) -> None:
    """8 threads over 50 keys: nobody sees anything closed, and no more is open than the limit and the users."""
    wrong: list[int] = []

    def work(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(2000):
            key = choose.randrange(50)
            if choose.random() < 0.1:
                recent.forget(key)
            with recent.use(key, Opened) as opened:
                if not opened.open:
                    wrong.append(key)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert Opened.most <= 10 + 8 + 8
    recent.forget_all(lambda key: True)
    assert Opened.now == 0


def test_a_finalizer_under_the_lock(recent: Recent[Opened]) -> None:
    """What holds the lock allocates memory, and so garbage may be looked for there."""
    with recent.use(1, Opened):
        pass
    with recent._lock:
        recent.discard(lambda key: key == 1)
        assert Opened.now == 1
    with recent.use(2, Opened):
        assert Opened.now == 1
    recent.discard(lambda key: key == 2)
    assert Opened.now == 0


class Ring:
    """Garbage that only the collector finds; then `recent` forgets a key."""

    def __init__(self, recent: Recent[Opened], key: int) -> None:
        self.me = self
        weakref.finalize(self, recent.discard, lambda other: other == key)


class Key(int):
    """A key that has garbage looked for whenever it is looked up: under the lock."""

    def __hash__(self) -> int:
        gc.collect()
        return int.__hash__(self)


def test_garbage_is_found_under_the_lock(recent: Recent[Opened]) -> None:
    def work() -> None:
        for number in range(5):
            with recent.use(Key(number), Opened) as opened:
                assert opened.open
                Ring(recent, number)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "it waits for itself"
    gc.collect()
    assert Opened.now == 0


# -- smaps, and numbers ----------------------------------------------------------------------------------------------

SMAPS = """\
1000-2000 rw-p 00000000 00:00 0 
Size:                  4 kB
Rss:                   0 kB
Swap:                  0 kB
VmFlags: rd wr mr mw me ac um 
3000-4000 rw-p 00000000 00:00 0                  [heap]
Size:                  4 kB
Rss:                   4 kB
Swap:                  0 kB
VmFlags: rd wr mr mw me ac 
5000-6000 rw-s 00000000 00:05 7                  /dev/some device
Rss:                   0 kB
Swap:                  0 kB
VmFlags: rd wr sh mr mw me ms pf io de dd 
7000-8000 rw-p 00000000 00:00 0 
Rss:                   0 kB
Swap:                  8 kB
VmFlags: rd 
9000-a000 rw-p 00000000 00:00 0 
Rss:                   0 kB
Private_Hugetlb:    2048 kB
VmFlags: rd ht 
"""  # noqa: W291 - as the kernel prints it


@pytest.mark.parametrize("repeats", [1, 3000])
def test_flags(tmp_path: Path, repeats: int) -> None:
    """Who fills a mapping, and whether one is empty; whatever the size of the file."""
    filler = "".join(
        f"{n:x}000-{n:x}800 r--p 00000000 08:01 3  /x\nRss: 1 kB\nVmFlags: rd mr \n" for n in range(16, repeats)
    )
    (tmp_path / "smaps").write_text(SMAPS + filler)
    fd = os.open(tmp_path / "smaps", os.O_RDONLY)
    flags = Flags(fd)
    assert [flags.filled_by_others(start, start + 0x1000) for start in range(0, 0xA000, 0x1000)] == [
        False, True, False, False, False, True, False, False, False, False,
    ]  # fmt: skip
    assert flags.filled_by_others(0, 0xA000)
    assert not flags.filled_by_others(0x6000, 1 << 47)
    assert [flags.is_empty(start) for start in (0x1000, 0x3000, 0x5000, 0x7000, 0x9000)] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert flags.filled_by_others(0x1000, 0x2000)
    os.close(fd)


def test_numbers_of_another_namespace_are_not_used(tmp_path: Path) -> None:
    """A pid is only used where it means the same process to us as to that /proc."""
    own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
    assert target.own_number(own) == os.getpid()
    os.close(own)
    for name, status in (("outer", "NSpid:\t100\t7\n"), ("old", "Name:\tx\n"), ("none", None)):
        process = tmp_path / name / "959"
        process.mkdir(parents=True)
        (process / "stat").write_text("959 (x) S 1")
        if status is not None:
            (tmp_path / name / "self").mkdir()
            (tmp_path / name / "self" / "status").write_text(status)
        fd = os.open(process, os.O_PATH | os.O_DIRECTORY)
        assert target.own_number(fd) == 0
        os.close(fd)


def test_the_query_says_when_it_cannot_be_asked(tmp_path: Path) -> None:
    (tmp_path / "maps").write_bytes(MAPS)
    fd = os.open(tmp_path / "maps", os.O_RDONLY)
    assert maps.query(fd, 0, 1 << 40) is None
    assert maps.query(fd, 0, 1 << 64) is None
    assert parse(maps.read_all(fd)) == parse(MAPS)
    os.close(fd)
