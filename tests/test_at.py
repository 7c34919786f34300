"""at/EXPR: what an expression means, and which mean nothing."""

from pathlib import Path

import pytest
from makecore import EM_386, Header, core

import memfs
from memfs.api import OpenImage

TOP = 0xFFFFFFFFFFFFF000


@pytest.fixture
def image(tmp_path: Path) -> OpenImage:
    """[0x1000, 0x1014) of which ten bytes are there, [0x1014, 0x1018) behind it, and the last page of all."""
    headers = [Header(1, 5, 0x1000, b"0123456789", 20), Header(1, 6, 0x1014, b"next"), Header(1, 6, TOP, b"t" * 4096)]
    path = tmp_path / "at.core"
    path.write_bytes(core(headers))
    return memfs.open(path)


@pytest.mark.parametrize(
    ("expression", "want"),
    [
        ("0x1000:4", b"0123"),
        ("0x1000:0x4", b"0123"),
        ("0x1002-0x1005", b"234"),
        ("0x1014", b"next"),
        ("0x1016", b"xt"),
        ("0x1009:1", b"9"),
        ("0x0000000000001014", b"next"),
        ("0xFFFFFFFFFFFFF000", b"t" * 4096),
        ("0xfffffffffffffffe:2", b"tt"),
    ],
)
def test_what_is_there(image: OpenImage, expression: str, want: bytes) -> None:
    assert image.cat(f"at/{expression}") == want
    node = image.node(f"at/{expression}")
    assert node.stat().size == len(want)
    assert int(node.xattrs()["user.memfs.size"], 16) == len(want)
    assert int(node.xattrs()["user.memfs.address"], 16) == int(expression.partition(":")[0].partition("-")[0], 16)


@pytest.mark.parametrize(
    ("expression", "address", "gap"),
    [
        ("0x1000", 0x100A, False),  # to the end of its region, of which the end is absent
        ("0x100a:1", 0x100A, False),
        ("0x1000:24", 0x100A, False),
        ("0x1014:5", 0x1018, True),  # across the end of what is mapped
        ("0x1014-0x2000", 0x1018, True),
        ("0xffffffffffffffff:2", 1 << 64, True),
    ],
)
def test_where_bytes_are_missing(image: OpenImage, expression: str, address: int, gap: bool) -> None:
    with pytest.raises(memfs.AbsentMemory) as caught:
        image.cat(f"at/{expression}")
    assert (caught.value.address, caught.value.gap) == (address, gap)


@pytest.mark.parametrize(
    "expression",
    [
        "0x3000", "0x3000:1", "0xfff:2", "0x1018", "0x1004-0x1004", "0x1004-0x1000", "0x1000:0", "0x1000:0x0",
        "4096", "1000", "0x", "0x1000:", "0x1000-", "0x1000-20", "0x1000:-1", "0x1000:1k", "0x1000 ", " 0x1000",
        "0x1000:4:4", "0x10000000000000000", "main", "main+0x10", "libc.so.6!environ", "\u0661", "0x1000:\u0664", "...",
    ],
)  # fmt: skip
def test_what_means_nothing(image: OpenImage, expression: str) -> None:
    with pytest.raises(memfs.MemfsError) as caught:
        image.node(f"at/{expression}")
    assert not isinstance(caught.value, memfs.AbsentMemory)
    assert caught.value.errno == 2


def test_it_is_there_and_lists_nothing(image: OpenImage) -> None:
    assert "at" not in image.tree.names()
    assert list(image.tree.lookup("at").names()) == []


def test_an_address_beyond_32_bits(tmp_path: Path) -> None:
    path = tmp_path / "32.core"
    path.write_bytes(core([Header(1, 6, 0xFFFFF000, b"top!")], bits=32, machine=EM_386))
    with memfs.open(path) as image:
        assert image.cat("at/0xfffff000:4") == b"top!"
        with pytest.raises(memfs.MemfsError):
            image.node("at/0x1fffff000:4")
