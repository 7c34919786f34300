"""memfs.open(): what Python programs use."""

import errno
from pathlib import Path

import pytest
from makecore import Header, core

import memfs
from memfs.image import Tally


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "made.core"
    file.write_bytes(
        core([Header(1, 5, 0x1000, b"0123456789", 20), Header(1, 6, 0x1014, b"next"), Header(1, 6, 0x5000, b"x")])
    )
    return str(file)


def test_read(path: str) -> None:
    with memfs.open(path) as image:
        assert image.read(0x1002, 3) == b"234"
        assert image.read(0x1000, 0) == b""
        with pytest.raises(memfs.AbsentMemory) as caught:
            image.read(0x1008, 8)
        assert (caught.value.address, caught.value.gap, caught.value.errno) == (0x100A, False, errno.ENODATA)
        with pytest.raises(memfs.AbsentMemory) as caught:
            image.read(0x3000, 1)
        assert caught.value.gap
        with pytest.raises(memfs.AbsentMemory):
            image.read(-5, 1)
        assert image.read(0x1008, 20, fill=b"?") == b"89" + b"?" * 10 + b"next" + b"?" * 4
        assert image.read(0x3000, 3, fill=b"\0") == bytes(3)
        for size, fill in ((-1, None), (1, b""), (1, b"ab")):
            with pytest.raises(ValueError, match="size"):
                image.read(0x1000, size, fill=fill)


def test_what_comes_while_it_is_read(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a live process: bytes are there that were counted as absent a moment ago."""
    with memfs.open(path) as image:
        monkeypatch.setattr(type(image.image.space), "tally", lambda self, low, high: Tally(0, 0, high - low))
        assert image.read(0x1002, 3) == b"234"
        with pytest.raises(memfs.AbsentMemory) as caught:
            image.read(0x1008, 8)
        assert (caught.value.address, caught.value.gap) == (0x100A, False)
        with pytest.raises(memfs.AbsentMemory) as caught:
            image.read(0x3000, 1)
        assert caught.value.gap


def test_what_a_source_may_be(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with memfs.open(Path(path)) as image:
        assert image.image.source.path == path
    monkeypatch.chdir(tmp_path)
    Path(path).rename(tmp_path / "959")
    with memfs.open("./959") as image, memfs.open(Path("959")) as same:
        assert image.read(0x1000, 10) == same.read(0x1000, 10)
    with pytest.raises(memfs.MemfsError, match="no process 4194305; it has ended, or never was"):
        memfs.open("4194305")  # PID_MAX_LIMIT is 4,194,304
    for nothing in ("", "a\0b"):
        with pytest.raises(memfs.MemfsError, match="no path"):
            memfs.open(nothing)


def test_cat_of_more_than_there_is(tmp_path: Path) -> None:
    """A petabyte that a damaged core promises is ENODATA, not all of our memory."""
    file = tmp_path / "promise.core"
    file.write_bytes(core([Header(1, 6, 0x1000, b"x", 1 << 50)]))
    with memfs.open(file) as image:
        for name, address in (("mem", 0), ("at/0x1000", 0x1001), ("regions/anon.1000", 0x1001)):
            with pytest.raises(memfs.AbsentMemory) as caught:
                image.cat(name)
            assert caught.value.address == address
        with pytest.raises(memfs.MemfsError):
            image.cat("regions")


def test_use_after_close(path: str) -> None:
    image = memfs.open(path)
    image.close()
    image.close()
    with pytest.raises(memfs.MemfsError):
        image.read(0x1000, 1)


def test_records(secret_core: Path) -> None:
    with memfs.open(str(secret_core)) as image:
        assert [t.crashed for t in image.threads] == [True, False]
        assert {"heap", "stack"} <= {r.name for r in image.regions}
        assert image.notes[0].owner == "CORE"
        assert image.segments[1].address == image.regions[0].start
        heap = next(r for r in image.regions if r.name == "heap")
        assert b"swordfish" in image.read(heap.start, heap.size)
        assert image.tree.lookup("comm").stat().size == 7
        assert image.cat("comm") == b"secret\n"
        assert image.cat("threads/current/registers") == image.cat(f"threads/{image.threads[0].tid}/registers")


def test_options(path: str) -> None:
    with memfs.open(path, absent="zero") as image:
        assert image.read(0x1008, 4) == b"89\0\0"
        with pytest.raises(memfs.AbsentMemory):
            image.read(0x3000, 1)
        assert image.image.space.tally(0, 1 << 64) == (15, 0, 10), "what is absent stays absent in the facts"
    with pytest.raises(TypeError):
        memfs.open(path, nothing=True)
    with pytest.raises(memfs.MemfsError):
        memfs.open(path, absent="one")


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(memfs.MemfsError) as caught:
        memfs.open(str(tmp_path / "missing"))
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(memfs.MemfsError) as caught:
        memfs.open("/bin/true")
    assert "not a core" in str(caught.value)
    with pytest.raises(AttributeError):
        memfs.nothing  # noqa: B018


def test_paths(secret_core: Path) -> None:
    image = memfs.open(str(secret_core))
    for path, number in (("x", errno.ENOENT), ("info/x", errno.ENOTDIR), ("exe/x", errno.ELOOP)):
        with pytest.raises(memfs.MemfsError) as caught:
            image.node(path)
        assert caught.value.errno == number
    assert image.node("threads/current/stack/").kind.name == "LINK"
    assert image.node("threads/../regions/./heap").stat().size == image.node("regions/heap").stat().size
    image.close()
    with pytest.raises(memfs.MemfsError):
        image.read(image.regions[0].start, 1)
