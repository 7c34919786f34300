"""Address spaces against a model with a cell for each byte: overlaps, absent bytes, holes, prefixes, sums."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memfs.errors import AbsentMemory, SourceChanged
from memfs.image import State
from memfs.io.file import FileSource, open_file
from memfs.io.sparse import Extent, ExtentSpace, ZeroFilled, flatten, load_extents

SIZE = 96
CONTENT = bytes(range(1, 129))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileSource]:
    path = tmp_path_factory.mktemp("space") / "file"
    path.write_bytes(CONTENT)
    file = open_file(str(path))
    yield file
    file.close()


def model(extents: list[Extent]) -> list[int | str | None]:
    """What each address is: a byte, None for absent, "gap"."""
    cells: list[int | str | None] = ["gap"] * SIZE
    for wanted in (False, True):  # first those that are absent, so that data goes over them
        for extent in reversed(extents):
            if (extent.origin >= 0) == wanted:
                for address in range(extent.start, min(extent.end, SIZE)):
                    cells[address] = CONTENT[extent.origin + address - extent.start] if wanted else None
    return cells


extent_lists = st.lists(
    st.builds(
        lambda start, size, origin, absent: Extent(start, start + size, -1 if absent else origin),
        st.integers(0, SIZE - 1),
        st.integers(1, 40),
        st.integers(0, 80),
        st.booleans(),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=300)
@given(extents=extent_lists, low=st.integers(0, SIZE), size=st.integers(0, SIZE))
def test_against_the_model(source: FileSource, extents: list[Extent], low: int, size: int) -> None:
    cells = model(extents)
    flat = flatten(extents, SIZE)
    assert all(a.end <= b.start for a, b in itertools.pairwise(flat))
    space = ExtentSpace(source, flat)
    high = min(SIZE, low + size)
    runs = list(space.runs(low, high))
    assert [run.start for run in runs] == [low, *[run.end for run in runs]][: len(runs)]
    assert (runs[-1].end if runs else low) == max(low, high)
    counts = dict.fromkeys(State, 0)
    for run in runs:
        counts[run.state] += run.end - run.start
        for address in range(run.start, run.end):
            cell = cells[address]
            want = State.GAP if cell == "gap" else State.ABSENT if cell is None else State.DATA
            assert run.state == want
            if run.state == State.DATA:
                assert run.origin is not None
                assert CONTENT[run.origin + address - run.start] == cell
    assert space.tally(low, max(low, high)) == (counts[State.DATA], counts[State.ZERO], counts[State.ABSENT])
    expected = []
    for cell in cells[low:high]:
        if not isinstance(cell, int):
            break
        expected.append(cell)
    buffer = bytearray(max(0, high - low))
    if buffer and not expected:
        with pytest.raises(AbsentMemory) as caught:
            space.readinto(low, memoryview(buffer))
        assert caught.value.gap == (cells[low] == "gap")
    elif buffer:
        assert space.readinto(low, memoryview(buffer)) == len(expected)
        assert buffer[: len(expected)] == bytes(expected)


@settings(deadline=None, max_examples=200)
@given(extents=extent_lists, low=st.integers(0, SIZE - 1), size=st.integers(1, SIZE))
def test_zero_filled(source: FileSource, extents: list[Extent], low: int, size: int) -> None:
    cells = model(extents)
    space = ZeroFilled(ExtentSpace(source, flatten(extents, SIZE)))
    expected = []
    for cell in cells[low : low + size]:
        if cell == "gap":
            break
        expected.append(cell if isinstance(cell, int) else 0)
    buffer = bytearray(b"?" * min(size, SIZE - low))
    if expected:
        assert space.readinto(low, memoryview(buffer)) == len(expected)
        assert buffer[: len(expected)] == bytes(expected)
    else:
        with pytest.raises(AbsentMemory):
            space.readinto(low, memoryview(buffer))
    assert all(run.state != State.ABSENT for run in space.runs(low, low + size))
    tally = space.tally(low, low + size)
    assert tally is not None
    assert tally.absent == 0


def test_load_extents() -> None:
    assert list(load_extents(100, 10, 30, 5, 1000)) == [Extent(100, 110, 5), Extent(110, 130, -1)]
    assert list(load_extents(100, 10, 30, 5, 8)) == [Extent(100, 103, 5), Extent(103, 130, -1)]
    assert list(load_extents(100, 10, 30, 50, 8)) == [Extent(100, 130, -1)]
    assert list(load_extents(100, 30, 10, 0, 1000)) == [Extent(100, 110, 0)]
    assert list(load_extents(100, 0, 0, 0, 1000)) == []


def test_many_extents_at_one_address(source: FileSource) -> None:
    """66,000 real headers lie at one address: this must not take the square of that."""
    space = ExtentSpace(source, flatten([Extent(0, 1 + i % 50, i % 70) for i in range(200_000)], SIZE))
    buffer = bytearray(50)
    assert space.readinto(0, memoryview(buffer)) == 50


@pytest.fixture
def sparse(tmp_path: Path) -> FileSource:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(10 << 20)
        for offset in (1 << 20, 5 << 20):
            file.seek(offset)
            file.write(b"x" * 8192)
    return open_file(str(path))


def test_holes_of_the_source_are_zero(sparse: FileSource) -> None:
    space = ExtentSpace(sparse, [Extent(0, 10 << 20, 0)])
    runs = list(space.runs(0, 10 << 20))
    assert [run.state for run in runs] == [State.ZERO, State.DATA, State.ZERO, State.DATA, State.ZERO]
    assert sum(run.end - run.start for run in runs if run.state == State.DATA) <= 1 << 18
    assert runs[1].start == runs[1].origin <= 1 << 20
    tally = space.tally(0, 10 << 20)
    assert tally.data == sum(run.end - run.start for run in runs if run.state == State.DATA)
    assert sum(tally) == 10 << 20
    part = space.tally((1 << 20) + 100, (1 << 20) + 200)
    assert part == (100, 0, 0)
    buffer = bytearray(b"?" * 100)
    assert space.readinto((1 << 20) - 50, memoryview(buffer)) == 100
    assert buffer == bytes(50) + b"x" * 50
    assert sparse.view(0, 1 << 16) is None, "a hole of a tmpfs file might be allocated by that"


def test_what_is_cut_off_is_no_hole(sparse: FileSource) -> None:
    """Where it is cut off before anybody asked for holes: the copy of a hole would be zeros in place of bytes."""
    os.truncate(sparse.path, 2 << 20)
    with pytest.raises(SourceChanged):
        list(sparse.extents(0, sparse.size))
    with pytest.raises(SourceChanged):
        sparse.stored(0, sparse.size)


PAGE = 4096
PAGES = 12
pages = st.lists(st.booleans(), min_size=PAGES, max_size=PAGES)
page_extents = st.lists(
    st.builds(
        lambda start, size, origin, absent: Extent(start, start + size, -1 if absent else origin),
        st.integers(0, PAGES * PAGE - 1),
        st.integers(1, 3 * PAGE),
        st.integers(0, (PAGES - 3) * PAGE),
        st.booleans(),
    ),
    max_size=5,
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stored=pages, extents=page_extents, low=st.integers(0, PAGES * PAGE), size=st.integers(1, PAGES * PAGE))
def test_extents_of_a_sparse_file(
    tmp_path: Path, stored: list[bool], extents: list[Extent], low: int, size: int
) -> None:
    """Holes of the file are zero, wherever the extents cut them; sums and reads agree with the runs."""
    path = tmp_path / "holes"
    with path.open("wb") as file:
        for page, there in enumerate(stored):
            if there:
                os.pwrite(file.fileno(), b"x" * PAGE, page * PAGE)
        file.truncate(PAGES * PAGE)
    content = path.read_bytes()
    source = open_file(str(path))
    space = ExtentSpace(source, flatten(extents, PAGES * PAGE))
    high = min(low + size, PAGES * PAGE)
    runs = list(space.runs(low, high))
    assert [low, *(run.end for run in runs)] == [*(run.start for run in runs), max(low, high)]
    for run in runs:
        if run.state == State.DATA:
            assert run.origin is not None
            assert stored[run.origin // PAGE] or not source.is_sparse
        if run.state in (State.DATA, State.ZERO):
            buffer = bytearray(b"?" * (run.end - run.start))
            assert space.readinto(run.start, memoryview(buffer)) == len(buffer)
            if run.origin is not None:
                assert buffer == content[run.origin : run.origin + len(buffer)]
            else:
                assert not any(buffer)
    sums = [sum(r.end - r.start for r in runs if r.state == s) for s in (State.DATA, State.ZERO, State.ABSENT)]
    assert space.tally(low, max(low, high)) == tuple(sums)
    source.close()


@pytest.mark.parametrize("how", ["cut", "grown", "written"])
def test_a_file_that_changes(tmp_path: Path, how: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 100000)
    source = open_file(str(path))
    assert source.read(99990, 100) == b"a" * 10
    piece = source.view(100, 70000)
    assert piece is not None
    assert piece[:3] == (source.fd, 100, 70000)
    piece.check()
    assert source.view(40000, 70000) is None, "it ends before that"
    if how == "written":
        path.open("r+b").write(b"b")
        os.utime(path)
    else:
        os.truncate(path, 5000 if how == "cut" else 200000)
    with pytest.raises(SourceChanged):
        source.read(0, 10)
    with pytest.raises(SourceChanged):
        piece.check()
