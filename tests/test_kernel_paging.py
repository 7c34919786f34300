"""Page tables of every format, made by hand (makekernel.py): what is mapped, and where to; damaged ones end."""

import struct
from collections.abc import Iterator

import pytest
from makekernel import FORMATS, Tables

from memfs.arch import paging
from memfs.errors import AbsentMemory, MemfsError
from memfs.image import Piece, Run, State, Tally
from memfs.io.paging import Geometry, Mapped, PagedSpace, PageTables


class Physical:
    """Physical memory of a few pieces: address and bytes."""

    def __init__(self, pieces: dict[int, bytes]) -> None:
        self.pieces = pieces
        self.reads = 0

    def readinto(self, address: int, buffer: memoryview) -> int:
        self.reads += 1
        for start, data in self.pieces.items():
            if start <= address < start + len(data):
                part = data[address - start :][: len(buffer)]
                buffer[: len(part)] = part
                return len(part)
        raise AbsentMemory(address, gap=True)

    def runs(self, low: int, high: int) -> Iterator[Run]:
        position = low
        for start, data in sorted(self.pieces.items()):
            begin, end = max(position, start), min(high, start + len(data))
            if begin < end:
                if begin > position:
                    yield Run(position, begin, State.GAP, None)
                yield Run(begin, end, State.DATA, begin)
                position = end
        if position < high:
            yield Run(position, high, State.GAP, None)

    def tally(self, low: int, high: int) -> Tally | None:
        return None

    def view(self, address: int, size: int) -> Piece | None:
        return None


GEOMETRIES: dict[str, tuple[Geometry, int]] = {
    # and the lowest address that the kernel has
    "x86_64 4": (paging.x86_64(4), 0xFFFF800000000000),
    "x86_64 5": (paging.x86_64(5), 0xFF00000000000000),
    "i386": (paging.I386, 0xC0000000),
    "i386 PAE": (paging.I386_PAE, 0xC0000000),
    "arm64 39": (paging.arm64(39, 4096), 0xFFFFFF8000000000),
    "arm64 48": (paging.arm64(48, 4096), 0xFFFF000000000000),
    "arm64 52": (paging.arm64(52, 4096), 0xFFF0000000000000),
    "arm64 64K": (paging.arm64(48, 65536), 0xFFFF000000000000),
    "s390x 3": (paging.s390x(1), 0),
    "s390x 4": (paging.s390x(2), 0),
}
AT = 0x7000000
"""Where the tables lie in physical memory."""


def tables_of(tables: Tables, name: str, physical: Physical) -> PageTables:
    order = "big" if tables.form.order == ">" else "little"
    physical.pieces[tables.at] = bytes(tables.memory)
    return PageTables(GEOMETRIES[name][0], order, physical, lambda size: bytes(tables.memory[:size]))


@pytest.fixture(params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_pages_and_large_pages(name: str) -> None:
    form, low = FORMATS[name], GEOMETRIES[name][1]
    page = 1 << form.shifts[-1]
    large = 1 << form.shifts[-2]
    tables = Tables(form, AT)
    start = low + 5 * large
    data = {0x10 * page: b"A" * page, 0x20 * page: b"B" * page, 0x31 * page: b"C" * page}
    for index, physical in enumerate(data):
        tables.map(start + index * page, physical, page)
    tables.map(start + 9 * page, 0x40 * page, page)
    tables.map(start + 10 * page, 0x41 * page, page)
    tables.map(low + 8 * large, 4 * large, large)
    found = tables_of(tables, name, Physical(data))
    want = [
        Mapped(start, start + page, 0x10 * page),
        Mapped(start + page, start + 2 * page, 0x20 * page),
        Mapped(start + 2 * page, start + 3 * page, 0x31 * page),
        Mapped(start + 9 * page, start + 11 * page, 0x40 * page),
        Mapped(low + 8 * large, low + 9 * large, 4 * large),
    ]
    assert list(found.ranges(low, low + 16 * large)) == want
    assert list(found.ranges(start + page // 2, start + page + 16)) == [
        Mapped(start + page // 2, start + page, 0x10 * page + page // 2),
        Mapped(start + page, start + page + 16, 0x20 * page),
    ]
    assert list(found.ranges(low, low)) == list(found.ranges(low + 16 * large, low + 17 * large)) == []


def test_what_is_mapped_wherever_to(name: str) -> None:
    """mapped() is ranges() without the physical addresses, cut anywhere."""
    form, low = FORMATS[name], GEOMETRIES[name][1]
    page, large = 1 << form.shifts[-1], 1 << form.shifts[-2]
    tables = Tables(form, AT)
    last = large // page - 1
    for index in (0, 1, 3, last - 1, last, last + 1, last + 2, last + 5):  # over the end of a table, too
        tables.map(low + index * page, (0x100 + 3 * index) * page, page)
    tables.map(low + 3 * large, 7 * large, large)
    tables.map(low + 4 * large, 5 * large, large)
    tables.map(low + 5 * large, 0x99 * page, page)
    found = tables_of(tables, name, Physical({}))
    everything = list(found.mapped(low, low + 8 * large))
    assert everything == [
        (low, low + 2 * page),
        (low + 3 * page, low + 4 * page),
        (low + (last - 1) * page, low + (last + 3) * page),
        (low + (last + 5) * page, low + (last + 6) * page),
        (low + 3 * large, low + 5 * large + page),
    ]
    edges = [edge + by for run in everything for edge in run for by in (-page, -5, 0, 5) if edge + by >= low]
    for start in edges:
        for end in edges:
            pages = [low for piece in found.ranges(start, end) for low in (piece.start, piece.end)]
            merged = [at for at in pages if pages.count(at) == 1]
            assert [at for run in found.mapped(start, end) for at in run] == merged


def test_memory_behind_the_tables(name: str) -> None:
    form, low = FORMATS[name], GEOMETRIES[name][1]
    page = 1 << form.shifts[-1]
    tables = Tables(form, AT)
    data = {0x10 * page: b"A" * page, 0x20 * page: b"B" * page}
    tables.map(low, 0x10 * page, page)
    tables.map(low + page, 0x20 * page, page)
    tables.map(low + 2 * page, 0x30 * page, page)  # of which there are no bytes
    physical = Physical(data)
    space = PagedSpace(tables_of(tables, name, physical), physical)
    buffer = bytearray(4 * page)
    assert space.readinto(low, memoryview(buffer)) == 2 * page
    assert buffer[: 2 * page] == b"A" * page + b"B" * page
    for address, gap in ((low + 2 * page, False), (low + 3 * page, True)):
        with pytest.raises(AbsentMemory) as caught:
            space.readinto(address, memoryview(buffer))
        assert caught.value.gap is gap
    states = [(run.start - low, run.end - low, run.state) for run in space.runs(low, low + 4 * page)]
    assert states == [
        (0, page, State.DATA),
        (page, 2 * page, State.DATA),
        (2 * page, 3 * page, State.ABSENT),
        (3 * page, 4 * page, State.GAP),
    ]
    assert space.tally(low, low + 4 * page) == Tally(2 * page, 0, page)


def test_physical_addresses_of_52_bits() -> None:
    """LPA2 has the highest two bits in the middle, 64 KiB pages the highest four at the bottom."""
    for name, physical, page in (("arm64 52", 0xE_1234_5678_9000, 4096), ("arm64 64K", 0xB_1234_5678_0000, 65536)):
        form, low = FORMATS[name], GEOMETRIES[name][1]
        tables = Tables(form, AT)
        where = physical if name == "arm64 52" else physical & 0xFFFF_FFFF_0000 | physical >> 48 << 12
        tables.map(low, where, page)
        assert list(tables_of(tables, name, Physical({})).ranges(low, low + page)) == [
            Mapped(low, low + page, physical)
        ]


def test_encrypted_memory() -> None:
    """AMD's SME marks entries with a bit of the address: NUMBER(sme_mask)."""
    tables = Tables(FORMATS["x86_64 4"], AT)
    low = GEOMETRIES["x86_64 4"][1]
    tables.map(low, 0x5000 | 1 << 47, 4096)
    physical = Physical({AT: bytes(tables.memory)})
    found = PageTables(paging.x86_64(4, 1 << 47), "little", physical, lambda size: bytes(tables.memory[:size]))
    assert list(found.ranges(low, low + 4096)) == [Mapped(low, low + 4096, 0x5000)]


def test_a_table_that_is_not_there_says_nothing() -> None:
    tables = Tables(FORMATS["x86_64 4"], AT)
    low = GEOMETRIES["x86_64 4"][1]
    tables.map(low, 0x5000, 4096)
    top = bytes(tables.memory[:4096])
    found = PageTables(paging.x86_64(4), "little", Physical({}), lambda size: top[:size])
    assert list(found.ranges(low, low + 8192)) == [Mapped(low, low + 8192, None)]
    space = PagedSpace(found, Physical({}))
    assert [run.state for run in space.runs(low, low + 8192)] == [State.GAP]
    with pytest.raises(AbsentMemory):
        space.readinto(low, memoryview(bytearray(1)))


def test_tables_that_lead_into_themselves_end() -> None:
    """Every entry of the top table points to it: 2 to the 36 pages, if one believes it."""
    raw = struct.pack("<512Q", *[AT | 0x67] * 512)
    physical = Physical({AT: raw})
    found = PageTables(paging.x86_64(4), "little", physical, lambda size: raw[:size])
    low = 0xFFFF800000000000
    first = next(found.ranges(low, 1 << 64))
    assert first.start == low
    assert next(iter(PagedSpace(found, physical).runs(low, 1 << 64))).start == low
    raw = struct.pack("<512Q", *[AT | 0x67] * 511, 0)
    physical = Physical({AT: raw})
    scattered = PageTables(paging.x86_64(4), "little", physical, lambda size: raw[:size], limit=500)
    with pytest.raises(MemfsError, match="do not come to an end"):
        for _ in scattered.ranges(low, 1 << 64):
            pass
    assert physical.reads <= 500
    assert PagedSpace(scattered, physical).tally(low, 1 << 64) is None
