"""What memfs cp writes over an older, larger file: nothing of the old one is left, come what may."""

import os
from pathlib import Path

import pytest

from memfs.cli import sparsefile
from memfs.cli.sparsefile import SparseFile

OLD = b"\xaa" * (12 << 20)
MIB = 1 << 20


@pytest.fixture(params=["large", "small", "none", "cannot punch"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "copy"
    if request.param != "none":
        file.write_bytes(OLD if request.param != "small" else OLD[:5000])
    if request.param == "cannot punch":
        monkeypatch.setattr(sparsefile.native, "punch_hole", _refuse)
    return file


def _refuse(fd: int, offset: int, size: int) -> None:
    raise OSError(95, "not supported")


def opened(path: Path) -> SparseFile:
    return SparseFile(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


@pytest.mark.parametrize("size", [0, 100, 3 * MIB + 5, 12 * MIB, 20 * MIB])
def test_all_that_is_not_data_is_zero(path: Path, size: int) -> None:
    data = [(0, b"a" * 4096), (MIB + 17, b"b" * 100_000), (3 * MIB, b"c" * 5), (11 * MIB, b"d" * MIB), (19 * MIB, b"e")]
    data = [(start, piece) for start, piece in data if start + len(piece) <= size]
    wanted = bytearray(size)
    copy = opened(path)
    copy.resize(size)
    reached = 0
    for start, piece in data:
        copy.leave(reached, start)
        copy.put(start, memoryview(piece))
        reached = start + len(piece)
        wanted[start:reached] = piece
    copy.leave(reached, size)
    copy.close()
    assert path.read_bytes() == wanted
    if size == 20 * MIB:
        assert path.stat().st_blocks * 512 < 3 * MIB


def test_an_interrupted_copy_has_nothing_of_before(path: Path) -> None:
    copy = opened(path)
    copy.resize(12 * MIB)
    copy.put(0, memoryview(b"a" * 4096))
    copy.leave(4096, 2 * MIB)
    copy.put(2 * MIB, memoryview(b"b" * 4096))
    copy.close(whole=2 * MIB + 4096)
    got = path.read_bytes()
    assert got[: 2 * MIB + 4096] == b"a" * 4096 + bytes(2 * MIB - 4096) + b"b" * 4096
    assert not got[2 * MIB + 4096 :].strip(b"\0")
